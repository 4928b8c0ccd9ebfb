//! The benchmark of annulus.
//!
//! `annulus-bench` alone starts three replica processes, loads them, and prints durable commits per
//! second, their latency, where the time went, what the machine could do at best, and whether every
//! acknowledged command survived `kill -9`. See `annulus-bench run --help` for sweeps and variants.
#![forbid(unsafe_code)]

mod child;
mod cli;
mod client;
mod cluster;
mod command;
mod configuration;
mod contracts;
mod control;
mod departure;
mod embedded;
mod environment;
mod floor;
mod format;
mod home;
mod host;
mod idle;
mod lane;
mod ledger;
mod measurement;
mod meter;
mod patience;
mod placement;
mod ports;
mod process;
mod progress;
mod report;
mod row;
mod run;
mod server;
mod session;
mod verification;
mod wire;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, RunOptions};

fn main() -> ExitCode {
    let command = Cli::parse().command.unwrap_or_else(|| Command::Run(RunOptions::default()));
    let verified = match command {
        Command::Run(options) => run::run(&options),
        Command::Idle(options) => idle::idle(&options),
        Command::Floor(options) => run::floor(&options),
        Command::Contracts(options) => contracts::contracts(&options),
        Command::Replica => host::main().map(|()| true).map_err(Into::into),
        Command::Client => client::main().map(|()| true).map_err(Into::into),
    };
    match verified {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!(
                "annulus-bench: NOT VERIFIED: acknowledged commands are missing or states differ, see above"
            );
            ExitCode::FAILURE
        }
        Err(message) => {
            // A child complains to its parent, who may be gone.
            let _ = writeln!(io::stderr(), "annulus-bench: {message}");
            ExitCode::FAILURE
        }
    }
}
