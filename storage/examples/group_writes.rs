//! How close the journal comes to the disk: bytes of group writes per second, beside a plain `io_uring` writer of
//! blocks of the same size in the same sync mode on the same file system, in turns; and how fast it is read back.
//!
//! `cargo run --release -p annulus-storage --example group_writes [directory]`

use std::error::Error;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, CoreId, Frame, FrameHeader, Kind, NodeId, RingId, Slot,
};
use annulus_storage::{AlignedBuffer, DataDir, FileDisk, Journal, JournalOptions, SyncMode, Unrecovered};
use bytes::BytesMut;
use io_uring::{IoUring, opcode, types};

const ROUNDS: usize = 60;
const ROUND: Duration = Duration::from_millis(60);
const BLOCK_HEADER_BYTES: usize = 128;
const FILE_BYTES: u64 = 64 << 20;
const RECOVERED_BYTES: u64 = 256 << 20;

/// Sync mode, bytes of a block, writes in flight.
const ROWS: [(SyncMode, usize, usize); 6] = [
    (SyncMode::Dsync, 4 << 10, 1),
    (SyncMode::Dsync, 4 << 10, 2),
    (SyncMode::Dsync, 64 << 10, 1),
    (SyncMode::Dsync, 64 << 10, 2),
    (SyncMode::Fdatasync, 4 << 10, 1),
    (SyncMode::ODsync, 4 << 10, 1),
];

fn main() -> Result<(), Box<dyn Error>> {
    let chosen = std::env::args().nth(1);
    let directory = match &chosen {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    println!(
        "in {}, {ROUNDS} rounds of {ROUND:?} each, in turns; bytes of journal over those of plain",
        directory.path().display()
    );
    for (row, (sync, block_bytes, in_flight)) in ROWS.into_iter().enumerate() {
        compare(&directory.path().join(format!("row-{row}")), sync, block_bytes, in_flight)?;
    }
    for frame_bytes in [256, 4 << 10, 16 << 10] {
        recovery(&directory.path().join(format!("frames-{frame_bytes}")), frame_bytes)?;
    }
    Ok(())
}

/// Prints the rates of one row, and their ratio.
fn compare(
    directory: &Path,
    sync: SyncMode,
    block_bytes: usize,
    in_flight: usize,
) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir(directory)?;
    let options = JournalOptions {
        sync,
        writes_in_flight_max: in_flight,
        write_bytes_max: block_bytes,
        ..JournalOptions::default()
    };
    let mut journal = open_journal(directory, &options)?;
    let mut plain = PlainWriter::open(&directory.join("plain"), sync, block_bytes, in_flight)?;
    let frame = frame(block_bytes - BLOCK_HEADER_BYTES);
    let (mut of_journal, mut of_plain) = (Tally::default(), Tally::default());
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let mut journal_round = || journal_round(&mut journal, &frame, in_flight as u64);
        // Whoever goes second finds the device busy with what the first one left behind.
        let (journal, plain) = if round % 2 == 0 {
            let first = journal_round()?;
            (first, plain.round()?)
        } else {
            let first = plain.round()?;
            (journal_round()?, first)
        };
        ratios.push(journal.rate() / plain.rate());
        of_journal.add(&journal);
        of_plain.add(&plain);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "{sync}, blocks of {block_bytes} bytes, {in_flight} in flight: median {:.2} [quarters {:.2}-{:.2}], in all {:.2}; journal {of_journal}, {} waits for one of {} segments, plain {of_plain}",
        ratios[ROUNDS / 2],
        ratios[ROUNDS / 4],
        ratios[ROUNDS * 3 / 4],
        of_journal.rate() / of_plain.rate(),
        journal.statistics().segment_waits,
        journal.statistics().segments,
    );
    Ok(())
}

/// What a writer has done.
#[derive(Default)]
struct Tally {
    bytes: u64,
    elapsed: Duration,
}

impl Tally {
    fn rate(&self) -> f64 {
        self.bytes as f64 / self.elapsed.as_secs_f64()
    }

    fn add(&mut self, other: &Tally) {
        self.bytes += other.bytes;
        self.elapsed += other.elapsed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} MB/s", self.rate() / 1e6)
    }
}

/// What this thread has used of its CPU.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is valid for writes.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

/// Fills a journal and reads it back.
fn recovery(directory: &Path, frame_bytes: usize) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir(directory)?;
    let options = JournalOptions { writes_in_flight_max: 8, ..JournalOptions::default() };
    let mut journal = open_journal(directory, &options)?;
    let frame = frame(frame_bytes);
    while journal.statistics().bytes_written < RECOVERED_BYTES {
        while journal.has_room(frame.len()) && journal.backlog_bytes() < options.backlog_bytes_max / 2 {
            journal.append(journal.appended().next(), &frame);
        }
        journal.submit();
        journal.poll()?;
    }
    while journal.poll()? < journal.appended() {
        journal.submit();
        std::thread::yield_now();
    }
    let bytes = journal.statistics().bytes_written;
    drop(journal);
    // The first reading fills the page cache.
    drop(open_journal(directory, &options)?);
    let mut rates = Vec::new();
    let mut frames = 0;
    let mut cpu = Duration::ZERO;
    for _ in 0..5 {
        let (begin, before) = (Instant::now(), thread_cpu());
        frames = open_journal(directory, &options)?.appended().0;
        rates.push(bytes as f64 / begin.elapsed().as_secs_f64() / 1e9);
        cpu += thread_cpu().saturating_sub(before);
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "recovery of {frames} frames of {frame_bytes} bytes in {} MiB: {:.2} GB/s [{:.2}-{:.2}], {:.2} GB for each second of its CPU",
        bytes >> 20,
        rates[2],
        rates[0],
        rates[4],
        5.0 * bytes as f64 / 1e9 / cpu.as_secs_f64()
    );
    Ok(())
}

fn open_journal(directory: &Path, options: &JournalOptions) -> Result<Journal<FileDisk>, Box<dyn Error>> {
    let data = DataDir::open(&directory.join("data"), ClusterId(1), NodeId(1), 1)?;
    let core = data.core(CoreId(0));
    let disk = FileDisk::open(&core, options.sync)?;
    Ok(Unrecovered::open(disk, core.identity(), options.clone())?.recover(|_, _| ())?)
}

/// So many durable blocks of one frame in flight.
fn journal_round(
    journal: &mut Journal<FileDisk>,
    frame: &Frame,
    in_flight: u64,
) -> Result<Tally, Box<dyn Error>> {
    let before = journal.statistics();
    let begin = Instant::now();
    let mut persisted = journal.persisted();
    loop {
        let goes_on = begin.elapsed() < ROUND;
        // What is done but waits for an earlier write leaves room for the next.
        while goes_on && journal.appended().0 - persisted.0 < 2 * in_flight {
            journal.append(journal.appended().next(), frame);
            journal.submit();
        }
        if journal.appended() == persisted {
            let statistics = journal.statistics();
            let bytes = statistics.bytes_written - before.bytes_written;
            return Ok(Tally { bytes, elapsed: begin.elapsed() });
        }
        // A turn always submits: the group may have waited for the next segment.
        journal.submit();
        std::thread::yield_now();
        persisted = journal.poll()?;
    }
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
    let mut buffer = BytesMut::zeroed(bytes);
    buffer.fill(0xa5);
    Frame::seal(buffer, &header)
}

/// The same writes with nothing around them, to a file of zeros.
struct PlainWriter {
    ring: IoUring,
    file: File,
    sync: SyncMode,
    block: AlignedBuffer,
    block_bytes: usize,
    writes_in_flight_max: usize,
    offset: u64,
}

/// What a completion is of.
const WRITTEN: u64 = 1;
const SYNCED: u64 = 2;

impl PlainWriter {
    fn open(
        path: &Path,
        sync: SyncMode,
        block_bytes: usize,
        writes_in_flight_max: usize,
    ) -> Result<PlainWriter, Box<dyn Error>> {
        let flags = libc::O_DIRECT | if sync == SyncMode::ODsync { libc::O_DSYNC } else { 0 };
        let file = OpenOptions::new().write(true).create_new(true).custom_flags(flags).open(path)?;
        let mut block = AlignedBuffer::new(1 << 20);
        for offset in (0..FILE_BYTES).step_by(block.len()) {
            file.write_all_at(&block, offset)?;
        }
        file.sync_all()?;
        block.fill(0xa5);
        let ring =
            IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().build(8)?;
        Ok(PlainWriter { ring, file, sync, block, block_bytes, writes_in_flight_max, offset: 0 })
    }

    fn round(&mut self) -> Result<Tally, Box<dyn Error>> {
        let begin = Instant::now();
        let (mut in_flight, mut bytes) = (0, 0);
        loop {
            let goes_on = begin.elapsed() < ROUND;
            while goes_on && in_flight < self.writes_in_flight_max {
                self.write()?;
                in_flight += 1;
            }
            if in_flight == 0 {
                return Ok(Tally { bytes, elapsed: begin.elapsed() });
            }
            let is_synced = self.wait()? == SYNCED;
            if self.sync == SyncMode::Fdatasync && !is_synced {
                let file = types::Fd(self.file.as_raw_fd());
                let flush = opcode::Fsync::new(file).flags(types::FsyncFlags::DATASYNC);
                self.push(&flush.build().user_data(SYNCED))?;
            } else {
                in_flight -= 1;
                bytes += self.block_bytes as u64;
            }
        }
    }

    fn write(&mut self) -> Result<(), Box<dyn Error>> {
        let file = types::Fd(self.file.as_raw_fd());
        let flags = if self.sync == SyncMode::Dsync { libc::RWF_DSYNC } else { 0 };
        let entry = opcode::Write::new(file, self.block.as_ptr(), self.block_bytes as u32)
            .offset(self.offset)
            .rw_flags(flags)
            .build();
        self.offset = (self.offset + self.block_bytes as u64) % FILE_BYTES;
        self.push(&entry.user_data(WRITTEN))
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) -> Result<(), Box<dyn Error>> {
        // SAFETY: block and file outlive every operation: a round waits for all that it began.
        unsafe { self.ring.submission().push(entry) }?;
        self.ring.submit()?;
        Ok(())
    }

    /// What completed.
    fn wait(&mut self) -> Result<u64, Box<dyn Error>> {
        loop {
            if let Some(entry) = self.ring.completion().next() {
                let expected =
                    if entry.user_data() == WRITTEN { i32::try_from(self.block_bytes)? } else { 0 };
                return match entry.result() {
                    answer if answer == expected => Ok(entry.user_data()),
                    answer => Err(format!("an operation answered {answer}").into()),
                };
            }
            if self.ring.submission().taskrun() {
                self.ring.submit()?;
            }
            std::thread::yield_now();
        }
    }
}
