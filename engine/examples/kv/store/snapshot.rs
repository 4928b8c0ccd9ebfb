//! The store's snapshot.
//!
//! ```text
//! first record   version u8 = 1; replicated time i64, ms since 1970
//! every other    expires u8: 0 or 1; if 1, the deadline i64, ms since 1970; item: key; then the value, to the end
//! ```
//! Numbers are little-endian, items are those of the log's commands. Keys ascend.

use std::rc::Rc;

use annulus::{RestoreFailure, SnapshotReader, SnapshotStep, SnapshotWriter};

use super::{Entry, Store};
use crate::encoding::{push_item, take_item};

impl Store {
    /// Writes the next slice.
    pub(crate) fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
        if writer.is_first() {
            self.entries.begin_snapshot();
            writer.record_with(|record| {
                record.push(VERSION);
                record.extend_from_slice(&self.now_ms.to_le_bytes());
            });
        }
        self.entries.write_snapshot(writer, write_entry)
    }

    /// Forgets the snapshot under way.
    pub(crate) fn snapshot_ended(&mut self) {
        self.entries.end_snapshot();
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// A record is none of this version.
    pub(crate) fn restore(&mut self, reader: &SnapshotReader<'_>) -> Result<(), RestoreFailure> {
        let mut records = reader.records();
        if reader.is_first() {
            let now_ms = records.next().and_then(read_header);
            let now_ms =
                now_ms.ok_or_else(|| RestoreFailure::unreadable("the header is not of version 1"))?;
            *self = Store { now_ms, ..Store::default() };
        }
        for record in records {
            let (key, entry) = read_entry(record).ok_or_else(|| RestoreFailure::unreadable("no entry"))?;
            self.deadlines.extend(entry.deadline_ms.map(|deadline_ms| (deadline_ms, Rc::clone(&key))));
            self.entries.insert(key, entry);
        }
        Ok(())
    }
}

fn read_header(record: &[u8]) -> Option<i64> {
    let [VERSION, now_ms @ ..] = record else { return None };
    Some(i64::from_le_bytes(now_ms.try_into().ok()?))
}

fn write_entry(key: &Rc<[u8]>, entry: &Entry, record: &mut Vec<u8>) {
    record.push(u8::from(entry.deadline_ms.is_some()));
    if let Some(deadline_ms) = entry.deadline_ms {
        record.extend_from_slice(&deadline_ms.to_le_bytes());
    }
    push_item(record, key);
    record.extend_from_slice(&entry.value);
}

fn read_entry(record: &[u8]) -> Option<(Rc<[u8]>, Entry)> {
    let (deadline_ms, rest) = match record.split_first()? {
        (0, rest) => (None, rest),
        (1, rest) => {
            let (deadline_ms, rest) = rest.split_first_chunk()?;
            (Some(i64::from_le_bytes(*deadline_ms)), rest)
        }
        _ => return None,
    };
    let (key, value) = take_item(rest)?;
    Some((Rc::from(key), Entry { value: value.to_vec(), deadline_ms }))
}

/// The version of the layout.
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use annulus::Slot;

    use super::*;
    use crate::command::{Command, Expiry, Set};

    const ROOM_BYTES: usize = 64;

    fn run(store: &mut Store, command: &Command<'_>) {
        store.execute(command, &mut Vec::new());
    }

    /// A store at 7 ms of three hundred keys, every third of which expires at 50.
    fn filled() -> Store {
        let mut store = Store::default();
        store.begin_slot(7_000_000);
        for number in 0..300 {
            let expiry = if number % 3 == 0 { Expiry::At(50) } else { Expiry::Never };
            let (key, value) = (format!("key{number}"), "v".repeat(number));
            let set = Set { expiry, ..Set::plain(key.as_bytes(), value.as_bytes()) };
            run(&mut store, &Command::Set(set));
        }
        store
    }

    fn slice(store: &mut Store, is_first: bool) -> (SnapshotStep, Vec<u8>) {
        let mut bytes = Vec::new();
        let step = store.snapshot(&mut SnapshotWriter::new(Slot(300), is_first, &mut bytes, ROOM_BYTES));
        (step, bytes)
    }

    #[test]
    fn a_store_comes_back_as_it_was_when_its_snapshot_began() {
        let mut store = filled();
        let mut slices = Vec::new();
        for number in 0.. {
            let (step, bytes) = slice(&mut store, number == 0);
            slices.push(bytes);
            if step != SnapshotStep::More {
                break;
            }
            // Every tenth millisecond something changes; at 57 ms a third of the keys is gone.
            store.begin_slot(7_000_000 + number * 1_000_000);
            run(&mut store, &Command::Increment { key: b"counter" });
            run(&mut store, &Command::Append { key: format!("key{number}").as_bytes(), bytes: b"more" });
        }
        assert!(slices.len() > 50, "there are {} slices", slices.len());
        assert_ne!(store, filled());

        // What it held before is forgotten.
        let mut other = Store::default();
        run(&mut other, &Command::Set(Set { expiry: Expiry::At(9), ..Set::plain(b"other", b"") }));
        for (index, bytes) in slices.iter().enumerate() {
            let (is_first, is_last) = (index == 0, index + 1 == slices.len());
            let reader = SnapshotReader::new(Slot(300), is_first, is_last, bytes).unwrap();
            other.restore(&reader).unwrap();
        }
        assert_eq!(other, filled());
    }

    #[test]
    fn the_layout_is_as_drawn() {
        let mut store = Store::default();
        store.begin_slot(258_000_000);
        run(&mut store, &Command::Set(Set::plain(b"k", b"value")));
        run(&mut store, &Command::Set(Set { expiry: Expiry::At(772), ..Set::plain(b"l", b"") }));
        let (step, bytes) = slice(&mut store, true);
        assert_eq!(step, SnapshotStep::Done);
        let reader = SnapshotReader::new(Slot(300), true, true, &bytes).unwrap();
        let expected: [&[u8]; 3] =
            [b"\x01\x02\x01\0\0\0\0\0\0", b"\0\x01kvalue", b"\x01\x04\x03\0\0\0\0\0\0\x01l"];
        assert_eq!(reader.records().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_no_record_of_this_version_is_refused() {
        let header = b"\x09\0\0\0\x01\0\0\0\0\0\0\0\0".as_slice();
        let cases: [&[u8]; 6] = [
            b"",
            b"\x09\0\0\0\x02\0\0\0\0\0\0\0\0",
            &[header, b"\0\0\0\0"].concat(),
            &[header, b"\x02\0\0\0\x02\0"].concat(),
            &[header, b"\x02\0\0\0\0\x05"].concat(),
            &[header, b"\x03\0\0\0\x01\0\0"].concat(),
        ];
        for bytes in cases {
            let reader = SnapshotReader::new(Slot(300), true, true, bytes).unwrap();
            assert!(Store::default().restore(&reader).is_err(), "{}", bytes.escape_ascii());
        }
        let reader = SnapshotReader::new(Slot(300), true, true, header).unwrap();
        assert!(Store::default().restore(&reader).is_ok());
    }
}
