//! The snapshots of a core: taken of its rings, kept, sent to peers, fetched from them, restored.
//!
//! Everything here is done in slices, a little in each turn, beside the commits: at most one snapshot is taken,
//! one fetched, one restored and one piece read for a peer at a time. What takes long is the vault's, which
//! answers some turns later.
//!
//! - *Taken* ([`taking`]): a ring is due when it has written enough, when time has passed, when somebody asks
//!   ([`demand`]). What is published, read back and verified lets the journal be truncated.
//! - *Fetched* ([`fetching`]): a ring that lacks slots which nobody has any more gets a peer's snapshot, piece
//!   by piece; what is on disk already is not asked for again.
//! - *Restored* ([`reloading`]): the state machine takes it, and then the ring jumps there (T3).
//! - *Sent* ([`sending`]): the other side of fetching.

mod demand;
mod fetching;
mod frames;
mod options;
mod reloading;
mod restoring;
mod sending;
mod taking;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::os::fd::RawFd;

use annulus_rings::{RingId, Slot, Time};
use annulus_storage::{Disk, Identity, SnapshotError, SnapshotName, SnapshotShelf, Vault, VaultCompletion};
use annulus_transport::Network;

pub(crate) use self::demand::Demand;
use self::fetching::Fetching;
pub use self::options::SnapshotOptions;
use self::reloading::Reloading;
pub use self::restoring::RestoreMachineError;
use self::sending::Loans;
use self::taking::Taking;
use super::Core;
use crate::clock::Clock;

/// The token of what is asked of the vault while it is opened.
const OPENING: u64 = 0;

/// See the module.
pub(crate) struct Snapshots {
    vault: Box<dyn Vault>,
    shelf: SnapshotShelf,
    identity: Identity,
    options: SnapshotOptions,
    /// Rings that are due.
    queue: VecDeque<u32>,
    /// When rings become due by time alone.
    timers: BinaryHeap<Reverse<(Time, u32)>>,
    taking: Option<Taking>,
    fetching: Option<Fetching>,
    reloading: Option<Reloading>,
    loans: Loans,
    next_token: u64,
    completions: Vec<VaultCompletion>,
    /// Records of a slice on their way from the state machine to the vault.
    slice: Vec<u8>,
}

impl Snapshots {
    /// The snapshots in `vault`, of the core of `identity`. What was interrupted is removed or taken up later.
    pub(crate) fn open(
        mut vault: Box<dyn Vault>,
        identity: Identity,
        options: SnapshotOptions,
    ) -> Result<Snapshots, SnapshotError> {
        let (shelf, refused) = SnapshotShelf::open(&mut vault, OPENING, &identity, options.kept)?;
        for snapshot in refused {
            let (name, error) = (snapshot.file.name, snapshot.error);
            tracing::error!(ring = %name.ring, slot = name.slot.0, %error, "a snapshot is not used");
        }
        Ok(Snapshots {
            vault,
            shelf,
            identity,
            options,
            queue: VecDeque::new(),
            timers: BinaryHeap::new(),
            taking: None,
            fetching: None,
            reloading: None,
            loans: Loans::default(),
            next_token: OPENING,
            completions: Vec::new(),
            slice: Vec::new(),
        })
    }

    pub(crate) fn register_wake(&mut self, eventfd: RawFd) -> io::Result<()> {
        self.vault.register_wake(eventfd)
    }

    /// The ring at `index` may be due.
    pub(crate) fn enqueue(&mut self, index: usize, demand: &mut Demand, now: Time) {
        if !demand.is_queued && demand.is_due(now, &self.options) {
            demand.is_queued = true;
            self.queue.push_back(index as u32);
        }
    }

    /// The ring at `index` has written its first bytes since its last snapshot.
    pub(crate) fn schedule(&mut self, index: usize, demand: &Demand) {
        let due = demand.deadline(&self.options);
        if due < Time::NEVER {
            self.timers.push(Reverse((due, index as u32)));
        }
    }

    /// When something is due by time alone.
    pub(crate) fn deadline(&self) -> Time {
        let timer = self.timers.peek().map_or(Time::NEVER, |Reverse((due, _))| *due);
        timer.min(self.fetching.as_ref().map_or(Time::NEVER, Fetching::deadline))
    }

    /// Whether the next turn has something to do that nothing else announces.
    pub(crate) fn is_busy(&self) -> bool {
        let takes = self.taking.as_ref().is_some_and(Taking::wants_records);
        takes
            || self.taking.is_none() && !self.queue.is_empty()
            || self.reloading.as_ref().is_some_and(Reloading::is_ready)
    }

    /// Whether the state of the ring at `index` is being replaced at the moment.
    pub(crate) fn reloads(&self, index: usize) -> bool {
        self.reloading.as_ref().is_some_and(|reloading| reloading.is_of(index))
    }

    /// The oldest snapshot of a ring that a peer fetches.
    pub(crate) fn oldest_lent(&self, ring: RingId) -> Option<Slot> {
        self.loans.oldest(ring)
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

impl<D: Disk, N: Network, C: Clock> Core<D, N, C> {
    /// Goes on with everything that concerns snapshots.
    pub(super) fn save(&mut self, now: Time) -> usize {
        let mut completions = std::mem::take(&mut self.snapshots.completions);
        self.snapshots.vault.poll(&mut completions);
        let mut work = completions.len();
        for completion in completions.drain(..) {
            self.vault_answers(completion, now);
        }
        self.snapshots.completions = completions;
        self.queue_by_time(now);
        self.end_loans(now);
        work += self.take_snapshot(now);
        work += self.reload(now);
        self.fetch_on(now);
        work
    }

    /// Hands an answer to whoever asked.
    fn vault_answers(&mut self, completion: VaultCompletion, now: Time) {
        let token = completion.token;
        let snapshots = &mut self.snapshots;
        if let Some(taking) = snapshots.taking.as_mut().filter(|taking| taking.token() == token) {
            taking.answered(&mut snapshots.vault, completion);
        } else if let Some(fetching) =
            snapshots.fetching.as_mut().filter(|fetching| fetching.token() == token)
        {
            fetching.answered(&mut snapshots.vault, completion);
        } else if let Some(reloading) = snapshots.reloading.as_mut().filter(|other| other.token() == token) {
            reloading.answered(completion);
        } else if snapshots.loans.has(token) {
            self.piece_was_read(completion, now);
        } else if let Err(error) = completion.result {
            // Of something that was given up, or the removal of an old snapshot: it is tried again at the next start.
            tracing::warn!(%error, "a snapshot could not be removed");
        }
    }

    /// Queues the rings whose time has come.
    fn queue_by_time(&mut self, now: Time) {
        while let Some(&Reverse((due, index))) = self.snapshots.timers.peek()
            && due <= now
        {
            self.snapshots.timers.pop();
            let index = index as usize;
            self.snapshots.enqueue(index, &mut self.replicas[index].demand, now);
        }
    }

    /// A snapshot turned out to be damaged: nothing relies on it any more, and another is due.
    fn lose_snapshot(&mut self, name: SnapshotName, now: Time) {
        self.snapshots.shelf.found_damaged(name);
        if let Some(index) = self.replicas.find(name.ring) {
            self.replicas[index].lose_snapshot(name.slot);
            self.snapshots.enqueue(index, &mut self.replicas[index].demand, now);
        }
    }

    /// Removes the snapshots of a ring that newer ones have made superfluous.
    fn clear_shelf(&mut self, ring: RingId) {
        let snapshots = &mut self.snapshots;
        let token = snapshots.token();
        snapshots.shelf.tidy(&mut snapshots.vault, token, ring);
    }
}
