//! A simulated disk: slow, failing, decaying, and after a crash with any sectors of what was in flight.

mod block;
mod ending;
mod harm;
mod reading;
mod removal;
mod replacement;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use annulus_rings::{NodeId, Time};
use annulus_storage::{
    AlignedBuffer, Completion, Disk, DiskKind, Position, SECTOR_BYTES, SegmentFile, SegmentHeader, SegmentId,
    Segments,
};

use self::block::{Block, Held};
pub(super) use self::harm::Harm;
use self::replacement::Backup;
use super::clock::TrueTime;
use super::fuse::Fuse;
use super::medium::Medium;
use super::plan::{DiskPlan, Plan};
use super::scene::Shared;
use crate::chaos::Random;
use crate::world::{Happening, Violation};

/// How much longer everything takes while a disk is slow.
pub(super) const SLOWNESS: u32 = 40;
const SECTOR: u64 = SECTOR_BYTES as u64;
/// After this long a segment that could not be made or removed is asked for again.
const SEGMENT_RETRY: Duration = Duration::from_millis(250);

/// The disk of one node. Clones are the same disk, which outlives the processes that use it.
#[derive(Clone)]
pub(super) struct SimulatedDisk(Rc<RefCell<Device>>);

struct Device {
    scene: Shared,
    truth: TrueTime,
    node: NodeId,
    fuse: Fuse,
    streams: Streams,
    plan: DiskPlan,
    /// What all segments may take.
    bytes_max: u64,
    media: BTreeMap<SegmentId, Medium>,
    /// Segments that were removed when a process ended, and come back if the power fails.
    unlinked: BTreeMap<SegmentId, Medium>,
    in_flight: Vec<Operation>,
    /// Blocks that are not known to be durable, in the order they were written.
    blocks: VecDeque<Block>,
    /// Blocks that are durable, in order.
    history: Vec<Held>,
    slow_until: Time,
    /// Something durable was harmed, for good.
    is_damaged: bool,
    /// The first place where a durable block is missing.
    first_missing: Option<Position>,
    /// A process reads the journal back: what it finds is not known to be durable yet.
    is_starting: bool,
    /// What it removes meanwhile.
    removed_at_start: Vec<SegmentId>,
    /// An accident that passes befell this process while it started.
    has_passing_trouble: bool,
    /// A copy of what it held at some moment.
    backup: Option<Backup>,
}

/// Random numbers, apart for each class of accidents.
struct Streams {
    latencies: Random,
    write_errors: Random,
    read_errors: Random,
    sync_errors: Random,
    no_space: Random,
    removal_errors: Random,
    tears: Random,
    misreads: Random,
}

impl Streams {
    fn of(plan: &Plan, node: NodeId) -> Streams {
        let random = |class: &str| plan.random(&format!("{class} of node {}", node.0));
        Streams {
            latencies: random("latencies"),
            write_errors: random("write errors"),
            read_errors: random("read errors"),
            sync_errors: random("sync errors"),
            no_space: random("no space"),
            removal_errors: random("removal errors"),
            tears: random("torn writes"),
            misreads: random("misdirected reads"),
        }
    }
}

struct Operation {
    due: Time,
    work: Work,
    fails: bool,
}

enum Work {
    Write { token: u64, at: Position, buffer: AlignedBuffer, bytes: usize },
    Read { token: u64, at: Position, buffer: AlignedBuffer, bytes: usize },
    Prepare(SegmentHeader),
    Remove(SegmentId),
}

impl SimulatedDisk {
    pub(super) fn new(
        scene: &Shared,
        truth: &TrueTime,
        (node, fuse): (NodeId, &Fuse),
        plan: &Plan,
    ) -> SimulatedDisk {
        SimulatedDisk(Rc::new(RefCell::new(Device {
            scene: scene.clone(),
            truth: truth.clone(),
            node,
            fuse: fuse.clone(),
            streams: Streams::of(plan, node),
            plan: plan.disk.clone(),
            bytes_max: plan.saving.journal_bytes_max,
            media: BTreeMap::new(),
            unlinked: BTreeMap::new(),
            in_flight: Vec::new(),
            blocks: VecDeque::new(),
            history: Vec::new(),
            slow_until: Time(0),
            is_damaged: false,
            first_missing: None,
            is_starting: false,
            removed_at_start: Vec::new(),
            has_passing_trouble: false,
            backup: None,
        })))
    }

    /// Another plan from now on.
    pub(super) fn replan(&self, plan: DiskPlan) {
        self.0.borrow_mut().plan = plan;
    }

    /// Everything takes longer until then.
    pub(super) fn slow_until(&self, time: Time) {
        self.0.borrow_mut().slow_until = time;
    }

    /// When the next operation completes.
    pub(super) fn next_due(&self) -> Time {
        self.0.borrow().in_flight.iter().map(|operation| operation.due).min().unwrap_or(Time::NEVER)
    }

    /// The process ends: what was in flight arrives, or parts of it, or nothing.
    pub(super) fn abandon(&self) {
        self.0.borrow_mut().abandon();
    }

    /// The power fails: what was only in the cache is lost, or parts of it.
    pub(super) fn lose_power(&self) {
        let device = &mut *self.0.borrow_mut();
        device.media.values_mut().for_each(|medium| medium.lose_power(&mut device.streams.tears));
        device.bring_back();
    }

    /// Harm that lasts; tells what it is, unless there is nothing to be harmed yet.
    pub(super) fn harm(&self, harm: Harm, random: &mut Random) -> Option<String> {
        self.0.borrow_mut().harm(harm, random)
    }

    /// Whether something durable was ever harmed.
    pub(super) fn is_damaged(&self) -> bool {
        self.0.borrow().is_damaged
    }

    /// A process is about to start.
    pub(super) fn starting(&self) {
        let device = &mut *self.0.borrow_mut();
        device.has_passing_trouble = false;
        device.is_starting = true;
        device.removed_at_start.clear();
    }

    /// Whether an accident that passes befell the process while it started.
    pub(super) fn has_passing_trouble(&self) -> bool {
        self.0.borrow().has_passing_trouble
    }

    /// A new process has read the journal back and synced it: what it found is durable.
    pub(super) fn recovered(&self) {
        self.0.borrow_mut().recovered();
    }
}

impl Device {
    fn latency(&mut self) -> Duration {
        let latency = self.streams.latencies.duration(self.plan.latency_max);
        if self.truth.now() < self.slow_until { latency * SLOWNESS } else { latency }
    }

    fn start(&mut self, work: Work) {
        if !self.fuse.output() {
            return;
        }
        let fails = match &work {
            Work::Write { .. } => {
                let fails = self.streams.write_errors.below(100_000) < self.plan.write_error_per_100k;
                self.fails(fails, "write errors")
            }
            Work::Read { .. } => {
                let fails = self.streams.read_errors.below(10_000) < self.plan.read_error_permyriad;
                self.fails(fails, "read errors")
            }
            Work::Prepare(header) => {
                self.judge_bound(header.bytes);
                let fails = self.streams.no_space.permille(self.plan.full_permille);
                self.fails(fails, "no space")
            }
            Work::Remove(segment) => {
                self.judge_removal(*segment);
                let fails = self.streams.removal_errors.permille(self.plan.full_permille);
                self.fails(fails, "removal errors")
            }
        };
        if let Work::Write { token, at, buffer, bytes } = &work {
            let block = Block::new(*token, *at, &buffer[..*bytes]);
            self.judge_write(&block.held());
            for (lsn, frame) in block.frames() {
                self.scene.borrow_mut().appended(self.node, lsn, &frame);
            }
            self.blocks.push_back(block);
        }
        let retry = fails && matches!(work, Work::Prepare(_) | Work::Remove(_));
        let due = self.truth.now() + if retry { SEGMENT_RETRY } else { self.latency() };
        self.in_flight.push(Operation { due, work, fails });
    }

    /// What was durable is never written again: a journal that does has forgotten it (A10).
    fn judge_write(&self, block: &Held) {
        if let Some(last) = self.history.last().filter(|last| block.first <= last.last) {
            let what =
                format!("{:?} writes {:?} again, and {:?} was durable", self.node, block.first, last.last);
            self.scene.borrow_mut().judge(Err(Violation { rule: "A10", what }));
        }
    }

    /// What was durable is never erased (A10).
    fn judge_erasure(&self, at: Position, bytes: u64) {
        if let Some(held) = self.history.iter().rev().find(|held| held.overlaps(at, bytes)) {
            let what = format!("{:?} erases {:?} at {at:?}, which was durable", self.node, held.first);
            self.scene.borrow_mut().judge(Err(Violation { rule: "A10", what }));
        }
    }

    /// An accident that passes, if it is one.
    fn fails(&mut self, fails: bool, class: &'static str) -> bool {
        if fails {
            let node = self.node;
            self.has_passing_trouble = true;
            self.scene.borrow_mut().fault(class, || format!("{node:?}: {class}"));
        }
        fails
    }

    fn finish(&mut self, operation: Operation) -> Completion {
        let result = if operation.fails { Err(io::Error::other("injected")) } else { Ok(()) };
        match operation.work {
            Work::Write { token, at, buffer, bytes } => {
                if result.is_ok() {
                    self.medium(at.segment).write(at.offset, &buffer[..bytes]);
                    self.written(token);
                } else {
                    self.tear(at, &buffer[..bytes]);
                }
                Completion::Written { token, buffer, result }
            }
            Work::Read { token, at, mut buffer, bytes } => {
                let result = result.and_then(|()| self.read(at, &mut buffer[..bytes]));
                self.misread(&mut buffer[..bytes]);
                Completion::Read { token, buffer, result }
            }
            Work::Prepare(header) => {
                if result.is_ok() {
                    self.prepare(&header);
                }
                Completion::Prepared { segment: header.segment, result }
            }
            Work::Remove(segment) => {
                if result.is_ok() {
                    self.remove(segment);
                }
                Completion::Removed { segment, result }
            }
        }
    }

    fn medium(&mut self, segment: SegmentId) -> &mut Medium {
        self.media.get_mut(&segment).expect("the journal uses segments that were prepared")
    }

    fn prepare(&mut self, header: &SegmentHeader) {
        let mut medium = Medium::new(header.bytes);
        let mut sector = [0; SECTOR_BYTES];
        let encoded = header.encode();
        sector[..encoded.len()].copy_from_slice(&encoded);
        medium.write(0, &sector);
        self.media.insert(header.segment, medium);
    }

    /// One block is on the medium. Records count as durable in the order of the journal: those behind a
    /// gap would be erased by the next recovery.
    fn written(&mut self, token: u64) {
        for block in self.blocks.iter_mut().filter(|block| block.token == token) {
            block.is_written = true;
        }
        while let Some(block) = self.blocks.pop_front_if(|block| block.is_written) {
            self.is_durable(&block);
        }
    }

    fn is_durable(&mut self, block: &Block) {
        let head = self.head();
        self.history.push(block.held());
        let node = self.node;
        let mut scene = self.scene.borrow_mut();
        for (lsn, frame) in block.frames() {
            scene.happen(frame.ring(), Happening::Durable { node, lsn, frame });
        }
        drop(scene);
        if self.head() > head {
            self.frees_what_is_below();
        }
    }

    /// Something that a process does to its disk while it starts, unless it dies before.
    fn output_at_start(&mut self) -> io::Result<()> {
        if self.fuse.output() { Ok(()) } else { Err(broken_off()) }
    }

    fn io(&mut self, at: Position) -> io::Result<&mut Medium> {
        // A start reads every segment, and any error ends it: at the rate of other reads none would succeed.
        let fails = self.streams.read_errors.below(100_000) < self.plan.read_error_permyriad;
        if self.fails(fails, "errors at start") {
            return Err(io::Error::other("injected"));
        }
        self.media.get_mut(&at.segment).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// What a process sees that dies in this moment; nobody does.
fn broken_off() -> io::Error {
    io::Error::other("the process was killed")
}

impl Segments for SimulatedDisk {
    fn list(&mut self) -> io::Result<Vec<SegmentFile>> {
        let device = self.0.borrow();
        let file = |(segment, medium): (&SegmentId, &Medium)| SegmentFile {
            segment: *segment,
            bytes: medium.bytes(),
        };
        Ok(device.media.iter().map(file).collect())
    }

    fn read_at(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        let mut device = self.0.borrow_mut();
        device.io(at)?;
        device.read(at, buffer)?;
        device.misread_at_start(at, buffer);
        Ok(())
    }

    fn has_begun(&self) -> bool {
        !self.0.borrow().media.is_empty()
    }
}

impl Disk for SimulatedDisk {
    fn kind(&self) -> DiskKind {
        DiskKind::Simulated
    }

    fn erase(&mut self, at: Position, bytes: u64) -> io::Result<()> {
        let device = &mut *self.0.borrow_mut();
        device.judge_erasure(at, bytes);
        device.io(at)?;
        let zeros = vec![0; bytes as usize];
        if device.output_at_start().is_err() {
            device.tear(at, &zeros);
            return Err(broken_off());
        }
        device.medium(at.segment).write_torn(at.offset, &zeros, || true);
        Ok(())
    }

    /// A failed one leaves some sectors durable and the others in the cache.
    fn sync(&mut self, segment: SegmentId) -> io::Result<()> {
        let device = &mut *self.0.borrow_mut();
        device.output_at_start()?;
        device.io(Position { segment, offset: 0 })?;
        let fails = device.streams.sync_errors.below(100_000) < device.plan.sync_error_permyriad;
        let Device { media, streams, .. } = device;
        let medium = media.get_mut(&segment).ok_or(io::ErrorKind::NotFound)?;
        if fails {
            medium.sync_some(&mut streams.sync_errors);
        } else {
            medium.sync();
        }
        if device.fails(fails, "sync errors") { Err(io::Error::other("injected")) } else { Ok(()) }
    }

    fn prepare(&mut self, header: SegmentHeader, _urgent: bool) {
        self.0.borrow_mut().start(Work::Prepare(header));
    }

    fn remove(&mut self, segment: SegmentId) {
        self.0.borrow_mut().start(Work::Remove(segment));
    }

    fn write(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        self.0.borrow_mut().start(Work::Write { token, at, buffer, bytes });
    }

    fn read(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        self.0.borrow_mut().start(Work::Read { token, at, buffer, bytes });
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        let device = &mut *self.0.borrow_mut();
        let now = device.truth.now();
        let mut done: Vec<Operation> =
            device.in_flight.extract_if(.., |operation| operation.due <= now).collect();
        done.sort_by_key(|operation| operation.due);
        completions.extend(done.into_iter().map(|operation| device.finish(operation)));
        Ok(())
    }

    /// At start nothing else happens meanwhile: what is in flight completes at once.
    fn wait(&mut self) -> io::Result<()> {
        let mut device = self.0.borrow_mut();
        if device.fuse.is_burnt() {
            return Err(broken_off());
        }
        let now = device.truth.now();
        device.in_flight.iter_mut().for_each(|operation| operation.due = now);
        Ok(())
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}
