//! Which CPU does what.
//!
//! The default was chosen by measurement. With a CPU for every core of every replica and for the client,
//! each gets its own. With fewer, the leader and the client share the first half of the CPUs and the
//! followers the second: a command then crosses between CPUs only where it must, from leader to follower.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The `--pin` option.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Pin {
    /// [`Placement::automatic`].
    Auto,
    /// The kernel decides.
    None,
    /// The CPUs of each replica, then those of the client.
    Listed(Vec<Vec<usize>>),
}

/// The CPUs of every process; an empty list leaves it to the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Placement {
    /// By replica, one CPU per core of the engine. The first is meant to lead.
    pub(crate) replicas: Vec<Vec<usize>>,
    /// One CPU per thread of the client.
    pub(crate) client: Vec<usize>,
}

/// A `--pin` that cannot be done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum PinError {
    #[error(
        "`{0}` is no CPU list: use auto, none, or lists such as 0/1/1/0 (replica 1/2/3/client), 0,1/2,3/…"
    )]
    Malformed(String),
    #[error(
        "--pin lists {listed} processes, but there are {wanted}: one list per replica, then one for the \
         client"
    )]
    Processes { listed: usize, wanted: usize },
    #[error("--pin gives a replica {listed} CPUs for {cores} cores: list exactly one per core")]
    Cores { listed: usize, cores: usize },
    #[error("--pin names CPU {cpu}, which this process may not use; it may use {allowed:?}")]
    Unavailable { cpu: usize, allowed: Vec<usize> },
}

impl Pin {
    /// The placement of `replicas` replicas with `cores` cores each, and their client, on the CPUs `allowed`.
    pub(crate) fn place(
        &self,
        replicas: usize,
        cores: usize,
        allowed: &[usize],
    ) -> Result<Placement, PinError> {
        match self {
            Pin::Auto => Ok(Placement::automatic(replicas, cores, allowed)),
            Pin::None => Ok(Placement { replicas: vec![Vec::new(); replicas], client: Vec::new() }),
            Pin::Listed(lists) => listed(lists, replicas, cores, allowed),
        }
    }
}

impl Placement {
    /// See the module's description.
    fn automatic(replicas: usize, cores: usize, allowed: &[usize]) -> Placement {
        let take = |from: &mut dyn Iterator<Item = usize>| from.take(cores).collect::<Vec<_>>();
        if allowed.len() >= (replicas + 1) * cores {
            let mut cpus = allowed.iter().copied();
            let replicas = (0..replicas).map(|_| take(&mut cpus)).collect();
            return Placement { replicas, client: take(&mut cpus) };
        }
        // Two cores of one replica never share a CPU, so one half is enough only for that many.
        let half = allowed.len().div_ceil(2);
        let (first, second) =
            if cores <= allowed.len() - half { allowed.split_at(half) } else { (allowed, allowed) };
        let leader = take(&mut first.iter().copied().cycle());
        let mut rest = second.iter().copied().cycle();
        let followers = (1..replicas).map(|_| take(&mut rest));
        Placement { client: leader.clone(), replicas: std::iter::once(leader).chain(followers).collect() }
    }

    /// The same placement for a cluster in which replica `leader` (counted from 0) leads.
    #[must_use]
    pub(crate) fn led_by(&self, leader: usize) -> Placement {
        let mut placement = self.clone();
        placement.replicas.swap(0, leader);
        placement
    }
}

fn listed(
    lists: &[Vec<usize>],
    replicas: usize,
    cores: usize,
    allowed: &[usize],
) -> Result<Placement, PinError> {
    if lists.len() != replicas + 1 {
        return Err(PinError::Processes { listed: lists.len(), wanted: replicas + 1 });
    }
    if let Some(list) = lists[..replicas].iter().find(|list| list.len() != cores) {
        return Err(PinError::Cores { listed: list.len(), cores });
    }
    if let Some(&cpu) = lists.iter().flatten().find(|cpu| !allowed.contains(cpu)) {
        return Err(PinError::Unavailable { cpu, allowed: allowed.to_vec() });
    }
    Ok(Placement { replicas: lists[..replicas].to_vec(), client: lists[replicas].clone() })
}

impl FromStr for Pin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<Pin, PinError> {
        match text {
            "auto" => Ok(Pin::Auto),
            "none" => Ok(Pin::None),
            _ => {
                let malformed = || PinError::Malformed(text.to_owned());
                let cpu = |word: &str| word.parse::<usize>().map_err(|_| malformed());
                let list = |words: &str| words.split(',').map(cpu).collect::<Result<Vec<_>, _>>();
                text.split('/').map(list).collect::<Result<_, _>>().map(Pin::Listed)
            }
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.replicas.iter().all(Vec::is_empty) && self.client.is_empty() {
            return write!(f, "not pinned");
        }
        for (index, cpus) in self.replicas.iter().enumerate() {
            write!(f, "replica {} on CPU {} · ", index + 1, join(cpus))?;
        }
        write!(f, "client on CPU {}", join(&self.client))
    }
}

fn join(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_cpus_enough_nobody_shares() {
        let placement = Placement::automatic(3, 2, &[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(placement.replicas, [[0, 1], [2, 3], [4, 5]]);
        assert_eq!(placement.client, [6, 7]);
    }

    #[test]
    fn on_two_cpus_the_client_stays_with_the_leader() {
        let placement = Placement::automatic(3, 1, &[0, 1]);
        assert_eq!(placement.replicas, [[0], [1], [1]]);
        assert_eq!(placement.client, [0]);
        assert_eq!(placement.led_by(2).replicas, [[1], [1], [0]]);
    }

    #[test]
    fn cores_of_one_replica_never_share_a_cpu() {
        let placement = Placement::automatic(3, 2, &[0, 1]);
        assert_eq!(placement.replicas, [[0, 1], [0, 1], [0, 1]]);
        let placement = Placement::automatic(3, 2, &[0, 1, 2, 3]);
        assert_eq!(placement.replicas, [[0, 1], [2, 3], [2, 3]]);
    }

    #[test]
    fn one_cpu_hosts_everything() {
        let placement = Placement::automatic(3, 1, &[5]);
        assert_eq!(placement.replicas, [[5], [5], [5]]);
    }

    #[test]
    fn a_listed_placement_is_taken_as_it_is() {
        let pin: Pin = "0,1/1,0/0,0/1".parse().unwrap();
        let placement = pin.place(3, 2, &[0, 1]).unwrap();
        assert_eq!(placement.replicas, [[0, 1], [1, 0], [0, 0]]);
        assert_eq!(placement.client, [1]);
    }

    #[test]
    fn impossible_placements_say_what_to_do() {
        let message = |text: &str| {
            text.parse::<Pin>().and_then(|pin| pin.place(3, 1, &[0, 1])).unwrap_err().to_string()
        };
        assert!(message("zero").contains("use auto, none"));
        assert!(message("0/1").contains("one list per replica"));
        assert!(message("0,1/1/1/0").contains("exactly one per core"));
        assert!(message("0/1/7/0").contains("CPU 7"));
    }
}
