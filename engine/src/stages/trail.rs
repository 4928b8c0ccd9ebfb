//! The stamps of the batches that a leader has under way.

use std::collections::VecDeque;

use annulus_rings::{RingId, Slot, Time};

/// Commands that were submitted at the same time, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) at: Time,
    pub(super) commands: u32,
}

/// When a batch crossed each stage. A stage not crossed yet is zero.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Stamps {
    pub(super) ring: RingId,
    pub(super) slot: Slot,
    pub(super) commands: u32,
    /// The oldest command's.
    pub(super) submitted: Time,
    pub(super) sealed: Time,
    pub(super) sent: Time,
    pub(super) durable: Time,
    pub(super) chosen: Time,
    pub(super) executed: Time,
    pub(super) replied: Time,
}

/// The recent batches of one ring, found by slot. A slot's place is used again after `stamps.len()`
/// slots, which is a few windows: late votes and late writes still find theirs.
pub(super) struct Trail {
    ring: RingId,
    slots_kept: usize,
    stamps: Vec<Stamps>,
    /// Submissions that are not sealed, and those that are sealed and not executed.
    waiting: VecDeque<Run>,
    flying: VecDeque<Run>,
    /// First slot that was stamped since the replica leads.
    first: Option<Slot>,
    /// First slots not yet seen durable and chosen.
    durable: Slot,
    chosen: Slot,
}

/// Windows of batches that are remembered.
const WINDOWS_KEPT: usize = 4;

impl Trail {
    pub(super) fn new(ring: RingId, window_slots: u32) -> Trail {
        Trail {
            ring,
            slots_kept: (window_slots as usize * WINDOWS_KEPT).next_power_of_two(),
            stamps: Vec::new(),
            waiting: VecDeque::new(),
            flying: VecDeque::new(),
            first: None,
            durable: Slot(0),
            chosen: Slot(0),
        }
    }

    pub(super) fn submitted(&mut self, at: Time) {
        match self.waiting.back_mut() {
            Some(run) if run.at == at => run.commands += 1,
            _ => self.waiting.push_back(Run { at, commands: 1 }),
        }
    }

    /// Stamps a new batch; `each` sees when its commands were submitted.
    pub(super) fn sealed(&mut self, slot: Slot, commands: u32, now: Time, mut each: impl FnMut(Run)) {
        // Followers stamp nothing, so most rings of a node with many never need this memory.
        self.stamps.resize(self.slots_kept, Stamps::default());
        if self.first.is_none() {
            (self.first, self.durable, self.chosen) = (Some(slot), slot, slot);
        }
        let submitted = self.waiting.front().map_or(now, |run| run.at);
        let flying = &mut self.flying;
        take_runs(&mut self.waiting, commands, |run| {
            each(run);
            flying.push_back(run);
        });
        let place = self.place(slot);
        self.stamps[place] =
            Stamps { ring: self.ring, slot, commands, submitted, sealed: now, ..Stamps::default() };
    }

    /// The stamps of a batch that was sealed here not long ago.
    pub(super) fn stamps_mut(&mut self, slot: Slot) -> Option<&mut Stamps> {
        if self.first.is_none_or(|first| slot < first) {
            return None;
        }
        let place = self.place(slot);
        let stamps = &mut self.stamps[place];
        (stamps.slot == slot && stamps.commands > 0).then_some(stamps)
    }

    /// Calls `each` for every batch below `upto` that was not seen durable before.
    pub(super) fn durable_upto(&mut self, upto: Slot, each: impl FnMut(&mut Stamps)) {
        let from = self.durable;
        self.durable = from.max(upto);
        self.crossed(from, upto, each);
    }

    /// Calls `each` for every batch below `upto` that was not seen chosen before.
    pub(super) fn chosen_upto(&mut self, upto: Slot, each: impl FnMut(&mut Stamps)) {
        let from = self.chosen;
        self.chosen = from.max(upto);
        self.crossed(from, upto, each);
    }

    /// Takes the stamps of an executed batch; `each` sees when its commands were submitted.
    pub(super) fn executed(&mut self, slot: Slot, each: impl FnMut(Run)) -> Option<Stamps> {
        let stamps = *self.stamps_mut(slot)?;
        take_runs(&mut self.flying, stamps.commands, each);
        Some(stamps)
    }

    /// Forgets everything under way.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.flying.clear();
        self.first = None;
    }

    fn crossed(&mut self, from: Slot, upto: Slot, mut each: impl FnMut(&mut Stamps)) {
        if self.first.is_none() {
            return;
        }
        let oldest_kept = Slot(upto.0.saturating_sub(self.slots_kept as u64));
        for slot in from.max(oldest_kept).0..upto.0 {
            if let Some(stamps) = self.stamps_mut(Slot(slot)) {
                each(stamps);
            }
        }
    }

    fn place(&self, slot: Slot) -> usize {
        slot.0 as usize & (self.slots_kept - 1)
    }
}

/// Moves the first `commands` of `runs` to `each`, splitting the last run where it must be.
fn take_runs(runs: &mut VecDeque<Run>, mut commands: u32, mut each: impl FnMut(Run)) {
    while commands > 0 {
        let Some(front) = runs.front_mut() else { return };
        let taken = Run { at: front.at, commands: front.commands.min(commands) };
        commands -= taken.commands;
        front.commands -= taken.commands;
        if front.commands == 0 {
            runs.pop_front();
        }
        each(taken);
    }
}
