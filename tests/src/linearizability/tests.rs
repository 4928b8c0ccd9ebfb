//! Histories by hand, and arbitrary small ones against a search without any cleverness.

use proptest::prelude::*;

use super::{Answer, Call, End, Operation, Verdict, judge};

const STATES_MAX: usize = 10_000;
const WRITE_1: Operation = Operation::Write(1);
const WRITE_2: Operation = Operation::Write(2);

fn call(operation: Operation, invoked: u64, at: u64, answer: Answer) -> Call {
    Call { key: 1, operation, invoked, end: End::Answered { at, answer } }
}

fn wrote(value: u64, invoked: u64, at: u64) -> Call {
    call(Operation::Write(value), invoked, at, Answer::Done)
}

fn read(value: u64, invoked: u64, at: u64) -> Call {
    call(Operation::Read, invoked, at, Answer::Value(value))
}

fn unknown(operation: Operation, invoked: u64) -> Call {
    Call { key: 1, operation, invoked, end: End::Open }
}

fn rejected(operation: Operation, invoked: u64) -> Call {
    Call { key: 1, operation, invoked, end: End::Rejected }
}

#[track_caller]
fn holds(calls: &[Call]) {
    assert_eq!(judge(calls, STATES_MAX), Verdict::Linearizable);
}

#[track_caller]
fn fails(calls: &[Call]) {
    assert!(matches!(judge(calls, STATES_MAX), Verdict::Broken(_)), "{:?}", judge(calls, STATES_MAX));
}

#[test]
fn a_read_sees_the_write_before_it_and_maybe_one_beside_it() {
    holds(&[wrote(1, 1, 2), read(1, 3, 4)]);
    holds(&[wrote(1, 1, 2), wrote(2, 3, 6), read(1, 4, 5)]);
    holds(&[wrote(1, 1, 2), wrote(2, 3, 6), read(2, 4, 5)]);
}

#[test]
fn a_stale_read_is_noticed() {
    fails(&[wrote(1, 1, 2), wrote(2, 3, 4), read(1, 5, 6)]);
    fails(&[wrote(1, 1, 2), read(0, 3, 4)]);
}

#[test]
fn a_lost_update_is_noticed() {
    let swap = |new, invoked, at| {
        call(Operation::CompareAndSet { expected: 1, new }, invoked, at, Answer::Swapped(true))
    };
    holds(&[wrote(1, 1, 2), swap(2, 3, 5), read(2, 6, 7)]);
    fails(&[wrote(1, 1, 2), swap(2, 3, 5), swap(3, 4, 6)]);
    let (once, one) = Operation::Append(7).apply(0);
    let (_, other) = Operation::Append(8).apply(0);
    assert_eq!(one, Answer::Value(once));
    fails(&[call(Operation::Append(7), 1, 3, one), call(Operation::Append(8), 2, 4, other)]);
}

#[test]
fn a_read_that_goes_back_is_noticed() {
    holds(&[wrote(1, 1, 10), read(0, 2, 3), read(1, 4, 5)]);
    fails(&[wrote(1, 1, 10), read(1, 2, 3), read(0, 4, 5)]);
}

#[test]
fn an_unknown_write_may_be_seen_late_or_never_and_not_be_taken_back() {
    holds(&[unknown(WRITE_1, 1), read(0, 2, 3), wrote(2, 4, 5), read(2, 6, 7)]);
    holds(&[unknown(WRITE_1, 1), read(0, 2, 3), wrote(2, 4, 5), read(1, 6, 7)]);
    fails(&[unknown(WRITE_1, 1), wrote(2, 4, 5), read(1, 6, 7), read(2, 8, 9)]);
    fails(&[read(1, 1, 2), unknown(WRITE_1, 3)]);
}

#[test]
fn a_write_of_the_value_that_is_there_may_still_come_later() {
    holds(&[wrote(1, 1, 2), wrote(1, 3, 10), wrote(2, 4, 5), read(1, 11, 12)]);
}

#[test]
fn a_rejected_write_is_never_seen() {
    holds(&[wrote(2, 1, 2), rejected(WRITE_1, 3), read(2, 4, 5)]);
    fails(&[wrote(2, 1, 2), rejected(WRITE_1, 3), read(1, 4, 5)]);
}

#[test]
fn registers_are_judged_apart_and_a_broken_one_is_named() {
    let other = Call { key: 9, ..read(2, 3, 4) };
    let Verdict::Broken(what) = judge(&[wrote(2, 1, 2), other], STATES_MAX) else {
        panic!("the write was to another register")
    };
    assert!(what.starts_with("register 9: at most 0 of 1 answers"), "{what}");
}

#[test]
fn many_open_writes_that_nobody_saw_cost_little() {
    let mut calls: Vec<Call> = (0..60).map(|value| unknown(Operation::Write(value + 100), value)).collect();
    // The order of the two writes shows late, after a first guess that was wrong.
    calls.extend([wrote(2, 100, 110), wrote(1, 101, 109), read(1, 120, 121), read(100, 130, 131)]);
    assert_eq!(judge(&calls, 1000), Verdict::Linearizable);
    calls.push(read(1, 140, 141));
    assert!(matches!(judge(&calls, 10_000), Verdict::Broken(_)));
}

#[test]
fn what_is_too_large_is_not_judged() {
    let appends = (1..=12).map(|what| call(Operation::Append(what), 1, 2, Answer::Value(what)));
    let calls: Vec<Call> = (3..=20).map(|what| unknown(Operation::Append(what), 0)).chain(appends).collect();
    assert_eq!(judge(&calls, 1000), Verdict::NotJudged);
}

/// Whether any order explains the answers: tries them all.
fn is_linearizable_by_brute_force(calls: &[Call], happened: u32, value: u64) -> bool {
    let is_left = |index: &usize| happened >> index & 1 == 0 && calls[*index].end != End::Rejected;
    let left: Vec<usize> = (0..calls.len()).filter(is_left).collect();
    if left.iter().all(|index| calls[*index].end == End::Open) {
        return true;
    }
    left.iter().any(|&index| {
        let is_before = |other: &usize| matches!(calls[*other].end, End::Answered { at, .. } if at < calls[index].invoked);
        if left.iter().any(is_before) {
            return false;
        }
        let (after, answer) = calls[index].operation.apply(value);
        let is_explained = !matches!(calls[index].end, End::Answered { answer: told, .. } if told != answer);
        is_explained && is_linearizable_by_brute_force(calls, happened | 1 << index, after)
    })
}

/// An operation, when it is called, when it happens, and when it ends; with what a client learns of it.
type Drawn = (Operation, u64, u64, u64, u8);

fn drawn() -> impl Strategy<Value = Drawn> {
    let operation = prop_oneof![
        Just(Operation::Read),
        Just(WRITE_1),
        Just(WRITE_2),
        (0..3u64, 1..4u64).prop_map(|(expected, new)| Operation::CompareAndSet { expected, new }),
        (1..3u64).prop_map(Operation::Append),
    ];
    (operation, 0..20u64, 0..6u64, 0..6u64, 0..10u8)
}

/// The history of operations that happened one at a time, as each of its clients saw it.
fn told(all: &[Drawn]) -> Vec<Call> {
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|index| all[*index].1 + all[*index].2);
    let mut value = 0;
    let mut calls = Vec::new();
    for (operation, begins, wait, rest, fate) in order.into_iter().map(|index| all[index]) {
        let (after, answer) = operation.apply(value);
        let end = match fate {
            0 => End::Rejected,
            1 | 2 => End::Open,
            _ => End::Answered { at: begins + wait + rest, answer },
        };
        if !matches!(fate, 0 | 1) {
            value = after;
        }
        calls.push(Call { key: 1, operation, invoked: begins, end });
    }
    calls
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// What really happened in some order is linearizable; with one answer changed, both searches agree.
    #[test]
    fn the_search_agrees_with_a_search_of_all_orders(
        all in prop::collection::vec(drawn(), 1..=6),
        changed in 0..12usize,
        instead in prop_oneof![
            (0..4u64).prop_map(Answer::Value),
            any::<bool>().prop_map(Answer::Swapped),
        ],
    ) {
        let mut calls = told(&all);
        prop_assert_eq!(judge(&calls, STATES_MAX), Verdict::Linearizable);
        if let Some(Call { end: End::Answered { answer, .. }, .. }) = calls.get_mut(changed) {
            *answer = instead;
        }
        let expected = is_linearizable_by_brute_force(&calls, 0, 0);
        let verdict = judge(&calls, STATES_MAX);
        prop_assert_eq!(verdict == Verdict::Linearizable, expected, "{:?} of {:?}", verdict, calls);
        prop_assert_ne!(verdict, Verdict::NotJudged);
    }
}
