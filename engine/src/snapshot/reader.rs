//! Where a state machine finds a piece of a snapshot.

use annulus_rings::Slot;

use super::{LENGTH_BYTES, RestoreFailure};

/// One piece of a snapshot, while a state machine takes it.
///
/// Pieces come in the order in which they were written. Where one ends and the next begins need not be where
/// a slice ended, but a record is never divided, and only of a snapshot without any record is a piece empty.
pub struct SnapshotReader<'a> {
    slot: Slot,
    is_first: bool,
    is_last: bool,
    records: Records<'a>,
}

impl<'a> SnapshotReader<'a> {
    /// The records of `bytes`, laid out as a writer does, of the snapshot of slots below `slot`. The engine
    /// makes its own; this is for tests of a state machine.
    ///
    /// # Errors
    /// `bytes` are not whole records.
    pub fn new(
        slot: Slot,
        is_first: bool,
        is_last: bool,
        bytes: &'a [u8],
    ) -> Result<SnapshotReader<'a>, RestoreFailure> {
        let (mut rest, mut count) = (bytes, 0);
        while !rest.is_empty() {
            let offset = bytes.len() - rest.len();
            let malformed = RestoreFailure::Malformed { offset, bytes: bytes.len() };
            rest = take_record(rest).ok_or(malformed)?.1;
            count += 1;
        }
        Ok(SnapshotReader { slot, is_first, is_last, records: Records { rest: bytes, count } })
    }

    /// The first slot that the snapshot does not cover: with the last piece, the state is that after all
    /// slots below.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Whether a snapshot begins: forget the state, whatever it is.
    pub fn is_first(&self) -> bool {
        self.is_first
    }

    /// Whether this was all. The first piece may be the last one too.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// The records of this piece, in the order in which they were written.
    pub fn records(&self) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        self.records.clone()
    }
}

/// Records of bytes that are known to be laid out well.
#[derive(Clone)]
struct Records<'a> {
    rest: &'a [u8],
    count: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (record, rest) = take_record(self.rest)?;
        self.rest = rest;
        self.count -= 1;
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.count, Some(self.count))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// The record that `bytes` begins with, and what follows it.
fn take_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::SnapshotWriter;
    use super::*;

    /// Bytes of which some are whole records: small numbers are lengths.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let length = prop_oneof![4 => 0..4u32, 1 => any::<u32>()];
        let record = (length, prop::collection::vec(any::<u8>(), 0..4))
            .prop_map(|(length, bytes)| [&length.to_le_bytes()[..], &bytes].concat());
        prop::collection::vec(record, 0..4).prop_map(|records| records.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_bytes_are_read_as_records_they_are_those_that_lay_there(bytes in bytes()) {
            if let Ok(reader) = SnapshotReader::new(Slot(1), true, true, &bytes) {
                let records: Vec<&[u8]> = reader.records().collect();
                prop_assert_eq!(laid_out(&records), bytes);
            }
        }
    }

    fn laid_out(records: &[&[u8]]) -> Vec<u8> {
        let mut buffer = Vec::new();
        let mut writer = SnapshotWriter::new(Slot(0), true, &mut buffer, usize::MAX);
        for record in records {
            writer.record(record);
        }
        buffer
    }

    #[test]
    fn what_was_written_is_read_in_order_as_often_as_asked() {
        let written: [&[u8]; 3] = [b"one", b"", &[7; 300]];
        let bytes = laid_out(&written);
        let reader = SnapshotReader::new(Slot(9), false, true, &bytes).unwrap();
        assert_eq!((reader.slot(), reader.is_first(), reader.is_last()), (Slot(9), false, true));
        let mut records = reader.records();
        assert_eq!((records.len(), records.next(), records.len()), (3, Some(&b"one"[..]), 2));
        for _ in 0..2 {
            assert_eq!(reader.records().collect::<Vec<_>>(), written);
        }
        let empty = SnapshotReader::new(Slot(9), true, true, &[]).unwrap();
        assert_eq!(empty.records().count(), 0);
    }

    #[test]
    fn a_piece_that_is_cut_anywhere_inside_a_record_is_malformed() {
        let bytes = laid_out(&[b"one", b"two"]);
        let half = bytes.len() / 2;
        for cut in (1..bytes.len()).filter(|&cut| cut != half) {
            let failure = SnapshotReader::new(Slot(0), true, true, &bytes[..cut]).err();
            let offset = if cut < half { 0 } else { half };
            assert_eq!(failure, Some(RestoreFailure::Malformed { offset, bytes: cut }));
        }
    }

    #[test]
    fn a_length_beyond_everything_is_malformed() {
        let bytes = [0xff; 12];
        let failure = SnapshotReader::new(Slot(0), true, true, &bytes).err();
        assert_eq!(failure, Some(RestoreFailure::Malformed { offset: 0, bytes: 12 }));
    }
}
