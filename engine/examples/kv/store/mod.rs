//! The data: keys, values and deadlines, changed only by commands of the log.
//!
//! Every replica executes the same commands with the same times in the same order, so nothing here may
//! depend on anything else: no clock, and no order of a hash map. A key whose deadline has passed is
//! absent at once for every command; its memory comes back when something writes the key, or in a sweep
//! that takes a bounded number of keys at the start of each slot, earliest deadline first.

mod snapshot;

use std::collections::BTreeSet;
use std::rc::Rc;

use annulus::SnapshotMap;

use crate::command::{Command, Condition, Expiry, Items, Set};
use crate::resp::BULK_BYTES_MAX;
use crate::{glob, number, reply};

/// The largest value, whatever is appended to it. What one `SET` writes is bounded by the batch besides.
pub(crate) const VALUE_BYTES_MAX: usize = BULK_BYTES_MAX;
/// How many expired keys a slot's sweep removes: a bound on how long it delays the slot's commands.
const SWEEP_KEYS_MAX: usize = 256;

/// The replicated data.
#[derive(Default, PartialEq, Debug)]
pub(crate) struct Store {
    entries: SnapshotMap<Rc<[u8]>, Entry>,
    /// The deadline and key of every entry that has a deadline.
    deadlines: BTreeSet<(i64, Rc<[u8]>)>,
    now_ms: i64,
}

#[derive(Clone, PartialEq, Debug)]
struct Entry {
    value: Vec<u8>,
    deadline_ms: Option<i64>,
}

impl Store {
    /// Starts a slot: its commands all happen at `time_ns`, nanoseconds since 1970.
    pub(crate) fn begin_slot(&mut self, time_ns: u64) {
        self.now_ms = i64::try_from(time_ns / NS_PER_MS).expect("a quotient of 10⁶ fits");
        for _ in 0..SWEEP_KEYS_MAX {
            match self.deadlines.first() {
                Some(&(deadline_ms, _)) if is_past(deadline_ms, self.now_ms) => {}
                _ => break,
            }
            let (_, key) = self.deadlines.pop_first().expect("it was looked at");
            self.entries.remove(&key);
        }
    }

    /// Executes a command and appends its reply.
    pub(crate) fn execute(&mut self, command: &Command<'_>, out: &mut Vec<u8>) {
        match command {
            Command::Set(set) => self.set(set, out),
            Command::Delete { keys } => self.delete(keys.clone(), out),
            Command::Increment { key } => self.add(key, 1, out),
            Command::Decrement { key } => self.add(key, -1, out),
            Command::Append { key, bytes } => self.append(key, bytes, out),
            Command::SetMany { pairs } => self.set_many(pairs.clone(), out),
            Command::Clear => self.clear(out),
            read => self.read(read, out),
        }
    }

    /// Answers a command that changes nothing, as of the slot executed last.
    pub(crate) fn read(&self, command: &Command<'_>, out: &mut Vec<u8>) {
        match command {
            Command::Get { key } => reply::bulk_or_null(out, self.live(key)),
            Command::Length { key } => reply::count(out, self.live(key).map_or(0, <[u8]>::len)),
            Command::Exists { keys } => {
                let found = keys.clone().filter(|key| self.live(key).is_some()).count();
                reply::count(out, found);
            }
            Command::GetMany { keys } => {
                reply::array(out, keys.clone().count());
                for key in keys.clone() {
                    reply::bulk_or_null(out, self.live(key));
                }
            }
            Command::Keys { pattern } => self.keys(pattern, out),
            Command::Size => reply::count(out, self.size()),
            Command::Keyspace => self.keyspace(out),
            write => unreachable!("{write:?} changes data, and a reader asked"),
        }
    }

    /// Keys that are there.
    pub(crate) fn size(&self) -> usize {
        self.entries.len() - self.expired()
    }

    /// Keys that are absent already, and not swept yet.
    fn expired(&self) -> usize {
        self.deadlines.iter().take_while(|(deadline_ms, _)| is_past(*deadline_ms, self.now_ms)).count()
    }

    fn live(&self, key: &[u8]) -> Option<&[u8]> {
        let entry = self.entries.get(key)?;
        entry.is_live(self.now_ms).then_some(entry.value.as_slice())
    }

    /// The entry of `key`; one whose deadline has passed goes now.
    fn live_entry(&mut self, key: &[u8]) -> Option<&mut Entry> {
        if !self.entries.get(key)?.is_live(self.now_ms) {
            self.remove(key);
            return None;
        }
        self.entries.get_mut(key)
    }

    fn set(&mut self, set: &Set<'_>, out: &mut Vec<u8>) {
        let old = self.live(set.key);
        let is_met = match set.condition {
            Condition::Always => true,
            Condition::IfAbsent => old.is_none(),
            Condition::IfPresent => old.is_some(),
        };
        let Ok(deadline_ms) = self.deadline(set) else {
            return reply::error(out, b"ERR invalid expire time in 'set' command");
        };
        if set.returns_old {
            reply::bulk_or_null(out, old);
        } else if is_met {
            reply::status(out, "OK");
        } else {
            reply::null(out);
        }
        if is_met {
            self.put(set.key, set.value, deadline_ms);
        }
    }

    /// The deadline that `set` gives its value, in ms since 1970, if any.
    fn deadline(&self, set: &Set<'_>) -> Result<Option<i64>, Unrepresentable> {
        match set.expiry {
            Expiry::Never => Ok(None),
            Expiry::Kept => {
                let entry = self.entries.get(set.key).filter(|entry| entry.is_live(self.now_ms));
                Ok(entry.and_then(|entry| entry.deadline_ms))
            }
            Expiry::After(ms) => self.now_ms.checked_add(ms).map(Some).ok_or(Unrepresentable),
            Expiry::At(ms) => Ok(Some(ms)),
        }
    }

    fn set_many(&mut self, mut pairs: Items<'_>, out: &mut Vec<u8>) {
        while let (Some(key), Some(value)) = (pairs.next(), pairs.next()) {
            self.put(key, value, None);
        }
        reply::status(out, "OK");
    }

    fn delete(&mut self, keys: Items<'_>, out: &mut Vec<u8>) {
        let now_ms = self.now_ms;
        let deleted = keys.filter_map(|key| self.remove(key)).filter(|entry| entry.is_live(now_ms)).count();
        reply::count(out, deleted);
    }

    fn add(&mut self, key: &[u8], difference: i64, out: &mut Vec<u8>) {
        let Some(current) = self.live(key).map_or(Some(0), number::read) else {
            return reply::error(out, b"ERR value is not an integer or out of range");
        };
        let Some(sum) = current.checked_add(difference) else {
            return reply::error(out, b"ERR increment or decrement would overflow");
        };
        match self.live_entry(key) {
            Some(entry) => {
                entry.value.clear();
                number::write(&mut entry.value, sum);
            }
            None => self.put(key, sum.to_string().as_bytes(), None),
        }
        reply::integer(out, sum);
    }

    fn append(&mut self, key: &[u8], bytes: &[u8], out: &mut Vec<u8>) {
        let len = self.live(key).map_or(0, <[u8]>::len) + bytes.len();
        if len > VALUE_BYTES_MAX {
            return reply::error(out, b"ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        }
        match self.live_entry(key) {
            Some(entry) => entry.value.extend_from_slice(bytes),
            None => self.put(key, bytes, None),
        }
        reply::count(out, len);
    }

    fn clear(&mut self, out: &mut Vec<u8>) {
        self.entries.clear();
        self.deadlines.clear();
        reply::status(out, "OK");
    }

    /// The keys that fit, in the order of the map: it is the same on every replica.
    fn keys(&self, pattern: &[u8], out: &mut Vec<u8>) {
        let live = self.entries.iter().filter(|(_, entry)| entry.is_live(self.now_ms));
        let keys: Vec<_> = live.map(|(key, _)| key).filter(|key| glob::matches(pattern, key)).collect();
        reply::array(out, keys.len());
        for key in keys {
            reply::bulk(out, key);
        }
    }

    fn keyspace(&self, out: &mut Vec<u8>) {
        let expires = self.deadlines.len() - self.expired();
        let line = match self.size() {
            0 => String::new(),
            keys => format!("db0:keys={keys},expires={expires}\r\n"),
        };
        out.extend_from_slice(line.as_bytes());
    }

    fn put(&mut self, key: &[u8], value: &[u8], deadline_ms: Option<i64>) {
        let Some(entry) = self.entries.get_mut(key) else {
            return self.insert(key, value, deadline_ms);
        };
        entry.value.clear();
        entry.value.extend_from_slice(value);
        let earlier_ms = std::mem::replace(&mut entry.deadline_ms, deadline_ms);
        if earlier_ms != deadline_ms {
            let (key, _) = self.entries.get_key_value(key).expect("it was written");
            let key = Rc::clone(key);
            if let Some(earlier_ms) = earlier_ms {
                self.deadlines.remove(&(earlier_ms, Rc::clone(&key)));
            }
            self.deadlines.extend(deadline_ms.map(|deadline_ms| (deadline_ms, key)));
        }
    }

    fn insert(&mut self, key: &[u8], value: &[u8], deadline_ms: Option<i64>) {
        let key = Rc::<[u8]>::from(key);
        self.deadlines.extend(deadline_ms.map(|deadline_ms| (deadline_ms, Rc::clone(&key))));
        self.entries.insert(key, Entry { value: value.to_vec(), deadline_ms });
    }

    fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let (key, entry) = self.entries.remove_entry(key)?;
        if let Some(deadline_ms) = entry.deadline_ms {
            self.deadlines.remove(&(deadline_ms, key));
        }
        Some(entry)
    }
}

/// A deadline later than any number of milliseconds.
struct Unrepresentable;

impl Entry {
    fn is_live(&self, now_ms: i64) -> bool {
        self.deadline_ms.is_none_or(|deadline_ms| !is_past(deadline_ms, now_ms))
    }
}

/// A key lives to the end of the millisecond of its deadline, as in Redis.
fn is_past(deadline_ms: i64, now_ms: i64) -> bool {
    deadline_ms < now_ms
}

const NS_PER_MS: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A store in the slot at `ms`, with a shorthand for commands.
    struct At(Store);

    impl At {
        fn ms(&mut self, ms: u64) -> &mut At {
            self.0.begin_slot(ms * NS_PER_MS);
            self
        }

        fn run(&mut self, command: &Command<'_>) -> String {
            let mut out = Vec::new();
            self.0.execute(command, &mut out);
            String::from_utf8(out).unwrap().trim_end().replace("\r\n", " ")
        }

        fn set_for(&mut self, key: &str, ms: i64) {
            let set = Set { expiry: Expiry::After(ms), ..Set::plain(key.as_bytes(), b"v") };
            assert_eq!(self.run(&Command::Set(set)), "+OK");
        }
    }

    #[test]
    fn a_key_is_absent_for_every_command_once_replicated_time_passes_its_deadline() {
        let mut store = At(Store::default());
        store.ms(1000).set_for("k", 50);
        assert_eq!(store.ms(1050).run(&Command::Get { key: b"k" }), "$1 v");
        // The sweep is bounded: this key must be absent even where it has not come to it.
        store.0.now_ms = 1051;
        assert_eq!(store.run(&Command::Get { key: b"k" }), "$-1");
        assert_eq!(store.run(&Command::Keys { pattern: b"*" }), "*0");
        assert_eq!(store.run(&Command::Size), ":0");
        assert_eq!(store.run(&Command::Append { key: b"k", bytes: b"new" }), ":3");
        assert_eq!(store.ms(999_999).run(&Command::Get { key: b"k" }), "$3 new");
    }

    #[test]
    fn a_sweep_takes_no_more_than_its_bound_and_the_next_goes_on() {
        let mut store = At(Store::default());
        store.ms(0);
        for number in 0..SWEEP_KEYS_MAX + 10 {
            store.set_for(&number.to_string(), 5);
        }
        store.ms(6);
        assert_eq!((store.0.entries.len(), store.0.size()), (10, 0));
        store.ms(6);
        assert_eq!((store.0.entries.len(), store.0.deadlines.len()), (0, 0));
    }

    #[test]
    fn a_new_value_forgets_the_deadline_unless_told_to_keep_it() {
        let mut store = At(Store::default());
        store.ms(0).set_for("forgets", 10);
        store.set_for("keeps", 10);
        store.run(&Command::Set(Set::plain(b"forgets", b"w")));
        store.run(&Command::Set(Set { expiry: Expiry::Kept, ..Set::plain(b"keeps", b"w") }));
        assert_eq!(store.ms(11).run(&Command::Keys { pattern: b"*" }), "*1 $7 forgets");
        assert!(store.0.deadlines.is_empty());
    }

    #[test]
    fn adding_keeps_the_deadline_and_stops_at_the_ends_of_the_range() {
        let mut store = At(Store::default());
        store.ms(0);
        let most = i64::MAX.to_string();
        store.run(&Command::Set(Set { expiry: Expiry::After(5), ..Set::plain(b"n", most.as_bytes()) }));
        assert_eq!(
            store.run(&Command::Increment { key: b"n" }),
            "-ERR increment or decrement would overflow"
        );
        assert_eq!(store.run(&Command::Decrement { key: b"n" }), ":9223372036854775806");
        assert_eq!(store.ms(6).run(&Command::Decrement { key: b"n" }), ":-1");
    }

    #[test]
    fn a_deadline_beyond_representation_is_refused_and_changes_nothing() {
        let mut store = At(Store::default());
        let set = Set { expiry: Expiry::After(i64::MAX), ..Set::plain(b"k", b"v") };
        assert_eq!(store.ms(1).run(&Command::Set(set)), "-ERR invalid expire time in 'set' command");
        assert_eq!(store.run(&Command::Size), ":0");
    }

    #[test]
    fn appending_stops_at_the_largest_value() {
        let mut store = At(Store::default());
        let value = vec![0; VALUE_BYTES_MAX];
        store.run(&Command::Append { key: b"k", bytes: &value });
        let refused = store.run(&Command::Append { key: b"k", bytes: b"x" });
        assert_eq!(refused, "-ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        assert_eq!(store.run(&Command::Length { key: b"k" }), format!(":{VALUE_BYTES_MAX}"));
    }
}
