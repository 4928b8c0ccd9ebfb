//! A device that holds whatever an input says, and the journal that its edits start from.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use annulus_rings::{ClusterId, CoreId, Frame, FrameHeader, Incarnation, Kind, Lsn, NodeId, RingId, Slot};
use annulus_storage::{
    AlignedBuffer, Completion, Disk, DiskKind, Identity, Journal, JournalOptions, Position, RecoverError,
    SegmentFile, SegmentHeader, SegmentId, Segments, Unrecovered,
};

use crate::valid;

/// The bytes of every segment.
pub(crate) type Image = BTreeMap<SegmentId, Vec<u8>>;

/// Whose journal it is.
pub(crate) const IDENTITY: Identity = Identity {
    cluster: ClusterId(7),
    node: NodeId(1),
    core: CoreId(0),
    incarnation: Incarnation(1),
    disk_uuid: 0x1234_5678_9abc_def0_0fed_cba9_8765_4321,
};

/// Calls that one recovery makes at the most: more is a loop without an end.
const CALLS_MAX: usize = 10_000;

/// Segments of a few pages, so that a small image has several.
pub(crate) fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: 16 << 10,
        write_bytes_max: 8 << 10,
        frame_bytes_max: 6 << 10,
        backlog_bytes_max: 32 << 10,
        ..JournalOptions::default()
    }
}

/// A handle of the device: the journal has one, the target another.
#[derive(Clone, Default)]
pub(crate) struct Medium(Rc<RefCell<Device>>);

#[derive(Default)]
struct Device {
    image: Image,
    completions: Vec<Completion>,
    calls: usize,
}

impl Medium {
    /// A device that holds `image`.
    pub(crate) fn of(image: Image) -> Medium {
        Medium(Rc::new(RefCell::new(Device { image, ..Device::default() })))
    }

    /// What it holds now.
    pub(crate) fn image(&self) -> Image {
        self.0.borrow().image.clone()
    }

    /// Reads the journal on it back: the first position and the frames from there on.
    pub(crate) fn recover(&self) -> Result<(Journal<Medium>, Lsn, Vec<Frame>), RecoverError> {
        self.0.borrow_mut().calls = 0;
        let (mut first, mut frames) = (None, Vec::new());
        let unrecovered =
            Unrecovered::open(self.clone(), IDENTITY, options()).expect("the options are sound");
        let journal = unrecovered.recover(|lsn, frame| {
            let first = *first.get_or_insert(lsn);
            assert_eq!(lsn, Lsn(first.0 + frames.len() as u64), "positions have no gaps");
            frames.push(frame);
        })?;
        let first = first.unwrap_or(journal.appended().next());
        assert!(first <= journal.first_lsn(), "what is needed was read back");
        Ok((journal, first, frames))
    }

    fn called(&self) -> std::cell::RefMut<'_, Device> {
        let mut device = self.0.borrow_mut();
        device.calls += 1;
        assert!(device.calls <= CALLS_MAX, "recovery comes to an end");
        device
    }
}

/// Appends, and makes durable.
pub(crate) fn write(journal: &mut Journal<Medium>, frames: &[Frame]) {
    for frame in frames {
        journal.append(journal.appended().next(), frame);
    }
    for _ in 0..100 {
        journal.submit();
        if journal.poll().expect("the medium fails no write") == journal.appended() {
            return;
        }
    }
    panic!("the journal makes no progress");
}

/// A journal of several blocks over three segments, with every kind of record, and its frames. One that is
/// truncated begins with a later segment.
pub(crate) fn valid_journal(is_truncated: bool) -> (Image, Vec<Frame>) {
    let medium = Medium::default();
    let (mut journal, ..) = medium.recover().expect("an empty medium");
    let mut written = Vec::new();
    let record = |kind, slot: u64| {
        valid::seal(&FrameHeader { chosen: Slot(slot), ..valid::header(kind, 1, 1, 0) }, &[])
    };
    for block in 0..5u64 {
        let filling = vec![0x40 + block as u8; 300 * block as usize];
        let accepts: Vec<Frame> =
            (0..2u32).map(|ring| valid::accept(RingId(ring + 1), 1, 1 + block, block, &filling)).collect();
        let carried: Vec<u8> = accepts.iter().flat_map(|frame| frame.as_bytes().to_vec()).collect();
        let learn = FrameHeader { words: [1, 0, 0, 0], ..valid::header(Kind::Learn, 1, 1, block) };
        let mut group = vec![record(Kind::Prepare, 0), record(Kind::Mark, block)];
        group.extend(accepts);
        group.push(valid::seal(&learn, &carried[..carried.len() / 2]));
        write(&mut journal, &group);
        written.extend(group);
        if is_truncated && block == 2 {
            journal.truncate(journal.persisted().next());
        }
    }
    (medium.image(), written)
}

impl Segments for Medium {
    fn list(&mut self) -> io::Result<Vec<SegmentFile>> {
        let device = self.called();
        let file = |(segment, bytes): (&SegmentId, &Vec<u8>)| SegmentFile {
            segment: *segment,
            bytes: bytes.len() as u64,
        };
        Ok(device.image.iter().map(file).collect())
    }

    fn read_at(&mut self, at: Position, buffer: &mut [u8]) -> io::Result<()> {
        let device = self.called();
        let held = device.image.get(&at.segment).ok_or(io::ErrorKind::NotFound)?;
        let bytes = held.get(at.offset as usize..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn has_begun(&self) -> bool {
        false
    }
}

impl Disk for Medium {
    fn kind(&self) -> DiskKind {
        DiskKind::Simulated
    }

    fn erase(&mut self, at: Position, bytes: u64) -> io::Result<()> {
        let mut device = self.called();
        let held = device.image.get_mut(&at.segment).ok_or(io::ErrorKind::NotFound)?;
        held[at.offset as usize..][..bytes as usize].fill(0);
        Ok(())
    }

    fn sync(&mut self, _segment: SegmentId) -> io::Result<()> {
        Ok(())
    }

    fn prepare(&mut self, header: SegmentHeader, _urgent: bool) {
        let mut device = self.called();
        let mut bytes = vec![0; header.bytes as usize];
        let encoded = header.encode();
        bytes[..encoded.len()].copy_from_slice(&encoded);
        device.image.insert(header.segment, bytes);
        device.completions.push(Completion::Prepared { segment: header.segment, result: Ok(()) });
    }

    fn remove(&mut self, segment: SegmentId) {
        let mut device = self.called();
        device.image.remove(&segment);
        device.completions.push(Completion::Removed { segment, result: Ok(()) });
    }

    fn write(&mut self, token: u64, at: Position, buffer: AlignedBuffer, bytes: usize) {
        let mut device = self.called();
        let held = device.image.get_mut(&at.segment).expect("writes go to segments that were made");
        let held = &mut held[at.offset as usize..][..bytes];
        assert!(held.iter().all(|byte| *byte == 0), "blocks are written onto zeros, once");
        held.copy_from_slice(&buffer[..bytes]);
        device.completions.push(Completion::Written { token, buffer, result: Ok(()) });
    }

    fn read(&mut self, token: u64, at: Position, mut buffer: AlignedBuffer, bytes: usize) {
        let result = self.read_at(at, &mut buffer[..bytes]);
        self.called().completions.push(Completion::Read { token, buffer, result });
    }

    fn submit(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        completions.append(&mut self.called().completions);
        Ok(())
    }

    fn wait(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn register_wake(&mut self, _eventfd: RawFd) -> io::Result<()> {
        Ok(())
    }
}
