//! Who votes: the members of a ring from one slot to another.

use crate::frame::checksum;
use crate::{ConfigurationId, NodeId, Slot};

/// The most members of a configuration: votes are counted in a 64-bit set.
pub const MEMBERS_MAX: usize = 63;

/// The members that own a range of slots.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Configuration {
    id: ConfigurationId,
    first_slot: Slot,
    members: Vec<NodeId>,
}

/// Why a member list is no configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// No member.
    #[error("a configuration needs at least one member")]
    Empty,
    /// More than [`MEMBERS_MAX`].
    #[error("{0} members, at most {MEMBERS_MAX} are possible")]
    TooMany(usize),
    /// The same node twice, or node 0.
    #[error("node {0} is listed twice, or is 0, which names nobody")]
    BadMember(NodeId),
}

impl Configuration {
    /// The configuration `id` of `members`, which owns the slots from `first_slot`.
    ///
    /// # Errors
    /// Any [`ConfigurationError`].
    pub fn new(
        id: ConfigurationId,
        first_slot: Slot,
        members: &[NodeId],
    ) -> Result<Configuration, ConfigurationError> {
        let mut members = members.to_vec();
        members.sort_unstable();
        if members.is_empty() {
            return Err(ConfigurationError::Empty);
        }
        if members.len() > MEMBERS_MAX {
            return Err(ConfigurationError::TooMany(members.len()));
        }
        if let Some(pair) = members.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(ConfigurationError::BadMember(pair[0]));
        }
        if members[0] == NodeId(0) {
            return Err(ConfigurationError::BadMember(NodeId(0)));
        }
        Ok(Configuration { id, first_slot, members })
    }

    /// The configuration that `members` start with, from slot 0. Its id is drawn from the members, so that
    /// replicas which were told of different members ignore one another (A9), and refuse a journal that was
    /// written among others.
    ///
    /// # Errors
    /// Any [`ConfigurationError`].
    pub fn first(members: &[NodeId]) -> Result<Configuration, ConfigurationError> {
        let mut configuration = Configuration::new(ConfigurationId(0), Slot(0), members)?;
        let ids: Vec<u8> = configuration.members.iter().flat_map(|member| member.0.to_le_bytes()).collect();
        configuration.id = ConfigurationId(checksum(&ids) as u32);
        Ok(configuration)
    }

    /// Its generation.
    pub fn id(&self) -> ConfigurationId {
        self.id
    }

    /// The first slot that it owns.
    pub fn first_slot(&self) -> Slot {
        self.first_slot
    }

    /// Its members, ascending.
    pub fn members(&self) -> &[NodeId] {
        &self.members
    }

    /// Where `node` stands among the members; `None` when it is no member.
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.members.binary_search(&node).ok()
    }

    /// How many members make a quorum. Read and write quorums are both majorities, so any two meet.
    pub fn quorum(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// How many members are among `votes`, counted one by one.
    pub fn recount(&self, votes: Votes) -> usize {
        (0..self.members.len()).filter(|index| votes.has(*index)).count()
    }

    /// Whether `votes` is a quorum of distinct members.
    pub fn is_quorum(&self, votes: Votes) -> bool {
        votes.count() >= self.quorum()
    }
}

/// A set of members, by their index in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Votes(u64);

impl Votes {
    /// Nobody.
    pub const NONE: Votes = Votes(0);

    /// Adds the member at `index`; true when it was not in the set yet.
    pub fn add(&mut self, index: usize) -> bool {
        let new = !self.has(index);
        self.0 |= 1 << index;
        new
    }

    /// Whether the member at `index` is in the set.
    pub fn has(self, index: usize) -> bool {
        self.0 & 1 << index != 0
    }

    /// How many members are in the set.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_two_quorums_meet() {
        for count in 1..=9u16 {
            let members: Vec<NodeId> = (1..=count).map(NodeId).collect();
            let configuration = Configuration::new(ConfigurationId(1), Slot(0), &members).unwrap();
            assert!(2 * configuration.quorum() > members.len());
        }
    }

    #[test]
    fn duplicate_and_zero_members_are_refused() {
        let make = |ids: &[u16]| {
            let members: Vec<NodeId> = ids.iter().copied().map(NodeId).collect();
            Configuration::new(ConfigurationId(1), Slot(0), &members)
        };
        assert_eq!(make(&[]), Err(ConfigurationError::Empty));
        assert_eq!(make(&[2, 1, 2]), Err(ConfigurationError::BadMember(NodeId(2))));
        assert_eq!(make(&[0, 1]), Err(ConfigurationError::BadMember(NodeId(0))));
    }

    #[test]
    fn the_first_configuration_is_known_by_its_members() {
        let id = |ids: &[u16]| {
            Configuration::first(&ids.iter().copied().map(NodeId).collect::<Vec<_>>()).unwrap().id()
        };
        assert_eq!(id(&[1, 2, 3]), id(&[3, 1, 2]));
        assert_ne!(id(&[1, 2, 3]), id(&[1]));
        assert_ne!(id(&[1, 2, 3]), id(&[1, 2, 3, 4, 5]));
    }

    #[test]
    fn a_vote_counts_once() {
        let mut votes = Votes::NONE;
        assert!(votes.add(3) && !votes.add(3));
        assert_eq!(votes.count(), 1);
    }
}
