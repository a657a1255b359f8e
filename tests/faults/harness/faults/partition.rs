//! Nodes are cut from each other: one alone, in two parts, in a ring, with a bridge between, in one direction only, or again
//! and again. What was under way comes late or never.

use std::time::Duration;

use super::{Fault, Installed, NotInstalled, leader_first, named_nodes, part};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// See the module.
pub(crate) struct Partition;

/// Pairs, the sender first.
pub(crate) type Directions = Vec<(u64, u64)>;

impl Fault for Partition {
    fn name(&self) -> &'static str {
        "partition"
    }

    fn says(&self) -> &'static str {
        "nodes are cut from each other: alone, halves, ring, bridge, one way, flapping"
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        let order = leader_first(&nodes.ids(), leader, random);
        let shape = random.pick(SHAPES);
        let directions = (shape.cuts)(&order);
        let flaps = random
            .percent(20)
            .then(|| Duration::from_millis(random.between(100, 900)));
        nodes.net.change(&directions, |quality| {
            (quality.cut, quality.flaps) = (true, flaps);
        })?;
        let lease = nodes.pace().election_max;
        let lasts = part(lease, *random.pick(&[80, 200, 400]));
        let is_lost = random.percent(50);
        Ok(Installed {
            nodes: touched(&directions),
            aim: (shape.aims)(&order),
            how: Some(shape.told(&order, flaps)),
            lasts,
            until: None,
            heal: Box::new(move |nodes| nodes.net.heal(&directions, is_lost)),
        })
    }
}

/// What is cut.
struct Shape {
    /// A word.
    name: &'static str,
    /// Of nodes in an order that has at its head whom to hit.
    cuts: fn(&[u64]) -> Directions,
    /// The nodes that are worse off than the others, of the same.
    aims: fn(&[u64]) -> Vec<u64>,
    /// For people.
    tells: fn(&[u64]) -> String,
}

impl Shape {
    /// `halves: n1 n2 | n3 n4 n5`; what is left of a bar does not see what is right of it.
    fn told(&self, order: &[u64], flaps: Option<Duration>) -> String {
        let flapping = flaps.map(|every| format!(", on and off every {} ms", every.as_millis()));
        let tells = (self.tells)(order);
        format!("{}: {tells}{}", self.name, flapping.unwrap_or_default())
    }
}

const SHAPES: &[Shape] = &[
    Shape {
        name: "alone",
        cuts: alone,
        aims: |order| vec![order[0]],
        tells: |order| parts(&order[..1], &order[1..]),
    },
    Shape {
        name: "halves",
        cuts: halves,
        aims: |order| order[..(order.len() - 1) / 2].to_vec(),
        tells: |order| {
            let (few, many) = order.split_at((order.len() - 1) / 2);
            parts(few, many)
        },
    },
    Shape {
        name: "ring",
        cuts: ring,
        // No side is the better one.
        aims: |order| touched(&ring(order)),
        tells: |order| format!("each sees its neighbours only of {}", named_nodes(order)),
    },
    Shape {
        name: "bridge",
        cuts: bridge,
        // All but the one that sees both.
        aims: |order| touched(&bridge(order)),
        tells: |order| {
            let half = order.len() / 2;
            let sides = parts(&order[..half], &order[half + 1..]);
            format!("{sides}, n{} sees both", order[half])
        },
    },
    Shape {
        name: "deaf",
        cuts: deaf,
        aims: |order| vec![order[0]],
        tells: |order| format!("n{} hears nobody", order[0]),
    },
    Shape {
        name: "dumb",
        cuts: dumb,
        aims: |order| vec![order[0]],
        tells: |order| format!("n{} is heard by nobody", order[0]),
    },
];

/// Two parts that do not see each other.
fn parts(left: &[u64], right: &[u64]) -> String {
    format!("{} | {}", named_nodes(left), named_nodes(right))
}

/// What every shape cuts of nodes in this order, and whom it is aimed at, by name.
pub(crate) fn shapes(order: &[u64]) -> impl Iterator<Item = (&'static str, Directions, Vec<u64>)> {
    SHAPES
        .iter()
        .map(move |shape| (shape.name, (shape.cuts)(order), (shape.aims)(order)))
}

/// The nodes that lose something.
fn touched(directions: &[(u64, u64)]) -> Vec<u64> {
    let mut nodes: Vec<u64> = directions.iter().flat_map(|(a, b)| [*a, *b]).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

fn both_ways(pairs: impl Iterator<Item = (u64, u64)>) -> Directions {
    pairs.flat_map(|(a, b)| [(a, b), (b, a)]).collect()
}

/// The first from all others.
fn alone(order: &[u64]) -> Directions {
    both_ways(order[1..].iter().map(|other| (order[0], *other)))
}

/// A minority, with the first, from the others.
fn halves(order: &[u64]) -> Directions {
    let (few, many) = order.split_at((order.len() - 1) / 2);
    both_ways(few.iter().flat_map(|a| many.iter().map(|b| (*a, *b))))
}

/// Each sees only its two neighbours; with three nodes, the first and the last do not see each other.
fn ring(order: &[u64]) -> Directions {
    let count = order.len();
    let apart = |a: usize, b: usize| (b - a).min(a + count - b) > 1 || count == 3 && b - a == 2;
    let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    both_ways(
        pairs
            .filter(|(a, b)| apart(*a, *b))
            .map(|(a, b)| (order[a], order[b])),
    )
}

/// Two parts that do not see each other, and one node that sees both.
fn bridge(order: &[u64]) -> Directions {
    let half = order.len() / 2;
    let (left, right) = (&order[..half], &order[half + 1..]);
    both_ways(left.iter().flat_map(|a| right.iter().map(|b| (*a, *b))))
}

/// The first hears nobody.
fn deaf(order: &[u64]) -> Directions {
    order[1..].iter().map(|other| (*other, order[0])).collect()
}

/// The first is heard by nobody.
fn dumb(order: &[u64]) -> Directions {
    order[1..].iter().map(|other| (order[0], *other)).collect()
}
