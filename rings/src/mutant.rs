//! Mutants: wrong steps on purpose, to show that contracts and tests notice them.
//!
//! Most are mistakes that other engines made; a number in parentheses is their row in the project's fault
//! matrix. A build with the feature `mutants` has them all, and `ANNULUS_MUTANT=NAME` brings one to life;
//! without the feature [`Mutant::is_alive`] is a constant and no wrong step is compiled. A build without
//! debug assertions refuses the feature, so no mutant reaches a release.
//!
//! `cargo run -p annulus-tests --features mutants --bin mutants` says which test catches which.

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` makes wrong steps possible: it is for debug and test builds");

/// Whether this build has the wrong steps, so that a mutant can live.
pub const IS_BUILT: bool = cfg!(feature = "mutants");

/// A wrong step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mutant {
    /// Its name, as `ANNULUS_MUTANT` gives it.
    pub name: &'static str,
    /// The crate that takes the wrong step: `rings`, `storage` or `engine`.
    pub home: &'static str,
    /// The rule that it breaks: a contract, or a global check such as `G11`.
    pub breaks: &'static str,
    /// Who made the mistake.
    pub origin: &'static str,
}

impl Mutant {
    /// Whether the wrong step is taken.
    #[cfg(feature = "mutants")]
    pub fn is_alive(&self) -> bool {
        static ALIVE: std::sync::LazyLock<Option<String>> =
            std::sync::LazyLock::new(|| std::env::var("ANNULUS_MUTANT").ok());
        ALIVE.as_deref() == Some(self.name)
    }

    /// Whether the wrong step is taken: never in this build.
    #[cfg(not(feature = "mutants"))]
    pub const fn is_alive(&self) -> bool {
        false
    }
}

macro_rules! mutants {
    ($($home:ident { $($name:ident $breaks:literal $origin:literal;)* })*) => {
        $($(
            #[doc = concat!("Breaks ", $breaks, ". Seen in: ", $origin, ".")]
            pub const $name: Mutant = Mutant {
                name: stringify!($name),
                home: stringify!($home),
                breaks: $breaks,
                origin: $origin,
            };
        )*)*
        /// Every mutant of this version.
        pub const ALL: &[Mutant] = &[$($($name),*),*];
    };
}

mutants! {
    rings {
        // The acceptor.
        RECOVERY_FORGETS_PROMISES "A1" "the textbook";
        RECOVERED_VOTE_LEAVES_PROMISE "A1" "Cassandra LWT discussion (13)";
        PROMISE_BEFORE_DURABLE "A2" "ZooKeeper 4643, 3911 (24)";
        PROMISE_OMITS_LAST_VOTE "A2" "the textbook";
        VOTE_BELOW_PROMISE "A3" "the textbook";
        TAUGHT_BALLOT_NOT_PROMISED "A3" "Scylla #6139 (7)";
        ONE_BALLOT_FIELD "A3" "EPaxos #20 (10)";
        VOTE_BEFORE_DURABLE "A4" "EPaxos #28 (11)";
        OWN_VOTE_BEFORE_DURABLE "A4" "etcd #14370 (23)";
        SECOND_VALUE_REPLACES "A5" "the textbook";
        SECOND_VALUE_ACKNOWLEDGED "A5" "the textbook";
        ACKNOWLEDGED_IN_PROMISED_BALLOT "A6" "SwiftPaxos #2 (12)";
        BALLOTS_MERGED "A6" "SwiftPaxos #2 (12)";
        VOTE_LEAVES_PROMISE "A7" "Cassandra LWT discussion (13)";
        VOTE_BELOW_FLOOR "A8" "Scylla #6149 (8)";
        FOREIGN_CONFIGURATION "A9" "openraft #1808 (3)";
        // The proposer.
        OWN_BALLOT_FORGOTTEN "P1" "CockroachDB #756 (30)";
        OLD_INCARNATION_USED "P1" "CockroachDB #756 (30)";
        ELECTED_TOO_SOON "P2" "the textbook";
        PROMISE_OF_ANY_BALLOT "P2" "openraft alpha (1)";
        REFUSAL_IS_PROMISE "P2" "openraft alpha (1)";
        FIRST_REPORT_WINS "P3" "the textbook";
        OWN_VOTES_NOT_REPORTED "P3" "the textbook";
        MINORITY_VOTE_IGNORED "P3" "Scylla #6299 (9)";
        TWO_ANSWERS_ONE_PROMISE "P3" "annulus, before 59cd07b";
        BASE_IGNORED "P4" "the textbook";
        NEW_BEFORE_RECOVERED "P5" "the textbook";
        HOLE_LEFT_OPEN "P5" "the textbook";
        SLOT_TAKEN_TWICE "P6" "the textbook";
        RECOVERED_VALUE_CHANGED "P6" "annulus, before 59cd07b";
        WINDOW_IGNORED "P7" "the textbook";
        OWN_VOTE_COUNTED_AT_ONCE "P8" "etcd #14370 (23)";
        VOTES_FOR_OTHER_VALUES "P8" "SwiftPaxos #2 (12)";
        ACKNOWLEDGEMENT_COVERS_GAP "P8" "CCF #6001 (18)";
        DEPOSED_LEADER_STAYS "P9" "the textbook";
        // The learner.
        CHOSEN_ROLLED_BACK "T2" "CCF #5991 (19), hashicorp/raft #248 (28)";
        CHOSEN_REPLACED "L1" "the textbook";
        VOTE_COUNTS_TWICE "L2" "the textbook";
        RANGE_BY_ITS_LAST_SLOT "L2" "openraft #1802 (2)";
        OLDER_BALLOTS_COUNT "L2" "LogCabin #44 (16)";
        FOREIGN_LEADER_BELIEVED "L3" "the textbook";
        WATERMARK_BELIEVED "L3" "Scylla #9965, CCF #8172 (17)";
        REPORTED_TWICE "L4" "etcd #13766 (22)";
        REPORTED_TOO_SOON "L5" "etcd #14370 (23)";
        HOLE_SKIPPED "T2" "ZooKeeper 4882 (25)";
        UNCHOSEN_TAUGHT "T5" "the textbook";
        REPLACED_VOTE_TAUGHT "T5" "annulus, before cd0c5a0";
        RECOVERY_BELIEVES_VOTES "T6" "openraft #561 (4)";
        LATE_COMPLETION_COUNTS "T7" "openraft #1964 (5)";
        // Snapshots and truncation.
        CUT_BEYOND_SNAPSHOT "T1" "the textbook";
        CUT_BEFORE_DURABLE "T1" "Scylla #6154 (8)";
        OPEN_VOTES_CUT_OFF "T1" "Scylla #6149, #6154 (8)";
        OPEN_VOTE_NOT_CARRIED "T1" "Scylla #6149, #6154 (8)";
        PROMISE_CUT_OFF "A1" "the textbook";
        BASE_LEAVES_PROMISE "A1" "the textbook";
        COVERED_PROMISE_FORGOTTEN "A1" "the textbook";
        SUPERSEDED_VOTES_STAY "T3" "openraft #561 (4)";
        SUPERSEDED_VOTES_RETURN "T3" "openraft #561 (4)";
        LATE_SNAPSHOT_MOVES_BACK "T3" "hashicorp/raft #248 (28)";
        LATE_SNAPSHOT_COUNTS "T2" "hashicorp/raft #248 (28)";
        GAP_BRIDGED "T2" "Zeebe #3573 (27)";
        UNVOUCHED_VOTES_TAUGHT "T5" "openraft #561 (4)";
        // Availability and bounds.
        SILENT_LEADER_HEARD "G11" "openraft #2080 (6)";
        LOG_UNBOUNDED "M1" "the textbook";
        // Foreign bytes.
        HEADER_CHECKSUM_IGNORED "frame" "Azure RSL (34)";
        PAYLOAD_CHECKSUM_IGNORED "frame" "Azure RSL (35)";
    }
    storage {
        FAILED_WRITE_FORGOTTEN "A4" "the textbook: a failed fsync is not tried again";
        COMPLETION_COVERS_EARLIER "T7" "ZooKeeper 4882 (25), liburing #510 (31)";
        ROTTEN_TAIL_DROPPED "A10" "Azure RSL (33)";
        LATER_BLOCKS_UNASKED "A10" "Azure RSL (33)";
        MISDIRECTED_BLOCK_READ "A10" "TigerBeetle #2711 (29)";
        FOREIGN_BLOCK_READ "A10" "AtlasDB #1504 (15)";
        CHAIN_UNCHECKED "A10" "Zeebe #3573 (27)";
        TORN_TAIL_KEPT "T6" "the textbook";
        HEAD_UNCHECKED "A10" "AtlasDB #1504 (15)";
        REMOVED_BEFORE_DURABLE "T6" "the textbook";
        SEGMENT_IN_USE_FREED "A10" "the textbook";
        SPACE_BOUND_IGNORED "M1" "the textbook";
        DAMAGE_PASSED_OVER "A10" "the textbook";
        FREED_STAY_INDEXED "G11" "the textbook";
        HEAD_NEVER_TOLD_ALONE "G11" "the textbook";
        OLDEST_VOTE_READ_BACK "T5" "the textbook";
        QUEUE_UNRESERVED "M2" "the textbook";
        SNAPSHOT_HEADER_UNVERIFIED "T4" "Azure RSL (35)";
        SNAPSHOT_BLOCK_UNVERIFIED "T4" "the textbook";
        SNAPSHOT_NOT_READ_BACK "T4" "the textbook";
        SNAPSHOT_PUBLISHED_UNSYNCED "T4" "the textbook";
        SNAPSHOT_RESUMED_UNVERIFIED "T4" "the textbook";
        OLDER_SNAPSHOT_PREFERRED "T2" "Zeebe #3573 (27)";
        // Non-volatile memory.
        NVM_FLUSH_MISSING "A4" "the textbook: a store is not yet in the medium";
        NVM_FENCE_MISSING "A4" "the textbook: a store is not yet in the medium";
        SWITCHED_BEFORE_DURABLE "T6" "PoWER logs: what its proof forbids";
        SWITCH_OF_ANY_VALUE "A10" "PoWER logs: what its proof forbids";
        DURABLE_TAIL_IGNORED "A10" "Azure RSL (33)";
        DURABLE_TAIL_TOO_SOON "T6" "the textbook";
    }
    engine {
        SEALED_REJECTED "L7" "the textbook";
        CLOCK_BELIEVED "S5" "the textbook";
        WIPED_DISK_VOTES "R6" "AtlasDB #1504 (15), CockroachDB #756 (30)";
        OTHER_LIFE_WELCOME "R6" "CockroachDB #756 (30)";
        ACQUAINTANCE_BEFORE_DURABLE "R6" "the textbook";
        ACQUAINTANCE_NOT_CARRIED "R6" "openraft #1808 (3)";
        OLD_COPY_WELCOME "A10" "the textbook: a backup restored";
        HALF_RESTORED "T3" "the textbook: a snapshot in pieces is one step";
        NOTHING_KEPT_ASIDE "G6" "the textbook: a fuzzy snapshot";
    }
}

/// Whether a wrong step is taken in place of the right one.
#[macro_export]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::$name.is_alive()
    };
}

#[cfg(test)]
mod tests {
    use super::ALL;
    use crate::contract;

    #[test]
    fn every_contract_has_a_mutant_that_breaks_it() {
        for contract in contract::ALL {
            assert!(ALL.iter().any(|mutant| mutant.breaks == contract.id), "{}", contract.id);
        }
    }
}
