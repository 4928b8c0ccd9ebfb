//! Recovery: from a device that holds something to a journal that can be appended to.

use annulus_rings::{Frame, Lsn, contract, ensures, mutant, reach, requires};

use crate::block::{BLOCK_ALIGN_BYTES, is_zero};
use crate::disk::{Completion, Disk, SegmentFile, Segments};
use crate::error::{OpenError, RecoverError};
use crate::identity::{Identity, Position, SegmentId};
use crate::index::{Index, PendingRanges};
use crate::journal::{Journal, Recovered};
use crate::options::JournalOptions;
use crate::place::Place;
use crate::progress::Progress;
use crate::segment::FIRST_BLOCK_OFFSET;
use crate::truncation::Truncation;
use crate::walk::{Tail, Walk};

/// A journal that was not read back yet: it cannot be appended to.
///
/// ```
/// use annulus_rings::{ClusterId, CoreId, NodeId};
/// use annulus_storage::{DataDir, FileDisk, JournalOptions, Unrecovered};
///
/// let directory = tempfile::tempdir()?;
/// let data = DataDir::open(directory.path(), ClusterId(7), NodeId(1), 1)?;
/// let core = data.core(CoreId(0));
/// let options = JournalOptions { segment_bytes: 4 << 20, ..JournalOptions::default() };
/// let disk = FileDisk::open(&core, options.sync)?;
/// let journal = Unrecovered::open(disk, core.identity(), options)?
///     .recover(|lsn, frame| println!("{lsn:?} {frame:?}"))?;
/// assert_eq!(journal.persisted(), journal.appended());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Unrecovered<D> {
    disk: D,
    identity: Identity,
    options: JournalOptions,
}

impl<D: Disk> Unrecovered<D> {
    /// Takes the device of the journal of `identity`.
    ///
    /// # Errors
    /// [`OpenError::Options`].
    pub fn open(disk: D, identity: Identity, options: JournalOptions) -> Result<Unrecovered<D>, OpenError> {
        options.check()?;
        Ok(Unrecovered { disk, identity, options })
    }

    /// Whose journal it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Reads every durable frame back, in order, and makes the journal ready to continue behind them. A journal that
    /// was truncated begins with a later position than the first, and with some that are not needed any more. May
    /// block for as long as the device takes; every second it tells how far it is.
    ///
    /// What a torn write left behind the last whole block is erased before this returns, and the journal
    /// continues in its place. So there are never bytes of an earlier life in front of it that could be
    /// taken for its own later. Recovery may be killed anywhere and run again (T6):
    /// - nothing it erases can be read as a block: the first block that is missing lacks a sector, and
    ///   erasing brings none back; what lies behind it does not continue the chain without it;
    /// - an erased header says less than the one before, never something else;
    /// - what is read back is synced before the caller may act on it: a write that was in flight when
    ///   the process was killed may be whole in the device's cache and not durable.
    ///
    /// # Errors
    /// Any [`RecoverError`]. Nothing that was read back was changed then; a torn tail may have been erased.
    pub fn recover(mut self, mut each: impl FnMut(Lsn, Frame)) -> Result<Journal<D>, RecoverError> {
        let mut walk = Walk::open(&mut self.disk, self.identity)?;
        let (mut index, first_lsns) = read_back(&mut walk, &mut each)?;
        let tail = walk.tail()?;
        let (at, appended, chain) = walk.end();
        let files = walk.files().to_vec();
        let mut truncation = truncation(&walk, &first_lsns);
        requires!(T6, tail.dirty.iter().all(|pages| pages.at >= at));

        self.verify_room(&files, at)?;
        if !mutant!(TORN_TAIL_KEPT) {
            self.erase(&tail)?;
        }
        self.sync(&files, at)?;
        let place = self.place(&files, at, chain)?;
        if contract::T6.is_on() {
            let is_erased = self.is_erased(&tail)?;
            ensures!(T6, is_erased);
        }
        reach!(SEVERAL_SEGMENTS_READ_BACK, at.segment > SegmentId::FIRST);
        ensures!(A10, tail.later.iter().all(|header| header.durable_lsn <= appended));
        if truncation.is_empty() {
            truncation.enter(place.at().segment, place.segment_bytes(), appended.next());
        }
        index.forget(truncation.head());
        let was_torn = !tail.dirty.is_empty();
        let recovered = Recovered { appended, place, index, truncation, was_torn };
        let mut journal = Journal::recovered(self.disk, self.identity, self.options, recovered);
        journal.prepare_ahead();
        journal.remove_next();
        Ok(journal)
    }

    /// The segment in use is never the last one, and those behind it can hold every block.
    fn verify_room(&self, files: &[SegmentFile], at: Position) -> Result<(), RecoverError> {
        let last = files.last().map_or(SegmentId(0), |file| file.segment);
        if at.offset > FIRST_BLOCK_OFFSET && at.segment >= last {
            return Err(RecoverError::MissingSegment(last.next()));
        }
        let needed = (BLOCK_ALIGN_BYTES + self.options.block_bytes_max()) as u64;
        let small = files.iter().find(|file| file.segment > at.segment && file.bytes < needed);
        small.map_or(Ok(()), |file| {
            let why = "it is too small for these options: keep the sizes that it was made with";
            Err(RecoverError::ForeignSegment { segment: file.segment, why })
        })
    }

    fn erase(&mut self, tail: &Tail) -> Result<(), RecoverError> {
        for pages in &tail.dirty {
            reach!(TORN_TAIL_CUT);
            let segment = pages.at.segment;
            tracing::warn!(
                segment = segment.0,
                offset = pages.at.offset,
                bytes = pages.bytes,
                "torn tail erased"
            );
            let failed = |source| RecoverError::Io { segment, action: "erasing a torn tail", source };
            self.disk.erase(pages.at, pages.bytes).map_err(failed)?;
        }
        Ok(())
    }

    /// Whether nothing is left of a torn tail: another recovery would find what this one found.
    fn is_erased(&mut self, tail: &Tail) -> Result<bool, RecoverError> {
        let page_bytes = self.disk.grain().block_align_bytes();
        let mut page = vec![0; page_bytes];
        for pages in &tail.dirty {
            for offset in (0..pages.bytes).step_by(page_bytes) {
                let at = Position { offset: pages.at.offset + offset, ..pages.at };
                let failed =
                    |source| RecoverError::Io { segment: at.segment, action: "reading a torn tail", source };
                self.disk.read_at(at, &mut page).map_err(failed)?;
                if !is_zero(&page) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Makes durable what was read and what was erased. Writes of the last process were in flight in no
    /// more segments than it had writes that were not acknowledged, and behind the last whole block.
    fn sync(&mut self, files: &[SegmentFile], at: Position) -> Result<(), RecoverError> {
        let unacknowledged_max = 16;
        let oldest = at.segment.0.saturating_sub(unacknowledged_max);
        for file in files.iter().filter(|file| file.segment.0 >= oldest) {
            let failed = |source| RecoverError::Io { segment: file.segment, action: "syncing", source };
            self.disk.sync(file.segment).map_err(failed)?;
        }
        Ok(())
    }

    /// Where the journal continues, with the segments that it needs.
    fn place(&mut self, files: &[SegmentFile], at: Position, chain: u64) -> Result<Place, RecoverError> {
        let Some(current) = files.iter().find(|file| file.segment == at.segment) else {
            let mut place = Place::before_the_first();
            self.await_segments(&mut place, 2)?;
            place.enter_next();
            return Ok(place);
        };
        let behind = files.iter().filter(|file| file.segment > at.segment);
        let ready = behind.map(|file| (file.segment, file.bytes)).collect();
        let mut place = Place::new(at, current.bytes, chain, ready);
        self.await_segments(&mut place, 1)?;
        Ok(place)
    }

    /// Makes segments until `count` are ready.
    fn await_segments(&mut self, place: &mut Place, count: usize) -> Result<(), RecoverError> {
        let segment_bytes = self.options.segment_bytes;
        let mut completions = Vec::new();
        while place.ready() < count {
            place.prepare(&mut self.disk, &self.identity, segment_bytes, count);
            self.await_segment(place, &mut completions)?;
        }
        Ok(())
    }

    fn await_segment(
        &mut self,
        place: &mut Place,
        completions: &mut Vec<Completion>,
    ) -> Result<(), RecoverError> {
        let segment = place.at().segment.next();
        let failed = |source| RecoverError::Io { segment, action: "making a segment", source };
        self.disk.wait().map_err(failed)?;
        self.disk.poll(completions).map_err(failed)?;
        for completion in completions.drain(..) {
            let Completion::Prepared { segment, result } = completion else { continue };
            let failed = |source| RecoverError::Io { segment, action: "making a segment", source };
            result.map_err(failed)?;
            place.prepared(self.options.segment_bytes);
        }
        Ok(())
    }
}

/// Hands out every durable frame. Returns where which slots are, and the first position of each segment.
fn read_back<S: Segments>(
    walk: &mut Walk<'_, S>,
    each: &mut impl FnMut(Lsn, Frame),
) -> Result<(Index, Vec<Lsn>), RecoverError> {
    let (mut index, mut first_lsns) = (Index::new(), Vec::new());
    let mut ranges = PendingRanges::default();
    let mut frames = Vec::new();
    let mut progress = Progress::of(walk.bytes());
    while let Some(header) = walk.next(&mut frames)? {
        if header.at.offset == FIRST_BLOCK_OFFSET {
            first_lsns.push(header.first_lsn);
        }
        let mut count = 0;
        let mut lsn = header.first_lsn;
        for frame in frames.drain(..) {
            ranges.note(&mut count, &frame);
            each(lsn, frame);
            lsn = lsn.next();
        }
        index.add(header.at, u64::from(header.bytes), ranges.take(count));
        progress.advance(u64::from(header.bytes));
    }
    progress.end();
    Ok((index, first_lsns))
}

/// Which segments are needed, and which are left to be removed. `first_lsns` are those of the segments that hold
/// blocks, in order.
fn truncation<S: Segments>(walk: &Walk<'_, S>, first_lsns: &[Lsn]) -> Truncation {
    let stale = walk.stale().iter().map(|file| (file.segment, file.bytes));
    let mut truncation = Truncation::new(walk.head(), stale);
    for (file, first) in walk.files().iter().zip(first_lsns) {
        truncation.enter(file.segment, file.bytes, *first);
    }
    truncation.free_before(walk.head());
    truncation
}
