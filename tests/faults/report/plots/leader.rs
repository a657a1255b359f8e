//! Who was last seen to lead, and in which term.

use std::collections::BTreeSet;

use crate::report::leads::leads;
use crate::run::Evidence;

use super::chart::{COLOURS, Chart, Scale};

/// One row a node, one bar a term, to when another was seen or it was ended; hatched while it was frozen or cut off.
pub(crate) fn draw(evidence: &Evidence) -> Option<String> {
    let history = &evidence.history;
    let leads = leads(history);
    let nodes: BTreeSet<u64> = evidence
        .plan
        .nodes
        .iter()
        .copied()
        .chain(leads.iter().map(|lead| lead.node))
        .collect();
    let rows = nodes.len() as f64;
    let mut chart = Chart::new(
        history,
        "Leader last seen, with its term (hatched: frozen or cut off)",
        "node",
        Scale::Linear(rows + 0.5, 0.5),
    );
    let row = |node: u64| nodes.iter().take_while(|known| **known < node).count() + 1;
    for node in &nodes {
        chart.label(row(*node) as u64, &format!("n{node}"));
    }
    for lead in &leads {
        let place = row(lead.node);
        let colour = COLOURS[(place - 1) % COLOURS.len()];
        let term = lead.term.to_string();
        chart.bar(lead.from, lead.until, place as f64, colour, &term);
        for (from, until) in &lead.doubts {
            chart.hatch(*from, *until, place as f64);
        }
    }
    (!leads.is_empty()).then(|| chart.finish())
}
