//! An ordered map that is written slice by slice while it changes.

use std::borrow::Borrow;
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::ops::RangeBounds;

use super::writing::Writing;
use super::{SnapshotStep, SnapshotWriter};

/// A `BTreeMap` whose state at one moment can be written in slices, whatever becomes of it meanwhile.
///
/// While no snapshot is under way a change costs one branch more than on a `BTreeMap`. While one is, the first
/// change of an entry that is not written yet keeps a copy of it aside, until it is written: so memory grows
/// with what changes during a snapshot, not with the map, and values that are dear to clone are better held
/// in an `Rc`. Its order is that of the keys, equal on every replica.
///
/// ```
/// use annulus::{Committed, Replies, StateMachine};
/// use annulus::{RestoreFailure, SnapshotMap, SnapshotReader, SnapshotStep, SnapshotWriter};
///
/// /// How often each command was executed.
/// #[derive(Default)]
/// struct Tally(SnapshotMap<Vec<u8>, u64>);
///
/// impl StateMachine for Tally {
///     fn apply(&mut self, committed: Committed<'_>, replies: &mut Replies) {
///         for command in committed.commands() {
///             let count = self.0.get_or_insert_with(command.to_vec(), || 0);
///             *count += 1;
///             replies.push(&count.to_le_bytes());
///         }
///     }
///
///     fn snapshot(&mut self, writer: &mut SnapshotWriter<'_>) -> SnapshotStep {
///         if writer.is_first() {
///             self.0.begin_snapshot();
///         }
///         self.0.write_snapshot(writer, |command, count, record| {
///             record.extend_from_slice(&count.to_le_bytes());
///             record.extend_from_slice(command);
///         })
///     }
///
///     fn snapshot_ended(&mut self) {
///         self.0.end_snapshot();
///     }
///
///     fn restore(&mut self, reader: &mut SnapshotReader<'_>) -> Result<(), RestoreFailure> {
///         if reader.is_first() {
///             self.0.clear();
///         }
///         for record in reader.records() {
///             let (count, command) =
///                 record.split_first_chunk().ok_or_else(|| RestoreFailure::unreadable("no count"))?;
///             self.0.insert(command.to_vec(), u64::from_le_bytes(*count));
///         }
///         Ok(())
///     }
/// }
/// ```
pub struct SnapshotMap<K, V> {
    entries: BTreeMap<K, V>,
    writing: Option<Writing<K, V>>,
}

/// As with a `BTreeMap`.
impl<K: Ord, V> SnapshotMap<K, V> {
    /// An empty map.
    pub const fn new() -> SnapshotMap<K, V> {
        SnapshotMap { entries: BTreeMap::new(), writing: None }
    }

    /// Entries that there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// The entry of `key`.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.entries.get_key_value(key)
    }

    /// Whether there is an entry of `key`.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.entries.contains_key(key)
    }

    /// All entries, by ascending key.
    pub fn iter(&self) -> btree_map::Iter<'_, K, V> {
        self.entries.iter()
    }

    /// The entries whose keys lie in `range`, by ascending key.
    pub fn range<Q: Ord + ?Sized, R: RangeBounds<Q>>(&self, range: R) -> btree_map::Range<'_, K, V>
    where
        K: Borrow<Q>,
    {
        self.entries.range(range)
    }
}

/// Changes, which keep aside what a snapshot still has to write.
impl<K: Ord + Clone, V: Clone> SnapshotMap<K, V> {
    /// Gives `key` a value and returns the one it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.keep_aside(&key);
        self.entries.insert(key, value)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.keep_entry_aside(key);
        self.entries.get_mut(key)
    }

    /// The value of `key`, to be changed; if it has none, first it is given that of `value`.
    pub fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        self.keep_aside(&key);
        self.entries.entry(key).or_insert_with(value)
    }

    /// Takes the value of `key` away.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.keep_entry_aside(key);
        self.entries.remove(key)
    }

    /// Takes the entry of `key` away.
    pub fn remove_entry<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.keep_entry_aside(key);
        self.entries.remove_entry(key)
    }

    /// Takes everything away. While a snapshot is under way its memory comes back as that goes on.
    pub fn clear(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        if let Some(writing) = &mut self.writing {
            writing.clear(entries);
        }
    }

    #[inline]
    fn keep_aside(&mut self, key: &K) {
        if let Some(writing) = &mut self.writing
            && writing.needs(key)
        {
            writing.keep(key.clone(), self.entries.get(key).cloned());
        }
    }

    /// As [`keep_aside`](Self::keep_aside), for a change that makes no entry where none is.
    #[inline]
    fn keep_entry_aside<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(writing) = &mut self.writing
            && writing.needs(key)
            && let Some((key, value)) = self.entries.get_key_value(key)
        {
            writing.keep(key.clone(), Some(value.clone()));
        }
    }
}

/// Snapshots.
impl<K: Ord + Clone, V: Clone> SnapshotMap<K, V> {
    /// Begins a snapshot of the map as it is now; an earlier one that is not written is given up. Call it in
    /// the first slice of the machine's snapshot, even when it writes something else first.
    pub fn begin_snapshot(&mut self) {
        self.writing = Some(Writing::new());
    }

    /// Writes entries while `writer` has room, by ascending key, a record each of what `encode` appends.
    /// `Done` when all are written, or no snapshot is under way: so one map can be written after another.
    pub fn write_snapshot(
        &mut self,
        writer: &mut SnapshotWriter<'_>,
        mut encode: impl FnMut(&K, &V, &mut Vec<u8>),
    ) -> SnapshotStep {
        let Some(writing) = &mut self.writing else { return SnapshotStep::Done };
        if !writing.write(&self.entries, writer, &mut encode) {
            return SnapshotStep::More;
        }
        self.writing = None;
        SnapshotStep::Done
    }

    /// Gives up the snapshot under way, if there is one.
    pub fn end_snapshot(&mut self) {
        self.writing = None;
    }

    /// Entries in memory only because a snapshot still has to write them, or to pass them by.
    pub fn kept_aside(&self) -> usize {
        self.writing.as_ref().map_or(0, Writing::kept)
    }
}

impl<K, V> Default for SnapshotMap<K, V> {
    fn default() -> SnapshotMap<K, V> {
        SnapshotMap { entries: BTreeMap::new(), writing: None }
    }
}

/// Two maps are equal when their entries are, whatever their snapshots have come to.
impl<K: PartialEq, V: PartialEq> PartialEq for SnapshotMap<K, V> {
    fn eq(&self, other: &SnapshotMap<K, V>) -> bool {
        self.entries == other.entries
    }
}

impl<K: Eq, V: Eq> Eq for SnapshotMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SnapshotMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.fmt(f)
    }
}

impl<'a, K, V> IntoIterator for &'a SnapshotMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = btree_map::Iter<'a, K, V>;

    fn into_iter(self) -> btree_map::Iter<'a, K, V> {
        self.entries.iter()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for SnapshotMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> SnapshotMap<K, V> {
        SnapshotMap { entries: entries.into_iter().collect(), writing: None }
    }
}
