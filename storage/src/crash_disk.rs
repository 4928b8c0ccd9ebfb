//! A device for tests: it completes writes in any order, fails them, and crashes with every write in
//! flight torn at any sectors.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use crate::block::SECTOR_BYTES;
use crate::buffer::AlignedBuffer;
use crate::disk::{Completion, Disk, DiskKind, SegmentFile, Segments};
use crate::identity::{Position, SegmentId};
use crate::segment::SegmentHeader;

/// What is on the medium.
pub(crate) type Image = BTreeMap<SegmentId, Vec<u8>>;

/// A handle of the device: the journal has one, the test another.
#[derive(Clone, Default)]
pub(crate) struct CrashDisk(Rc<RefCell<Device>>);

#[derive(Default)]
struct Device {
    image: Image,
    in_flight: Vec<InFlight>,
    completions: Vec<Completion>,
    /// Sectors that may still be erased before the device fails.
    erase_sectors_max: Option<usize>,
    fail_preparations: bool,
    /// Removals that were asked for, where they wait for [`CrashDisk::complete_removal`].
    removals: Vec<SegmentId>,
    hold_removals: bool,
    /// Reads that wait.
    reads: Vec<InFlight>,
    hold_reads: bool,
    /// Segments that were removed: a power failure brings some back where the directory was not durable.
    removed: Image,
}

struct InFlight {
    token: u64,
    at: Position,
    buffer: AlignedBuffer,
    bytes: usize,
}

impl CrashDisk {
    /// A device that holds `image`, as after a restart.
    pub(crate) fn of(image: Image) -> CrashDisk {
        let disk = CrashDisk::default();
        disk.0.borrow_mut().image = image;
        disk
    }

    /// What is on the medium now, without what is in flight.
    pub(crate) fn image(&self) -> Image {
        self.0.borrow().image.clone()
    }

    /// How many writes are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.0.borrow().in_flight.len()
    }

    /// Completes the write in flight at `index`, in order of submission.
    pub(crate) fn complete(&self, index: usize) {
        self.finish(index, Ok(()));
    }

    /// Fails the write in flight at `index`.
    pub(crate) fn fail(&self, index: usize) {
        self.finish(index, Err(io::Error::other("injected")));
    }

    fn finish(&self, index: usize, result: io::Result<()>) {
        let mut device = self.0.borrow_mut();
        let write = device.in_flight.remove(index);
        if result.is_ok() {
            write.apply(&mut device.image, |_| true);
        }
        let InFlight { token, buffer, .. } = write;
        device.completions.push(Completion::Written { token, buffer, result });
    }

    /// The medium after a crash: of each write in flight the sectors that `arrives` says, by write and
    /// sector.
    pub(crate) fn crash(&self, mut arrives: impl FnMut(usize, usize) -> bool) -> Image {
        let device = self.0.borrow();
        let mut image = device.image.clone();
        for (index, write) in device.in_flight.iter().enumerate() {
            write.apply(&mut image, |sector| arrives(index, sector));
        }
        image
    }

    /// Dies after it has erased so many sectors.
    pub(crate) fn die_while_erasing(&self, sectors: usize) {
        self.0.borrow_mut().erase_sectors_max = Some(sectors);
    }

    /// Removals wait from now on until they are completed one by one.
    pub(crate) fn hold_removals(&self) {
        self.0.borrow_mut().hold_removals = true;
    }

    /// Reads wait from now on, or are done.
    pub(crate) fn hold_reads(&self, hold: bool) {
        self.0.borrow_mut().hold_reads = hold;
        let reads = std::mem::take(&mut self.0.borrow_mut().reads);
        for InFlight { token, at, buffer, bytes } in reads {
            self.clone().read(token, at, buffer, bytes);
        }
    }

    /// The medium changes by itself.
    pub(crate) fn decay(&self, change: impl FnOnce(&mut Image)) {
        change(&mut self.0.borrow_mut().image);
    }

    /// The reads that wait fail.
    pub(crate) fn fail_reads(&self) {
        let device = &mut *self.0.borrow_mut();
        for InFlight { token, buffer, .. } in device.reads.drain(..) {
            let result = Err(io::Error::other("injected"));
            device.completions.push(Completion::Read { token, buffer, result });
        }
    }

    /// The removals that wait.
    pub(crate) fn removals(&self) -> Vec<SegmentId> {
        self.0.borrow().removals.clone()
    }

    /// The segments that were removed, as they were.
    pub(crate) fn removed(&self) -> Image {
        self.0.borrow().removed.clone()
    }

    /// Ends the oldest removal that waits: the segment is gone, or, on failure, maybe.
    pub(crate) fn complete_removal(&self, result: io::Result<()>, is_gone: bool) {
        let mut device = self.0.borrow_mut();
        let segment = device.removals.remove(0);
        if is_gone && let Some(bytes) = device.image.remove(&segment) {
            device.removed.insert(segment, bytes);
        }
        device.completions.push(Completion::Removed { segment, result });
    }

    /// Has no room for another segment from now on, or again.
    pub(crate) fn fail_preparations(&self, fail: bool) {
        self.0.borrow_mut().fail_preparations = fail;
    }
}

impl InFlight {
    fn apply(&self, image: &mut Image, mut arrives: impl FnMut(usize) -> bool) {
        let medium = image.get_mut(&self.at.segment).expect("writes go to prepared segments");
        let medium = &mut medium[self.at.offset as usize..][..self.bytes];
        let sectors = medium.chunks_mut(SECTOR_BYTES).zip(self.buffer.chunks(SECTOR_BYTES));
        for (index, (old, new)) in sectors.enumerate() {
            if arrives(index) {
                old.copy_from_slice(new);
            }
        }
    }
}

impl Segments for CrashDisk {
    fn list(&mut self) -> io::Result<Vec<SegmentFile>> {
        let device = self.0.borrow();
        let file = |(segment, bytes): (&SegmentId, &Vec<u8>)| SegmentFile {
            segment: *segment,
            bytes: bytes.len() as u64,
        };
        Ok(device.image.iter().map(file).collect())
    }

    fn read_at(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        let device = self.0.borrow();
        let medium = device.image.get(&at.segment).ok_or(io::ErrorKind::NotFound)?;
        let bytes = medium.get(at.offset as usize..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn has_begun(&self) -> bool {
        false
    }
}

impl Disk for CrashDisk {
    fn kind(&self) -> DiskKind {
        DiskKind::Simulated
    }

    fn erase(&mut self, at: Position, bytes: u64) -> io::Result<()> {
        let mut device = self.0.borrow_mut();
        let Device { image, erase_sectors_max, .. } = &mut *device;
        let medium = image.get_mut(&at.segment).ok_or(io::ErrorKind::NotFound)?;
        for sector in medium[at.offset as usize..][..bytes as usize].chunks_mut(SECTOR_BYTES) {
            if let Some(left) = erase_sectors_max {
                *left = left.checked_sub(1).ok_or_else(|| io::Error::other("died"))?;
            }
            sector.fill(0);
        }
        Ok(())
    }

    fn sync(&mut self, _segment: SegmentId) -> io::Result<()> {
        Ok(())
    }

    fn prepare(&mut self, header: SegmentHeader, _urgent: bool) {
        let mut device = self.0.borrow_mut();
        let result = if device.fail_preparations {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            let mut bytes = vec![0; header.bytes as usize];
            let encoded = header.encode();
            bytes[..encoded.len()].copy_from_slice(&encoded);
            device.image.insert(header.segment, bytes);
            Ok(())
        };
        device.completions.push(Completion::Prepared { segment: header.segment, result });
    }

    fn remove(&mut self, segment: SegmentId) {
        self.0.borrow_mut().removals.push(segment);
        if !self.0.borrow().hold_removals {
            self.complete_removal(Ok(()), true);
        }
    }

    fn write(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        let mut device = self.0.borrow_mut();
        let medium = &device.image[&at.segment][at.offset as usize..][..bytes];
        assert!(medium.iter().all(|byte| *byte == 0), "blocks are written onto zeros, once");
        device.in_flight.push(InFlight { token, at, buffer, bytes });
    }

    fn read(&mut self, token: u64, at: Position, mut buffer: AlignedBuffer, bytes: usize) {
        if self.0.borrow().hold_reads {
            self.0.borrow_mut().reads.push(InFlight { token, at, buffer, bytes });
            return;
        }
        let result = self.read_at(at, &mut buffer[..bytes]);
        self.0.borrow_mut().completions.push(Completion::Read { token, buffer, result });
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.0.borrow_mut().completions);
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}
