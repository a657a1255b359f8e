//! How old follower reads certainly were.

use crate::run::Evidence;
use crate::statistics;

use super::chart::{COLOURS, Chart, Scale};

/// Every follower read as a dot, by node.
pub(crate) fn draw(evidence: &Evidence) -> Option<String> {
    let reads = statistics::staleness(&evidence.history);
    let ms = |age: u64| age as f64 / 1e6;
    let scale = Scale::above(reads.iter().map(|(_, age, _)| ms(*age)));
    let mut chart = Chart::new(
        &evidence.history,
        "Age of follower reads, at least",
        "ms",
        scale,
    );
    let mut nodes: Vec<u64> = reads.iter().map(|(_, _, node)| *node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    for (node, colour) in nodes.into_iter().zip(COLOURS.into_iter().cycle()) {
        chart.key(&format!("node {node}"), colour);
        for (time, age, _) in reads.iter().filter(|(_, _, of)| *of == node) {
            chart.dot(*time, ms(*age), colour, 2.2);
        }
    }
    (!reads.is_empty()).then(|| chart.finish())
}
