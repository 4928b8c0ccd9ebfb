//! A volatile device: the newest segments, in memory.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;

use crate::buffer::AlignedBuffer;
use crate::disk::{Completion, Disk, DiskKind, SegmentFile, Segments};
use crate::identity::{Position, SegmentId};
use crate::segment::SegmentHeader;
use crate::wake::WakeFd;

/// Keeps the newest segments and forgets them with the process: a journal on it is **volatile**.
///
/// It is bounded: once it holds `bytes_max`, each new segment takes the memory of the oldest, which counts as
/// removed. What is forgotten can no longer be read back for peers that lag.
pub struct MemoryDisk {
    segments: VecDeque<MemorySegment>,
    /// The memory of a segment that was removed.
    spare: Option<Vec<u8>>,
    completions: Vec<Completion>,
    bytes_max: u64,
    wake: WakeFd,
}

struct MemorySegment {
    segment: SegmentId,
    bytes: Vec<u8>,
}

/// Completions that wait for the next poll: writes in flight, read-backs and preparations are fewer.
const COMPLETIONS_MAX: usize = 64;

impl MemoryDisk {
    /// An empty disk of at most `bytes_max` bytes, but at least four segments.
    pub fn new(bytes_max: u64) -> MemoryDisk {
        MemoryDisk {
            segments: VecDeque::new(),
            spare: None,
            completions: Vec::with_capacity(COMPLETIONS_MAX),
            bytes_max,
            wake: WakeFd::default(),
        }
    }

    fn bytes_of(&mut self, at: Position, bytes: usize) -> io::Result<&mut [u8]> {
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the segment is no longer held in memory");
        let index =
            self.segments.iter().rposition(|segment| segment.segment == at.segment).ok_or_else(gone)?;
        let held = &mut self.segments[index].bytes;
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        held.get_mut(at.offset as usize..).and_then(|rest| rest.get_mut(..bytes)).ok_or_else(end)
    }

    /// Everything completes at once, and is collected by the next poll.
    fn complete(&mut self, completion: Completion) {
        self.completions.push(completion);
        self.wake.signal();
    }

    /// Memory for a new segment: the oldest's, where the bound is reached. Blocks name their segment and
    /// read-backs stop at what is durable, so old bytes are never taken for new ones.
    fn room(&mut self, bytes: u64) -> Vec<u8> {
        let count_max = (self.bytes_max / bytes).max(4) as usize;
        while self.segments.len() >= count_max {
            self.forget(0);
        }
        self.spare.take_if(|spare| spare.len() as u64 == bytes).unwrap_or_else(|| vec![0; bytes as usize])
    }

    fn forget(&mut self, index: usize) {
        if let Some(MemorySegment { segment, bytes }) = self.segments.remove(index) {
            self.spare = Some(bytes);
            self.complete(Completion::Removed { segment, result: Ok(()) });
        }
    }
}

impl Segments for MemoryDisk {
    fn list(&mut self) -> io::Result<Vec<SegmentFile>> {
        let file =
            |held: &MemorySegment| SegmentFile { segment: held.segment, bytes: held.bytes.len() as u64 };
        Ok(self.segments.iter().map(file).collect())
    }

    fn read_at(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = self.bytes_of(at, buffer.len())?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn has_begun(&self) -> bool {
        false
    }
}

impl Disk for MemoryDisk {
    fn kind(&self) -> DiskKind {
        DiskKind::Memory
    }

    fn erase(&mut self, at: Position, bytes: u64) -> io::Result<()> {
        self.bytes_of(at, bytes as usize)?.fill(0);
        Ok(())
    }

    fn sync(&mut self, _segment: SegmentId) -> io::Result<()> {
        Ok(())
    }

    fn prepare(&mut self, header: SegmentHeader, _urgent: bool) {
        let mut bytes = self.room(header.bytes);
        let encoded = header.encode();
        bytes[..encoded.len()].copy_from_slice(&encoded);
        self.segments.push_back(MemorySegment { segment: header.segment, bytes });
        self.complete(Completion::Prepared { segment: header.segment, result: Ok(()) });
    }

    fn capacity_bytes(&self) -> u64 {
        self.bytes_max
    }

    fn remove(&mut self, segment: SegmentId) {
        match self.segments.iter().position(|held| held.segment == segment) {
            Some(index) => self.forget(index),
            None => self.complete(Completion::Removed { segment, result: Ok(()) }),
        }
    }

    fn write(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        let result = self.bytes_of(at, bytes).map(|held| held.copy_from_slice(&buffer[..bytes]));
        self.complete(Completion::Written { token, buffer, result });
    }

    fn read(&mut self, token: u64, at: Position, mut buffer: AlignedBuffer, bytes: usize) {
        let result = self.read_at(at, &mut buffer[..bytes]);
        self.complete(Completion::Read { token, buffer, result });
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.completions);
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.wake.set(eventfd)
    }
}
