//! Who led when, and in which term.

use std::collections::BTreeSet;

use crate::run::Evidence;
use crate::statistics;

use super::chart::{COLOURS, Chart, Scale};

/// One row a node, one bar a term.
pub(crate) fn draw(evidence: &Evidence) -> Option<String> {
    let history = &evidence.history;
    let leaders = statistics::leaders(history);
    let nodes: BTreeSet<u64> = evidence
        .plan
        .nodes
        .iter()
        .copied()
        .chain(leaders.iter().map(|(_, node, _)| *node))
        .collect();
    let rows = nodes.len() as f64;
    let mut chart = Chart::new(
        history,
        "Leader, with its term",
        "node",
        Scale::Linear(rows + 0.5, 0.5),
    );
    let row = |node: u64| nodes.iter().take_while(|known| **known < node).count() + 1;
    for node in &nodes {
        chart.label(row(*node) as u64, &format!("n{node}"));
    }
    for (at, (time, node, term)) in leaders.iter().enumerate() {
        let end = leaders
            .get(at + 1)
            .map_or(history.end_time(), |(next, _, _)| *next);
        let colour = COLOURS[(row(*node) - 1) % COLOURS.len()];
        chart.bar(*time, end, row(*node) as f64, colour, &term.to_string());
    }
    (!leaders.is_empty()).then(|| chart.finish())
}
