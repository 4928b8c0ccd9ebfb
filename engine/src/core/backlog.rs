//! What waits to be sealed: commands, already in the buffers that become their Accept frames.

use std::collections::VecDeque;

use annulus_rings::{Batch, BatchBuilder, FramePool, reach};

use crate::Rejected;

/// The unsealed batches of a ring, oldest first.
///
/// While the window is open there is at most one, which holds what has arrived since the last was
/// sealed. While it is closed further batches fill up behind, until `bytes_max` wait (M1).
pub(crate) struct Backlog {
    batches: VecDeque<BatchBuilder>,
    spare: Vec<BatchBuilder>,
    limits: BatchLimits,
    bytes: usize,
}

/// The bounds of batches and of what waits.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Bytes of a batch.
    pub batch_bytes_max: usize,
    /// Commands of a batch.
    pub batch_commands_max: u32,
    /// Bytes of commands that wait unsealed, over all batches of a ring.
    pub queue_bytes_max: usize,
}

/// A sealed batch, and what it means for the ones who wait.
pub(crate) struct Sealed {
    pub(crate) batch: Batch,
    pub(crate) commands: u32,
}

impl Backlog {
    pub(crate) fn new(limits: BatchLimits) -> Backlog {
        let first = BatchBuilder::new(limits.batch_bytes_max, limits.batch_commands_max);
        Backlog { batches: VecDeque::with_capacity(4), spare: vec![first], limits, bytes: 0 }
    }

    /// Adds a command, or says why it cannot wait here.
    pub(crate) fn push(&mut self, pool: &mut FramePool, command: &[u8]) -> Result<(), Rejected> {
        let bytes = command.len() + COMMAND_OVERHEAD_BYTES;
        if self.bytes + bytes > self.limits.queue_bytes_max && self.bytes > 0 {
            reach!(QUEUE_FULL);
            return Err(Rejected::Full { queued_bytes: self.bytes });
        }
        if !self.batches.back().is_some_and(|open| open.fits(command.len())) {
            let next = self.open();
            if !next.fits(command.len()) {
                let bytes_max = next.command_bytes_max();
                self.spare.push(next);
                return Err(Rejected::TooLarge { bytes: command.len(), bytes_max });
            }
            self.batches.push_back(next);
        }
        self.batches.back_mut().expect("a batch that fits the command was opened").push(pool, command);
        self.bytes += bytes;
        Ok(())
    }

    /// Seals the oldest batch at a replicated time.
    pub(crate) fn seal(&mut self, pool: &mut FramePool, time_ns: u64) -> Option<Sealed> {
        let mut builder = self.batches.pop_front()?;
        let commands = builder.commands();
        self.bytes -= command_bytes(&builder);
        let batch = builder.seal(pool, time_ns);
        self.spare.push(builder);
        Some(Sealed { batch, commands })
    }

    /// Throws away everything that waits.
    pub(crate) fn clear(&mut self) {
        while let Some(mut builder) = self.batches.pop_front() {
            builder.clear();
            self.spare.push(builder);
        }
        self.bytes = 0;
    }

    /// Commands that wait.
    pub(crate) fn commands(&self) -> usize {
        self.batches.iter().map(|batch| batch.commands() as usize).sum()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The size of the batch that is sealed next.
    pub(crate) fn front_bytes(&self) -> usize {
        self.batches.front().map_or(0, BatchBuilder::bytes)
    }

    fn open(&mut self) -> BatchBuilder {
        let BatchLimits { batch_bytes_max, batch_commands_max, .. } = self.limits;
        self.spare.pop().unwrap_or_else(|| BatchBuilder::new(batch_bytes_max, batch_commands_max))
    }
}

/// What a command costs beside its own bytes while it waits: its place in the batch, and who waits for it.
/// Without it, empty commands could wait without limit (M1).
pub(crate) const COMMAND_OVERHEAD_BYTES: usize = 36;

/// What the commands of a batch count for in the queue.
fn command_bytes(builder: &BatchBuilder) -> usize {
    use annulus_rings::batch::{BATCH_HEADER_BYTES, COMMAND_HEADER_BYTES};
    let commands = builder.commands() as usize;
    builder.bytes() - BATCH_HEADER_BYTES + commands * (COMMAND_OVERHEAD_BYTES - COMMAND_HEADER_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BatchLimits = BatchLimits {
        batch_bytes_max: 100,
        batch_commands_max: 3,
        queue_bytes_max: 6 * (10 + COMMAND_OVERHEAD_BYTES),
    };

    #[test]
    fn a_full_batch_is_followed_by_another_until_the_queue_is_full() {
        let mut pool = FramePool::new(4096);
        let mut backlog = Backlog::new(LIMITS);
        for _ in 0..6 {
            backlog.push(&mut pool, &[7; 10]).unwrap();
        }
        assert_eq!(
            backlog.push(&mut pool, &[7]),
            Err(Rejected::Full { queued_bytes: LIMITS.queue_bytes_max })
        );
        assert_eq!(backlog.seal(&mut pool, 1).unwrap().commands, 3);
        assert_eq!(backlog.seal(&mut pool, 1).unwrap().commands, 3);
        assert!(backlog.seal(&mut pool, 1).is_none() && backlog.bytes == 0);
    }

    #[test]
    fn a_command_that_fits_no_batch_is_refused_and_changes_nothing() {
        let mut pool = FramePool::new(4096);
        let mut backlog = Backlog::new(LIMITS);
        assert_eq!(backlog.push(&mut pool, &[0; 89]), Err(Rejected::TooLarge { bytes: 89, bytes_max: 88 }));
        assert!(backlog.is_empty());
        backlog.push(&mut pool, &[0; 50]).unwrap();
        backlog.clear();
        assert!(backlog.is_empty());
        backlog.push(&mut pool, b"as new").unwrap();
        assert_eq!(backlog.seal(&mut pool, 1).unwrap().commands, 1);
    }
}
