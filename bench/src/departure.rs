//! How a replica process leaves: without its journals.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::control::HostPlan;

/// How long a directory is tried to be removed, and how often: a thread that did not stop in time may still be
/// making files in it.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(10);
const REMOVAL_INTERVAL: Duration = Duration::from_millis(20);

/// The journals of this process. They go when it is dropped, which is however the process leaves, short of
/// `kill -9`: whoever started it is gone, by Ctrl-C perhaps, and nobody else removes them.
pub(crate) struct Departure {
    journals: Vec<PathBuf>,
}

impl Departure {
    /// For the nodes that the plan has this process host.
    pub(crate) fn of(plan: &HostPlan) -> Departure {
        let journal = |id: &u16| plan.nodes[usize::from(*id) - 1].data_dir.clone();
        Departure { journals: plan.hosted.iter().map(journal).collect() }
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        let deadline = Instant::now() + REMOVAL_TIMEOUT;
        for journal in &self.journals {
            remove(journal, deadline);
            // The last to leave removes the directory around them.
            let _ = journal.parent().map(fs::remove_dir);
        }
    }
}

/// Removes a directory and what is in it, until it is gone or time is up.
fn remove(directory: &Path, deadline: Instant) {
    loop {
        let _ = fs::remove_dir_all(directory);
        if !directory.exists() || Instant::now() >= deadline {
            return;
        }
        thread::sleep(REMOVAL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn the_last_to_leave_removes_the_directory_around_the_journals() {
        let home = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let room = home.path().join("room");
        let journals = ["node-1", "node-2"].map(|name| room.join(name));
        for journal in &journals {
            fs::create_dir_all(journal.join("core-0")).unwrap();
            fs::write(journal.join("core-0/segment"), "blocks").unwrap();
        }
        let [first, last] = journals.clone().map(|journal| Departure { journals: vec![journal] });
        drop(first);
        assert!(!journals[0].exists() && journals[1].exists());
        drop(last);
        assert!(!room.exists());
    }

    #[test]
    fn a_panic_leaves_no_journal_either() {
        let home = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let journal = home.path().join("room/node-1");
        fs::create_dir_all(&journal).unwrap();
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _departure = Departure { journals: vec![journal.clone()] };
            panic!("on purpose");
        }));
        assert!(ended.is_err() && !journal.exists());
    }

    #[test]
    fn files_that_are_still_being_made_go_too() {
        let home = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let journal = home.path().join("room/node-1");
        fs::create_dir_all(&journal).unwrap();
        let until = Instant::now() + Duration::from_millis(300);
        let make = |number: u32| fs::write(journal.join(number.to_string()), "a segment");
        (0..100).for_each(|number| make(number).unwrap());
        let begun = Barrier::new(2);
        thread::scope(|scope| {
            scope.spawn(|| {
                begun.wait();
                let mut number = 100;
                while Instant::now() < until {
                    let _ = make(number);
                    number += 1;
                }
            });
            begun.wait();
            drop(Departure { journals: vec![journal.clone()] });
        });
        assert!(!journal.exists());
    }
}
