//! How close the journal comes to the disk: group writes per second of one frame each, beside a plain
//! `io_uring` writer of the same blocks to the same file system, in turns.
//!
//! `cargo run --release -p annulus-storage --example group_writes [directory]`

use std::error::Error;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, CoreId, Frame, FrameHeader, Kind, NodeId, RingId, Slot,
};
use annulus_storage::{AlignedBuffer, DataDir, FileDisk, Journal, JournalOptions, Unrecovered};
use bytes::BytesMut;
use io_uring::{IoUring, opcode, types};

const ROUNDS: usize = 4;
const ROUND: Duration = Duration::from_millis(500);
const BLOCK_BYTES: u16 = 4096;
const RECOVERED_BYTES: usize = 128 << 20;
const RECOVERED_FRAME_BYTES: usize = 16 << 10;
const FILE_BYTES: u64 = 32 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let chosen = std::env::args().nth(1);
    let directory = match &chosen {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let mut journal = open_journal(directory.path())?;
    let mut plain = PlainWriter::open(&directory.path().join("plain"))?;
    println!("one frame of 192 bytes per group, one write in flight, in {}", directory.path().display());
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let journal_rate = journal_round(&mut journal)?;
        let plain_rate = plain.round()?;
        ratios.push(journal_rate / plain_rate);
        println!(
            "round {round}: journal {journal_rate:.0}/s, plain {plain_rate:.0}/s, ratio {:.2}",
            ratios[round - 1]
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("ratio: {:.2} [{:.2}-{:.2}]", ratios[ROUNDS / 2], ratios[0], ratios[ROUNDS - 1]);
    recovery(journal, directory.path())
}

/// Fills the journal and reads it back.
fn recovery(mut journal: Journal<FileDisk>, directory: &Path) -> Result<(), Box<dyn Error>> {
    let frame = frame(RECOVERED_FRAME_BYTES);
    for _ in 0..RECOVERED_BYTES / frame.len() {
        while !journal.has_room(frame.len()) {
            journal.poll()?;
            journal.submit();
            std::thread::yield_now();
        }
        journal.append(journal.appended().next(), &frame);
        journal.submit();
    }
    while journal.poll()? < journal.appended() {
        journal.submit();
        std::thread::yield_now();
    }
    let bytes = journal.statistics().bytes_written;
    drop(journal);
    // The first reading fills the page cache.
    drop(open_journal(directory)?);
    let begin = Instant::now();
    let journal = open_journal(directory)?;
    let elapsed = begin.elapsed();
    let rate = bytes as f64 / elapsed.as_secs_f64() / 1e9;
    println!(
        "recovery of {} frames in blocks of {bytes} bytes in {elapsed:?}: {rate:.2} GB/s",
        journal.appended()
    );
    Ok(())
}

fn open_journal(directory: &Path) -> Result<Journal<FileDisk>, Box<dyn Error>> {
    let data = DataDir::open(&directory.join("data"), ClusterId(1), NodeId(1), 1)?;
    let core = data.core(CoreId(0));
    let options = JournalOptions { writes_in_flight_max: 1, ..JournalOptions::default() };
    let disk = FileDisk::open(&core, options.sync)?;
    Ok(Unrecovered::open(disk, core.identity(), options)?.recover(|_, _| ())?)
}

/// One durable frame after another.
fn journal_round(journal: &mut Journal<FileDisk>) -> Result<f64, Box<dyn Error>> {
    let frame = frame(HEADER_BYTES + 64);
    let before = journal.statistics().flushes;
    let begin = Instant::now();
    while begin.elapsed() < ROUND {
        journal.append(journal.appended().next(), &frame);
        journal.submit();
        while journal.poll()? < journal.appended() {
            // A turn always submits: the group may have waited for the next segment.
            journal.submit();
            std::thread::yield_now();
        }
    }
    Ok((journal.statistics().flushes - before) as f64 / begin.elapsed().as_secs_f64())
}

fn frame(bytes: usize) -> Frame {
    let header = FrameHeader {
        kind: Kind::Accept,
        cluster: ClusterId(1),
        ring: RingId(1),
        configuration: ConfigurationId(0),
        sender: NodeId(1),
        ballot: Ballot::ZERO,
        slot: Slot(0),
        chosen: Slot(0),
        commands: 0,
        words: [0; 4],
    };
    Frame::seal(BytesMut::zeroed(bytes), &header)
}

/// The same write with nothing around it.
struct PlainWriter {
    ring: IoUring,
    file: File,
    block: AlignedBuffer,
    offset: u64,
}

impl PlainWriter {
    fn open(path: &Path) -> Result<PlainWriter, Box<dyn Error>> {
        let file = OpenOptions::new().write(true).create_new(true).custom_flags(libc::O_DIRECT).open(path)?;
        let zeros = AlignedBuffer::new(1 << 20);
        for offset in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, offset)?;
        }
        file.sync_all()?;
        let ring =
            IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().build(8)?;
        Ok(PlainWriter { ring, file, block: AlignedBuffer::new(BLOCK_BYTES.into()), offset: 0 })
    }

    fn round(&mut self) -> Result<f64, Box<dyn Error>> {
        let begin = Instant::now();
        let mut writes = 0.0;
        while begin.elapsed() < ROUND {
            self.write()?;
            writes += 1.0;
        }
        Ok(writes / begin.elapsed().as_secs_f64())
    }

    fn write(&mut self) -> Result<(), Box<dyn Error>> {
        let entry =
            opcode::Write::new(types::Fd(self.file.as_raw_fd()), self.block.as_ptr(), u32::from(BLOCK_BYTES))
                .offset(self.offset)
                .rw_flags(libc::RWF_DSYNC)
                .build();
        self.offset = (self.offset + u64::from(BLOCK_BYTES)) % FILE_BYTES;
        // SAFETY: the block and the file outlive the write: this function waits for it.
        unsafe { self.ring.submission().push(&entry) }?;
        self.ring.submit()?;
        let answer = loop {
            if let Some(entry) = self.ring.completion().next() {
                break entry.result();
            }
            if self.ring.submission().taskrun() {
                self.ring.submit()?;
            }
            std::thread::yield_now();
        };
        if answer == i32::from(BLOCK_BYTES) {
            Ok(())
        } else {
            Err(format!("a write answered {answer}").into())
        }
    }
}
