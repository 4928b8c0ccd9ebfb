//! `annulus`: the operator's command line. It reads; only `snapshot import --write` writes to a data directory.
#![forbid(unsafe_code)]

mod contracts;
mod directory;
mod dump;
mod export;
mod import;
mod journal;
mod progress;
mod scan;
mod snapshots;
mod transfer;

use std::fmt::Display;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

use contracts::Contracts;
use dump::Selection;
use export::Export;
use import::Import;
use journal::Survey;
use snapshots::{Depth, Snapshots};
use transfer::TransferError;

/// Looks into an annulus node: its rules, its journals and its snapshots.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists every contract: its id, its name, when it is checked, where it is asserted, how often tests reached
    /// it, and the mutant or the test that makes it fail
    Contracts {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Reads the journals of a node without locking or changing them
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Reads the snapshots of a node, and copies them from one to another
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Describes every journal: whose it is, its segments and positions, the frames and slots of each ring.
    /// Exits with 1 when one is damaged
    Inspect(Target),
    /// Verifies every checksum and chain of every journal, and tells a torn tail from lost history.
    /// Exits with 1 when one is damaged
    Verify(Target),
    /// Prints every frame of every journal, a line each: its position, ring, kind, slot and ballot.
    /// Exits with 1 when one is damaged
    Dump {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        selection: Selection,
    },
}

#[derive(Subcommand)]
enum SnapshotCommand {
    /// Describes every snapshot: whose it is, of which ring, up to which slot. Reads the headers only.
    /// Exits with 1 when one is damaged
    Inspect(SnapshotTarget),
    /// Verifies every checksum of every snapshot. Exits with 1 when one is damaged
    Verify(SnapshotTarget),
    /// Copies a snapshot into a file, verified. The node may be running
    Export(Export),
    /// Copies a snapshot to a node of the same cluster, which is stopped. Verifies it, and says what it would
    /// do; writes only with --write
    Import(Import),
}

#[derive(clap::Args)]
struct SnapshotTarget {
    /// The data directory of a node, the directory of one of its cores, or the file of a snapshot
    path: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Target {
    /// The data directory of a node, or the directory of one of its cores
    directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Something was damaged. That nothing could be read, or the command line was wrong, is 2.
const DAMAGED: u8 = 1;
const UNREADABLE: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Contracts { json } => {
            let contracts = Contracts::of_this_build();
            if json {
                print_json(&contracts);
            } else {
                say(&contracts);
            }
            ExitCode::SUCCESS
        }
        Command::Journal(JournalCommand::Inspect(target)) => survey(&target, say, print_json),
        Command::Journal(JournalCommand::Verify(target)) => {
            survey(&target, |survey| say(&survey.verdicts()), |survey| print_json(&survey.verdicts()))
        }
        Command::Journal(JournalCommand::Dump { target, selection }) => dump(&target, &selection),
        Command::Snapshot(command) => snapshot(&command),
    }
}

/// Prints frames; what is damaged, on stderr.
fn dump(target: &Target, selection: &Selection) -> ExitCode {
    match dump::dump(&target.directory, selection, target.json) {
        Ok(damaged) => {
            for (directory, error) in &damaged {
                eprintln!("annulus: {}: DAMAGED: {error}", directory.display());
            }
            if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) }
        }
        Err(error) => unreadable(&error),
    }
}

fn snapshot(command: &SnapshotCommand) -> ExitCode {
    match command {
        SnapshotCommand::Inspect(target) => match Snapshots::of(&target.path, Depth::Headers) {
            Ok(snapshots) => print_verdict(&snapshots, target.json, snapshots.is_sound()),
            Err(error) => unreadable(&error),
        },
        SnapshotCommand::Verify(target) => match Snapshots::of(&target.path, Depth::Whole) {
            Ok(snapshots) => print_verdict(&snapshots.verdicts(), target.json, snapshots.is_sound()),
            Err(error) => unreadable(&error),
        },
        SnapshotCommand::Export(export) => print_transfer(export.run(), export.json),
        SnapshotCommand::Import(import) => print_transfer(import.run(), import.json),
    }
}

fn print_transfer<T: Serialize + Display>(result: Result<T, TransferError>, json: bool) -> ExitCode {
    match result {
        Ok(done) => print_verdict(&done, json, true),
        Err(error) => {
            eprintln!("annulus: {error}");
            ExitCode::from(if error.is_damage() { DAMAGED } else { UNREADABLE })
        }
    }
}

fn print_verdict(report: &(impl Serialize + Display), json: bool, is_sound: bool) -> ExitCode {
    if json {
        print_json(report);
    } else {
        print!("{report}");
    }
    if is_sound { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) }
}

fn unreadable(error: &impl Display) -> ExitCode {
    eprintln!("annulus: {error}");
    ExitCode::from(UNREADABLE)
}

/// Reads the journals of `target` and prints what was found, as text or as JSON.
fn survey(target: &Target, text: impl Fn(&Survey), json: impl Fn(&Survey)) -> ExitCode {
    match Survey::of(&target.directory) {
        Ok(survey) => {
            if target.json {
                json(&survey);
            } else {
                text(&survey);
            }
            if survey.is_sound() { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) }
        }
        Err(error) => unreadable(&error),
    }
}

fn print_json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("a report has only plain fields");
    say(&format_args!("{text}\n"));
}

/// Prints a report, unless whoever reads along has read enough.
fn say(report: &impl Display) {
    let mut stdout = BufWriter::new(io::stdout().lock());
    let _ = write!(stdout, "{report}").and_then(|()| stdout.flush());
}
