//! Plays a model in every interleaving.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use std::{panic, process};

use loom::model::Builder;

/// Plays `model` in every order of its threads' steps that takes a thread off the CPU against its will at
/// most `preemptions` times, with every value that the memory model allows each load; says how many there were.
pub fn explore(claim: &str, preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let begin = Instant::now();
    let executions = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&executions);
    // A model that has failed takes no more steps, not even those of destructors.
    let failing = claim.to_owned();
    panic::set_hook(Box::new(move |panic| {
        // What has no message is how loom ends a thread.
        if panic.payload_as_str().is_some() {
            eprintln!("{failing}: {panic}\n{}", std::backtrace::Backtrace::capture());
            process::exit(101);
        }
    }));
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("{claim}: {executions} executions, {:.1} s", begin.elapsed().as_secs_f64());
}
