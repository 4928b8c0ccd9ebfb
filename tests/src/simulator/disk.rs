//! A simulated disk: slow, failing, and after a crash with any sectors of what was in flight.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::Duration;

use annulus_rings::{Frame, Lsn, NodeId, Time};
use annulus_storage::{
    AlignedBuffer, Completion, Disk, DiskKind, Position, SegmentFile, SegmentHeader, SegmentId, Segments,
};
use bytes::Bytes;

use super::clock::TrueTime;
use super::fuse::Fuse;
use super::medium::Medium;
use super::plan::DiskPlan;
use super::scene::Shared;
use crate::chaos::Random;
use crate::world::Happening;

/// How much longer everything takes while a disk is slow.
const SLOWNESS: u32 = 40;
/// After this long a segment that could not be made is asked for again.
const PREPARATION_RETRY: Duration = Duration::from_millis(250);

/// The disk of one node. Clones are the same disk, which outlives the processes that use it.
#[derive(Clone)]
pub(super) struct SimulatedDisk(Rc<RefCell<Device>>);

struct Device {
    scene: Shared,
    truth: TrueTime,
    node: NodeId,
    fuse: Fuse,
    random: Random,
    plan: DiskPlan,
    media: BTreeMap<SegmentId, Medium>,
    in_flight: Vec<Operation>,
    /// Blocks that are not known to be durable, in the order they were written.
    blocks: VecDeque<Block>,
    slow_until: Time,
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
}

/// A block as it was handed to the disk.
struct Block {
    token: u64,
    at: Position,
    image: Bytes,
    first_lsn: u64,
    is_written: bool,
}

/// The layout of a block, as its documentation states it: an observer reads it on his own.
const BLOCK_HEADER_BYTES: usize = 128;
const FIRST_LSN_OFFSET: usize = 56;
const FRAMES_BYTES_OFFSET: usize = 96;

impl Block {
    fn new(token: u64, at: Position, bytes: &[u8]) -> Block {
        let word = bytes[FIRST_LSN_OFFSET..].first_chunk().expect("a block has a header");
        let first_lsn = u64::from_le_bytes(*word);
        Block { token, at, image: Bytes::copy_from_slice(bytes), first_lsn, is_written: false }
    }

    fn frames(&self) -> Vec<(Lsn, Frame)> {
        let word = self.image[FRAMES_BYTES_OFFSET..].first_chunk().expect("a block has a header");
        let end = BLOCK_HEADER_BYTES + u32::from_le_bytes(*word) as usize;
        let (mut offset, mut lsn, mut frames) = (BLOCK_HEADER_BYTES, self.first_lsn, Vec::new());
        while offset < end {
            let bytes = Frame::peek_bytes(&self.image[offset..]).expect("a block holds whole frames");
            let frame = Frame::parse(self.image.slice(offset..offset + bytes));
            frames.push((Lsn(lsn), frame.expect("a block holds verified frames")));
            offset += bytes.next_multiple_of(8);
            lsn += 1;
        }
        frames
    }
}

impl SimulatedDisk {
    pub(super) fn new(
        scene: &Shared,
        truth: &TrueTime,
        (node, fuse): (NodeId, &Fuse),
        plan: &DiskPlan,
        random: Random,
    ) -> SimulatedDisk {
        SimulatedDisk(Rc::new(RefCell::new(Device {
            scene: scene.clone(),
            truth: truth.clone(),
            node,
            fuse: fuse.clone(),
            random,
            plan: plan.clone(),
            media: BTreeMap::new(),
            in_flight: Vec::new(),
            blocks: VecDeque::new(),
            slow_until: Time(0),
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
        device.media.values_mut().for_each(|medium| medium.lose_power(&mut device.random));
    }

    /// A new process has read the journal back and synced it: what it found is durable.
    pub(super) fn recovered(&self) {
        self.0.borrow_mut().recovered();
    }
}

impl Device {
    fn latency(&mut self) -> Duration {
        let latency = self.random.duration(self.plan.latency_max);
        if self.truth.now() < self.slow_until { latency * SLOWNESS } else { latency }
    }

    fn start(&mut self, work: Work) {
        if !self.fuse.output() {
            return;
        }
        let fails = match &work {
            Work::Write { .. } => self.fails(self.plan.write_error_per_100k, 100_000, "write errors"),
            Work::Read { .. } => self.fails(self.plan.read_error_permyriad, 10_000, "read errors"),
            Work::Prepare(_) => self.fails(self.plan.full_permille, 1000, "no space"),
        };
        if let Work::Write { token, at, buffer, bytes } = &work {
            let block = Block::new(*token, *at, &buffer[..*bytes]);
            for (lsn, frame) in block.frames() {
                self.scene.borrow_mut().appended(self.node, lsn, &frame);
            }
            self.blocks.push_back(block);
        }
        let retry = fails && matches!(work, Work::Prepare(_));
        let due = self.truth.now() + if retry { PREPARATION_RETRY } else { self.latency() };
        self.in_flight.push(Operation { due, work, fails });
    }

    fn fails(&mut self, share: u64, of: u64, class: &'static str) -> bool {
        let fails = self.random.below(of) < share;
        if fails {
            let node = self.node;
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
                self.medium(at.segment).read(at.offset, &mut buffer[..bytes]);
                Completion::Read { token, buffer, result }
            }
            Work::Prepare(header) => {
                if result.is_ok() {
                    self.prepare(&header);
                }
                Completion::Prepared { segment: header.segment, result }
            }
        }
    }

    fn medium(&mut self, segment: SegmentId) -> &mut Medium {
        self.media.get_mut(&segment).expect("the journal uses segments that were prepared")
    }

    fn prepare(&mut self, header: &SegmentHeader) {
        let mut medium = Medium::new(header.bytes);
        let mut sector = [0; annulus_storage::SECTOR_BYTES];
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

    fn is_durable(&self, block: &Block) {
        let node = self.node;
        let mut scene = self.scene.borrow_mut();
        for (lsn, frame) in block.frames() {
            scene.happen(frame.ring(), Happening::Durable { node, lsn, frame });
        }
    }

    /// Some sectors of a write arrive in the cache.
    fn tear(&mut self, at: Position, bytes: &[u8]) {
        let is_torn = self.random.permille(self.plan.torn_permille);
        let all = self.random.permille(500);
        let Device { media, random, .. } = self;
        let medium = media.get_mut(&at.segment).expect("the journal uses segments that were prepared");
        medium.write_torn(at.offset, bytes, || if is_torn { random.permille(500) } else { all });
    }

    fn abandon(&mut self) {
        let now = self.truth.now();
        let mut operations = std::mem::take(&mut self.in_flight);
        operations.sort_by_key(|operation| operation.due);
        for operation in operations {
            if operation.due <= now {
                drop(self.finish(operation));
                continue;
            }
            match operation.work {
                Work::Write { at, buffer, bytes, .. } => {
                    self.scene
                        .borrow_mut()
                        .fault("writes abandoned", || format!("a write at {at:?} breaks off"));
                    self.tear(at, &buffer[..bytes]);
                }
                Work::Prepare(header) if self.random.permille(500) => self.prepare(&header),
                Work::Read { .. } | Work::Prepare(_) => {}
            }
        }
    }

    fn recovered(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        let media = &self.media;
        let is_whole = |block: &&Block| {
            media.get(&block.at.segment).is_some_and(|medium| medium.holds(block.at.offset, &block.image))
        };
        for block in blocks.iter().take_while(is_whole) {
            self.is_durable(block);
        }
    }

    fn io(&mut self, at: Position) -> io::Result<&mut Medium> {
        // A start reads every segment, and any error ends it: at the rate of other reads none would succeed.
        if self.fails(self.plan.read_error_permyriad, 100_000, "errors at start") {
            return Err(io::Error::other("injected"));
        }
        self.media.get_mut(&at.segment).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
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
        let medium = device.io(at)?;
        if at.offset + buffer.len() as u64 > medium.bytes() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        medium.read(at.offset, buffer);
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
        let mut device = self.0.borrow_mut();
        let medium = device.io(at)?;
        medium.write_torn(at.offset, &vec![0; bytes as usize], || true);
        Ok(())
    }

    fn sync(&mut self, segment: SegmentId) -> io::Result<()> {
        self.0.borrow_mut().io(Position { segment, offset: 0 })?.sync();
        Ok(())
    }

    fn prepare(&mut self, header: SegmentHeader, _urgent: bool) {
        self.0.borrow_mut().start(Work::Prepare(header));
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
        let now = device.truth.now();
        device.in_flight.iter_mut().for_each(|operation| operation.due = now);
        Ok(())
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}
