//! Shapes of partitions: which directions between nodes are cut.

use annulus_rings::NodeId;

use crate::chaos::Random;

/// A direction between two nodes.
pub(super) type Direction = (NodeId, NodeId);

/// What of a network is left, over nodes in any order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// Two sides that do not see each other.
    Sides,
    /// Two sides, and only one is heard by the other.
    OneWay,
    /// One node hears nobody and is heard by nobody.
    Alone,
    /// One node hears nobody.
    Deaf,
    /// One node is heard by nobody.
    Mute,
    /// Each node sees its neighbours only.
    Chain,
    /// Two sides that do not see each other, and one node that both see.
    Bridge,
    /// One node sees all the others, which do not see each other.
    Star,
    /// Each node is heard by the next one only.
    Circle,
    /// Nobody hears anybody.
    Nothing,
    /// Any graph at all, with so many directions of a thousand.
    Any(u64),
}

const SHAPES: [Shape; 15] = [
    Shape::Sides,
    Shape::Sides,
    Shape::OneWay,
    Shape::Alone,
    Shape::Deaf,
    Shape::Mute,
    Shape::Chain,
    Shape::Bridge,
    Shape::Star,
    Shape::Circle,
    Shape::Nothing,
    Shape::Any(300),
    Shape::Any(500),
    Shape::Any(500),
    Shape::Any(800),
];

/// Every direction.
pub(super) fn directions(nodes: &[NodeId]) -> impl Iterator<Item = Direction> {
    nodes.iter().flat_map(|&a| nodes.iter().map(move |&b| (a, b))).filter(|(a, b)| a != b)
}

/// The directions that a partition cuts.
pub(super) fn draw_cuts(nodes: &[NodeId], random: &mut Random) -> Vec<Direction> {
    let mut order = nodes.to_vec();
    random.shuffle(&mut order);
    let shape = random.pick(&SHAPES);
    let border = 1 + random.below(nodes.len() as u64 - 1) as usize;
    let place = |node: NodeId| order.iter().position(|other| *other == node).expect("every node has a place");
    let is_cut = |(a, b): &Direction| !shape.keeps(place(*a), place(*b), border, order.len(), random);
    directions(nodes).filter(is_cut).collect()
}

impl Shape {
    /// Whether the node at place `b` hears the one at place `a`, of `count`. Sides are those below and
    /// above `border`; what is alone is at place 0.
    fn keeps(self, a: usize, b: usize, border: usize, count: usize, random: &mut Random) -> bool {
        match self {
            Shape::Sides => (a < border) == (b < border),
            Shape::OneWay => a < border || b >= border,
            Shape::Alone => a != 0 && b != 0,
            Shape::Deaf => b != 0,
            Shape::Mute => a != 0,
            Shape::Chain => a.abs_diff(b) == 1,
            Shape::Bridge => a == border || b == border || (a < border) == (b < border),
            Shape::Star => a == 0 || b == 0,
            Shape::Circle => (a + 1) % count == b,
            Shape::Nothing => false,
            Shape::Any(density) => random.permille(density),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_graph_of_three_nodes_is_drawn() {
        let nodes = [NodeId(1), NodeId(2), NodeId(3)];
        let mut random = Random::new(1);
        let drawn: BTreeSet<Vec<Direction>> = (0..3000).map(|_| draw_cuts(&nodes, &mut random)).collect();
        assert_eq!(drawn.len(), 64);
    }
}
