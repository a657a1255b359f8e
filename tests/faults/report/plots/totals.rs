//! The total of all accounts, as each read of the bank saw it.

use crate::history::Happening;
use crate::run::Evidence;
use crate::statistics;

use super::chart::{COLOURS, Chart, Scale};

/// Every read as a dot, by node, and the total that is due as a line.
pub(crate) fn draw(evidence: &Evidence) -> Option<String> {
    let history = &evidence.history;
    let reads = statistics::bank_totals(history);
    let due: i64 = history
        .moments
        .iter()
        .find_map(|moment| match &moment.what {
            Happening::Accounts(accounts) => Some(accounts.balances.values().sum()),
            _ => None,
        })?;
    let far = reads
        .iter()
        .map(|(_, total, _)| (total - due).unsigned_abs())
        .max()?;
    let (due, room) = (due as f64, (far as f64 * 1.2).max(10.0).ceil());
    let mut chart = Chart::new(
        history,
        "Total of all accounts",
        "money",
        Scale::Linear(due - room, due + room),
    );
    chart.line(&[(0, due), (history.end_time(), due)], "#999", 1.2);
    let mut nodes: Vec<u64> = reads.iter().map(|(_, _, node)| *node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    for (node, colour) in nodes.into_iter().zip(COLOURS.into_iter().cycle()) {
        chart.key(&format!("read at node {node}"), colour);
        for (time, total, _) in reads.iter().filter(|(_, _, of)| *of == node) {
            chart.dot(*time, *total as f64, colour, 2.2);
        }
    }
    Some(chart.finish())
}
