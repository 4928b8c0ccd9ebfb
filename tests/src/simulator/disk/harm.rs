//! Harm to what a disk holds: bits that rot, writes that were reported done and are not there or elsewhere,
//! sectors that cannot be read.
//!
//! The harm is done when it is found, not when the write happens: a block is durable and acknowledged, and
//! later its place turns out to hold something else. For what reads the disk there is no difference.
//!
//! **What is spared.** A journal by itself cannot tell a write that was lost at its very end from one that
//! was never made: both leave what was there before, and nothing behind says otherwise. (Peers can tell; a
//! node that asks them before it votes would be safe from that too.) So writes are lost or misdirected only
//! where a later block proves that they were durable: blocks up to the durable position that the last
//! durable block states. That block and those that it does not vouch for are spared, from the write that
//! goes astray too, and while a write is missing nothing else happens to what stands behind it. Bits may rot
//! anywhere, the last block included, as long as a sector that held something does not become zeros; sectors
//! may become unreadable anywhere.

use annulus_rings::Lsn;
use annulus_storage::{BLOCK_ALIGN_BYTES, Position, SECTOR_BYTES, SegmentId};

use super::block::Held;
use super::{Device, SECTOR};
use crate::chaos::Random;

/// A kind of harm that lasts. A disk that is replaced, by an empty one or by an old copy of itself, belongs
/// here too once a node notices that: then [`Device::harm`] exchanges the media.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Harm {
    /// Bits of a sector flip.
    Rot,
    /// A block lies at another place, and is missing at its own.
    Misdirected,
    /// A block, or some of its sectors, never arrived.
    Lost,
    /// The same for one of the last blocks of which that can be known: the cache lied about a flush.
    LostLately,
    /// Sectors cannot be read until they are written again.
    Unreadable,
}

/// Bits that rot at once, at the most.
const FLIPS_MAX: u64 = 16;
/// Adjacent sectors that become unreadable, at the most.
const UNREADABLE_SECTORS_MAX: u64 = 8;
/// How many blocks before the last one that may be lost count as late.
const LATE_BLOCKS: usize = 3;

impl Device {
    /// Does harm and tells it; `None` where there is nothing yet to be harmed.
    pub(super) fn harm(&mut self, harm: Harm, random: &mut Random) -> Option<String> {
        // What proves that a write was durable may be what has decayed: nothing is lost after that.
        let decays = matches!(harm, Harm::Rot | Harm::Unreadable);
        if self.has_decayed && !decays {
            return None;
        }
        let told = match harm {
            Harm::Rot => self.rot(random),
            Harm::Misdirected => self.misdirect(random),
            Harm::Lost => {
                let held = self.draw_proven(random)?;
                self.lose(&held, random)
            }
            Harm::LostLately => {
                let count = self.proven().len();
                let late = count.saturating_sub(LATE_BLOCKS) + random.below(LATE_BLOCKS as u64) as usize;
                let held = *self.proven().get(late)?;
                self.lose(&held, random)
            }
            Harm::Unreadable => self.make_unreadable(random),
        };
        self.is_damaged |= told.is_some();
        self.has_decayed |= decays && told.is_some();
        told
    }

    /// The blocks that a later one says were durable: their loss is noticed.
    fn proven(&self) -> &[Held] {
        let durable = self.history.last().map_or(Lsn(0), |last| last.durable);
        let count = self.history.partition_point(|held| held.last <= durable);
        &self.history[..count]
    }

    /// Whether bytes belong to a block that must be spared.
    pub(super) fn is_spared(&self, at: Position, bytes: u64) -> bool {
        let spared = &self.history[self.proven().len()..];
        let is_unfinished = || self.blocks.iter().any(|block| block.held().overlaps(at, bytes));
        spared.iter().any(|held| held.overlaps(at, bytes)) || is_unfinished()
    }

    /// Any block that may be lost; often the last of its segment, where a gap is hardest to see.
    fn draw_proven(&self, random: &mut Random) -> Option<Held> {
        let proven = self.proven();
        let lasts: Vec<Held> = proven
            .windows(2)
            .filter(|pair| pair[0].at.segment != pair[1].at.segment)
            .map(|pair| pair[random.below(2) as usize])
            .collect();
        if !lasts.is_empty() && random.permille(400) {
            return Some(random.pick(&lasts));
        }
        (!proven.is_empty()).then(|| random.pick(proven))
    }

    fn misses(&mut self, held: &Held) {
        let first = self.first_missing.get_or_insert(held.at);
        *first = held.at.min(*first);
    }

    /// The place of a block holds the zeros that were there before it, in all sectors or in some.
    fn lose(&mut self, held: &Held, random: &mut Random) -> Option<String> {
        let whole = random.permille(500);
        let sectors = held.bytes / SECTOR;
        let one = random.below(sectors);
        let medium = self.media.get_mut(&held.at.segment)?;
        let mut lost = 0;
        for sector in 0..sectors {
            if whole || sector == one || random.permille(300) {
                medium.write(held.at.offset + sector * SECTOR, &[0; SECTOR_BYTES]);
                lost += 1;
            }
        }
        self.misses(held);
        Some(format!("{lost} of {sectors} sectors at {:?} never arrived", held.at))
    }

    /// A block lies somewhere else. Its own place holds what was there before, or, when the device noticed
    /// and wrote it again, the block too.
    fn misdirect(&mut self, random: &mut Random) -> Option<String> {
        let held = self.draw_proven(random)?;
        let is_written_again = random.permille(250);
        let to = self.draw_place(held.bytes, random).filter(|to| *to != held.at)?;
        let mut image = vec![0; held.bytes as usize];
        self.media.get(&held.at.segment)?.read(held.at.offset, &mut image);
        if !is_written_again {
            self.media.get_mut(&held.at.segment)?.write(held.at.offset, &vec![0; image.len()]);
            self.misses(&held);
        }
        self.media.get_mut(&to.segment)?.write(to.offset, &image);
        let over: Vec<Held> =
            self.history.iter().copied().filter(|other| other.overlaps(to, held.bytes)).collect();
        for other in &over {
            self.misses(other);
        }
        Some(format!("the block of {:?} lies at {to:?}", held.at))
    }

    /// Where a block of `bytes` may land: on another block, or on free space.
    fn draw_place(&self, bytes: u64, random: &mut Random) -> Option<Position> {
        let segments: Vec<SegmentId> = self.media.keys().copied().collect();
        let segment = random.pick(&segments);
        let room = self.media[&segment].bytes().checked_sub(bytes)?;
        let anywhere = Position {
            segment,
            offset: random.below(room + 1) / BLOCK_ALIGN_BYTES as u64 * BLOCK_ALIGN_BYTES as u64,
        };
        let end = self.history.last().map(|last| Position { offset: last.at.offset + last.bytes, ..last.at });
        let to = match random.below(4) {
            0 => anywhere,
            1 => end?,
            _ => random.pick(&self.history).at,
        };
        let fits = to.offset + bytes <= self.media.get(&to.segment)?.bytes();
        (fits && !self.is_spared(to, bytes)).then_some(to)
    }

    fn rot(&mut self, random: &mut Random) -> Option<String> {
        let at = self.draw_sector(random)?;
        let is_behind = self.first_missing.is_some_and(|first| at >= first);
        if is_behind {
            return None;
        }
        let flips = 1 + random.below(FLIPS_MAX);
        self.media.get_mut(&at.segment)?.rot(at.offset / SECTOR, flips, random);
        Some(format!("{flips} bits rot at {at:?}"))
    }

    fn make_unreadable(&mut self, random: &mut Random) -> Option<String> {
        let at = self.draw_sector(random)?;
        let count = 1 + random.below(UNREADABLE_SECTORS_MAX);
        let first = at.offset / SECTOR;
        self.media.get_mut(&at.segment)?.make_unreadable(first..first + count);
        Some(format!("{count} sectors from {at:?} on are unreadable"))
    }

    /// A sector of a segment: of a block, mostly; else any, the segment's header included.
    fn draw_sector(&self, random: &mut Random) -> Option<Position> {
        if !self.history.is_empty() && random.permille(900) {
            let last = self.history.last().filter(|_| random.permille(150)).copied();
            let held = last.unwrap_or_else(|| random.pick(&self.history));
            let sector = random.below(held.bytes / SECTOR);
            return Some(Position { offset: held.at.offset + sector * SECTOR, ..held.at });
        }
        let segments: Vec<SegmentId> = self.media.keys().copied().collect();
        if segments.is_empty() {
            return None;
        }
        let segment = random.pick(&segments);
        let sectors = self.media[&segment].bytes() / SECTOR;
        let bound = if random.permille(300) { 1 } else { sectors };
        Some(Position { segment, offset: random.below(bound) * SECTOR })
    }
}
