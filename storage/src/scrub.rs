//! Scrubbing: durable blocks are read again while nobody asks for them, so that damage is known while it can still
//! be made good: by peers, or by a snapshot that makes the damaged part superfluous.

use annulus_rings::{Lsn, mutant, reach};

use crate::block::BlockHeader;
use crate::disk::Disk;
use crate::grain::Grain;
use crate::identity::{Identity, Position, SegmentId};
use crate::journal::Journal;
use crate::retrieval::{FAULTS_MAX, READ_BYTES, WantedRead};
use crate::segment::FIRST_BLOCK_OFFSET;
use crate::truncation::Truncation;

/// Bytes that may be granted ahead of their reading: after a pause there is no rush.
const ALLOWANCE_MAX: u64 = 4 * READ_BYTES;
/// Damaged places that are remembered.
const PLACES_MAX: usize = 64;

/// A place where something durable cannot be read any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DamagedPlace {
    /// Where.
    pub at: Position,
    /// The last position before it that can be read.
    pub after: Lsn,
}

/// What a scrub has found out.
#[derive(Default)]
pub(crate) struct Scrub {
    allowance: u64,
    /// None between two passes.
    cursor: Option<Cursor>,
    /// How often what is at the cursor was not sound.
    faults: u32,
    places: Vec<DamagedPlace>,
    pub(crate) tally: Tally,
}

/// What it has done.
#[derive(Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) passes: u64,
    pub(crate) pass_bytes: u64,
    pub(crate) faults: u64,
}

/// The next block.
struct Cursor {
    at: Position,
    lsn: Lsn,
    /// What it continues, unless what is before it is damaged or in another segment.
    chain: Option<u64>,
    /// Nothing is known of what is here: it lies behind damage.
    is_lost: bool,
    /// At least this much at the next read: the block is larger than what was read last.
    read_bytes_min: u64,
    /// Where the frames of this segment end, if another one follows.
    end: Option<Lsn>,
}

/// What one look at the cursor gave.
enum Look {
    /// So many bytes are as they should be: the cursor is behind them.
    Sound(usize),
    /// The block goes on behind what was read.
    Partial,
    /// Something else than what was written, with the header of whatever it is.
    Unsound(Option<BlockHeader>),
}

impl Scrub {
    /// The read that it would do now.
    pub(crate) fn next_read(&mut self, truncation: &Truncation, durable_end: Position) -> Option<WantedRead> {
        if self.allowance < READ_BYTES {
            return None;
        }
        let head = truncation.head();
        if self.cursor.as_ref().is_none_or(|cursor| cursor.at.segment < head) {
            self.cursor = Some(Cursor::start_of(head, truncation.first_lsn()));
            self.faults = 0;
        }
        loop {
            let cursor = self.cursor.as_mut()?;
            if cursor.at >= durable_end {
                self.end_pass();
                return None;
            }
            let next = cursor.at.segment.next();
            cursor.end = truncation.first_of(next);
            let is_in_use = cursor.at.segment == durable_end.segment;
            let end = if is_in_use { durable_end.offset } else { truncation.bytes_of(cursor.at.segment)? };
            let left = end.saturating_sub(cursor.at.offset);
            if left > 0 && !cursor.is_behind_the_last() {
                let bytes = left.min(READ_BYTES.max(cursor.read_bytes_min));
                self.allowance = self.allowance.saturating_sub(bytes);
                return Some(WantedRead { at: cursor.at, bytes: bytes as usize });
            }
            self.cursor = Some(Cursor::start_of(next, cursor.end?));
        }
    }

    fn end_pass(&mut self) {
        self.cursor = None;
        self.tally.passes += u64::from(self.tally.pass_bytes > 0);
        self.tally.pass_bytes = 0;
    }

    /// Takes what was read at the cursor, if the read succeeded. Returns a place that must be taken for damaged.
    pub(crate) fn take(
        &mut self,
        grain: Grain,
        identity: &Identity,
        read: Option<&[u8]>,
    ) -> Option<DamagedPlace> {
        let cursor = self.cursor.as_mut()?;
        let Some(mut bytes) = read else { return self.fault(grain, None) };
        while bytes.len() >= grain.block_align_bytes() && !cursor.is_behind_the_last() {
            match cursor.look(grain, identity, bytes) {
                Look::Sound(count) => {
                    bytes = &bytes[count..];
                    self.tally.pass_bytes += count as u64;
                    self.faults = 0;
                }
                Look::Partial => break,
                Look::Unsound(header) => return self.fault(grain, header),
            }
        }
        None
    }

    /// What is at the cursor is not sound. A device may err for a while: only what stays so is damage.
    fn fault(&mut self, grain: Grain, header: Option<BlockHeader>) -> Option<DamagedPlace> {
        self.tally.faults += 1;
        self.faults += 1;
        // The next try waits for the next grant.
        self.allowance = 0;
        let cursor = self.cursor.as_mut().filter(|_| self.faults >= FAULTS_MAX)?;
        let place = DamagedPlace { at: cursor.at, after: Lsn(cursor.lsn.0 - 1) };
        cursor.skip(grain, header);
        self.faults = 0;
        let is_new = !self.places.contains(&place) && self.places.len() < PLACES_MAX;
        if !is_new || mutant!(DAMAGE_PASSED_OVER) {
            return None;
        }
        self.places.push(place);
        Some(place)
    }

    /// What lies in segments before `head` is needed no longer.
    pub(crate) fn forget(&mut self, head: SegmentId) {
        self.places.retain(|place| place.at.segment >= head);
    }
}

impl Cursor {
    fn start_of(segment: SegmentId, lsn: Lsn) -> Cursor {
        let at = Position { segment, offset: FIRST_BLOCK_OFFSET };
        Cursor { at, lsn, chain: None, is_lost: false, read_bytes_min: 0, end: None }
    }

    /// Whether every frame of the segment was seen: what follows is zeros.
    fn is_behind_the_last(&self) -> bool {
        !self.is_lost && self.end == Some(self.lsn)
    }

    /// Verifies the block that `bytes` should start with.
    fn look(&mut self, grain: Grain, identity: &Identity, bytes: &[u8]) -> Look {
        let header = BlockHeader::parse(bytes, grain, identity, self.at);
        let header = header.filter(|header| !self.is_lost || header.first_lsn >= self.lsn);
        let Some(header) = header else {
            if !self.is_lost {
                return Look::Unsound(None);
            }
            self.at.offset += grain.block_align_bytes() as u64;
            return Look::Sound(grain.block_align_bytes());
        };
        let continues = header.first_lsn == self.lsn && self.chain.is_none_or(|chain| header.chain == chain);
        if !continues && !self.is_lost {
            return Look::Unsound(Some(header));
        }
        let Some(block) = bytes.get(..header.bytes as usize) else {
            // It is read whole next, but only once.
            let is_asked = self.read_bytes_min >= u64::from(header.bytes);
            self.read_bytes_min = u64::from(header.bytes);
            return if is_asked { Look::Unsound(None) } else { Look::Partial };
        };
        if !header.is_whole(block) {
            return Look::Unsound(Some(header));
        }
        self.pass(&header);
        self.chain = Some(header.checksum);
        Look::Sound(block.len())
    }

    fn pass(&mut self, header: &BlockHeader) {
        self.at = header.end();
        self.lsn = header.last_lsn().next();
        self.chain = None;
        self.is_lost = false;
        self.read_bytes_min = 0;
    }

    /// Goes on behind damage: behind the block that is damaged, or page by page until there is one.
    fn skip(&mut self, grain: Grain, header: Option<BlockHeader>) {
        if let Some(header) = header.filter(|header| header.first_lsn >= self.lsn) {
            self.pass(&header);
        } else {
            self.at.offset += grain.block_align_bytes() as u64;
            self.is_lost = true;
            self.read_bytes_min = 0;
        }
    }
}

impl<D: Disk> Journal<D> {
    /// Lets it read and verify about `bytes` more bytes of what is durable, when no read-back wants the device.
    /// Who calls this at times bounds the rate; when everything was verified the next pass begins.
    ///
    /// What three reads in a row did not bring as it was written is [damage](Self::damage). It does not poison the
    /// journal: what it says is still in memory where it matters, and a truncation beyond the place makes it good.
    pub fn scrub(&mut self, bytes: u64) {
        if self.is_durable() {
            self.scrub.allowance = (self.scrub.allowance + bytes).min(ALLOWANCE_MAX);
            self.read_on();
        }
    }

    /// The places that [`scrub`](Self::scrub) found damaged and that are still needed; of many, the first ones.
    pub fn damage(&self) -> &[DamagedPlace] {
        &self.scrub.places
    }

    /// A read for a scrub ended.
    pub(crate) fn scrubbed(&mut self, at: Position, read: Option<&[u8]>) {
        if at.segment < self.truncation.head() {
            return; // It was freed meanwhile.
        }
        self.statistics.scrubbed_bytes += read.map_or(0, |bytes| bytes.len() as u64);
        if let Some(DamagedPlace { at, after }) = self.scrub.take(self.disk.grain(), &self.identity, read) {
            reach!(DAMAGE_SCRUBBED);
            let (segment, offset) = (at.segment.0, at.offset);
            tracing::error!(segment, offset, %after, "what is durable here cannot be read any more");
        }
    }
}
