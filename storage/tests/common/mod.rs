//! What the tests of real files share.
#![allow(dead_code)]

use std::path::Path;
use std::time::{Duration, Instant};

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, CoreId, Frame, FrameHeader, Incarnation, Kind, Lsn, NodeId, RingId,
    Slot,
};
use annulus_storage::{DataDir, Disk, FileDisk, Journal, JournalOptions, RecoverError, Unrecovered};
use bytes::BytesMut;

/// An Accept frame of a slot.
pub fn accept(ring: u32, slot: u64, payload: &[u8]) -> Frame {
    let header = FrameHeader {
        kind: Kind::Accept,
        cluster: ClusterId(7),
        ring: RingId(ring),
        configuration: ConfigurationId(0),
        sender: NodeId(1),
        ballot: Ballot { round: 1, node: NodeId(1), incarnation: Incarnation(1) },
        slot: Slot(slot),
        chosen: Slot(0),
        commands: 0,
        words: [0; 4],
    };
    seal(&header, payload)
}

/// A Learn frame that carries Accept frames.
pub fn learn(ring: u32, accepts: &[Frame]) -> Frame {
    let mut header = accepts[0].header();
    header.kind = Kind::Learn;
    header.ring = RingId(ring);
    header.words[0] = accepts.len() as u64;
    let payload: Vec<u8> = accepts.iter().flat_map(|frame| frame.as_bytes().to_vec()).collect();
    seal(&header, &payload)
}

fn seal(header: &FrameHeader, payload: &[u8]) -> Frame {
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    buffer.extend_from_slice(payload);
    Frame::seal(buffer, header)
}

/// Small segments, so that tests cross them.
pub fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: 256 << 10,
        write_bytes_max: 32 << 10,
        frame_bytes_max: 64 << 10,
        backlog_bytes_max: 4 << 20,
        ..JournalOptions::default()
    }
}

/// Opens the journal of the only core, and what it holds from its first position on.
pub fn open(path: &Path, options: &JournalOptions) -> Result<(Journal<FileDisk>, Vec<Frame>), RecoverError> {
    let data = DataDir::open(path, ClusterId(7), NodeId(1), 1).unwrap();
    let core = data.core(CoreId(0));
    let disk = FileDisk::open(&core, options.sync).unwrap();
    let (mut first, mut frames) = (None, Vec::new());
    let journal =
        Unrecovered::open(disk, core.identity(), options.clone()).unwrap().recover(|lsn, frame| {
            first = first.or(Some(lsn));
            frames.push(frame);
            assert_eq!(lsn.0 - first.map_or(0, |first| first.0) + 1, frames.len() as u64);
        })?;
    let held = journal.first_lsn() <= journal.appended();
    assert!(!held || first.is_some_and(|first| first <= journal.first_lsn()));
    Ok((journal, frames))
}

/// Appends at the next position.
pub fn append<D: Disk>(journal: &mut Journal<D>, frame: &Frame) -> Lsn {
    let lsn = journal.appended().next();
    journal.append(lsn, frame);
    lsn
}

/// Turns until everything appended is durable.
pub fn flush<D: Disk>(journal: &mut Journal<D>) {
    turn_until(journal, |journal| journal.persisted() == journal.appended());
}

/// Turns until `done`, for ten seconds at the most.
pub fn turn_until<D: Disk>(journal: &mut Journal<D>, mut done: impl FnMut(&mut Journal<D>) -> bool) {
    let begin = Instant::now();
    while !done(journal) {
        journal.submit();
        journal.poll().unwrap();
        std::thread::yield_now();
        assert!(begin.elapsed() < Duration::from_secs(10), "the journal makes progress");
    }
}
