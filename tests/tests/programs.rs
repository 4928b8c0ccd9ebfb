//! The programs of this crate, run as a person runs them: what they refuse, and how they end.

use std::process::{Command, Output};

use annulus_tests::faults;

const SIMULATE: &str = env!("CARGO_BIN_EXE_simulate");
const EXPLORE: &str = env!("CARGO_BIN_EXE_explore");

/// Runs a program with a mutant in its environment; the empty name is none.
fn run(program: &str, arguments: &[&str], mutant: &str) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env(faults::ALIVE, mutant).output().expect("the program starts")
}

fn refused(program: &str, arguments: &[&str], mutant: &str, expected: &str) {
    let output = run(program, arguments, mutant);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(expected), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "nothing was played");
}

#[test]
fn a_mutant_that_cannot_live_is_refused_rather_than_passed() {
    for (program, arguments) in [(SIMULATE, ["--seeds", "1"]), (EXPLORE, ["--states", "1"])] {
        refused(program, &arguments, "NO_SUCH_MUTANT", "names no mutant");
        #[cfg(not(feature = "mutants"))]
        refused(program, &arguments, "FIRST_REPORT_WINS", "--features mutants");
    }
}

#[test]
fn a_run_of_nothing_is_refused() {
    refused(SIMULATE, &["--seeds", "0"], "", "--seeds");
    refused(SIMULATE, &["--minutes", "0"], "", "--minutes");
    refused(EXPLORE, &["--states", "0"], "", "--states");
    refused(EXPLORE, &["--minutes", "0"], "", "--minutes");
}

#[test]
fn the_verdict_is_the_last_line() {
    let output = run(SIMULATE, &["--seeds", "2"], "");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("2 seeds, 0 failed"), "{said}");
    assert_eq!(said.lines().last(), Some("passed: 2 seeds"));
}

#[cfg(feature = "mutants")]
#[test]
fn a_seed_that_fails_under_a_mutant_says_how_to_play_it_again() {
    let output = run(SIMULATE, &["--seeds", "30", "--shrink-seconds", "0"], "FIRST_REPORT_WINS");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("mutant FIRST_REPORT_WINS is alive"), "{said}");
    let replayed = "ANNULUS_MUTANT=FIRST_REPORT_WINS cargo run --profile test -p annulus-tests --features mutants \
                    --bin simulate -- --replay ";
    assert!(said.contains(replayed), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.starts_with("FAILED: ")), "{said}");
}
