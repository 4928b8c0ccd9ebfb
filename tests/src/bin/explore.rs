//! Searches every state of a small world, within the bounds that the environment gives.
//!
//! ```text
//! ANNULUS_STATES=10000000 cargo run --release -p annulus-tests --bin explore
//! ```
//! Other bounds: `ANNULUS_SLOTS`, `ANNULUS_CANDIDATES`, `ANNULUS_ROUNDS`, `ANNULUS_RESTARTS`,
//! `ANNULUS_RETAIN_BYTES`; and which letters are always lost: `ANNULUS_LOST=nothing`, `unneeded` (the usual),
//! or `teaching`, which leaves nothing but Prepare, Promise, Accept and Accepted.
#![forbid(unsafe_code)]

use std::env;
use std::process::ExitCode;
use std::str::FromStr;

use annulus_tests::explore::{Bounds, TEACHING, explore};

fn main() -> ExitCode {
    let usual = Bounds::default();
    let bounds = Bounds {
        slots: number("ANNULUS_SLOTS", usual.slots),
        candidates: number("ANNULUS_CANDIDATES", usual.candidates),
        rounds: number("ANNULUS_ROUNDS", usual.rounds),
        restarts: number("ANNULUS_RESTARTS", usual.restarts),
        retain_bytes: number("ANNULUS_RETAIN_BYTES", usual.retain_bytes),
        lost: match env::var("ANNULUS_LOST").as_deref() {
            Ok("nothing") => &[],
            Ok("teaching") => &TEACHING,
            _ => usual.lost,
        },
        states_max: number("ANNULUS_STATES", 1_000_000),
        time_max: usual.time_max,
    };
    match explore(bounds) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(counterexample) => {
            println!("{counterexample}");
            ExitCode::FAILURE
        }
    }
}

fn number<T: FromStr>(variable: &str, usual: T) -> T {
    let given = env::var(variable).ok();
    given.map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
