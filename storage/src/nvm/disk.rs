//! The device: blocks are stored where a file would have them, and one fence per turn makes them durable.

use std::io;
use std::ops::Range;
use std::os::fd::RawFd;

use annulus_rings::mutant;

use super::extents::Extent;
use super::mapping::Mapping;
use super::medium::Medium;
use super::options::NvmOptions;
use super::region::{EXTENTS_OFFSET, Region, RegionError};
use super::region_file::{RegionFile, verify_size};
use super::scrub::scrub;
use super::table::EXTENTS_MAX;
use crate::block::BLOCK_ALIGN_BYTES;
use crate::buffer::AlignedBuffer;
use crate::data_dir::CoreDirectory;
use crate::disk::{Completion, Disk, DiskKind, SegmentFile, Segments};
use crate::error::OpenError;
use crate::grain::Grain;
use crate::identity::{Identity, Position, SegmentId};
use crate::segment::SegmentHeader;

/// A journal's device on non-volatile memory. No call of it after the start is a system call, but those that
/// read slots back.
///
/// A core that parks asks [`is_ready`](Disk::is_ready) first: nothing here signals an eventfd.
pub struct NvmDisk<M: Medium = Mapping> {
    region: Region<M>,
    /// The segment that blocks go to.
    current: Option<Extent>,
    /// Writes that no fence followed yet, and the end of the last one.
    unfenced: Vec<Completion>,
    unfenced_end: Option<Position>,
    completions: Vec<Completion>,
    /// How far blocks are durable, when the table does not say so yet.
    tail: Option<Position>,
    quiet_polls: u32,
    making: Option<Making>,
    /// Waits for room.
    wanted: Option<SegmentHeader>,
    /// That there is none was said already.
    is_full: bool,
    /// Parts of the region that cannot be used.
    bad: Vec<Range<u64>>,
    /// Holds the lock of the data directory.
    _directory: Option<CoreDirectory>,
}

/// A segment that is being made.
struct Making {
    header: SegmentHeader,
    start: u64,
    /// Bytes of it that are zeros.
    zeroed: u64,
    urgent: bool,
}

/// Completions that need no allocation.
const COMPLETIONS_MAX: usize = 64;
/// Polls without a write after which there is time to note the tail.
const QUIET_POLLS: u32 = 8;
/// Bytes zeroed by one poll: microseconds of a turn.
const SLICE_BYTES: u64 = 16 << 10;
/// The same where a write waits for the segment.
const URGENT_SLICE_BYTES: u64 = 64 << 10;

impl NvmDisk<Mapping> {
    /// Opens the region of a core, or makes it.
    ///
    /// # Errors
    /// [`OpenError::Region`], or what the operating system refused.
    pub fn open(core: &CoreDirectory, options: &NvmOptions) -> Result<NvmDisk, OpenError> {
        let file = RegionFile::of(core, options);
        let region = file.open(core, options)?;
        NvmDisk::on(region, Some(core.clone())).map_err(|source| file.refused(source))
    }

    /// A region in ordinary memory, which is gone with the process: a journal on it is **volatile**.
    ///
    /// # Errors
    /// [`OpenError::Region`]: there is not so much memory.
    pub fn emulated(identity: &Identity, region_bytes: u64) -> Result<NvmDisk, OpenError> {
        let refused = |source| OpenError::Region { path: "memory".into(), source };
        verify_size(region_bytes).map_err(refused)?;
        let mapping = Mapping::of_memory(region_bytes).map_err(refused)?;
        NvmDisk::on(Region::format(mapping, identity), None).map_err(refused)
    }
}

impl<M: Medium> NvmDisk<M> {
    /// The device of a region, after looking for pages that cannot be read where nothing is needed yet: recovery
    /// reads the rest.
    pub(crate) fn on(
        mut region: Region<M>,
        directory: Option<CoreDirectory>,
    ) -> Result<NvmDisk<M>, RegionError> {
        let failed = |error| RegionError::Io("looking for bad pages", error);
        let spare = region.spare_table();
        if !scrub(&mut region.medium, &[spare]).map_err(failed)?.is_empty() {
            return Err(RegionError::Damaged("a page of its tables can be neither read nor replaced"));
        }
        let whole = EXTENTS_OFFSET..region.medium.bytes();
        let free = region.table.extents.gaps(whole, &[]);
        let bad = scrub(&mut region.medium, &free).map_err(failed)?;
        Ok(NvmDisk {
            region,
            current: None,
            unfenced: Vec::with_capacity(COMPLETIONS_MAX),
            unfenced_end: None,
            completions: Vec::with_capacity(COMPLETIONS_MAX),
            tail: None,
            quiet_polls: 0,
            making: None,
            wanted: None,
            is_full: false,
            bad,
            _directory: directory,
        })
    }

    /// Where `bytes` bytes from `at` on are in the region.
    fn place(&self, at: Position, bytes: u64) -> io::Result<u64> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the region has no such segment");
        let current = self.current.filter(|extent| extent.segment == at.segment);
        let found = current.or_else(|| self.region.table.extents.find(at.segment));
        let extent = found.ok_or_else(gone)?;
        let end = at.offset.checked_add(bytes).filter(|end| *end <= extent.bytes);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(extent.start + at.offset)
    }

    /// Tentative append: the block is on its way, and the next fence commits it.
    fn append(&mut self, at: Position, block: &[u8]) -> io::Result<()> {
        let place = self.place(at, block.len() as u64)?;
        if self.current.is_none_or(|extent| extent.segment != at.segment) {
            self.enter(at);
        }
        let end = Position { offset: at.offset + block.len() as u64, ..at };
        if mutant!(DURABLE_TAIL_TOO_SOON) {
            self.note_tail(end);
        }
        if mutant!(NVM_FLUSH_MISSING) {
            self.region.medium.write(place, block);
        } else {
            self.region.medium.store(place, block);
        }
        self.unfenced_end = Some(end);
        Ok(())
    }

    /// The first block of this life, or of another segment. Before the first one the table says how far recovery
    /// has read: all of that is durable, and what will stand there may not be whole.
    fn enter(&mut self, at: Position) {
        let tail = if self.current.is_none() { Some(at) } else { self.tail.take() };
        self.current = self.region.table.extents.find(at.segment);
        if let Some(tail) = tail {
            self.note_tail(tail);
        }
    }

    fn note_tail(&mut self, tail: Position) {
        if self.region.table.tail.is_none_or(|noted| noted < tail) {
            self.region.table.tail = Some(tail);
            self.region.commit();
        }
    }

    /// Notes the tail once there is time for it.
    fn rest(&mut self) {
        self.quiet_polls += 1;
        if self.quiet_polls >= QUIET_POLLS
            && let Some(tail) = self.tail.take()
        {
            self.note_tail(tail);
        }
    }

    /// Frees the extent of a segment, durably. It is zeroed when it is needed again. A segment that is not there is
    /// freed already.
    pub(crate) fn free(&mut self, segment: SegmentId) {
        if self.region.table.extents.remove(segment).is_some() {
            self.region.commit();
        }
        self.current = self.current.filter(|extent| extent.segment != segment);
        self.is_full = false;
        if let Some(header) = self.wanted.take() {
            self.begin(header, true);
        }
    }

    /// Begins to make a segment where there is room for it.
    fn begin(&mut self, header: SegmentHeader, urgent: bool) {
        let extents = &self.region.table.extents;
        let whole = EXTENTS_OFFSET..self.region.medium.bytes();
        let is_large = |gap: &Range<u64>| aligned_start(gap) + header.bytes <= gap.end;
        let gap = extents.gaps(whole, &self.bad).into_iter().find(is_large);
        match gap.filter(|_| extents.list().len() < EXTENTS_MAX) {
            Some(gap) => {
                self.making = Some(Making { header, start: aligned_start(&gap), zeroed: 0, urgent });
            }
            // Asked again for what there is no room for: only a segment that is freed changes that.
            None if self.is_full => self.wanted = Some(header),
            None => {
                self.is_full = true;
                self.completions.push(Completion::Prepared { segment: header.segment, result: Err(full()) });
            }
        }
    }

    /// Goes on with the segment that is being made, by so many bytes.
    fn make_on(&mut self, slice_bytes: u64) {
        let Some(making) = &mut self.making else { return };
        let SegmentHeader { segment, bytes, .. } = making.header;
        let slice = slice_bytes.min(bytes - making.zeroed);
        let medium = &mut self.region.medium;
        medium.zero(making.start + making.zeroed, slice);
        // Each slice by itself, so that no block waits for the stores of many.
        medium.fence();
        making.zeroed += slice;
        if making.zeroed < bytes {
            return;
        }
        medium.store(making.start, &making.header.encode());
        medium.fence();
        let extent = Extent { segment, start: making.start, bytes };
        self.making = None;
        let inserted = self.region.table.extents.insert(extent);
        assert!(inserted, "a gap overlaps nothing, and segments are numbered upwards");
        self.region.commit();
        self.completions.push(Completion::Prepared { segment, result: Ok(()) });
    }
}

impl<M: Medium> Segments for NvmDisk<M> {
    fn list(&mut self) -> io::Result<Vec<SegmentFile>> {
        let file = |extent: &Extent| SegmentFile { segment: extent.segment, bytes: extent.bytes };
        Ok(self.region.table.extents.list().iter().map(file).collect())
    }

    fn read_at(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        let place = self.place(at, buffer.len() as u64)?;
        self.region.medium.read(place, buffer)
    }

    fn has_begun(&self) -> bool {
        // The table is never lost alone: it says itself that there is no segment yet.
        false
    }

    fn grain(&self) -> Grain {
        Grain::Word
    }

    fn durable_tail(&self) -> Option<Position> {
        self.region.table.tail
    }
}

impl<M: Medium> Disk for NvmDisk<M> {
    fn kind(&self) -> DiskKind {
        self.region.medium.kind()
    }

    fn erase(&mut self, at: Position, bytes: u64) -> io::Result<()> {
        let place = self.place(at, bytes)?;
        self.region.medium.zero(place, bytes);
        self.region.medium.fence();
        Ok(())
    }

    fn sync(&mut self, segment: SegmentId) -> io::Result<()> {
        if let Some(extent) = self.region.table.extents.find(segment) {
            self.region.medium.flush(extent.start, extent.bytes);
            self.region.medium.fence();
        }
        Ok(())
    }

    fn prepare(&mut self, header: SegmentHeader, urgent: bool) {
        self.begin(header, urgent);
    }

    fn remove(&mut self, segment: SegmentId) {
        self.free(segment);
        self.completions.push(Completion::Removed { segment, result: Ok(()) });
    }

    fn capacity_bytes(&self) -> u64 {
        let bad: u64 = self.bad.iter().map(|range| range.end - range.start).sum();
        self.region.medium.bytes() - EXTENTS_OFFSET - bad
    }

    fn write(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        let result = self.append(at, &buffer[..bytes]);
        self.quiet_polls = 0;
        self.unfenced.push(Completion::Written { token, buffer, result });
    }

    fn read(&mut self, token: u64, at: Position, mut buffer: AlignedBuffer, bytes: usize) {
        let result = self.read_at(at, &mut buffer[..bytes]);
        self.completions.push(Completion::Read { token, buffer, result });
    }

    /// Commit: one fence for all blocks of the turn.
    fn submit(&mut self) -> io::Result<()> {
        if self.unfenced.is_empty() {
            return Ok(());
        }
        if !mutant!(NVM_FENCE_MISSING) {
            self.region.medium.fence();
        }
        self.completions.append(&mut self.unfenced);
        self.tail = self.unfenced_end.take().or(self.tail);
        Ok(())
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.completions);
        if let Some(making) = &self.making {
            self.make_on(if making.urgent { URGENT_SLICE_BYTES } else { SLICE_BYTES });
        }
        if self.tail.is_some() {
            self.rest();
        }
        Ok(())
    }

    fn is_ready(&self) -> bool {
        !self.completions.is_empty() || self.making.is_some() || self.tail.is_some()
    }

    fn wait(&mut self) -> io::Result<()> {
        self.make_on(u64::MAX);
        Ok(())
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}

impl<M: Medium> Drop for NvmDisk<M> {
    fn drop(&mut self) {
        // What a panic interrupted is left as it is.
        if let Some(tail) = self.tail.take().filter(|_| !std::thread::panicking()) {
            self.note_tail(tail);
        }
    }
}

fn aligned_start(gap: &Range<u64>) -> u64 {
    gap.start.next_multiple_of(BLOCK_ALIGN_BYTES as u64)
}

fn full() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "the region of non-volatile memory has no room for a segment")
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
