//! Replays what dm-log-writes recorded: what a disk held at every flush, and at moments between two.
//!
//! `log_replay --log LOG --onto IMAGE -- COMMAND` writes the recorded blocks onto IMAGE in their order. At each moment
//! chosen it runs COMMAND, with the number behind it that the last mark `acknowledged=N` named; the first failure ends
//! the replay. The kernel logs a write when a flush made it durable, or at once when it was forced (FUA): so the image
//! at a flush is what a disk with a volatile cache surely had, and between two flushes what it may have had.
//!
//! ```text
//! sector 0      magic, version: u64   entries: u64   sector_bytes: u32
//! then, each    sector, sectors, flags, data_bytes: u64, and behind them the text of a mark
//!               then the sectors, unless they were discarded
//! ```
//! Numbers are little-endian; sectors are counted in `sector_bytes`. Source: `drivers/md/dm-log-writes.c`.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

/// Replays a log of dm-log-writes and runs a command at moments of it.
#[derive(Parser)]
struct Arguments {
    /// The log device, or a copy of it.
    #[arg(long)]
    log: PathBuf,
    /// The image to write onto; it has the size of the disk.
    #[arg(long)]
    onto: PathBuf,
    /// The mark from which on moments are chosen.
    #[arg(long, default_value = "begin")]
    from: String,
    /// Moments right behind a flush, a forced write or a mark, at the most.
    #[arg(long, default_value_t = 200)]
    boundaries: usize,
    /// Moments between those, at the most.
    #[arg(long, default_value_t = 100)]
    between: usize,
    /// Draws the moments.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to run at each.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

type Failed = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failed> {
    let log = Log::open(&arguments.log)?;
    let entries = log.entries()?;
    let moments = Moments::choose(&entries, arguments)?;
    let image = File::options().write(true).open(&arguments.onto)?;
    let mut acknowledged = 0;
    for (index, entry) in entries.iter().enumerate() {
        log.apply(entry, &image)?;
        if let Some(number) = entry.mark.as_deref().and_then(|mark| mark.strip_prefix("acknowledged=")) {
            acknowledged = number.parse()?;
        }
        if moments.indices.contains(&index) {
            check(&arguments.command, acknowledged)
                .map_err(|error| format!("behind entry {index} of {} ({entry:?}): {error}", entries.len()))?;
        }
    }
    println!(
        "{} states of the disk: at {} of {} flushes, forced writes and marks, and {} between, up to record {acknowledged}",
        moments.indices.len(),
        moments.chosen_boundaries,
        moments.boundaries,
        moments.indices.len() - moments.chosen_boundaries,
    );
    Ok(())
}

fn check(command: &[String], acknowledged: u64) -> Result<(), Failed> {
    let status = Command::new(&command[0]).args(&command[1..]).arg(acknowledged.to_string()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{acknowledged} was acknowledged: {status}").into()) }
}

/// Where in the log the image is looked at.
struct Moments {
    /// In order.
    indices: Vec<usize>,
    boundaries: usize,
    chosen_boundaries: usize,
}

impl Moments {
    fn choose(entries: &[Entry], arguments: &Arguments) -> Result<Moments, Failed> {
        let begin = entries.iter().position(|entry| entry.mark.as_deref() == Some(&*arguments.from));
        let begin = begin.ok_or_else(|| format!("the log has no mark {:?}", arguments.from))?;
        let (boundaries, between): (Vec<_>, Vec<_>) =
            (begin..entries.len()).partition(|&index| entries[index].is_boundary());
        let mut state = arguments.seed;
        let mut indices = draw(boundaries.clone(), arguments.boundaries, &mut state);
        let chosen_boundaries = indices.len();
        indices.extend(draw(between, arguments.between, &mut state));
        indices.sort_unstable();
        Ok(Moments { indices, boundaries: boundaries.len(), chosen_boundaries })
    }
}

/// Some of `from`, at most `count`.
fn draw(mut from: Vec<usize>, count: usize, state: &mut u64) -> Vec<usize> {
    while from.len() > count {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let index = (*state >> 33) as usize % from.len();
        from.swap_remove(index);
    }
    from
}

/// The device that dm-log-writes wrote to.
struct Log {
    file: File,
    sector_bytes: u64,
    count: u64,
}

/// One thing that happened to the disk.
#[derive(PartialEq, Eq, Debug)]
struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
    /// Where in the log its sectors are.
    data_at: u64,
    mark: Option<String>,
}

impl Entry {
    fn is_boundary(&self) -> bool {
        self.flags & (FLUSH | FUA | MARK) != 0
    }
}

impl Log {
    fn open(path: &Path) -> Result<Log, Failed> {
        let file = File::open(path)?;
        let mut head = [0; 28];
        file.read_exact_at(&mut head, 0)?;
        if number(&head, 0) != MAGIC || number(&head, 1) != VERSION {
            return Err(format!("{} is not a log of dm-log-writes, version {VERSION}", path.display()).into());
        }
        let sector_bytes = u64::from(u32::from_le_bytes(head[24..].try_into()?));
        Ok(Log { file, sector_bytes, count: number(&head, 2) })
    }

    fn entries(&self) -> Result<Vec<Entry>, Failed> {
        let mut at = self.sector_bytes;
        let mut entries = Vec::new();
        for _ in 0..self.count {
            let mut sector = vec![0; self.sector_bytes as usize];
            self.file.read_exact_at(&mut sector, at)?;
            let [place, sectors, flags, data_bytes] = std::array::from_fn(|index| number(&sector, index));
            let text = sector.get(ENTRY_BYTES..).and_then(|rest| rest.get(..data_bytes as usize));
            let mark =
                (flags & MARK != 0).then(|| String::from_utf8_lossy(text.unwrap_or_default()).into_owned());
            let mark = mark.map(|mark| mark.trim_end_matches('\0').to_owned());
            let data_at = at + self.sector_bytes;
            entries.push(Entry { sector: place, sectors, flags, data_at, mark });
            at = data_at + if flags & DISCARD == 0 { sectors * self.sector_bytes } else { 0 };
        }
        Ok(entries)
    }

    /// Does to the image what was done to the disk.
    fn apply(&self, entry: &Entry, image: &File) -> io::Result<()> {
        let mut data = vec![0; (entry.sectors * self.sector_bytes) as usize];
        if entry.flags & DISCARD == 0 {
            self.file.read_exact_at(&mut data, entry.data_at)?;
        }
        image.write_all_at(&data, entry.sector * self.sector_bytes)
    }
}

/// The number in the eight bytes at `index`.
fn number(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[8 * index..][..8].try_into().expect("eight bytes"))
}

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const ENTRY_BYTES: usize = 32;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
