//! Reads that fail, reads that bring the bytes of another place, and what a reader may believe.

use std::io;

use annulus_rings::frame::checksum;
use annulus_storage::{Position, SECTOR_BYTES, SegmentId};

use super::block::Held;
use super::{Device, SECTOR};
use crate::chaos::Random;
use crate::world::Violation;

impl Device {
    /// What a read from `at` on brings.
    pub(super) fn read(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        let medium = self.media.get(&at.segment).ok_or(io::ErrorKind::NotFound)?;
        if at.offset + buffer.len() as u64 > medium.bytes() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if medium.is_unreadable(at.offset, buffer.len() as u64) {
            let node = self.node;
            self.scene
                .borrow_mut()
                .fault("reads of unreadable sectors", || format!("{node:?}: EIO at {at:?}"));
            return Err(io::Error::other("unreadable sectors"));
        }
        medium.read(at.offset, buffer);
        Ok(())
    }

    /// Maybe a sector comes from somewhere else, or all that was asked for.
    pub(super) fn misread(&mut self, buffer: &mut [u8]) {
        let is_due = self.streams.misreads.below(10_000) < self.plan.misread_permyriad;
        if !is_due || self.media.is_empty() {
            return;
        }
        let random = &mut self.streams.misreads;
        let segments: Vec<SegmentId> = self.media.keys().copied().collect();
        let source = &self.media[&random.pick(&segments)];
        let one = random.below((buffer.len() / SECTOR_BYTES) as u64) as usize;
        let sectors = if random.permille(500) { one..one + 1 } else { 0..buffer.len() / SECTOR_BYTES };
        let part = &mut buffer[sectors.start * SECTOR_BYTES..sectors.end * SECTOR_BYTES];
        let from = random.below((source.bytes().saturating_sub(part.len() as u64)) / SECTOR_BYTES as u64 + 1);
        source.read(from * SECTOR_BYTES as u64, part);
        self.fails(true, "misdirected reads");
    }

    /// The same while a journal is read back: at most one sector for each start, and none of those that
    /// must be spared, as if a write was lost. See [`harm`](super::harm).
    pub(super) fn misread_at_start(&mut self, at: Position, buffer: &mut [u8]) {
        let is_due = self.streams.misreads.below(100_000) < self.plan.misread_permyriad;
        if !is_due || self.has_passing_trouble || self.first_missing.is_some() {
            return;
        }
        let random = &mut self.streams.misreads;
        let bytes = buffer.len() as u64;
        let here: Vec<Held> = self.history.iter().copied().filter(|held| held.overlaps(at, bytes)).collect();
        let sector = |bound: u64, random: &mut Random| random.below(bound / SECTOR) * SECTOR;
        let to = if here.is_empty() || random.permille(200) {
            at.offset + sector(bytes, random)
        } else {
            let held = random.pick(&here);
            held.at.offset + sector(held.bytes, random)
        };
        let segments: Vec<SegmentId> = self.media.keys().copied().collect();
        let source = &self.media[&random.pick(&segments)];
        let from = sector(source.bytes(), random);
        let is_read = at.offset <= to && to + SECTOR <= at.offset + bytes;
        if is_read && !self.is_spared(Position { offset: to, ..at }, SECTOR) {
            let start = (to - at.offset) as usize;
            source.read(from, &mut buffer[start..start + SECTOR_BYTES]);
            self.fails(true, "misdirected reads");
        }
    }

    /// Whether the place of a durable block holds something else now.
    pub(super) fn is_changed(&self, held: &Held) -> bool {
        let mut bytes = vec![0; held.bytes as usize];
        self.media.get(&held.at.segment).is_none_or(|medium| {
            medium.read(held.at.offset, &mut bytes);
            checksum(&bytes) != held.checksum
        })
    }

    /// A process has read its journal back and lives: then every durable block must still be what it was, or
    /// it took damage for something else (A10).
    pub(super) fn judge_recovery(&self) {
        // Only harm changes what is durable.
        if self.is_damaged
            && let Some(held) = self.needed().find(|held| self.is_changed(held))
        {
            let what = format!(
                "{:?} starts, and its block of {:?} at {:?} is damaged",
                self.node, held.first, held.at
            );
            self.scene.borrow_mut().judge(Err(Violation { rule: "A10", what }));
        }
    }
}
