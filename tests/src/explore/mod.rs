//! Every state of a small world: the shipped ring under breadth-first search.
//!
//! Three replicas, some of which stand for election, a few slots. What was ever sent may arrive at any
//! time, any number of times, in any order, or never; a record becomes durable at any time; a replica stops
//! and starts again from exactly its durable records; an election may begin at any moment. Snapshots are taken,
//! the journal is cut, what is not needed is gone, a peer's snapshot is installed: each in a step of its own.
//!
//! A state is three replicas and the letters that were sent. A step changes one replica and depends on
//! nothing but that replica and its input, so each is made once by the shipped code and remembered: the
//! search itself only looks steps up. A state that was met before is known by a 64-bit fingerprint, and
//! even ten million leave it unlikely (1 in 10^5) that two of them share one.
//!
//! Checked in every state: G1, one value per slot and ballot; G2 and "chosen stays chosen", no two values
//! of a slot ever have a quorum of durable votes; G4 and L2, what a replica reports is what a quorum voted
//! for. In every step: G3, P1, L4 and every contract. Restrictions that only leave behaviour out: pre-votes
//! are asked and answered at once, and [`Bounds`].

mod explorer;
mod past;
mod replica;

use std::fmt;
use std::time::{Duration, Instant};

use annulus_rings::Kind;

use explorer::Explorer;

/// How small the world is.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Slots that commands are proposed for.
    pub slots: u64,
    /// Replicas that stand for election: the first so many.
    pub candidates: usize,
    /// The highest round of a ballot.
    pub rounds: u64,
    /// Restarts, of all replicas together.
    pub restarts: u8,
    /// Snapshots, and journals that are written again, of all replicas together.
    pub cuts: u8,
    /// Whether the world has a past: slot 0 was chosen without node 3, and is in snapshots alone.
    pub is_cut: bool,
    /// Bytes of chosen slots that a ring keeps in memory.
    pub retain_bytes: usize,
    /// Letters of these kinds are always lost.
    pub lost: &'static [Kind],
    /// States after which the search stops.
    pub states_max: usize,
    /// Time after which the search stops.
    pub time_max: Duration,
}

/// States between two reports of a search that goes on.
const TELL_EVERY: usize = 1000;

/// What may always be lost without keeping anything from being chosen: who is behind learns it later, and
/// who is outbid gets no votes.
pub const UNNEEDED: [Kind; 3] = [Kind::Refused, Kind::Heard, Kind::BelowFloor];

/// What may be lost in a world that is about choosing alone.
pub const TEACHING: [Kind; 6] =
    [Kind::Refused, Kind::Heard, Kind::BelowFloor, Kind::Heartbeat, Kind::Fetch, Kind::Learn];

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            slots: 2,
            candidates: 2,
            rounds: 3,
            restarts: 1,
            cuts: 0,
            is_cut: false,
            retain_bytes: 1 << 20,
            lost: &UNNEEDED,
            states_max: usize::MAX,
            time_max: Duration::MAX,
        }
    }
}

/// What a search came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// Distinct states.
    pub states: usize,
    /// Steps from one state to another, or to one that was met before.
    pub transitions: usize,
    /// Steps from the first state to the last ones.
    pub depth: usize,
    /// Distinct states of one replica.
    pub replicas: usize,
    /// Distinct letters.
    pub letters: usize,
    /// Whether there is no other state within the bounds.
    pub is_complete: bool,
    /// How long it took.
    pub elapsed: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { states, transitions, depth, replicas, letters, .. } = self;
        let extent = if self.is_complete { "all there are" } else { "there are more" };
        let rate = *states as f64 / self.elapsed.as_secs_f64();
        write!(
            f,
            "{states} distinct states ({extent}), depth {depth}, {transitions} transitions, {replicas} replica \
             states, {letters} letters, {:.1?}, {rate:.0} states/s",
            self.elapsed
        )
    }
}

/// A rule that is broken, and the shortest way there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counterexample {
    /// What is wrong.
    pub what: String,
    /// What happened, from the first state on.
    pub path: Vec<String>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.what, self.path.join("\n"))
    }
}

/// Searches breadth first until every state within the bounds was met, or until they say stop.
///
/// # Errors
/// The shortest way to a state in which a rule is broken.
pub fn explore(bounds: Bounds) -> Result<Report, Counterexample> {
    explore_and_tell(bounds, |_| {})
}

/// As [`explore`], and tells every thousandth state how far the search is.
///
/// # Errors
/// The shortest way to a state in which a rule is broken.
pub fn explore_and_tell(bounds: Bounds, mut tell: impl FnMut(&Report)) -> Result<Report, Counterexample> {
    let start = Instant::now();
    let mut explorer = Explorer::new(bounds);
    let mut layer = vec![(0, explorer.first_state())];
    let mut depth = 0;
    let mut is_complete = true;
    while !layer.is_empty() && is_complete {
        let mut next = Vec::new();
        for (count, (index, state)) in layer.into_iter().enumerate() {
            if count % TELL_EVERY == 0 {
                tell(&explorer.report(depth, false, start));
            }
            if explorer.states() >= bounds.states_max || start.elapsed() > bounds.time_max {
                is_complete = false;
                break;
            }
            explorer.expand(index, &state, &mut next)?;
        }
        depth += usize::from(!next.is_empty());
        layer = next;
    }
    Ok(explorer.report(depth, is_complete, start))
}
