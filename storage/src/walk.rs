//! A walk through a journal: block after block, and the judgement of what lies behind the last one.

use annulus_rings::{Frame, Lsn, mutant, reach};

use crate::block::{BLOCK_ALIGN_BYTES, BlockHeader, Damage, damage_of_header, is_zero};
use crate::disk::{SegmentFile, Segments};
use crate::error::RecoverError;
use crate::grain::Grain;
use crate::identity::{Identity, Position, SegmentId};
use crate::segment::{FIRST_BLOCK_OFFSET, SegmentHeader};

/// Read at once: large enough for the device's full speed.
const WINDOW_BYTES: usize = 1 << 20;

/// Reads blocks in journal order and hands out only whole ones that continue the chain.
pub(crate) struct Walk<'a, S> {
    segments: &'a mut S,
    grain: Grain,
    identity: Identity,
    /// The segments that follow each other up to the last one.
    files: Vec<SegmentFile>,
    /// Those before them, of which some are gone: removed, but not in order when the power failed.
    stale: Vec<SegmentFile>,
    window: Window,
    /// Where the next block is expected, unless it starts the next segment.
    at: Position,
    next_lsn: Lsn,
    chain: u64,
    /// Position and chain are known: from the start, or from the first block where segments were removed.
    is_anchored: bool,
    /// The head that the blocks tell so far.
    head: SegmentId,
}

/// What lies behind the last whole block, when none of it can have been acknowledged.
#[derive(Default)]
pub(crate) struct Tail {
    /// Pages that hold something: what a torn write left.
    pub(crate) dirty: Vec<DirtyPages>,
    /// Whole headers among them, of writes that were in flight.
    pub(crate) later: Vec<BlockHeader>,
}

/// Adjacent pages that are not zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DirtyPages {
    pub(crate) at: Position,
    pub(crate) bytes: u64,
}

/// What is at a place where the next block may be.
enum Probe {
    Next(BlockHeader),
    Damaged(Damage),
    /// A block that does not follow the last one.
    Stranger,
}

impl<'a, S: Segments> Walk<'a, S> {
    /// Starts before the first block, after verifying that every segment is there, whole and our own.
    pub(crate) fn open(segments: &'a mut S, identity: Identity) -> Result<Self, RecoverError> {
        let (stale, files) = verified_files(segments, &identity)?;
        let first = files.first().map_or(SegmentId::FIRST, |file| file.segment);
        let mut walk = Walk {
            grain: segments.grain(),
            segments,
            identity,
            files,
            stale,
            window: Window::default(),
            at: Position { segment: first, offset: FIRST_BLOCK_OFFSET },
            next_lsn: Lsn(1),
            chain: 0,
            is_anchored: first == SegmentId::FIRST,
            head: SegmentId::FIRST,
        };
        // Before anything is handed out: the segments that were lost may be what the others cannot do without.
        let head = if walk.is_anchored { first } else { walk.last_head()? };
        walk.refuse_unless_freed(head)?;
        Ok(walk)
    }

    /// The segments that follow each other up to the last one.
    pub(crate) fn files(&self) -> &[SegmentFile] {
        &self.files
    }

    /// Bytes of those.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Segments before those, which are not needed any more.
    pub(crate) fn stale(&self) -> &[SegmentFile] {
        &self.stale
    }

    /// The oldest segment that is needed, as the blocks tell.
    pub(crate) fn head(&self) -> SegmentId {
        self.head
    }

    /// Where the next block would go, the last position read and the chain to continue.
    pub(crate) fn end(&self) -> (Position, Lsn, u64) {
        (self.at, Lsn(self.next_lsn.0 - 1), self.chain)
    }

    /// The next whole block, with its frames. `None`: see [`tail`](Self::tail).
    pub(crate) fn next(&mut self, frames: &mut Vec<Frame>) -> Result<Option<BlockHeader>, RecoverError> {
        let mut probe = self.probe(self.at, frames)?;
        if let (Probe::Damaged(Damage::Absent), Some(start)) = (&probe, self.next_segment()) {
            probe = self.probe(start, frames)?;
        }
        let Probe::Next(header) = probe else { return Ok(None) };
        self.at = header.end();
        self.next_lsn = header.last_lsn().next();
        self.chain = header.checksum;
        self.is_anchored = true;
        self.head = header.head;
        Ok(Some(header))
    }

    /// Judges what lies behind the last whole block.
    ///
    /// Blocks are written onto zeros, a bounded number at once, each once. So behind the last durable
    /// block there can be parts of writes that were in flight, and nothing else. The first of them is
    /// the one that is missing here (else it would have been read). It was never acknowledged, and
    /// nothing behind it was, if
    /// 1. what is at its place is what a torn write leaves: no header sector, or a header and too many
    ///    sectors of zeros. Anything else was written whole and changed since.
    /// 2. no later header says that it was durable when that later block was written,
    /// 3. nor does the device, where it keeps a durable tail.
    ///
    /// # Errors
    /// [`RecoverError::Corrupt`] otherwise: it may have been acknowledged (A10).
    pub(crate) fn tail(&mut self) -> Result<Tail, RecoverError> {
        let mut frames = Vec::new();
        let here = self.probe(self.at, &mut frames)?;
        self.refuse_unless_removed(&here)?;
        self.refuse_unless_torn(self.at, &here)?;
        if let (Probe::Damaged(Damage::Absent), Some(start)) = (&here, self.next_segment()) {
            match self.probe(start, &mut frames)? {
                // In flight when the block before it was lost; rule 2 decides.
                Probe::Stranger => {}
                probe => self.refuse_unless_torn(start, &probe)?,
            }
        }
        let is_below_tail = self.segments.durable_tail().is_some_and(|tail| self.at < tail);
        if is_below_tail && !mutant!(DURABLE_TAIL_IGNORED) {
            return Err(self.corrupt(self.at, "the device says that the block here was durable"));
        }
        let tail = self.survey(self.at)?;
        let says_durable = |header: &BlockHeader| header.durable_lsn >= self.next_lsn;
        if tail.later.iter().any(says_durable) && !mutant!(LATER_BLOCKS_UNASKED) {
            return Err(self.corrupt(self.at, "a later block says that the block here was durable"));
        }
        Ok(tail)
    }

    /// Where the first segments are gone, a durable block says that they may be. It lies in the segments that are
    /// there, and the first of those begins with a whole block, or it would not be the oldest that is needed.
    fn refuse_unless_removed(&self, here: &Probe) -> Result<(), RecoverError> {
        if !self.is_anchored && !matches!(here, Probe::Damaged(Damage::Absent)) {
            return Err(self.corrupt(self.at, "the first block that is left is not whole"));
        }
        self.refuse_unless_freed(self.head)
    }

    /// The segments before the first one may be gone if `head` is told.
    fn refuse_unless_freed(&self, head: SegmentId) -> Result<(), RecoverError> {
        let first = self.files.first().map_or(SegmentId::FIRST, |file| file.segment);
        if first <= head || mutant!(HEAD_UNCHECKED) {
            return Ok(());
        }
        reach!(LOST_SEGMENT_REFUSED);
        Err(RecoverError::MissingSegment(SegmentId(first.0 - 1)))
    }

    /// The highest head that any header tells in the last segment that begins with one. Heads never go back, so no
    /// other segment tells a higher one.
    fn last_head(&mut self) -> Result<SegmentId, RecoverError> {
        for file in self.files.clone().iter().rev() {
            let mut at = Position { segment: file.segment, offset: FIRST_BLOCK_OFFSET };
            let mut head = None;
            while let Some(header) = self.header(at, file.bytes)? {
                head = head.max(Some(header.head));
                at = header.end();
            }
            if let Some(head) = head {
                return Ok(head);
            }
        }
        Ok(SegmentId::FIRST)
    }

    fn header(&mut self, at: Position, file_bytes: u64) -> Result<Option<BlockHeader>, RecoverError> {
        let left = file_bytes.saturating_sub(at.offset);
        let page_bytes = self.grain.block_align_bytes();
        if left < page_bytes as u64 {
            return Ok(None);
        }
        let page = self.window.bytes(self.segments, at, page_bytes, left)?;
        Ok(BlockHeader::parse(page, self.grain, &self.identity, at))
    }

    fn refuse_unless_torn(&self, at: Position, probe: &Probe) -> Result<(), RecoverError> {
        match probe {
            Probe::Damaged(Damage::Absent | Damage::Torn) => Ok(()),
            Probe::Damaged(Damage::Rotten) if mutant!(ROTTEN_TAIL_DROPPED) => Ok(()),
            Probe::Damaged(Damage::Rotten) => Err(self.corrupt(at, "a block was written and changed since")),
            Probe::Stranger => Err(self.corrupt(at, "a block does not continue the one before it")),
            // The walk did not see it a moment ago.
            Probe::Next(_) => Err(self.corrupt(at, "the device returns other bytes at each read")),
        }
    }

    fn corrupt(&self, at: Position, why: &'static str) -> RecoverError {
        reach!(DAMAGE_REFUSED);
        RecoverError::Corrupt { at, durable: Lsn(self.next_lsn.0 - 1), why }
    }

    fn probe(&mut self, at: Position, frames: &mut Vec<Frame>) -> Result<Probe, RecoverError> {
        let left = self.file_bytes(at.segment).saturating_sub(at.offset);
        if left == 0 {
            return Ok(Probe::Damaged(Damage::Absent));
        }
        let page = self.window.bytes(self.segments, at, self.grain.block_align_bytes(), left)?;
        if self.grain.is_absent(page) {
            return Ok(Probe::Damaged(Damage::Absent));
        }
        let Some(header) = BlockHeader::parse(page, self.grain, &self.identity, at) else {
            return Ok(Probe::Damaged(damage_of_header(page, self.grain, &self.identity, at)));
        };
        let is_next = header.first_lsn == self.next_lsn && header.chain == self.chain || !self.is_anchored;
        let is_next = is_next && header.head >= self.head;
        if !is_next && !mutant!(CHAIN_UNCHECKED) {
            return Ok(Probe::Stranger);
        }
        if u64::from(header.bytes) > left {
            return Ok(Probe::Damaged(Damage::Rotten));
        }
        let block = self.window.bytes(self.segments, at, header.bytes as usize, left)?;
        match header.open(block, frames) {
            Ok(()) => Ok(Probe::Next(header)),
            Err(damage) => Ok(Probe::Damaged(damage)),
        }
    }

    /// Every whole header at or behind `from`, whether it continues a chain or not.
    pub(crate) fn headers_behind(&mut self, from: Position) -> Result<Vec<BlockHeader>, RecoverError> {
        Ok(self.survey(from)?.later)
    }

    /// Looks at every place from `from` on where a block may be.
    fn survey(&mut self, from: Position) -> Result<Tail, RecoverError> {
        let mut tail = Tail::default();
        let align_bytes = self.grain.block_align_bytes();
        let behind: Vec<SegmentFile> =
            self.files.iter().copied().filter(|file| file.segment >= from.segment).collect();
        for file in behind {
            let mut at = Position { segment: file.segment, offset: FIRST_BLOCK_OFFSET };
            at.offset = if file.segment == from.segment { from.offset } else { at.offset };
            while at.offset < file.bytes {
                let left = file.bytes - at.offset;
                let page = self.window.bytes(self.segments, at, align_bytes, left)?;
                if !is_zero(page) {
                    tail.later.extend(BlockHeader::parse(page, self.grain, &self.identity, at));
                    tail.add_dirty_page(at, align_bytes as u64);
                }
                at.offset += align_bytes as u64;
            }
        }
        Ok(tail)
    }

    /// Where the next segment's first block would be.
    fn next_segment(&self) -> Option<Position> {
        let segment = self.at.segment.next();
        let exists = self.files.last().is_some_and(|last| segment <= last.segment);
        // A segment is left only for the next one, and only when something is in it.
        (exists && self.at.offset > FIRST_BLOCK_OFFSET)
            .then_some(Position { segment, offset: FIRST_BLOCK_OFFSET })
    }

    fn file_bytes(&self, segment: SegmentId) -> u64 {
        // They are numbered without gaps: verified when the walk was opened.
        let first = self.files.first().map_or(segment, |file| file.segment);
        let index = segment.0.checked_sub(first.0);
        index.and_then(|index| self.files.get(index as usize)).map_or(0, |file| file.bytes)
    }
}

impl Tail {
    fn add_dirty_page(&mut self, at: Position, bytes: u64) {
        match self.dirty.last_mut() {
            Some(last) if last.at.segment == at.segment && last.at.offset + last.bytes == at.offset => {
                last.bytes += bytes;
            }
            _ => self.dirty.push(DirtyPages { at, bytes }),
        }
    }
}

/// Part of a segment in memory.
#[derive(Default)]
struct Window {
    at: Option<Position>,
    bytes: Vec<u8>,
}

impl Window {
    /// `bytes` bytes from `at` on. `left` are there up to the end of the segment.
    fn bytes<S: Segments>(
        &mut self,
        segments: &mut S,
        at: Position,
        bytes: usize,
        left: u64,
    ) -> Result<&[u8], RecoverError> {
        let start = if let Some(start) = self.start_of(at, bytes) {
            start
        } else {
            self.load(segments, at, bytes, left)?;
            0
        };
        Ok(&self.bytes[start..start + bytes])
    }

    fn start_of(&self, at: Position, bytes: usize) -> Option<usize> {
        let loaded = self.at.filter(|loaded| loaded.segment == at.segment)?;
        let start = at.offset.checked_sub(loaded.offset)? as usize;
        (start + bytes <= self.bytes.len()).then_some(start)
    }

    fn load<S: Segments>(
        &mut self,
        segments: &mut S,
        at: Position,
        bytes: usize,
        left: u64,
    ) -> Result<(), RecoverError> {
        self.at = None;
        let load = WINDOW_BYTES.max(bytes).min(left as usize);
        self.bytes.resize(load.max(bytes), 0);
        let failed = |source| RecoverError::Io { segment: at.segment, action: "reading", source };
        segments.read_at(at, &mut self.bytes).map_err(failed)?;
        self.at = Some(at);
        Ok(())
    }
}

/// Lists the segments and verifies size and header of each. Returns those that follow each other up to the last
/// one, and before them the others.
fn verified_files<S: Segments>(
    segments: &mut S,
    identity: &Identity,
) -> Result<(Vec<SegmentFile>, Vec<SegmentFile>), RecoverError> {
    let failed = |source| RecoverError::Io { segment: SegmentId::FIRST, action: "listing", source };
    let mut stale = segments.list().map_err(failed)?;
    if stale.is_empty() && segments.has_begun() {
        return Err(RecoverError::MissingSegment(SegmentId::FIRST));
    }
    for file in &stale {
        verify_file(segments, file, identity)?;
    }
    let gap = stale.windows(2).rposition(|pair| pair[0].segment.next() != pair[1].segment);
    let files = stale.split_off(gap.map_or(0, |gap| gap + 1));
    Ok((stale, files))
}

fn verify_file<S: Segments>(
    segments: &mut S,
    file: &SegmentFile,
    identity: &Identity,
) -> Result<(), RecoverError> {
    let segment = file.segment;
    let header = read_header(segments, file)?;
    if header.bytes != file.bytes {
        return Err(RecoverError::Truncated { segment, found: file.bytes, expected: header.bytes });
    }
    if header.segment != segment || header.identity != *identity {
        return Err(RecoverError::ForeignSegment { segment, why: "it belongs to another journal" });
    }
    Ok(())
}

/// The header of a segment file.
pub(crate) fn read_header<S: Segments>(
    segments: &mut S,
    file: &SegmentFile,
) -> Result<SegmentHeader, RecoverError> {
    let segment = file.segment;
    let mut page = [0; BLOCK_ALIGN_BYTES];
    if file.bytes < page.len() as u64 {
        return Err(RecoverError::Truncated { segment, found: file.bytes, expected: page.len() as u64 });
    }
    let failed = |source| RecoverError::Io { segment, action: "reading the header", source };
    segments.read_at(Position { segment, offset: 0 }, &mut page).map_err(failed)?;
    SegmentHeader::decode(&page).map_err(|why| RecoverError::ForeignSegment { segment, why })
}
