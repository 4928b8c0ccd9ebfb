//! The snapshots of one node: files that outlive its processes, and of which a crash leaves what was durable.

mod file;
mod harm;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use annulus_rings::{NodeId, RingId, Time};
use annulus_storage::{
    SnapshotName, Vault, VaultAnswer, VaultCompletion, VaultFile, VaultOperation, VaultState,
};

use self::file::{File, Name};
use self::harm::Errors;
use super::clock::TrueTime;
use super::disk::SLOWNESS;
use super::fuse::Fuse;
use super::plan::Plan;
use super::scene::Shared;
use crate::chaos::Random;
use crate::world::Violation;

/// Partial files of one ring: one that is written, one that is received, and one that was left.
const PARTIALS_MAX: usize = 3;

type Key = (SnapshotName, VaultState);

/// The vault of one node. Clones are the same vault, which outlives the processes that use it.
#[derive(Clone)]
pub(super) struct SimulatedVault(Rc<RefCell<Store>>);

struct Store {
    scene: Shared,
    truth: TrueTime,
    node: NodeId,
    fuse: Fuse,
    latencies: Random,
    tears: Random,
    errors: Errors,
    latency_max: Duration,
    slow_until: Time,
    /// Published snapshots of one ring, at the most: those that are kept, a new one, and one for each peer that
    /// fetches an old one.
    published_max: usize,
    files: BTreeMap<Key, File>,
    /// Removed files that come back if the power fails.
    removed: BTreeMap<Key, File>,
    /// In order.
    queue: VecDeque<Queued>,
    /// Files that nobody could remove in time.
    leftovers: usize,
    /// Bits of some file flipped, and of a published one.
    was_harmed: bool,
    is_damaged: bool,
}

struct Queued {
    due: Time,
    token: u64,
    operation: VaultOperation,
    error: Option<io::ErrorKind>,
}

impl SimulatedVault {
    pub(super) fn new(
        scene: &Shared,
        truth: &TrueTime,
        (node, fuse): (NodeId, &Fuse),
        plan: &Plan,
    ) -> SimulatedVault {
        let random = |what: &str| plan.random(&format!("{what} of the vault of node {}", node.0));
        SimulatedVault(Rc::new(RefCell::new(Store {
            scene: scene.clone(),
            truth: truth.clone(),
            node,
            fuse: fuse.clone(),
            latencies: random("latencies"),
            tears: random("torn writes"),
            errors: Errors::of(plan, node),
            latency_max: plan.saving.latency_max,
            slow_until: Time(0),
            published_max: plan.saving.kept + 1 + usize::from(plan.nodes - 1),
            files: BTreeMap::new(),
            removed: BTreeMap::new(),
            queue: VecDeque::new(),
            leftovers: 0,
            was_harmed: false,
            is_damaged: false,
        })))
    }

    /// Another plan from now on.
    pub(super) fn replan(&self, plan: &Plan) {
        let store = &mut *self.0.borrow_mut();
        store.latency_max = plan.saving.latency_max;
        store.errors.replan(&plan.saving.accidents);
        // What waits because everything was slow does so no longer.
        let due = store.truth.now() + store.latency_max;
        store.queue.iter_mut().for_each(|queued| queued.due = queued.due.min(due));
    }

    /// Everything takes longer until then.
    pub(super) fn slow_until(&self, time: Time) {
        self.0.borrow_mut().slow_until = time;
    }

    /// When the next operation completes.
    pub(super) fn next_due(&self) -> Time {
        self.0.borrow().queue.front().map_or(Time::NEVER, |queued| queued.due)
    }

    /// The process ends: what is under way is done, or in part, or not; what waits is not.
    pub(super) fn abandon(&self) {
        self.0.borrow_mut().abandon();
    }

    /// The power fails: what was not synced is lost, or parts of it, or nothing.
    pub(super) fn lose_power(&self) {
        self.0.borrow_mut().lose_power();
    }

    /// An empty disk takes the place of the one that it lies on.
    pub(super) fn wipe(&self) {
        let store = &mut *self.0.borrow_mut();
        store.files.clear();
        store.removed.clear();
    }

    /// What it holds.
    pub(super) fn copy(&self) -> Copied {
        Copied(self.0.borrow().files.clone())
    }

    /// It holds what it held at an earlier moment.
    pub(super) fn put_back(&self, copy: Copied) {
        let store = &mut *self.0.borrow_mut();
        store.files = copy.0;
        store.removed.clear();
        store.leftovers += store.files.len();
    }
}

/// What a vault held at some moment.
pub(super) struct Copied(BTreeMap<Key, File>);

impl Store {
    fn submit(&mut self, token: u64, operation: VaultOperation) {
        if !self.fuse.output() {
            return;
        }
        let before = self.queue.back().map_or(Time(0), |queued| queued.due);
        let latency = self.latencies.duration(self.latency_max);
        let latency = if self.truth.now() < self.slow_until { latency * SLOWNESS } else { latency };
        let error = self.draw_error(&operation);
        let due = self.truth.now().max(before) + latency;
        self.queue.push_back(Queued { due, token, operation, error });
    }

    fn perform(&mut self, operation: VaultOperation) -> io::Result<VaultAnswer> {
        use VaultState::{Partial, Published};
        match operation {
            VaultOperation::Begin { name, bytes } => {
                self.files.entry((name, Partial)).or_default().truncate(bytes);
                self.judge_count(name.ring, Partial, PARTIALS_MAX);
                Ok(VaultAnswer::Begun)
            }
            VaultOperation::Write { name, offset, bytes } => {
                self.file(name, Partial)?.write(offset, &bytes);
                Ok(VaultAnswer::Written(bytes))
            }
            VaultOperation::Sync { name } => {
                self.file(name, Partial)?.sync();
                Ok(VaultAnswer::Synced)
            }
            VaultOperation::Read { name, state, offset, bytes_max } => {
                Ok(VaultAnswer::Read(self.file(name, state)?.read(offset, bytes_max).to_vec()))
            }
            VaultOperation::Publish { name } => {
                self.rename(name)?;
                self.sync_names();
                self.judge_count(name.ring, Published, self.published_max);
                Ok(VaultAnswer::Published)
            }
            VaultOperation::Remove { name, state } => {
                let removed = self.files.remove(&(name, state));
                self.removed.extend(removed.map(|file| ((name, state), file)));
                Ok(VaultAnswer::Removed)
            }
        }
    }

    fn file(&mut self, name: SnapshotName, state: VaultState) -> io::Result<&mut File> {
        self.files.get_mut(&(name, state)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The partial file gets its final name, for as long as the power lasts.
    fn rename(&mut self, name: SnapshotName) -> io::Result<()> {
        let mut file = self.files.remove(&(name, VaultState::Partial)).ok_or(io::ErrorKind::NotFound)?;
        if file.name == Name::Sure {
            file.name = Name::Renamed;
        }
        self.is_damaged |= file.is_rotten;
        self.files.insert((name, VaultState::Published), file);
        Ok(())
    }

    /// The directory is durable as it is: so are the snapshots that it shows.
    fn sync_names(&mut self) {
        self.removed.clear();
        for (&(name, state), file) in &mut self.files {
            let was_sure = std::mem::replace(&mut file.name, Name::Sure) == Name::Sure;
            if state == VaultState::Published && !was_sure {
                self.scene.borrow_mut().is_published(name.ring, self.node, name.slot);
            }
        }
    }

    /// No ring has more files than it needs (G12).
    fn judge_count(&mut self, ring: RingId, state: VaultState, files_max: usize) {
        let of_ring = |key: &&Key| key.0.ring == ring && key.1 == state;
        let count = self.files.keys().filter(of_ring).count();
        let files_max = files_max + self.leftovers;
        if count > files_max {
            let what =
                format!("{:?} has {count} files {state:?} of ring {ring}, at most {files_max}", self.node);
            self.scene.borrow_mut().judge(Err(Violation { rule: "G12", what }));
        }
    }

    fn abandon(&mut self) {
        let now = self.truth.now();
        while let Some(queued) = self.queue.pop_front_if(|queued| queued.due <= now) {
            let _ = match queued.error {
                Some(kind) => self.fail(queued.operation, kind),
                None => self.perform(queued.operation),
            };
        }
        self.leftovers += self.queue.len();
        if let Some(Queued { operation, .. }) = self.queue.pop_front()
            && self.tears.permille(500)
        {
            self.break_off(operation);
        }
        self.queue.clear();
    }

    /// An operation was under way when the process ended, or failed.
    fn break_off(&mut self, operation: VaultOperation) {
        match operation {
            VaultOperation::Write { name, offset, mut bytes } => {
                bytes.truncate(self.tears.below(bytes.len() as u64 + 1) as usize);
                if let Ok(file) = self.file(name, VaultState::Partial) {
                    file.write(offset, &bytes);
                }
            }
            VaultOperation::Publish { name } => {
                self.leftovers += 1;
                drop(self.rename(name));
            }
            VaultOperation::Sync { .. } => {}
            other => drop(self.perform(other)),
        }
    }

    fn lose_power(&mut self) {
        let random = &mut self.tears;
        for (key, file) in std::mem::take(&mut self.removed) {
            if random.permille(500) {
                self.leftovers += 1;
                self.files.entry(key).or_insert(file);
            }
        }
        for (key, mut file) in std::mem::take(&mut self.files) {
            file.lose_power(random);
            let key = match file.name {
                Name::New if random.permille(500) => continue,
                Name::Renamed if random.permille(500) => (key.0, VaultState::Partial),
                _ => key,
            };
            self.files.insert(key, file);
        }
        self.sync_names();
    }
}

impl Vault for SimulatedVault {
    /// What a start goes by is durable first.
    fn list(&mut self) -> io::Result<Vec<VaultFile>> {
        let store = &mut *self.0.borrow_mut();
        store.sync_names();
        let file =
            |(&(name, state), file): (&Key, &File)| VaultFile { name, state, bytes: file.bytes.len() as u64 };
        Ok(store.files.iter().map(file).collect())
    }

    fn read_at(
        &mut self,
        name: SnapshotName,
        state: VaultState,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let store = &mut *self.0.borrow_mut();
        store.read_error_at_start()?;
        let read = store.file(name, state)?.read(offset, buffer.len());
        buffer[..read.len()].copy_from_slice(read);
        Ok(read.len())
    }

    fn submit(&mut self, token: u64, operation: VaultOperation) {
        self.0.borrow_mut().submit(token, operation);
    }

    fn poll(&mut self, completions: &mut Vec<VaultCompletion>) {
        let store = &mut *self.0.borrow_mut();
        let now = store.truth.now();
        while let Some(queued) = store.queue.pop_front_if(|queued| queued.due <= now) {
            let result = match queued.error {
                Some(kind) => store.fail(queued.operation, kind),
                None => store.perform(queued.operation),
            };
            completions.push(VaultCompletion { token: queued.token, result });
        }
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use annulus_rings::Slot;

    use super::*;
    use crate::simulator::scene::Scene;

    const NAME: SnapshotName = SnapshotName { ring: RingId(1), slot: Slot(0) };

    fn vault(seed: u64) -> SimulatedVault {
        let mut plan = Plan::draw(seed).healed();
        plan.saving.latency_max = Duration::ZERO;
        let truth = TrueTime::default();
        let scene: Shared = Rc::new(RefCell::new(Scene::new(&plan, &truth, false)));
        SimulatedVault::new(&scene, &truth, (NodeId(1), &Fuse::default()), &plan)
    }

    /// What is there after a power failure in the middle of the last of these operations.
    fn left(seed: u64, operations: Vec<VaultOperation>) -> Vec<VaultFile> {
        let mut vault = vault(seed);
        let last = operations.len() - 1;
        for (index, operation) in operations.into_iter().enumerate() {
            vault.0.borrow_mut().latency_max = Duration::from_secs((index == last).into());
            vault.submit(0, operation);
            vault.poll(&mut Vec::new());
        }
        vault.abandon();
        vault.lose_power();
        vault.list().unwrap()
    }

    fn written() -> Vec<VaultOperation> {
        vec![
            VaultOperation::Begin { name: NAME, bytes: 0 },
            VaultOperation::Write { name: NAME, offset: 0, bytes: vec![7; 3000] },
            VaultOperation::Sync { name: NAME },
        ]
    }

    #[test]
    fn a_crash_while_a_snapshot_is_published_leaves_it_under_either_name() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 1..100 {
            let mut operations = written();
            operations.push(VaultOperation::Publish { name: NAME });
            let files = left(seed, operations);
            assert!(files.iter().all(|file| file.bytes == 3000 || file.state == VaultState::Partial));
            seen.insert(files.first().map(|file| file.state));
        }
        assert_eq!(seen.len(), 3, "published, partial, or never named durably: {seen:?}");
    }

    #[test]
    fn what_is_published_stays_and_what_is_removed_may_come_back() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 1..100 {
            let mut operations = written();
            operations.push(VaultOperation::Publish { name: NAME });
            operations.push(VaultOperation::Sync { name: NAME });
            let files = left(seed, operations);
            assert!(files.len() == 1 && files[0].state == VaultState::Published && files[0].bytes == 3000);
            let mut operations = written();
            operations.push(VaultOperation::Publish { name: NAME });
            operations.push(VaultOperation::Remove { name: NAME, state: VaultState::Published });
            seen.insert(left(seed, operations).len());
        }
        assert_eq!(seen.len(), 2);
    }
}
