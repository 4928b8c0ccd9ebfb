//! Where a state machine writes a slice of its snapshot.

use annulus_rings::Slot;

use super::{LENGTH_BYTES, RECORD_BYTES_MAX};

/// One slice of a snapshot, while a state machine writes it.
///
/// A slice is short, because the ring waits for it: write records while there is [room](Self::has_room), at
/// least one, and keep the rest for the next call. A record that needs more than what is left of the room may
/// still be written.
pub struct SnapshotWriter<'a> {
    slot: Slot,
    is_first: bool,
    buffer: &'a mut Vec<u8>,
    /// The buffer's length at which the slice is full.
    full_bytes: usize,
    failure: Option<SliceFailure>,
}

/// What is wrong with a slice: a mistake of the state machine that wrote it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum SliceFailure {
    /// A record that nobody would read back.
    #[error("a record has {bytes} bytes, at most {RECORD_BYTES_MAX} are read back: write several")]
    RecordTooLarge { bytes: usize },
    /// It does not ask for room.
    #[error("a slice has {bytes} bytes and was full long before: stop when has_room() is false")]
    SliceTooLarge { bytes: usize },
}

impl<'a> SnapshotWriter<'a> {
    /// A slice of about `room_bytes` that is appended to `buffer`, of the snapshot of slots below `slot`. The
    /// engine makes its own; this is for tests of a state machine.
    pub fn new(slot: Slot, is_first: bool, buffer: &'a mut Vec<u8>, room_bytes: usize) -> SnapshotWriter<'a> {
        let full_bytes = buffer.len().saturating_add(room_bytes);
        SnapshotWriter { slot, is_first, buffer, full_bytes, failure: None }
    }

    /// The first slot that the snapshot does not cover: its state is that after all slots below.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Whether a new snapshot begins, of the state as it is now. An earlier one that was not finished is
    /// given up.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Whether another record should be written in this call.
    pub fn has_room(&self) -> bool {
        self.failure.is_none() && self.buffer.len() < self.full_bytes
    }

    /// Writes a record, of at most [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX).
    pub fn record(&mut self, bytes: &[u8]) {
        self.record_with(|buffer| buffer.extend_from_slice(bytes));
    }

    /// Writes a record of what `write` appends to a buffer, whose earlier content it must leave alone.
    pub fn record_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.failure.is_some() {
            return;
        }
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; LENGTH_BYTES]);
        write(self.buffer);
        let bytes = self.buffer.len().saturating_sub(start + LENGTH_BYTES);
        if bytes > RECORD_BYTES_MAX {
            self.failure = Some(SliceFailure::RecordTooLarge { bytes });
        } else if self.buffer.len() > self.full_bytes.saturating_add(LENGTH_BYTES + RECORD_BYTES_MAX) {
            self.failure = Some(SliceFailure::SliceTooLarge { bytes: start });
        }
        if self.failure.is_some() {
            self.buffer.truncate(start);
            return;
        }
        let length = (bytes as u32).to_le_bytes();
        self.buffer[start..start + LENGTH_BYTES].copy_from_slice(&length);
    }

    /// Ends the slice: whether it can be part of a snapshot. Then it has at most the bytes of the room and of
    /// one longest record with its length.
    pub(crate) fn finish(self) -> Result<(), SliceFailure> {
        self.failure.map_or(Ok(()), Err)
    }
}

// A record's length fits its prefix.
const _: () = assert!(RECORD_BYTES_MAX <= u32::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_lie_behind_their_lengths_as_the_layout_says() {
        let mut buffer = b"before".to_vec();
        let mut writer = SnapshotWriter::new(Slot(7), true, &mut buffer, 100);
        assert_eq!((writer.slot(), writer.is_first()), (Slot(7), true));
        writer.record(b"one");
        writer.record_with(|record| record.push(2));
        writer.record(b"");
        assert_eq!(writer.finish(), Ok(()));
        assert_eq!(buffer, b"before\x03\0\0\0one\x01\0\0\0\x02\0\0\0\0");
    }

    #[test]
    fn a_slice_is_full_at_its_room_and_its_last_record_may_be_longer() {
        let mut buffer = vec![0; 50];
        let mut writer = SnapshotWriter::new(Slot(0), false, &mut buffer, 15);
        assert!(writer.has_room());
        writer.record(&[1; 10]);
        assert!(writer.has_room());
        writer.record(&[1; 1000]);
        assert!(!writer.has_room());
        assert_eq!(writer.finish(), Ok(()));
        assert_eq!(buffer.len(), 50 + 4 + 10 + 4 + 1000);
    }

    #[test]
    fn a_record_too_long_to_be_read_back_spoils_the_slice() {
        let mut buffer = Vec::new();
        let mut writer = SnapshotWriter::new(Slot(0), true, &mut buffer, 100);
        writer.record_with(|record| record.resize(record.len() + RECORD_BYTES_MAX, 0));
        assert_eq!(writer.failure, None);
        writer.record_with(|record| record.resize(record.len() + RECORD_BYTES_MAX + 1, 0));
        assert!(!writer.has_room());
        writer.record(b"dropped");
        assert_eq!(writer.finish(), Err(SliceFailure::RecordTooLarge { bytes: RECORD_BYTES_MAX + 1 }));
        assert_eq!(buffer.len(), LENGTH_BYTES + RECORD_BYTES_MAX);
    }

    #[test]
    fn who_never_asks_for_room_spoils_the_slice_before_memory_ends() {
        let mut buffer = Vec::new();
        let mut writer = SnapshotWriter::new(Slot(0), true, &mut buffer, 100);
        for _ in 0..100 {
            writer.record_with(|record| record.resize(record.len() + (1 << 20), 0));
        }
        assert!(matches!(writer.finish(), Err(SliceFailure::SliceTooLarge { .. })));
        assert!(buffer.len() <= 100 + LENGTH_BYTES + RECORD_BYTES_MAX);
    }
}
