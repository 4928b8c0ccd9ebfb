//! What a journal needs of a device: blocking calls at start, poll-style ones after.

use std::fmt;
use std::io;
use std::os::fd::RawFd;

use crate::buffer::AlignedBuffer;
use crate::grain::Grain;
use crate::identity::{Position, SegmentId};
use crate::segment::SegmentHeader;

/// Whether what a disk calls durable survives the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DiskKind {
    /// Files: durable.
    File,
    /// Memory: volatile, lost with the process.
    Memory,
    /// Non-volatile memory: durable.
    Nvm,
    /// Memory that the configuration says is saved by a battery: durable if that is true.
    NvmBattery,
    /// Ordinary memory in place of non-volatile: volatile.
    NvmEmulated,
    /// A simulated device of a test.
    Simulated,
}

impl DiskKind {
    /// Whether what is durable there survives the process, and the loss of power.
    pub const fn is_durable(self) -> bool {
        !matches!(self, DiskKind::Memory | DiskKind::NvmEmulated)
    }
}

impl fmt::Display for DiskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskKind::File => "file",
            DiskKind::Memory => "memory (volatile)",
            DiskKind::Nvm => "nvm",
            DiskKind::NvmBattery => "nvm-battery (durable while the battery is)",
            DiskKind::NvmEmulated => "nvm-emulated (volatile)",
            DiskKind::Simulated => "simulated",
        })
    }
}

/// A segment as the device holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentFile {
    /// Which.
    pub segment: SegmentId,
    /// The size of the file.
    pub bytes: u64,
}

/// The read-only side of a device, enough to recover or inspect a journal. All calls may block.
pub trait Segments {
    /// The segments there are, in order.
    ///
    /// # Errors
    /// The device's.
    fn list(&mut self) -> io::Result<Vec<SegmentFile>>;

    /// Fills `buffer` from `at` on.
    ///
    /// # Errors
    /// The device's; `UnexpectedEof` past the end.
    fn read_at(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()>;

    /// Whether a journal was ever begun here: if so, no segment at all means that it was lost.
    fn has_begun(&self) -> bool;

    /// What it writes whole or not at all.
    fn grain(&self) -> Grain {
        Grain::Sector
    }

    /// A place before which everything is known to be durable, where the device keeps one: blocks that are not
    /// whole there are damaged, not torn.
    fn durable_tail(&self) -> Option<Position> {
        None
    }
}

/// An operation that ended. It gives the buffer back.
pub enum Completion {
    /// A write: durable, unless it failed.
    Written {
        /// The submitter's.
        token: u64,
        /// The buffer written from.
        buffer: AlignedBuffer,
        /// A failed write or sync poisons the journal.
        result: io::Result<()>,
    },
    /// A read.
    Read {
        /// The submitter's.
        token: u64,
        /// The buffer read into.
        buffer: AlignedBuffer,
        /// A failed read is only that.
        result: io::Result<()>,
    },
    /// A segment was made, with zeros throughout, and is durable under its name.
    Prepared {
        /// Which.
        segment: SegmentId,
        /// A failure leaves nothing behind; it may be tried again.
        result: io::Result<()>,
    },
    /// A segment is gone for good. A volatile device that forgets its oldest segments says so by this too,
    /// unasked.
    Removed {
        /// Which.
        segment: SegmentId,
        /// After a failure it may be there or not; it may be tried again.
        result: io::Result<()>,
    },
}

/// A device. What it does after the start never blocks: operations are submitted, and polled for later.
///
/// An operation owns its buffer until its completion returns it, so that a device can work on the
/// memory with no copy and nobody can touch it meanwhile.
pub trait Disk: Segments {
    /// What kind it is.
    fn kind(&self) -> DiskKind;

    /// At start, may block: writes zeros over `bytes` bytes from `at` on.
    ///
    /// # Errors
    /// The device's.
    fn erase(&mut self, at: Position, bytes: u64) -> io::Result<()>;

    /// At start, may block: makes everything durable that was ever written to `segment`.
    ///
    /// # Errors
    /// The device's.
    fn sync(&mut self, segment: SegmentId) -> io::Result<()>;

    /// At start: offers the buffers that most writes will come from, for registration with the kernel.
    fn register_buffers(&mut self, buffers: &mut [AlignedBuffer]) {
        let _ = buffers;
    }

    /// Starts making a zero-filled segment, in the background. `urgent` asks for speed, else it is paced
    /// so that writes of the journal come first.
    fn prepare(&mut self, header: SegmentHeader, urgent: bool);

    /// Starts removing a segment, in the background, durably. One that is not there is removed already.
    fn remove(&mut self, segment: SegmentId);

    /// Queues a durable write of the first `bytes` bytes of `buffer`. The place and the size are
    /// multiples of the [grain](Segments::grain)'s alignment, inside a segment that was prepared.
    fn write(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize);

    /// Queues a read of `bytes` bytes into the front of `buffer`.
    fn read(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize);

    /// Hands what is queued to the device.
    ///
    /// # Errors
    /// The device is gone.
    fn submit(&mut self) -> io::Result<()>;

    /// Collects what has completed. Never blocks, and makes no system call when nothing has.
    ///
    /// # Errors
    /// The device is gone.
    fn poll(&mut self, completions: &mut Vec<Completion>) -> io::Result<()>;

    /// The bytes of all segments that it can ever hold, where that is known.
    fn capacity_bytes(&self) -> u64 {
        u64::MAX
    }

    /// Whether a poll would find something, although nothing signals it: ask before parking.
    fn is_ready(&self) -> bool {
        false
    }

    /// At start, may block: waits until something may have completed.
    ///
    /// # Errors
    /// The device is gone.
    fn wait(&mut self) -> io::Result<()>;

    /// Names the eventfd that every later completion signals.
    ///
    /// # Errors
    /// The descriptor is not an eventfd.
    fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()>;
}
