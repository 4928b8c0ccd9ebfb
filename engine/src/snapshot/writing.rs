//! The snapshot of a map that is under way.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Bound;

use annulus_rings::mutant;

use super::SnapshotWriter;

/// A snapshot under way: the entries up to `written` are written.
///
/// What the others were when it began is found in `cleared` if the map was cleared since, otherwise among the
/// map's own entries; but for keys in `aside`, which tells what they were itself.
pub(super) struct Writing<K, V> {
    written: Option<K>,
    /// Of keys behind `written` that were changed: what they held at first, or that there was nothing.
    aside: BTreeMap<K, Option<V>>,
    /// All entries of the moment when the map was cleared. No later change concerns the snapshot.
    cleared: Option<BTreeMap<K, V>>,
}

/// Keys that one slice passes by without writing an entry: they take no room in it, only time.
const PASSED_PER_SLICE_MAX: usize = 4096;

impl<K: Ord + Clone, V> Writing<K, V> {
    /// A snapshot of a map as it is now.
    pub(super) fn new() -> Writing<K, V> {
        Writing { written: None, aside: BTreeMap::new(), cleared: None }
    }

    /// Whether the snapshot still has to write what `key` holds now.
    pub(super) fn needs<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let is_kept = self.cleared.is_some() || self.aside.contains_key(key);
        !is_kept && self.is_ahead(key) && !mutant!(NOTHING_KEPT_ASIDE)
    }

    /// `key` is about to change: it held `value`.
    pub(super) fn keep(&mut self, key: K, value: Option<V>) {
        self.aside.insert(key, value);
    }

    /// The map was cleared: these were its entries.
    pub(super) fn clear(&mut self, entries: BTreeMap<K, V>) {
        self.cleared.get_or_insert(entries);
    }

    /// Entries that are in memory for the snapshot alone.
    pub(super) fn kept(&self) -> usize {
        self.aside.len() + self.cleared.as_ref().map_or(0, BTreeMap::len)
    }

    /// Writes while `writer` has room, from a map whose entries are now `entries`: true when nothing is left.
    pub(super) fn write(
        &mut self,
        entries: &BTreeMap<K, V>,
        writer: &mut SnapshotWriter<'_>,
        encode: &mut impl FnMut(&K, &V, &mut Vec<u8>),
    ) -> bool {
        let Some(mut cleared) = self.cleared.take() else {
            return self.write_entries(entries, writer, encode);
        };
        let is_done = self.write_cleared(&mut cleared, writer, encode);
        self.cleared = Some(cleared);
        is_done
    }

    /// Writes from a map that changes later.
    fn write_entries(
        &mut self,
        entries: &BTreeMap<K, V>,
        writer: &mut SnapshotWriter<'_>,
        encode: &mut impl FnMut(&K, &V, &mut Vec<u8>),
    ) -> bool {
        let start = self.written.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut entries = entries.range((start, Bound::Unbounded)).peekable();
        let mut last = None;
        let mut passed = 0;
        let is_done = loop {
            // What lies in front of the next changed key is as it was.
            let changed = self.aside.first_key_value().map(|(key, _)| key);
            while writer.has_room()
                && let Some((key, value)) =
                    entries.next_if(|(key, _)| changed.is_none_or(|changed| *key < changed))
            {
                writer.record_with(|record| encode(key, value, record));
                last = Some(key);
            }
            if !writer.has_room() || passed == PASSED_PER_SLICE_MAX {
                break entries.peek().is_none() && self.aside.is_empty();
            }
            let Some((key, value)) = self.aside.pop_first() else { break true };
            entries.next_if(|(other, _)| **other == key);
            match value {
                Some(value) => writer.record_with(|record| encode(&key, &value, record)),
                None => passed += 1,
            }
            self.written = Some(key);
            last = None;
        };
        if let Some(last) = last {
            self.written = Some(last.clone());
        }
        is_done
    }

    /// Writes from a map that is needed no more, and frees it on the way.
    fn write_cleared(
        &mut self,
        cleared: &mut BTreeMap<K, V>,
        writer: &mut SnapshotWriter<'_>,
        encode: &mut impl FnMut(&K, &V, &mut Vec<u8>),
    ) -> bool {
        let mut passed = 0;
        while writer.has_room() && passed < PASSED_PER_SLICE_MAX {
            let is_changed = match (self.aside.first_key_value(), cleared.first_key_value()) {
                (Some((changed, _)), Some((key, _))) => changed <= key,
                (changed, _) => changed.is_some(),
            };
            let next = if is_changed {
                self.aside.pop_first()
            } else {
                cleared.pop_first().map(|(key, value)| (key, Some(value)))
            };
            let Some((key, value)) = next else { return true };
            if is_changed {
                cleared.remove(&key);
            }
            match value.filter(|_| self.is_ahead(&key)) {
                Some(value) => writer.record_with(|record| encode(&key, &value, record)),
                None => passed += 1,
            }
        }
        cleared.is_empty() && self.aside.is_empty()
    }

    /// Whether the entry of `key` is not written yet.
    fn is_ahead<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.written.as_ref().is_none_or(|written| written.borrow() < key)
    }
}
