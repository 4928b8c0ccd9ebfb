//! Batches: the value of a slot.
//!
//! ```text
//!  0  time_ns   u64   wall-clock time of the leader that sealed it, nanoseconds since 1970; 0 in a no-op
//!  8  { bytes u32, command }*
//! ```
//! A batch with no command is the no-op that fills a gap (P5). Replicated time is the highest `time_ns` of
//! the slots executed so far: a batch keeps its bytes whoever proposes it, so times alone may step back. All numbers are little-endian.

use bytes::{BufMut, BytesMut};

use crate::frame::{FRAME_BYTES_MAX, HEADER_BYTES};
use crate::{Frame, FramePool};

/// What precedes the commands of a batch.
pub const BATCH_HEADER_BYTES: usize = 8;
/// What precedes each command.
pub const COMMAND_HEADER_BYTES: usize = 4;
/// The largest bytes of a batch, time and command headers included.
pub const BATCH_BYTES_MAX: usize = FRAME_BYTES_MAX / 2;

/// Collects commands straight into the buffer that becomes their Accept frame.
pub struct BatchBuilder {
    room: BytesMut,
    bytes_max: usize,
    commands_max: u32,
    commands: u32,
}

/// Why a payload is not a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the payload is not a batch of {commands} commands")]
pub struct BatchError {
    /// The count that the frame states.
    pub commands: u32,
}

impl BatchBuilder {
    /// An empty builder for batches of at most `bytes_max` bytes and `commands_max` commands.
    pub fn new(bytes_max: usize, commands_max: u32) -> BatchBuilder {
        let bytes_max = bytes_max.min(BATCH_BYTES_MAX);
        BatchBuilder { room: BytesMut::new(), bytes_max, commands_max, commands: 0 }
    }

    /// The largest command that fits a batch.
    pub fn command_bytes_max(&self) -> usize {
        self.bytes_max - BATCH_HEADER_BYTES - COMMAND_HEADER_BYTES
    }

    /// Whether a command of `bytes` still fits the batch that is open.
    pub fn fits(&self, bytes: usize) -> bool {
        self.commands < self.commands_max && self.bytes() + COMMAND_HEADER_BYTES + bytes <= self.bytes_max
    }

    /// Adds a command. The caller asked [`fits`](Self::fits) first.
    pub fn push(&mut self, pool: &mut FramePool, command: &[u8]) {
        assert!(self.fits(command.len()), "the caller asked whether the command fits");
        if self.commands == 0 {
            self.open(pool);
        }
        self.room.put_u32_le(command.len() as u32);
        self.room.put_slice(command);
        self.commands += 1;
    }

    /// Commands in the open batch.
    pub fn commands(&self) -> u32 {
        self.commands
    }

    /// Whether nothing waits to be sealed.
    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }

    /// Bytes of the open batch, its time included.
    pub fn bytes(&self) -> usize {
        if self.commands == 0 { BATCH_HEADER_BYTES } else { self.room.len() - HEADER_BYTES }
    }

    /// Closes the batch and hands out its buffer, with room for the frame's header in front.
    /// An empty builder gives a no-op.
    pub fn seal(&mut self, pool: &mut FramePool, time_ns: u64) -> Batch {
        if self.commands == 0 {
            self.open(pool);
        }
        let mut buffer = self.room.split();
        buffer[HEADER_BYTES..][..BATCH_HEADER_BYTES].copy_from_slice(&time_ns.to_le_bytes());
        Batch { buffer, commands: std::mem::take(&mut self.commands) }
    }

    /// Throws the open batch away.
    pub fn clear(&mut self) {
        self.room.clear();
        self.commands = 0;
    }

    fn open(&mut self, pool: &mut FramePool) {
        pool.ensure(&mut self.room, HEADER_BYTES + self.bytes_max);
        self.room.resize(HEADER_BYTES + BATCH_HEADER_BYTES, 0);
    }
}

/// A sealed batch on its way to becoming the Accept frame of a slot.
#[derive(Debug)]
pub struct Batch {
    /// Room for a header, then the payload.
    pub(crate) buffer: BytesMut,
    /// Commands in it.
    pub(crate) commands: u32,
}

impl Batch {
    /// A batch with the same value as `frame`'s, to propose it again in another ballot.
    pub(crate) fn copy_of(frame: &Frame, pool: &mut FramePool) -> Batch {
        let mut buffer = pool.take(frame.len());
        buffer.resize(HEADER_BYTES, 0);
        buffer.extend_from_slice(frame.payload());
        Batch { buffer, commands: frame.header().commands }
    }

    /// The value that fills a gap: no commands.
    pub(crate) fn no_op(pool: &mut FramePool) -> Batch {
        let mut buffer = pool.take(HEADER_BYTES + BATCH_HEADER_BYTES);
        buffer.resize(HEADER_BYTES, 0);
        buffer.put_u64_le(0);
        Batch { buffer, commands: 0 }
    }

    /// Commands in the batch.
    pub fn commands(&self) -> u32 {
        self.commands
    }
}

/// The commands of a batch, borrowed from its frame, in order.
#[derive(Clone)]
pub struct Commands<'a> {
    time_ns: u64,
    rest: &'a [u8],
    left: u32,
}

impl<'a> Commands<'a> {
    /// Reads an Accept's payload; its whole structure is checked here, once.
    ///
    /// # Errors
    /// The payload is not exactly `commands` commands.
    pub fn parse(payload: &'a [u8], commands: u32) -> Result<Commands<'a>, BatchError> {
        let error = BatchError { commands };
        let (time, rest) = payload.split_first_chunk().ok_or(error)?;
        let batch = Commands { time_ns: u64::from_le_bytes(*time), rest, left: commands };
        let mut walk = batch.clone();
        while walk.left > 0 {
            walk.advance().ok_or(error)?;
        }
        if walk.rest.is_empty() { Ok(batch) } else { Err(error) }
    }

    /// The commands of a frame whose batch was checked when it was accepted.
    pub fn of(frame: &'a Frame) -> Commands<'a> {
        let (time, rest) = frame.payload().split_first_chunk().expect("an accepted frame holds a batch");
        Commands { time_ns: u64::from_le_bytes(*time), rest, left: frame.header().commands }
    }

    /// When its leader sealed the batch, nanoseconds since 1970; 0 in a no-op.
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    fn advance(&mut self) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_first_chunk()?;
        let (command, rest) = rest.split_at_checked(u32::from_le_bytes(*bytes) as usize)?;
        self.rest = rest;
        self.left -= 1;
        Some(command)
    }
}

impl<'a> Iterator for Commands<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.left == 0 { None } else { self.advance() }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Commands<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn commands_come_back_in_order(commands in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..50)) {
            let mut pool = FramePool::new(4096);
            let mut builder = BatchBuilder::new(1 << 16, 1000);
            for command in &commands {
                builder.push(&mut pool, command);
            }
            let batch = builder.seal(&mut pool, 42);
            prop_assert_eq!(batch.commands() as usize, commands.len());
            let read = Commands::parse(&batch.buffer[HEADER_BYTES..], batch.commands()).unwrap();
            prop_assert_eq!(read.time_ns(), 42);
            prop_assert!(read.eq(commands.iter().map(Vec::as_slice)));
        }

        #[test]
        fn arbitrary_bytes_never_panic(payload in proptest::collection::vec(any::<u8>(), 0..200), commands in 0u32..20) {
            if let Ok(batch) = Commands::parse(&payload, commands) {
                prop_assert_eq!(batch.count(), commands as usize);
            }
        }
    }

    #[test]
    fn a_full_batch_refuses_one_byte_more() {
        let mut pool = FramePool::new(4096);
        let mut builder = BatchBuilder::new(100, 10);
        assert_eq!(builder.command_bytes_max(), 88);
        assert!(builder.fits(88) && !builder.fits(89));
        builder.push(&mut pool, &[0; 88]);
        assert!(!builder.fits(0));
    }
}
