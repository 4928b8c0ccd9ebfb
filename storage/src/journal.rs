//! The journal of a core: frames in, a durable watermark out.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

use annulus_rings::{Frame, Lsn, RingId, Slot, ensures, invariant, mutant, reach, requires};

use crate::block::{BLOCK_ALIGN_BYTES, BlockBuilder, BlockSeal, block_bytes_for, padded};
use crate::buffer::{AlignedBuffer, BufferPool};
use crate::disk::{Completion, Disk, DiskKind};
use crate::error::{Busy, Poisoned};
use crate::identity::{Identity, Position, SegmentId};
use crate::index::{Index, PendingRanges};
use crate::options::JournalOptions;
use crate::place::Place;
use crate::retrieval::{Retrievals, Retrieved, WantedRead};
use crate::scrub::{Scrub, Tally};
use crate::statistics::JournalStatistics;
use crate::truncation::Truncation;

/// The token of the one read in flight; writes count from 1.
const READ_TOKEN: u64 = 0;

/// Completions of one poll that need no allocation: writes in flight, one read, one preparation.
const COMPLETIONS_MAX: usize = 16;

/// A journal that was read back and takes frames.
///
/// - *In*: [`append`](Self::append) copies a frame into the open group.
/// - *Each turn*: [`poll`](Self::poll) says how far the journal is durable, [`submit`](Self::submit)
///   starts a group write if one may start. What arrives while it is in flight joins the next one: group
///   commit without a timer.
/// - *Aside*: [`retrieve`](Self::retrieve) and [`retrieved`](Self::retrieved) read slots back.
///
/// Nothing here blocks, and a steady load allocates nothing (M2).
pub struct Journal<D> {
    pub(crate) disk: D,
    pub(crate) identity: Identity,
    pub(crate) options: JournalOptions,
    /// Groups that are full, in order, and the one that frames join.
    waiting: VecDeque<Group>,
    open: Option<Group>,
    /// Group writes in flight, in order.
    flights: VecDeque<Flight>,
    buffers: BufferPool,
    /// The slots in `waiting` and `open`.
    ranges: PendingRanges,
    pub(crate) place: Place,
    pub(crate) truncation: Truncation,
    /// Whether a torn tail was erased before it was opened.
    was_torn: bool,
    /// Bytes of frames that are not durable.
    backlog_bytes: usize,
    appended: Lsn,
    persisted: Lsn,
    /// Where the durable blocks end.
    durable_end: Position,
    next_token: u64,
    poisoned: Option<Poisoned>,
    pub(crate) index: Index,
    retrievals: Retrievals,
    pub(crate) scrub: Scrub,
    reading: Option<Reading>,
    completions: Vec<Completion>,
    pub(crate) statistics: JournalStatistics,
}

/// Frames that will be one block.
struct Group {
    block: BlockBuilder,
    first_lsn: Lsn,
    frame_bytes: usize,
    /// How many of the journal's pending ranges are of this group.
    ranges: usize,
}

/// A group write in flight.
struct Flight {
    token: u64,
    last_lsn: Lsn,
    end: Position,
    /// What its block tells.
    head: SegmentId,
    frame_bytes: usize,
    is_done: bool,
}

/// A read in flight.
struct Reading {
    wanted: WantedRead,
    /// Else it is for a read-back.
    is_scrub: bool,
}

/// What a recovery found.
pub(crate) struct Recovered {
    /// The last position, durable as all before it.
    pub(crate) appended: Lsn,
    /// Where the journal continues.
    pub(crate) place: Place,
    pub(crate) index: Index,
    pub(crate) truncation: Truncation,
    pub(crate) was_torn: bool,
}

impl Group {
    fn new(buffers: &mut BufferPool, first_lsn: Lsn, bytes_max: usize) -> Group {
        let block = BlockBuilder::new(buffers.take(bytes_max), bytes_max);
        Group { block, first_lsn, frame_bytes: 0, ranges: 0 }
    }
}

impl<D: Disk> Journal<D> {
    /// A journal that continues behind what was read back.
    pub(crate) fn recovered(
        mut disk: D,
        identity: Identity,
        options: JournalOptions,
        recovered: Recovered,
    ) -> Journal<D> {
        let Recovered { appended, place, index, truncation, was_torn } = recovered;
        let mut first: Vec<_> = (0..=options.writes_in_flight_max)
            .map(|_| AlignedBuffer::new(options.write_bytes_max.max(BLOCK_ALIGN_BYTES)))
            .collect();
        disk.register_buffers(&mut first);
        // A group is closed when the next frame does not fit: it may be little more than half full.
        let groups_max = 2 * options.backlog_bytes_max / options.write_bytes_max + first.len() + 1;
        let mut buffers = BufferPool::new(options.write_bytes_max, groups_max * options.write_bytes_max);
        for buffer in first {
            buffers.put(buffer);
        }
        let durable_end = place.at();
        Journal {
            disk,
            identity,
            waiting: VecDeque::with_capacity(groups_max),
            open: None,
            flights: if mutant!(QUEUE_UNRESERVED) {
                VecDeque::new()
            } else {
                VecDeque::with_capacity(options.writes_in_flight_max)
            },
            options,
            buffers,
            ranges: PendingRanges::default(),
            place,
            truncation,
            was_torn,
            backlog_bytes: 0,
            appended,
            persisted: appended,
            durable_end,
            next_token: READ_TOKEN + 1,
            poisoned: None,
            index,
            retrievals: Retrievals::default(),
            scrub: Scrub::default(),
            reading: None,
            completions: Vec::with_capacity(COMPLETIONS_MAX),
            statistics: JournalStatistics::default(),
        }
    }

    /// Takes the next frame. It is copied once, into the group that will be written.
    ///
    /// Ask [`has_room`](Self::has_room) before taking on work that appends. What a turn in progress
    /// still appends has headroom: as much again as the backlog's bound.
    pub fn append(&mut self, lsn: Lsn, frame: &Frame) {
        requires!(A4, lsn == self.appended.next());
        requires!(M1, self.backlog_bytes + frame.len() <= 2 * self.options.backlog_bytes_max);
        self.appended = lsn;
        if self.poisoned.is_some() {
            return;
        }
        self.push(lsn, frame);
        self.backlog_bytes += padded(frame.len());
        let peak = &mut self.statistics.backlog_bytes_peak;
        *peak = (*peak).max(self.backlog_bytes as u64);
    }

    /// Starts group writes, as many as may be in flight. Call it once per turn.
    pub fn submit(&mut self) {
        if self.poisoned.is_some() {
            return;
        }
        self.read_on();
        let mut started = false;
        while self.flights.len() < self.options.writes_in_flight_max && self.start_write() {
            started = true;
        }
        if started && let Err(error) = self.disk.submit() {
            self.poison(error);
        }
        self.invariants();
    }

    /// Takes what the device has completed, and says how far the journal is durable: everything up to
    /// there, without a gap.
    ///
    /// # Errors
    /// [`Poisoned`], for ever after, once a write or a sync failed, or a read-back met damage that stays.
    pub fn poll(&mut self) -> Result<Lsn, Poisoned> {
        let mut completions = std::mem::take(&mut self.completions);
        if let Err(error) = self.disk.poll(&mut completions) {
            self.poison(error);
        }
        for completion in completions.drain(..) {
            self.complete(completion);
        }
        self.completions = completions;
        match &self.poisoned {
            None => Ok(self.persisted),
            Some(poisoned) => Err(poisoned.clone()),
        }
    }

    /// How far the journal is durable.
    pub fn persisted(&self) -> Lsn {
        self.persisted
    }

    /// Position of the last frame taken.
    pub fn appended(&self) -> Lsn {
        self.appended
    }

    /// Whether frames of `bytes` in all may be taken: the backlog is bounded (M1), and while no space
    /// can be reserved on the medium, nothing is promised beyond what is.
    pub fn has_room(&self, bytes: usize) -> bool {
        let backlog = self.backlog_bytes + bytes;
        let has_room = backlog <= self.options.backlog_bytes_max && self.has_space(backlog);
        reach!(JOURNAL_FULL, !has_room);
        has_room
    }

    /// Bytes of frames that are not durable yet.
    pub fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// Asks for slots `from..upto` of a ring, at most `bytes_max` bytes of frames. The answer comes from
    /// [`retrieved`](Self::retrieved) some turns later, under `token`.
    ///
    /// # Errors
    /// [`Busy`]: too many read-backs wait.
    pub fn retrieve(
        &mut self,
        ring: RingId,
        from: Slot,
        upto: Slot,
        bytes_max: usize,
        token: u64,
    ) -> Result<(), Busy> {
        self.retrievals.ask(ring, from, upto, bytes_max, token)?;
        self.read_on();
        Ok(())
    }

    /// The next answer to [`retrieve`](Self::retrieve), in the order of asking.
    pub fn retrieved(&mut self) -> Option<Retrieved> {
        let answer = self.retrievals.answer();
        self.statistics.retrievals += u64::from(answer.is_some());
        answer
    }

    /// What it has done since it was opened.
    pub fn statistics(&self) -> JournalStatistics {
        let Tally { passes, pass_bytes, faults } = self.scrub.tally;
        JournalStatistics {
            bytes: self.bytes(),
            scrub_passes: passes,
            scrub_pass_bytes: pass_bytes,
            scrub_faults: faults,
            damaged_places: self.damage().len() as u64,
            ..self.statistics
        }
    }

    /// Whether the recovery erased something behind the last whole block.
    pub fn was_torn(&self) -> bool {
        self.was_torn
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    /// The segment that is being read.
    pub(crate) fn segment_read(&self) -> Option<SegmentId> {
        self.reading.as_ref().map(|reading| reading.wanted.at.segment)
    }

    /// Whether a write in flight, or one that waits, will tell the head.
    pub(crate) fn is_head_in_flight(&self) -> bool {
        let head = self.truncation.head();
        self.open.is_some() || self.flights.back().is_some_and(|flight| flight.head == head)
    }

    /// The kind of its device.
    pub fn kind(&self) -> DiskKind {
        self.disk.kind()
    }

    /// Whether what it calls durable survives the process.
    pub fn is_durable(&self) -> bool {
        self.disk.kind() != DiskKind::Memory
    }

    /// Whose journal it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Signals `eventfd` whenever [`poll`](Self::poll) may have something to say, so that a core can park
    /// on it.
    ///
    /// # Errors
    /// The descriptor is not an eventfd.
    pub fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.disk.register_wake(eventfd)
    }

    /// Adds a frame to the open group, or to a new one where it does not fit.
    fn push(&mut self, lsn: Lsn, frame: &Frame) {
        assert!(frame.len() <= self.options.frame_bytes_max, "frames are bounded");
        if self.open.as_ref().is_some_and(|open| !open.block.fits(frame.len())) {
            requires!(M2, self.waiting.len() < self.waiting.capacity());
            self.waiting.extend(self.open.take());
        }
        let bytes_max = self.options.write_bytes_max.max(block_bytes_for(frame.len()));
        let buffers = &mut self.buffers;
        let open = self.open.get_or_insert_with(|| Group::new(buffers, lsn, bytes_max));
        open.block.push(frame);
        open.frame_bytes += padded(frame.len());
        self.ranges.note(&mut open.ranges, frame);
    }

    /// Starts the write of the oldest group. False: there is none, or no place for it yet.
    fn start_write(&mut self) -> bool {
        if self.waiting.is_empty() && self.must_tell() {
            reach!(HEAD_TOLD_ALONE);
            self.open = Some(Group::new(&mut self.buffers, self.appended.next(), BLOCK_ALIGN_BYTES));
        }
        let Some(oldest) = self.waiting.front().or(self.open.as_ref()) else { return false };
        let (first_lsn, bytes) = (oldest.first_lsn, oldest.block.bytes() as u64);
        let Some(at) = self.make_place(first_lsn, bytes) else {
            reach!(SEGMENT_AWAITED);
            self.statistics.segment_waits += 1;
            return false;
        };
        let Some(group) = self.waiting.pop_front().or_else(|| self.open.take()) else { return false };
        let frames = group.block.frames();
        let last_lsn = Lsn(first_lsn.0 - 1 + u64::from(frames));
        let head = self.truncation.head();
        let seal = BlockSeal { at, first_lsn, durable_lsn: self.persisted, chain: self.place.chain(), head };
        let block = group.block.seal(&self.identity, &seal);
        self.index.add(at, block.bytes as u64, self.ranges.take(group.ranges));

        let end = self.place.take(block.bytes as u64, block.checksum);
        let token = self.next_token;
        self.next_token += 1;
        let frame_bytes = group.frame_bytes;
        requires!(M2, self.flights.len() < self.flights.capacity());
        self.flights.push_back(Flight { token, last_lsn, end, head, frame_bytes, is_done: false });
        self.statistics.blocks += 1;
        self.statistics.bytes_written += block.bytes as u64;
        self.statistics.frames += u64::from(frames);
        self.statistics.frame_bytes += frame_bytes as u64;
        self.disk.write(token, at, block.buffer, block.bytes);
        true
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Written { token, buffer, result } => {
                self.buffers.put(buffer);
                match result {
                    Ok(()) => self.written(token),
                    Err(_) if mutant!(FAILED_WRITE_FORGOTTEN) => self.written(token),
                    Err(error) => self.poison(error),
                }
            }
            Completion::Read { buffer, result, .. } => self.read(buffer, result.is_ok()),
            Completion::Prepared { segment, result } => self.prepared(segment, result),
            Completion::Removed { segment, result } => self.removed(segment, result),
        }
    }

    /// One group write is durable. Whether others before it are decides how far the journal is.
    fn written(&mut self, token: u64) {
        if self.poisoned.is_some() {
            return;
        }
        let flight = self.flights.iter_mut().find(|flight| flight.token == token);
        requires!(T7, flight.as_ref().is_some_and(|flight| !flight.is_done));
        if let Some(flight) = flight {
            flight.is_done = true;
        }
        self.statistics.flushes += 1;
        reach!(WRITE_OUT_OF_ORDER, self.flights.front().is_some_and(|first| !first.is_done));
        let is_covered = mutant!(COMPLETION_COVERS_EARLIER);
        while let Some(flight) = self.flights.pop_front_if(|flight| flight.is_done || is_covered) {
            requires!(T7, flight.last_lsn >= self.persisted);
            self.persisted = flight.last_lsn;
            self.durable_end = flight.end;
            self.backlog_bytes -= flight.frame_bytes;
            self.head_is_durable(flight.head);
        }
        ensures!(A4, self.persisted <= self.appended);
    }

    /// Goes on with reading slots back, or, when nobody waits for any, with verifying what is durable.
    pub(crate) fn read_on(&mut self) {
        if self.reading.is_some() || self.is_poisoned() {
            return;
        }
        let wanted = self.retrievals.next_read(&self.index, self.durable_end);
        let is_scrub = wanted.is_none();
        let wanted = wanted.or_else(|| self.scrub.next_read(&self.truncation, self.durable_end));
        if let Some(wanted) = wanted {
            let buffer = self.buffers.take(wanted.bytes);
            self.reading = Some(Reading { wanted, is_scrub });
            self.statistics.retrieved_bytes += if is_scrub { 0 } else { wanted.bytes as u64 };
            self.disk.read(READ_TOKEN, wanted.at, buffer, wanted.bytes);
        }
    }

    fn read(&mut self, buffer: AlignedBuffer, is_read: bool) {
        let Some(Reading { wanted: WantedRead { at, bytes }, is_scrub }) = self.reading.take() else {
            return;
        };
        let read = is_read.then(|| &buffer[..bytes]);
        if is_scrub {
            self.scrubbed(at, read);
        } else {
            self.read_back(at, read);
        }
        self.buffers.put(buffer);
        self.read_on();
        self.remove_next();
    }

    fn read_back(&mut self, at: Position, read: Option<&[u8]>) {
        let sound = read.is_some_and(|bytes| self.retrievals.take(&self.identity, at, bytes, self.persisted));
        if !sound && at.segment < self.truncation.head() {
            self.retrievals.abandon(); // It was freed meanwhile.
        } else if !sound {
            self.read_back_failed(at);
        }
    }

    /// What was read at `at` is not what was written. A journal in memory forgets on purpose; on a medium that
    /// is damage, if it stays.
    fn read_back_failed(&mut self, at: Position) {
        reach!(READ_BACK_FAILED);
        self.statistics.retrieval_faults += 1;
        tracing::warn!(segment = at.segment.0, offset = at.offset, "slots cannot be read back");
        let is_lost = self.retrievals.failed(at);
        if is_lost && self.is_durable() {
            let what = format!("what was durable in {:?} at {} is damaged", at.segment, at.offset);
            self.poison(io::Error::new(io::ErrorKind::InvalidData, what));
        }
    }

    /// A write, a sync or the device failed, or history is damaged (A10): nothing is acknowledged any more.
    fn poison(&mut self, error: io::Error) {
        if self.poisoned.is_none() {
            reach!(JOURNAL_POISONED);
            tracing::error!(%error, kind = %self.disk.kind(), "the journal is poisoned");
            self.poisoned = Some(Poisoned { cause: Arc::new(error) });
        }
    }

    fn invariants(&self) {
        invariant!(A4, self.persisted <= self.appended);
        invariant!(T7, self.flights.front().is_none_or(|flight| flight.last_lsn >= self.persisted));
        invariant!(M1, self.flights.len() <= self.options.writes_in_flight_max);
    }
}
