//! Which core owns which ring: the same on every node, so that core i talks to core i.

use std::collections::BTreeMap;

use annulus_rings::{CoreId, RingId};

/// From ring to core. It must be the same on every node of a cluster, and never change for a ring with
/// a journal: the journal belongs to the core.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Placement {
    /// The ring's number, modulo the number of cores.
    #[default]
    ByRing,
    /// A table; rings that are not in it are placed as by `ByRing`.
    Table(BTreeMap<RingId, CoreId>),
}

impl Placement {
    /// The core that owns `ring` in a node of `cores` cores.
    pub fn core_of(&self, ring: RingId, cores: usize) -> CoreId {
        let by_ring = CoreId((ring.0 as usize % cores) as u16);
        match self {
            Placement::ByRing => by_ring,
            Placement::Table(table) => table.get(&ring).copied().unwrap_or(by_ring),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_overrides_the_rule_for_the_rings_in_it() {
        let placement = Placement::Table(BTreeMap::from([(RingId(7), CoreId(0))]));
        assert_eq!(placement.core_of(RingId(7), 2), CoreId(0));
        assert_eq!(placement.core_of(RingId(9), 2), CoreId(1));
        assert_eq!(Placement::ByRing.core_of(RingId(7), 2), CoreId(1));
    }
}
