//! Reach: which assertions and which rare places a run came past, and how often.
//!
//! An assertion that nothing reaches shows nothing, and a test that never meets the rare case does not test
//! it. Every assertion of a contract is a place, and so is every `reach!`.
//!
//! Builds with debug assertions count; in all others nothing of this is compiled. It does not make a ring
//! less pure: nothing reads a count but tests, so no step depends on one. Each thread counts in memory of
//! its own, so threads do not wait for each other; [`settle`] adds what a thread has counted to the
//! [`totals`] of the process. Counting takes no memory from the allocator (M2).

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether this build counts.
pub const IS_COUNTED: bool = cfg!(debug_assertions);

/// A rare place that tests should reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Its name.
    pub name: &'static str,
    /// What happens there.
    pub means: &'static str,
    /// Whether simulated clusters get there; if not, a test of the crate that has it does.
    pub is_simulated: bool,
}

/// A place in the code, known from when it is first reached.
#[derive(Debug)]
pub struct Place {
    /// The id of a contract, or the name of a probe.
    pub id: &'static str,
    /// `requires`, `ensures`, `invariant`, or `reach`.
    pub clause: &'static str,
    /// The file, from the root of the workspace.
    pub file: &'static str,
    /// The line.
    pub line: u32,
    /// Where every thread counts it; 0 before it is reached.
    number: AtomicUsize,
}

/// How often a place was reached.
#[derive(Clone, Copy, Debug)]
pub struct Total {
    /// Which.
    pub place: &'static Place,
    /// How often.
    pub count: u64,
}

/// More places than the code has: 120 or so.
const PLACES_MAX: usize = 512;

/// Every place that was reached, by number, and what threads have settled.
struct Register {
    /// Number 0 stays free.
    last: usize,
    places: [Option<&'static Place>; PLACES_MAX],
    totals: [u64; PLACES_MAX],
}

static REGISTER: Mutex<Register> =
    Mutex::new(Register { last: 0, places: [None; PLACES_MAX], totals: [0; PLACES_MAX] });

thread_local! {
    /// What this thread has not settled yet, by number.
    static COUNTS: [Cell<u64>; PLACES_MAX] = const { [const { Cell::new(0) }; PLACES_MAX] };
}

impl Place {
    /// A place that nothing has reached.
    pub const fn new(id: &'static str, clause: &'static str, file: &'static str, line: u32) -> Place {
        Place { id, clause, file, line, number: AtomicUsize::new(0) }
    }

    /// Counts it.
    #[inline]
    pub fn reached(&'static self) {
        let number = self.number.load(Ordering::Relaxed);
        let number = if number == 0 { self.registered() } else { number };
        COUNTS.with(|counts| {
            let count = &counts[number % PLACES_MAX];
            count.set(count.get() + 1);
        });
    }

    #[cold]
    fn registered(&'static self) -> usize {
        let mut register = register();
        let number = self.number.load(Ordering::Relaxed);
        if number > 0 {
            return number; // Another thread came first.
        }
        register.last += 1;
        assert!(register.last < PLACES_MAX, "more places than {PLACES_MAX}: raise PLACES_MAX");
        let number = register.last;
        register.places[number] = Some(self);
        self.number.store(number, Ordering::Relaxed);
        number
    }
}

/// Nothing that holds the register panics in the middle of a change.
fn register() -> MutexGuard<'static, Register> {
    REGISTER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds what this thread has counted to the totals.
pub fn settle() {
    let mut register = register();
    COUNTS.with(|counts| {
        for (total, count) in register.totals.iter_mut().zip(counts) {
            *total += count.take();
        }
    });
}

/// Every place that was reached, with what all threads have settled.
pub fn totals() -> Vec<Total> {
    let register = register();
    let counted = register.places.iter().zip(&register.totals);
    counted.filter_map(|(place, count)| Some(Total { place: (*place)?, count: *count })).collect()
}

/// How often a probe was reached, by threads that have settled and by this one.
pub fn count(probe: &Probe) -> u64 {
    settle();
    totals().iter().filter(|total| total.place.id == probe.name).map(|total| total.count).sum()
}

/// Counts the place where it stands.
#[doc(hidden)]
#[macro_export]
macro_rules! count_place {
    ($id:expr, $clause:literal) => {
        if $crate::reach::IS_COUNTED {
            static PLACE: $crate::reach::Place = $crate::reach::Place::new($id, $clause, file!(), line!());
            PLACE.reached();
        }
    };
}

/// Marks a rare place, or a place that is rare when a condition holds: see [`reach::ALL`](crate::reach::ALL).
#[macro_export]
macro_rules! reach {
    ($name:ident) => {
        $crate::count_place!($crate::reach::$name.name, "reach")
    };
    ($name:ident, $condition:expr) => {
        if $crate::reach::IS_COUNTED && $condition {
            $crate::count_place!($crate::reach::$name.name, "reach");
        }
    };
}

macro_rules! probes {
    ($($is_simulated:literal { $($name:ident $means:literal;)* })*) => {
        $($(
            #[doc = $means]
            pub const $name: Probe =
                Probe { name: stringify!($name), means: $means, is_simulated: $is_simulated };
        )*)*
        /// Every probe of this version.
        pub const ALL: &[Probe] = &[$($($name),*),*];
    };
}

probes! {
    // Simulated clusters get there.
    true {
        // Ballots against each other.
        PROMISE_WHILE_LEADING "a leader promises a higher ballot";
        PROMISE_WHILE_CANDIDATE "a candidate promises a higher ballot: two stand at once";
        PREPARE_REFUSED "a candidate's ballot is below the promise";
        VOTE_REFUSED "an Accept is below the promise";
        PROMISE_OUTBID "a promise becomes durable after a higher one was made";
        PROMISE_ASKED_AGAIN "a candidate asks again for a promise that is durable";
        CANDIDATE_GIVES_UP "a candidate has no quorum of promises in time";
        LEADER_WITHOUT_QUORUM "a leader that no quorum answers stands down";
        PRE_VOTE_DENIED "a pre-vote is denied because a leader is heard";
        // What phase 1 finds.
        SEVERAL_BALLOTS_REPORTED "promises report votes of different ballots for one slot";
        RECOVERED_VALUE_PROPOSED "a new leader proposes a reported value again";
        HOLE_FILLED "a new leader fills a slot that nobody reported with a no-op";
        BASE_ABOVE_PREFIX "an elected candidate must learn chosen slots before it leads";
        // Votes.
        VOTE_REPLACED "a vote takes the place of one in a lower ballot";
        VOTE_REPEATED "an Accept comes again whose vote is durable";
        VOTE_BELOW_FLOOR "an Accept comes for a slot that left memory";
        VOTE_BEYOND_WINDOW "an Accept comes for a slot too far ahead";
        LATE_VOTE "an acknowledgement arrives in a ballot that its leader has left";
        OWN_VOTE_TOO_LATE "the own vote becomes durable after standing down";
        WINDOW_FULL "a leader has no room in its window";
        RESENT_AFTER_TIMEOUT "open slots are sent again";
        // Learning.
        WATERMARK_NOT_VERIFIED "a watermark covers a vote of another ballot";
        TAUGHT_AGAIN "a Learn brings nothing new";
        TAUGHT_BELOW_FLOOR "a Learn begins with slots that left memory";
        TAUGHT_OVER_VOTE "a taught value takes the place of another value's vote";
        ANOTHER_MEMBER_ASKED "a member that was asked for chosen slots did not answer in time";
        READ_FROM_JOURNAL "a peer asks for slots that left memory";
        TAUGHT_DURING_PROMISE "slots come back from the journal while a promise is not durable";
        OPEN_SLOTS_READ_BACK "a replica restarts with votes that it does not know to be chosen";
        // Snapshots and truncation.
        ASKED_BELOW_KEPT "a peer asks for slots that left the journal";
        CUT_BELOW_AN_OLD_VOTE "a cut keeps a record that is older than the cut, for a slot above it";
        CUT_TOO_LATE "a cut comes that frees nothing more";
        OPEN_VOTE_CARRIED "an idle ring writes a vote again whose slot is not known to be chosen";
        INSTALLED_OVER_VOTES "a snapshot takes the place of votes";
        INSTALLED_BELOW_VOTES "a snapshot is installed below votes, which stay";
        INSTALLED_TOO_LATE "a snapshot arrives after what it covers";
        INSTALLED_WHILE_CANDIDATE "a candidate is given the state below its base";
        INSTALLED_WHILE_LEADING "a leader is given the state of slots that others chose";
        UNVOUCHED_BASE "a replica restarts from a snapshot that its own records do not reach";
        // The journal.
        TORN_TAIL_CUT "recovery erases what a torn write left";
        SEVERAL_SEGMENTS_READ_BACK "recovery goes through several segments";
        SEGMENT_SWITCHED "the journal goes on in the next segment";
        SPACE_SHORT "the medium has no space for another segment";
        WRITE_OUT_OF_ORDER "a write completes before an earlier one";
        JOURNAL_FULL "the journal has no room for more";
        JOURNAL_POISONED "a write or a sync failed";
        READ_BACK_FAILED "slots cannot be read back";
        // Snapshots.
        DAMAGE_OUTLIVED "a scrub has found damage, and whoever needs that part of the journal is saved";
        SNAPSHOT_FAILED "a snapshot could not be written";
        OLDER_SNAPSHOT_TRIED "a snapshot is damaged, and an older one is tried";
        OLDER_SNAPSHOT_GIVEN_UP "space is short, and the journal no longer reaches back to an older snapshot";
        IDLE_RING_CARRIED "an idle ring writes down again what it still needs";
        SNAPSHOT_GONE "a peer asks for a snapshot that is not there any more";
        FETCH_RESUMED "a fetch goes on where an earlier one ended";
        FETCH_GIVEN_UP "a peer that is asked for a snapshot falls silent";
        FETCH_OF_A_NEWER "a peer has a newer snapshot than the one that was asked for";
        FETCH_OF_AN_OLDER "a peer has an older snapshot than the one that was begun, and it is of use";
        FETCHED_TOO_LATE "the slots of a snapshot are learnt before it has come";
        EXECUTED_AFTER_RELOAD "slots wait until a snapshot is restored";
        // Clients.
        QUEUE_FULL "a command is refused because too many wait";
        FRAME_WITHOUT_ROOM "a peer's frame is dropped because the journal has no room";
        LEFT_IN_FLIGHT "a leader stands down with sealed batches: their outcome is unknown";
        LEFT_UNSEALED "a leader stands down with commands that it never sealed: they are rejected";
    }
    // Tests of single crates get there.
    false {
        RELOAD_FAILED "a snapshot is damaged after it was verified";
        SNAPSHOT_TOO_LATE "a snapshot is published that is older than another";
        STALE_COMPLETION "a completion tells nothing new";
        SECOND_VALUE "another value comes in one ballot and slot: a bug or a forgery";
        DAMAGE_REFUSED "recovery refuses a journal that lost what may have been acknowledged";
        SPACE_BOUND_REACHED "the journal has as many segments as it may have";
        SEGMENT_REMOVED "a segment that nobody needs any more is removed";
        DAMAGE_SCRUBBED "a scrub finds damage that stays";
        REMOVAL_FAILED "a segment cannot be removed, and is tried again";
        HEAD_TOLD_ALONE "a block without frames makes room in a full journal";
        LOST_SEGMENT_REFUSED "recovery refuses a journal that lost a segment which nobody freed";
        SEGMENT_AWAITED "a write waits until another segment is made";
        PROMISE_IN_PARTS "a promise does not fit one frame";
        MAILBOX_FULL "a letter is refused because too many wait";
    }
}

#[cfg(test)]
mod tests {
    use super::{HOLE_FILLED, count, settle, totals};

    #[test]
    fn a_place_is_counted_by_every_thread_that_has_settled() {
        let pass = || {
            for _ in 0..3 {
                reach!(HOLE_FILLED);
            }
            reach!(WINDOW_FULL, 1 > 2);
            settle();
        };
        let others: Vec<_> = (0..4).map(|_| std::thread::spawn(pass)).collect();
        for other in others {
            other.join().unwrap();
        }
        let here = totals().into_iter().filter(|total| total.place.file == file!());
        let counted: Vec<_> = here.map(|total| (total.place.id, total.count)).collect();
        assert_eq!(counted, [("HOLE_FILLED", 12)]);
        assert!(count(&HOLE_FILLED) >= 12);
    }
}
