//! The states of small worlds, searched breadth first: `cargo run --profile checked -p annulus-tests --bin explore`
//! searches larger ones.

use std::time::Duration;

use annulus_rings::reach;
use annulus_tests::explore::{Bounds, Report, TEACHING, explore};

/// Searches, and fails with the shortest way to a broken rule.
fn search(bounds: Bounds) -> Report {
    let report = explore(bounds).unwrap_or_else(|counterexample| panic!("{counterexample}"));
    println!("{report}");
    report
}

#[test]
fn one_candidate_and_a_restart_reach_no_wrong_state() {
    let bounds = Bounds { slots: 1, candidates: 1, rounds: 1, lost: &TEACHING, ..Bounds::default() };
    assert!(search(bounds).is_complete);
}

#[test]
fn two_candidates_in_two_rounds_reach_no_wrong_state() {
    let bounds = Bounds { slots: 1, rounds: 2, restarts: 0, lost: &TEACHING, ..Bounds::default() };
    assert!(search(bounds).is_complete);
}

#[test]
fn two_candidates_reach_no_wrong_state_in_half_a_million() {
    let bounds = Bounds { states_max: 500_000, time_max: Duration::from_secs(20), ..Bounds::default() };
    let report = search(bounds);
    assert!(report.states > 10_000 && report.depth > 10, "{report}");
}

#[test]
fn snapshots_and_cuts_reach_no_wrong_state() {
    let bounds = Bounds { slots: 2, rounds: 2, retain_bytes: 0, cuts: 1, is_cut: true, ..Bounds::default() };
    for candidates in [0, 3] {
        let report =
            search(Bounds { candidates, states_max: 300_000, time_max: Duration::from_secs(15), ..bounds });
        assert!(report.states > 10_000 && report.depth > 8, "{report}");
    }
    for probe in [reach::INSTALLED_OVER_VOTES, reach::INSTALLED_BELOW_VOTES, reach::UNVOUCHED_BASE] {
        assert!(reach::count(&probe) > 0, "{}", probe.name);
    }
}

#[test]
fn a_search_counts_the_same_states_twice() {
    let bounds = Bounds { states_max: 20_000, ..Bounds::default() };
    let count = |report: Report| (report.states, report.transitions, report.depth, report.letters);
    assert_eq!(count(search(bounds)), count(search(bounds)));
}
