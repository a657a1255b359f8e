//! How many operations ended a second, by outcome.

use crate::run::Evidence;

use super::chart::{Chart, Scale};

const PARTS: u64 = 100;

/// Ends in each of a hundred parts of the run, by outcome.
pub(crate) fn draw(evidence: &Evidence) -> Option<String> {
    let history = &evidence.history;
    let part = (history.end_time() / PARTS).max(1);
    let seconds = part as f64 / 1e9;
    let outcomes = [
        ("ok", "answered", "#0072b2"),
        ("fail", "failed", "#c0392b"),
        ("info", "unknown", "#e0a100"),
    ];
    let mut counts = vec![[0.0f64; 3]; usize::try_from(PARTS + 1).expect("small")];
    for operation in &history.operations {
        let (Some(end), Some(outcome)) = (
            operation.ended,
            outcomes
                .iter()
                .position(|(name, _, _)| *name == operation.outcome.name()),
        ) else {
            continue;
        };
        let at = usize::try_from(end.time / part)
            .unwrap_or(0)
            .min(counts.len() - 1);
        counts[at][outcome] += 1.0 / seconds;
    }
    let scale = Scale::above(counts.iter().flatten().copied());
    let mut chart = Chart::new(history, "Operations ended", "1/s", scale);
    for (outcome, (_, text, colour)) in outcomes.iter().enumerate() {
        let points: Vec<(u64, f64)> = (0..)
            .zip(&counts)
            .map(|(at, rates)| (at * part + part / 2, rates[outcome]))
            .collect();
        chart.line(&points, colour, 1.8);
        chart.key(text, colour);
    }
    (!history.operations.is_empty()).then(|| chart.finish())
}
