//! `annulus`: the operator's command line. It reads; nothing here writes to a data directory.
#![forbid(unsafe_code)]

mod contracts;
mod journal;

use std::fmt;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;

use contracts::Contracts;
use journal::Survey;

/// Looks into an annulus node: its rules, and its journals at rest.
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
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Describes every journal: whose it is, its segments and positions, the frames and slots of each ring.
    /// Exits with 1 when one is damaged
    Inspect(Target),
    /// Verifies every checksum and chain of every journal, and tells a torn tail from lost history.
    /// Exits with 1 when one is damaged
    Verify(Target),
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
    }
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
        Err(error) => {
            eprintln!("annulus: {error}");
            ExitCode::from(UNREADABLE)
        }
    }
}

fn print_json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("a report has only plain fields");
    say(&format_args!("{text}\n"));
}

/// Prints a report, unless whoever reads along has read enough.
fn say(report: &impl fmt::Display) {
    let mut stdout = BufWriter::new(io::stdout().lock());
    let _ = write!(stdout, "{report}").and_then(|()| stdout.flush());
}
