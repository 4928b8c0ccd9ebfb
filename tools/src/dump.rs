//! Every frame of a journal, one line each.

use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use annulus_rings::FrameHeader;
use annulus_storage::{BlockReport, JournalInspector, RecoverError};
use serde::Serialize;

use crate::directory::{DirectoryError, core_directories};
use crate::journal::segments_of;
use crate::progress::Progress;

/// Which frames.
#[derive(clap::Args)]
pub struct Selection {
    /// Only frames of this ring
    #[arg(long)]
    ring: Option<u32>,
    /// Only frames of this kind, such as Accept
    #[arg(long)]
    kind: Option<String>,
    /// From this position of the journal on
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Up to this position of the journal
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
}

/// A frame, as it is printed.
#[derive(Serialize)]
struct Line<'a> {
    core: &'a str,
    lsn: u64,
    segment: u64,
    /// Of the group write.
    offset: u64,
    kind: String,
    ring: u32,
    slot: u64,
    ballot: String,
    sender: u16,
    chosen: u64,
    commands: u32,
    configuration: u32,
    words: [u64; 4],
}

/// Prints the frames of every journal below `directory`. Returns the journals that are damaged, and how.
pub fn dump(
    directory: &Path,
    selection: &Selection,
    json: bool,
) -> Result<Vec<(PathBuf, RecoverError)>, DirectoryError> {
    let mut printer = Printer { out: BufWriter::new(io::stdout().lock()), json, is_open: true };
    let mut damaged = Vec::new();
    for core in core_directories(directory)? {
        let (segments, bytes) = segments_of(&core);
        if segments > 0
            && let Err(error) = dump_core(&core, bytes, selection, &mut printer)
        {
            damaged.push((core, error));
        }
    }
    printer.flush();
    Ok(damaged)
}

fn dump_core(
    core: &Path,
    bytes: u64,
    selection: &Selection,
    printer: &mut Printer<'_>,
) -> Result<(), RecoverError> {
    let name = core.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut progress = Progress::of_bytes(name.clone(), bytes);
    let mut inspector = JournalInspector::open(core)?;
    inspector.blocks(|block| {
        progress.by(u64::from(block.header.bytes));
        for (index, frame) in block.frames.iter().enumerate() {
            let line = Line::of(&name, &block, index as u64, frame);
            if selection.has(&line) {
                printer.print(&line);
            }
        }
    })?;
    Ok(())
}

impl Selection {
    fn has(&self, line: &Line<'_>) -> bool {
        (self.from..=self.to).contains(&line.lsn)
            && self.ring.is_none_or(|ring| ring == line.ring)
            && self.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(&line.kind))
    }
}

impl<'a> Line<'a> {
    fn of(core: &'a str, block: &BlockReport, index: u64, frame: &FrameHeader) -> Line<'a> {
        Line {
            core,
            lsn: block.header.first_lsn.0 + index,
            segment: block.header.at.segment.0,
            offset: block.header.at.offset,
            kind: format!("{:?}", frame.kind),
            ring: frame.ring.0,
            slot: frame.slot.0,
            ballot: frame.ballot.to_string(),
            sender: frame.sender.0,
            chosen: frame.chosen.0,
            commands: frame.commands,
            configuration: frame.configuration.0,
            words: frame.words,
        }
    }
}

/// Prints lines as long as somebody reads them.
struct Printer<'a> {
    out: BufWriter<io::StdoutLock<'a>>,
    json: bool,
    is_open: bool,
}

impl Printer<'_> {
    fn print(&mut self, line: &Line<'_>) {
        if self.is_open {
            self.is_open = if self.json { self.print_json(line) } else { self.print_text(line) }.is_ok();
        }
    }

    fn print_json(&mut self, line: &Line<'_>) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }

    fn print_text(&mut self, line: &Line<'_>) -> io::Result<()> {
        let Line { core, lsn, segment, offset, kind, ring, slot, ballot, sender, chosen, commands, .. } =
            line;
        writeln!(
            self.out,
            "{core} lsn {lsn} segment {segment} offset {offset} kind {kind} ring {ring} slot {slot} ballot {ballot} \
             sender {sender} chosen {chosen} commands {commands} configuration {} words {:?}",
            line.configuration, line.words
        )
    }

    fn flush(&mut self) {
        // Who stopped reading has seen enough.
        let _ = self.out.flush();
    }
}
