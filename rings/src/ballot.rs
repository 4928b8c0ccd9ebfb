//! Ballots: who may propose, in which order of precedence.

use std::fmt;

use crate::{Incarnation, NodeId};

/// A proposal number, unique per node and incarnation (P1).
///
/// Ordered by round first, so that any node can outbid any other; node and incarnation only make
/// two ballots of one round different.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ballot {
    /// The round: the part that a candidate raises.
    pub round: u64,
    /// The node that leads in this ballot.
    pub node: NodeId,
    /// The life of that node's disk.
    pub incarnation: Incarnation,
}

impl Ballot {
    /// Below every ballot that a node can lead.
    pub const ZERO: Ballot = Ballot { round: 0, node: NodeId(0), incarnation: Incarnation(0) };

    /// The node that leads in this ballot.
    pub fn leader(self) -> NodeId {
        self.node
    }

    /// The lowest ballot of `node` above this one. Nobody counts to the last round, but a peer may claim it:
    /// there is no round above, and a ballot that is not above the promise is never stood for.
    #[must_use]
    pub fn successor(self, node: NodeId, incarnation: Incarnation) -> Ballot {
        Ballot { round: self.round.saturating_add(1), node, incarnation }
    }

    /// Node and incarnation in one word, as frames carry a second ballot.
    pub fn owner_word(self) -> u64 {
        u64::from(self.node.0) << 32 | u64::from(self.incarnation.0)
    }

    /// The ballot of a round and an owner word; `None` when the word has bits that mean nothing.
    pub fn from_words(round: u64, owner: u64) -> Option<Ballot> {
        let node = u16::try_from(owner >> 32).ok()?;
        Some(Ballot { round, node: NodeId(node), incarnation: Incarnation(owner as u32) })
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.node.0)?;
        if self.incarnation.0 > 1 { write!(f, "i{}", self.incarnation.0) } else { Ok(()) }
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
