//! Contracts: every rule of the protocol has a name, and is asserted where it must hold.
//!
//! `requires!` is what the caller owes, `ensures!` what the callee promises, `invariant!` what holds
//! between calls. All are on in debug builds, in tests and in the `checked` profile; those that guard
//! durable state or safety are **always** on.

/// Which contracts a build checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Set {
    /// None at all, to measure what the others cost: only with `RUSTFLAGS='--cfg annulus_contracts="none"'`.
    None,
    /// Those that guard durable state or safety: release builds.
    Always,
    /// All: debug and test builds, the profile `checked`, and `--cfg annulus_contracts="full"`.
    Full,
}

/// What this build checks.
pub const SET: Set = if cfg!(annulus_contracts = "none") {
    Set::None
} else if cfg!(any(debug_assertions, annulus_contracts = "full")) {
    Set::Full
} else {
    Set::Always
};

/// A named rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Contract {
    /// Its short name, such as `A1`.
    pub id: &'static str,
    /// What it says, in words joined by dashes.
    pub name: &'static str,
    /// Whether release builds check it too.
    pub always: bool,
}

impl Contract {
    /// Whether this build checks the contract.
    pub const fn is_on(&self) -> bool {
        match SET {
            Set::None => false,
            Set::Always => self.always,
            Set::Full => true,
        }
    }

    /// Stops the process of thought: this is a bug of the engine, and going on could lose data.
    #[cold]
    #[track_caller]
    pub fn violated(&self, clause: &str, condition: &str) -> ! {
        panic!("contract {} {} violated: {clause} {condition}", self.id, self.name)
    }
}

macro_rules! contracts {
    ($($id:ident $name:literal $always:literal;)*) => {
        $(
            #[doc = $name]
            pub const $id: Contract = Contract { id: stringify!($id), name: $name, always: $always };
        )*
        /// Every contract of this version.
        pub const ALL: &[Contract] = &[$($id),*];
    };
}

contracts! {
    A1 "promise-monotone" true;
    A2 "promise-durable-first" true;
    A3 "accept-guard" true;
    A4 "ack-gate" true;
    A5 "equal-ballot-equal-value" true;
    A6 "ack-ballot" false;
    A7 "silence-below-promise" false;
    A8 "below-floor" false;
    A9 "member-only" false;
    A10 "amnesia-stops-voting" true;
    P1 "ballot-unique" false;
    P2 "phase1-quorum" true;
    P3 "highest-vote-wins" true;
    P4 "base" false;
    P5 "no-holes" false;
    P6 "one-value-per-slot-ballot" true;
    P7 "window" false;
    P8 "count-once" false;
    P9 "stand-down" false;
    L1 "chosen-unique" true;
    L2 "chosen-recount" false;
    L3 "commit-index-verified" false;
    L4 "apply-in-order" true;
    L5 "reply-after-apply" false;
    L7 "rejected-means-never" false;
    T1 "drop-below-durable-snapshot" true;
    T2 "order" true;
    T3 "install-atomic" true;
    T4 "snapshot-complete" false;
    T5 "catch-up-chosen-only" false;
    T6 "recovery-idempotent" false;
    T7 "stale-completion" false;
    R6 "ids-never-reused" true;
    S5 "safety-without-clocks" false;
    M1 "bounded" true;
    M2 "no-hot-allocation" false;
}

/// Counts the place and asserts the condition.
#[doc(hidden)]
#[macro_export]
macro_rules! assert_contract {
    ($id:ident, $clause:literal, $condition:expr) => {
        if $crate::contract::$id.is_on() {
            $crate::count_place!($crate::contract::$id.id, $clause);
            if !$condition {
                $crate::contract::$id.violated($clause, stringify!($condition));
            }
        }
    };
}

/// What the caller owes.
#[macro_export]
macro_rules! requires {
    ($id:ident, $condition:expr) => {
        $crate::assert_contract!($id, "requires", $condition)
    };
}

/// What the callee promises.
#[macro_export]
macro_rules! ensures {
    ($id:ident, $condition:expr) => {
        $crate::assert_contract!($id, "ensures", $condition)
    };
}

/// What holds between calls.
#[macro_export]
macro_rules! invariant {
    ($id:ident, $condition:expr) => {
        $crate::assert_contract!($id, "invariant", $condition)
    };
}
