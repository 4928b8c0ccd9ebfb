//! What the snapshots of a node hold, read as the node would read them, and never written.

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use annulus_storage::{
    Expected, SnapshotConfiguration, SnapshotError, SnapshotHeader, SnapshotName, VaultFile, VaultFiles,
    VaultState,
};
use serde::Serialize;

use crate::directory::{DirectoryError, Owner, core_directories, identity_of_core};
use crate::progress::Progress;
use crate::scan::Scan;

/// How much of each snapshot is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The header.
    Headers,
    /// Everything.
    Whole,
}

/// Every snapshot of a node or of a core, or a single file.
#[derive(Serialize)]
pub struct Snapshots {
    snapshots: Vec<Snapshot>,
}

/// One file.
#[derive(Serialize)]
pub struct Snapshot {
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Absent when the header is damaged or foreign.
    pub header: Option<Header>,
    #[serde(flatten)]
    pub state: State,
}

/// What a header says.
#[derive(Serialize)]
pub struct Header {
    owner: Owner,
    ring: u32,
    /// The first slot that is not covered.
    slot: u64,
    time_ns: u64,
    /// The node that wrote the state.
    origin: u16,
    configuration: Configuration,
    pending: Option<Configuration>,
}

/// Who votes.
#[derive(Serialize)]
struct Configuration {
    id: u32,
    first_slot: u64,
    members: Vec<u16>,
}

/// What can be said of a file.
#[derive(Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Published; its header is right. What is behind it was not read.
    Published,
    /// Published, and right to the last byte.
    Sound { blocks: u64, records: u64, digest: String },
    /// Being written or received, or interrupted: it does not count, and so much of it is right.
    Partial { verified_bytes: u64 },
    /// A node would not use it.
    Damaged { why: String },
}

impl Snapshots {
    /// Reads the snapshots of a data directory, of a core's directory, or one file.
    pub fn of(path: &Path, depth: Depth) -> Result<Snapshots, DirectoryError> {
        if path.is_file() {
            return Ok(Snapshots { snapshots: vec![Snapshot::read(path, Expected::Anyone, None, depth)] });
        }
        let mut snapshots = Vec::new();
        for core in core_directories(path)? {
            let expected = identity_of_core(&core).map_or(Expected::Anyone, Expected::Own);
            let files = VaultFiles::of_core(&core);
            match files.list() {
                Ok(listed) => snapshots.extend(listed.iter().map(|file| {
                    Snapshot::read(&files.path(file.name, file.state), expected, Some(file), depth)
                })),
                Err(error) => snapshots.push(Snapshot {
                    file: files.directory().to_owned(),
                    bytes: 0,
                    header: None,
                    state: State::Damaged { why: error.to_string() },
                }),
            }
        }
        Ok(Snapshots { snapshots })
    }

    /// Whether every published snapshot can be used, as far as it was read.
    pub fn is_sound(&self) -> bool {
        self.snapshots.iter().all(|snapshot| !matches!(snapshot.state, State::Damaged { .. }))
    }

    /// What can be said of each snapshot in a line.
    pub fn verdicts(&self) -> Verdicts<'_> {
        Verdicts { snapshots: self.snapshots.iter().map(Verdict::of).collect() }
    }
}

impl Snapshot {
    fn read(path: &Path, expected: Expected, listed: Option<&VaultFile>, depth: Depth) -> Snapshot {
        let name = listed.map(|file| file.name);
        let (bytes, scan) = match File::open(path) {
            Ok(file) => scan(path, file, expected, name, depth),
            Err(source) => (0, Err(SnapshotError::Io { action: "opening", source })),
        };
        let is_partial = listed.is_some_and(|file| file.state == VaultState::Partial);
        let (header, state) = match scan {
            Ok(scan) => (scan.header.as_ref().map(Header::of), State::of(&scan, is_partial, depth)),
            Err(error) => (None, State::Damaged { why: error.to_string() }),
        };
        Snapshot { file: path.to_owned(), bytes, header, state }
    }
}

fn scan(
    path: &Path,
    mut file: File,
    expected: Expected,
    name: Option<SnapshotName>,
    depth: Depth,
) -> (u64, Result<Scan, SnapshotError>) {
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    if depth == Depth::Headers {
        return (bytes, Ok(Scan::header_of(&file, expected, name)));
    }
    let what = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut progress = Progress::of_bytes(what, bytes);
    (bytes, Ok(Scan::whole(&mut file, expected, name, &mut progress, |_| Ok(()))))
}

impl State {
    fn of(scan: &Scan, is_partial: bool, depth: Depth) -> State {
        match &scan.error {
            _ if is_partial => State::Partial { verified_bytes: scan.verified.bytes },
            Some(error) => State::Damaged { why: error.to_string() },
            None if depth == Depth::Headers => State::Published,
            None => State::Sound {
                blocks: scan.verified.blocks,
                records: scan.verified.records,
                digest: format!("{:016x}", scan.verified.digest),
            },
        }
    }
}

impl Header {
    /// In plain fields.
    pub fn of(header: &SnapshotHeader) -> Header {
        Header {
            owner: Owner::of(&header.identity),
            ring: header.ring.0,
            slot: header.slot.0,
            time_ns: header.time_ns,
            origin: header.origin.0,
            configuration: Configuration::of(&header.configuration),
            pending: header.pending.as_ref().map(Configuration::of),
        }
    }
}

impl Configuration {
    fn of(configuration: &SnapshotConfiguration) -> Configuration {
        Configuration {
            id: configuration.id.0,
            first_slot: configuration.first_slot.0,
            members: configuration.members.iter().map(|member| member.0).collect(),
        }
    }
}

impl fmt::Display for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Snapshot { file, bytes, header, state } in &self.snapshots {
            writeln!(f, "{}", file.display())?;
            if let Some(header) = header {
                write!(f, "{header}")?;
            }
            writeln!(f, "  {bytes} bytes, {state}")?;
        }
        if self.snapshots.is_empty() { writeln!(f, "no snapshots") } else { Ok(()) }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Header { owner, ring, slot, time_ns, origin, configuration, pending } = self;
        writeln!(f, "  {owner}")?;
        writeln!(
            f,
            "  ring {ring}, the state of the slots below slot {slot}, written by origin {origin}, time_ns {time_ns}"
        )?;
        writeln!(f, "  configuration {configuration}")?;
        pending.as_ref().map_or(Ok(()), |pending| writeln!(f, "  pending {pending}"))
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "id {}, first_slot {}, members {:?}", self.id, self.first_slot, self.members)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Published => write!(f, "published"),
            State::Sound { blocks, records, digest } => {
                write!(f, "sound: {blocks} blocks, {records} records, digest {digest}")
            }
            State::Partial { verified_bytes } => {
                write!(f, "partial: interrupted or still being written, verified_bytes {verified_bytes}")
            }
            State::Damaged { why } => write!(f, "DAMAGED: {why}"),
        }
    }
}

/// A line for each snapshot.
#[derive(Serialize)]
pub struct Verdicts<'a> {
    snapshots: Vec<Verdict<'a>>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    file: &'a Path,
    bytes: u64,
    #[serde(flatten)]
    state: &'a State,
}

impl Verdict<'_> {
    fn of(snapshot: &Snapshot) -> Verdict<'_> {
        Verdict { file: &snapshot.file, bytes: snapshot.bytes, state: &snapshot.state }
    }
}

impl fmt::Display for Verdicts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Verdict { file, bytes, state } in &self.snapshots {
            writeln!(f, "{}: {bytes} bytes, {state}", file.display())?;
        }
        if self.snapshots.is_empty() { writeln!(f, "no snapshots") } else { Ok(()) }
    }
}
