//! Every input that fuzzing ever kept, through its target, and some drawn ones: what was mended stays so.

use std::fs;
use std::path::{Path, PathBuf};

use annulus_fuzz::allocation::{Counting, Tally};
use annulus_fuzz::{TARGETS, Target};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Drawn inputs of each target.
const DRAWN: u64 = 300;

fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// Runs an input, and says which it was when it shows a bug.
fn check(target: &Target, name: &str, input: &[u8]) {
    let outcome = std::panic::catch_unwind(|| target.check(input));
    assert!(outcome.is_ok(), "{}: {name}: the message above is of this input", target.name);
}

#[test]
fn every_input_of_the_corpora_passes() {
    for target in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(corpus(target)).expect("every target has a corpus") {
            let path = entry.expect("a readable folder").path();
            check(target, &path.display().to_string(), &fs::read(&path).expect("a readable file"));
            count += 1;
        }
        assert!(count > 0, "{} has an empty corpus", target.name);
    }
}

#[test]
fn drawn_inputs_pass_and_so_does_no_input() {
    for target in TARGETS {
        check(target, "nothing", &[]);
        for seed in 0..DRAWN {
            check(target, &format!("seed {seed}"), &drawn(seed));
        }
    }
}

#[test]
fn numbers_at_which_decoders_go_wrong_pass_in_every_field() {
    for target in TARGETS {
        for input in target.sweep() {
            check(target, &format!("{input:?}"), &input);
        }
    }
}

#[test]
fn what_a_target_allocates_is_counted() {
    let before = Tally::now();
    let bytes = vec![1u8; 1000];
    assert!(before.elapsed().bytes >= bytes.len() as u64 && before.elapsed().allocations >= 1);
}

/// Up to 255 bytes that look random: the same for a seed everywhere.
fn drawn(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 29) as u8
    };
    let bytes = next();
    (0..bytes).map(|_| next()).collect()
}
