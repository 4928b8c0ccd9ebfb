//! A journal by itself, for power cuts and for the clock.
//!
//! `journal_probe write --journal nvm --data DIR` appends numbered frames and prints each position that was
//! acknowledged; whoever kills it then runs `journal_probe check` with the last one printed, which reads
//! everything back and verifies it. `journal_probe measure` times append and commit of one command at a time.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use annulus_rings::frame::HEADER_BYTES;
use annulus_rings::{
    Ballot, ClusterId, ConfigurationId, CoreId, Frame, FrameHeader, Incarnation, Kind, Lsn, NodeId, RingId,
    Slot,
};
use annulus_storage::{
    DataDir, Disk, FileDisk, Identity, Journal, JournalOptions, MemoryDisk, NvmBacking, NvmDisk, NvmOptions,
    SyncMode, Unrecovered,
};
use bytes::BytesMut;
use clap::{Parser, Subcommand, ValueEnum};

/// Writes a journal until it is killed, checks what is left of it, or times it.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Appends numbered frames behind those that are there, and prints `acknowledged N` as they become durable.
    Write {
        #[command(flatten)]
        place: Place,
        /// Stops after so long.
        #[arg(long, default_value_t = 60.0)]
        seconds: f64,
        /// Frames of a turn, at most.
        #[arg(long, default_value_t = 4)]
        turn_frames: u64,
    },
    /// Reads everything back, verifies each frame, and prints `last N`; fails if that is below what was acknowledged.
    Check {
        #[command(flatten)]
        place: Place,
        /// The last position that the writer printed.
        #[arg(long, default_value_t = 0)]
        acknowledged: u64,
    },
    /// Times append and commit, one frame at a time.
    Measure {
        #[command(flatten)]
        place: Place,
        /// Bytes of the command.
        #[arg(long, default_value_t = 64)]
        payload: usize,
        /// How many.
        #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
        count: u64,
    },
}

#[derive(clap::Args)]
struct Place {
    /// The device.
    #[arg(long, value_enum)]
    journal: Device,
    /// The data directory, on the medium to try; memory needs one too, for its identity.
    #[arg(long)]
    data: PathBuf,
    /// With `nvm-emulated`: memory without a file.
    #[arg(long)]
    memory: bool,
    /// How a write to files becomes durable.
    #[arg(long, value_enum, default_value_t = Sync::Fdatasync)]
    sync: Sync,
    /// The size of a segment.
    #[arg(long, default_value_t = 1 << 20)]
    segment_bytes: u64,
    /// The size of a new region.
    #[arg(long, default_value_t = 64 << 20)]
    region_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Device {
    /// Files.
    File,
    /// VOLATILE: memory.
    Memory,
    /// A region on a file system with DAX.
    Nvm,
    /// A region that a battery saves.
    NvmBattery,
    /// VOLATILE: a region in ordinary memory.
    NvmEmulated,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sync {
    Dsync,
    Fdatasync,
    Odsync,
}

impl Sync {
    fn mode(self) -> SyncMode {
        match self {
            Sync::Dsync => SyncMode::Dsync,
            Sync::Fdatasync => SyncMode::Fdatasync,
            Sync::Odsync => SyncMode::ODsync,
        }
    }
}

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run(&Arguments::parse().action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the action on the device that it names.
fn run(action: &Action) -> Result<ExitCode, Failed> {
    let (Action::Write { place, .. } | Action::Check { place, .. } | Action::Measure { place, .. }) = action;
    let core = DataDir::open(&place.data, CLUSTER, NODE, 1)?.core(CoreId(0));
    let identity = core.identity();
    let options = NvmOptions { region_bytes: place.region_bytes, ..NvmOptions::default() };
    let region = |backing| NvmDisk::open(&core, &NvmOptions { backing, ..options.clone() });
    match place.journal {
        Device::File => act(action, FileDisk::open(&core, place.sync.mode())?, &identity),
        Device::Memory => act(action, MemoryDisk::new(place.region_bytes), &identity),
        Device::Nvm => act(action, region(NvmBacking::Dax)?, &identity),
        Device::NvmBattery => act(action, region(NvmBacking::Battery)?, &identity),
        Device::NvmEmulated if place.memory => {
            let disk = NvmDisk::emulated(&identity, place.region_bytes)?;
            act(action, disk, &identity)
        }
        Device::NvmEmulated => act(action, region(NvmBacking::Emulated)?, &identity),
    }
}

const CLUSTER: ClusterId = ClusterId(7);
const NODE: NodeId = NodeId(1);

fn act<D: Disk>(action: &Action, disk: D, identity: &Identity) -> Result<ExitCode, Failed> {
    let (Action::Write { place, .. } | Action::Check { place, .. } | Action::Measure { place, .. }) = action;
    let options = JournalOptions {
        segment_bytes: place.segment_bytes,
        write_bytes_max: 64 << 10,
        frame_bytes_max: 16 << 10,
        ..JournalOptions::default()
    };
    let began = Instant::now();
    let kind = disk.kind();
    let mut wrong = None;
    let journal = Unrecovered::open(disk, *identity, options)?.recover(|lsn, frame| {
        let is_right = matches!(action, Action::Measure { .. }) || frame == numbered(lsn);
        wrong = wrong.or((!is_right).then_some(lsn));
    })?;
    let last = journal.appended();
    if let Some(wrong) = wrong {
        return Err(format!("{kind}: position {wrong} holds another frame than was appended there").into());
    }
    println!("recovered {last} from {kind} in {:.3} s", began.elapsed().as_secs_f64());
    match action {
        Action::Check { acknowledged, .. } => {
            println!("last {last}");
            let is_lost = last.0 < *acknowledged;
            if is_lost {
                eprintln!("{kind}: {acknowledged} was acknowledged, {last} is left");
            }
            Ok(if is_lost { ExitCode::FAILURE } else { ExitCode::SUCCESS })
        }
        Action::Write { seconds, turn_frames, .. } => {
            write(journal, Duration::from_secs_f64(*seconds), *turn_frames)
        }
        Action::Measure { payload, count, .. } => measure(journal, *payload, *count),
    }
}

/// Appends until the time is over or the medium is full.
fn write<D: Disk>(mut journal: Journal<D>, time: Duration, turn_frames: u64) -> Result<ExitCode, Failed> {
    let mut out = io::stdout().lock();
    writeln!(out, "READY")?;
    out.flush()?;
    let began = Instant::now();
    let mut told = journal.persisted();
    while began.elapsed() < time {
        let turn = 1 + journal.appended().0 % turn_frames.max(1);
        for _ in 0..turn {
            let frame = numbered(journal.appended().next());
            if journal.has_room(frame.len()) {
                journal.append(journal.appended().next(), &frame);
            }
        }
        journal.submit();
        let persisted = journal.poll()?;
        if persisted > told {
            told = persisted;
            writeln!(out, "acknowledged {told}")?;
            out.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Times append and commit of one frame at a time, until it is durable.
fn measure<D: Disk>(mut journal: Journal<D>, payload: usize, count: u64) -> Result<ExitCode, Failed> {
    let frames: Vec<Frame> = (0..64).map(|slot| framed(slot, &vec![slot as u8 | 1; payload])).collect();
    let mut times_ns = Vec::with_capacity(count as usize);
    for frame in frames.iter().cycle().take(count as usize) {
        let lsn = journal.appended().next();
        let began = Instant::now();
        journal.append(lsn, frame);
        journal.submit();
        while journal.poll()? < lsn {
            journal.submit();
        }
        times_ns.push(began.elapsed().as_nanos() as u64);
    }
    times_ns.sort_unstable();
    let at = |per_mille: usize| times_ns[(times_ns.len() - 1) * per_mille / 1000];
    let (p50, p90, p99, p999) = (at(500), at(900), at(990), at(999));
    let kind = journal.kind();
    let block_bytes = journal.statistics().bytes_written / journal.statistics().blocks.max(1);
    println!(
        "{kind}: append and commit of {payload} bytes, {count} times, blocks of {block_bytes}: p50 {p50} ns, p90 {p90} ns, p99 {p99} ns, p99.9 {p999} ns"
    );
    Ok(ExitCode::SUCCESS)
}

/// The frame that belongs at a position: its content follows from its number.
fn numbered(lsn: Lsn) -> Frame {
    let mix = lsn.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // Mostly small, now and then some kilobytes, and zeros among them.
    let words = if mix.is_multiple_of(61) { mix >> 55 } else { mix >> 60 };
    let word = |n: u64| if (mix ^ n).is_multiple_of(5) { 0 } else { mix.rotate_left(n as u32) };
    let payload: Vec<u8> = (0..words).flat_map(|n| word(n).to_le_bytes()).collect();
    framed(lsn.0, &payload)
}

fn framed(slot: u64, payload: &[u8]) -> Frame {
    let header = FrameHeader {
        kind: Kind::Accept,
        cluster: CLUSTER,
        ring: RingId(1),
        configuration: ConfigurationId(0),
        sender: NODE,
        ballot: Ballot { round: 1, node: NODE, incarnation: Incarnation(1) },
        slot: Slot(slot),
        chosen: Slot(0),
        commands: 0,
        words: [0; 4],
    };
    let mut buffer = BytesMut::zeroed(HEADER_BYTES);
    buffer.extend_from_slice(payload);
    Frame::seal(buffer, &header)
}
