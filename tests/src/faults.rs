//! Mistakes that other engines made, by their row in the project's fault matrix, and what stands for each
//! here: mutants, whose origin names the row, or why there can be none yet.

use std::env;

use annulus_rings::mutant::{self, Mutant};

/// The variable of the environment that names the mutant that lives.
pub const ALIVE: &str = "ANNULUS_MUTANT";

/// A mistake.
pub struct Row {
    /// Its number.
    pub number: u32,
    /// Who made it.
    pub seen_in: &'static str,
    /// What was done.
    pub wrong_step: &'static str,
    /// Why there is no mutant, if there is none.
    pub without: Option<&'static str>,
}

impl Row {
    /// The mutants that make the mistake here.
    pub fn mutants(&self) -> impl Iterator<Item = &'static Mutant> {
        let number = self.number;
        mutant::ALL.iter().filter(move |mutant| numbers(mutant.origin).any(|other| other == number))
    }
}

/// The mutant that the environment brings to life, if any.
///
/// # Errors
/// It names none, or this build has none: whoever asked for a mutant must not see the right code pass.
pub fn alive() -> Result<Option<&'static Mutant>, String> {
    named(&env::var_os(ALIVE).unwrap_or_default().to_string_lossy(), mutant::IS_BUILT)
}

fn named(name: &str, is_built: bool) -> Result<Option<&'static Mutant>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    let Some(mutant) = mutant_of(name) else {
        return Err(format!(
            "{ALIVE}={name} names no mutant: unset it, or choose one of those that `{} list` shows",
            with_mutants("mutants")
        ));
    };
    if !is_built {
        return Err(format!(
            "{ALIVE}={name} has no effect in this build: unset it, or build with `--profile test --features mutants`"
        ));
    }
    Ok(Some(mutant))
}

/// The mutant of a name.
pub fn mutant_of(name: &str) -> Option<&'static Mutant> {
    mutant::ALL.iter().find(|mutant| mutant.name == name)
}

/// How a program of this crate is run in a build that has mutants, as far as its arguments.
pub fn with_mutants(program: &str) -> String {
    format!("cargo run --profile test -p annulus-tests --features mutants --bin {program} --")
}

/// The numbers in parentheses in a mutant's origin.
pub fn numbers(origin: &str) -> impl Iterator<Item = u32> {
    origin.split('(').skip(1).filter_map(|rest| rest.split(')').next()?.parse().ok())
}

const READS: &str = "there are no leases and no linearizable reads yet";
const RECONFIGURATION: &str = "the members of a ring do not change yet";
const SESSIONS: &str = "there are no sessions yet";

macro_rules! rows {
    ($($number:literal $seen_in:literal $wrong_step:literal $($without:expr)?;)*) => {
        /// Every row.
        pub const ROWS: &[Row] = &[$(Row {
            number: $number,
            seen_in: $seen_in,
            wrong_step: $wrong_step,
            without: rows!(@ $($without)?),
        }),*];
    };
    (@) => { None };
    (@ $without:expr) => { Some($without) };
}

rows! {
    1 "openraft alpha" "seeing a higher vote counts as granting it";
    2 "openraft #1802" "progress kept unsorted: commit without a quorum";
    3 "openraft #1808" "a snapshot keeps purged, uncommitted membership: disjoint quorums";
    4 "openraft #561" "crash between snapshot install and deletion of the conflicting log";
    5 "openraft #1964" "a late completion overwrites newer progress";
    6 "openraft #2080" "an old leader's heartbeats block a connected quorum";
    7 "Scylla #6139" "accepts above promised, below accepted";
    8 "Scylla #6149, #6154" "acceptor state pruned before old proposals die";
    9 "Scylla #6299" "a read ignores a minority-accepted value that a later read sees";
    10 "EPaxos #20" "one ballot field for promised and accepted";
    11 "EPaxos #28" "reply before durable";
    12 "SwiftPaxos #2" "a batched acknowledgement in an old ballot leaves after a higher promise";
    13 "Cassandra LWT discussion" "accepting does not raise the promise";
    14 "OmniPaxos #96" "two sources of truth for \"reconfiguration decided\"" RECONFIGURATION;
    15 "AtlasDB #1504" "wiped followers plus a dead leader reset history";
    16 "LogCabin #44" "an older ballot's entry is committed by counting alone";
    17 "Scylla #9965, CCF #8172" "a follower commits a suffix it never verified";
    18 "CCF #6001" "an acknowledgement covers an unverified suffix";
    19 "CCF #5991" "a stale refusal rolls committed state back";
    20 "etcd #7331, TiKV #9239" "a new leader serves reads before its own ballot has a chosen slot" READS;
    21 "etcd #20418" "pause plus leader change reuses a read index" READS;
    22 "etcd #13766" "applied index not atomic with the data";
    23 "etcd #14370" "a single node acknowledges before its log is synced";
    24 "ZooKeeper 4643, 3911" "epoch durable, or acknowledged, before history";
    25 "ZooKeeper 4882" "commit past a hole left by a transient disk error";
    26 "MatrixOne #24966" "snapshot index used as configuration id" RECONFIGURATION;
    27 "Zeebe #3573" "falls back to an older snapshot across a gap in the log";
    28 "hashicorp/raft #248" "a late snapshot moves the index backwards";
    29 "TigerBeetle #2711" "a misdirected rewrite recovers an older header";
    30 "CockroachDB #756" "a node id reused after a wipe";
    31 "liburing #510" "a partial linked write resubmitted after the fsync";
    32 "Curvine #676" "volatile dedup: a retry applied twice" SESSIONS;
    33 "Azure RSL" "a last record that fails its checksum is dropped when zeros follow";
    34 "Azure RSL" "a record's length sizes a buffer before its checksum is verified";
    35 "Azure RSL" "the checkpoint header's checksum is read, never verified";
    36 "Azure RSL" "a message length below the header size underflows"
        "a frame's length is that of its payload alone: nothing is subtracted from it";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_that_cannot_live_is_refused() {
        let name = mutant::ALL[0].name;
        assert_eq!(named("", false), Ok(None));
        assert_eq!(named(name, true), Ok(Some(&mutant::ALL[0])));
        let refused = named(name, false).unwrap_err();
        assert!(refused.contains("--profile test --features mutants"), "{refused}");
        let refused = named("FIRST_REPORT", true).unwrap_err();
        assert!(
            refused.contains("names no mutant") && refused.contains("--bin mutants -- list"),
            "{refused}"
        );
    }
}
