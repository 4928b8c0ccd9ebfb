//! What the journals of a node hold, read as recovery would read them, and never written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use annulus_rings::{FrameHeader, Kind};
use annulus_storage::{BlockReport, JournalInspector, RecoverError, TailReport};
use serde::Serialize;

use crate::directory::{DirectoryError, Owner, core_directories};
use crate::progress::Progress;

/// Every journal of a node, or of one core.
#[derive(Serialize)]
pub struct Survey {
    journals: Vec<Journal>,
}

/// One core's journal.
#[derive(Serialize)]
struct Journal {
    directory: PathBuf,
    identity: Option<Owner>,
    segments: u64,
    blocks: u64,
    bytes: u64,
    frames: u64,
    /// The oldest segment that is still needed, as the last block tells.
    oldest_segment: Option<u64>,
    /// First and last position; absent when the journal is empty.
    lsns: Option<(u64, u64)>,
    rings: BTreeMap<u32, RingFrames>,
    state: State,
}

/// The frames of one ring.
#[derive(Default, Serialize)]
struct RingFrames {
    frames: u64,
    by_kind: BTreeMap<String, u64>,
    /// The lowest and the highest slot that the ring voted for here.
    slots: Option<(u64, u64)>,
    /// The highest ballot that a record names.
    ballot: String,
    /// Every slot below this one was known to be chosen when a record was written.
    chosen_below: u64,
}

/// Whether a journal can be recovered.
#[derive(Clone, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum State {
    /// Whole to its end.
    Sound,
    /// Whole, and behind its end lies what a torn write left: it was never acknowledged.
    TornTail { torn_bytes: u64, blocks_in_flight: usize },
    /// History that may have been acknowledged cannot be read.
    Damaged { why: String },
}

impl Survey {
    /// Reads the journals of a data directory, or of a core's directory.
    pub fn of(directory: &Path) -> Result<Survey, DirectoryError> {
        let directories = core_directories(directory)?;
        Ok(Survey { journals: directories.into_iter().map(Journal::read).collect() })
    }

    /// Whether every journal can be recovered.
    pub fn is_sound(&self) -> bool {
        self.journals.iter().all(|journal| !matches!(journal.state, State::Damaged { .. }))
    }

    /// What can be said of each journal in a line.
    pub fn verdicts(&self) -> Verdicts<'_> {
        let verdict = |journal| Verdict::of(journal);
        Verdicts { journals: self.journals.iter().map(verdict).collect() }
    }
}

impl Journal {
    fn read(directory: PathBuf) -> Journal {
        let mut journal = Journal {
            segments: segments_of(&directory).0,
            directory,
            identity: None,
            blocks: 0,
            bytes: 0,
            frames: 0,
            oldest_segment: None,
            lsns: None,
            rings: BTreeMap::new(),
            state: State::Sound,
        };
        journal.state = match journal.walk() {
            Ok(tail) if tail.torn_bytes == 0 && tail.in_flight.is_empty() => State::Sound,
            Ok(tail) => {
                State::TornTail { torn_bytes: tail.torn_bytes, blocks_in_flight: tail.in_flight.len() }
            }
            Err(error) => State::Damaged { why: error.to_string() },
        };
        journal
    }

    fn walk(&mut self) -> Result<TailReport, RecoverError> {
        if self.segments == 0 {
            return Ok(TailReport::default()); // A core that has not written yet.
        }
        let mut inspector = JournalInspector::open(&self.directory)?;
        self.identity = Some(Owner::of(inspector.identity()));
        let what = self.directory.display().to_string();
        let mut progress = Progress::of_bytes(what, segments_of(&self.directory).1);
        inspector.blocks(|block| {
            progress.by(u64::from(block.header.bytes));
            self.add(&block);
        })
    }

    fn add(&mut self, block: &BlockReport) {
        let first = block.header.first_lsn.0;
        let last = block.header.last_lsn().0;
        self.oldest_segment = Some(block.header.head.0);
        self.blocks += 1;
        self.bytes += u64::from(block.header.bytes);
        self.frames += block.frames.len() as u64;
        self.lsns = Some(self.lsns.map_or((first, last), |(begin, _)| (begin, last)));
        for frame in &block.frames {
            self.rings.entry(frame.ring.0).or_default().add(frame);
        }
    }
}

/// How many segment files a core's directory has, and their bytes.
pub fn segments_of(directory: &Path) -> (u64, u64) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let segments =
        entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "segment"));
    segments.fold((0, 0), |(count, bytes), entry| {
        (count + 1, bytes + entry.metadata().map_or(0, |metadata| metadata.len()))
    })
}

impl RingFrames {
    fn add(&mut self, frame: &FrameHeader) {
        self.frames += 1;
        *self.by_kind.entry(format!("{:?}", frame.kind)).or_default() += 1;
        if frame.kind == Kind::Accept {
            let slot = frame.slot.0;
            let (first, last) = self.slots.unwrap_or((slot, slot));
            self.slots = Some((first.min(slot), last.max(slot)));
        }
        self.ballot = frame.ballot.to_string();
        self.chosen_below = self.chosen_below.max(frame.chosen.0);
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.journals.iter().try_for_each(|journal| journal.fmt(f))
    }
}

impl fmt::Display for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.directory.display())?;
        match &self.identity {
            Some(owner) => writeln!(f, "  {owner}")?,
            None => writeln!(f, "  nobody's yet")?,
        }
        let Journal { segments, blocks, bytes, frames, .. } = self;
        writeln!(f, "  {segments} segments, {blocks} group writes of {bytes} bytes, {frames} frames")?;
        if let Some((first, last)) = self.lsns {
            writeln!(f, "  positions {first} to {last}")?;
        }
        if let Some(oldest) = self.oldest_segment.filter(|oldest| *oldest > 1) {
            writeln!(f, "  segments before {oldest} are not needed any more")?;
        }
        for (ring, frames) in &self.rings {
            write!(f, "  ring {ring}: {frames}")?;
        }
        writeln!(f, "  {}", self.state)
    }
}

impl fmt::Display for RingFrames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_kind = self.by_kind.iter().map(|(kind, count)| format!("{count} {kind}"));
        let by_kind = by_kind.collect::<Vec<_>>().join(", ");
        writeln!(f, "{} frames ({by_kind}), ballot {}", self.frames, self.ballot)?;
        if let Some((first, last)) = self.slots {
            writeln!(f, "    votes for slots {first} to {last}, chosen below {}", self.chosen_below)?;
        }
        Ok(())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Sound => write!(f, "sound"),
            State::TornTail { torn_bytes, blocks_in_flight } => write!(
                f,
                "sound, with a torn tail of {torn_bytes} bytes and {blocks_in_flight} group writes that were \
                 in flight: never acknowledged, erased by the next start"
            ),
            State::Damaged { why } => write!(f, "DAMAGED: {why}"),
        }
    }
}

/// A line for each journal.
#[derive(Serialize)]
pub struct Verdicts<'a> {
    journals: Vec<Verdict<'a>>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    directory: &'a Path,
    frames: u64,
    #[serde(flatten)]
    state: &'a State,
}

impl Verdict<'_> {
    fn of(journal: &Journal) -> Verdict<'_> {
        Verdict { directory: &journal.directory, frames: journal.frames, state: &journal.state }
    }
}

impl fmt::Display for Verdicts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Verdict { directory, frames, state } in &self.journals {
            writeln!(f, "{}: {frames} frames verified, {state}", directory.display())?;
        }
        Ok(())
    }
}
