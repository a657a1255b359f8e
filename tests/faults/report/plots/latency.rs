//! How long operations took: each as a dot, and quantiles over time.

use crate::history::Operation;
use crate::run::Evidence;
use crate::statistics::kind;

use super::chart::{COLOURS, Chart, KIND_COLOURS, Scale};

/// Colour of what failed, and of what is unknown.
const FAIL: &str = "#8c96a4";
const INFO: &str = "#e0a100";

/// Every operation as a dot at its begin, coloured by its kind if it was answered and by its outcome if not.
pub(crate) fn raw(evidence: &Evidence) -> Option<String> {
    let history = &evidence.history;
    let ended: Vec<(&Operation, f64)> = history
        .operations
        .iter()
        .filter_map(|operation| Some((operation, operation.latency()? as f64 / 1e6)))
        .collect();
    let scale = Scale::around(ended.iter().map(|(_, ms)| *ms));
    let mut chart = Chart::new(history, "Latency of every operation", "ms", scale);
    let kinds = kinds(&ended);
    for (name, colour) in &kinds {
        chart.key(name, colour);
    }
    for (text, colour) in [("not applied", FAIL), ("unknown", INFO)] {
        chart.key(text, colour);
    }
    for (operation, ms) in &ended {
        let name = kind(operation);
        let (colour, size) = match operation.outcome.name() {
            "ok" => (
                kinds
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map_or(KIND_COLOURS[0], |(_, colour)| *colour),
                1.8,
            ),
            "fail" => (FAIL, 2.6),
            _ => (INFO, 2.6),
        };
        chart.dot(operation.invoked.time, *ms, colour, size);
    }
    (!ended.is_empty()).then(|| chart.finish())
}

/// Median, p95, p99 and maximum of what ended in each of a hundred parts of the run.
pub(crate) fn quantiles(evidence: &Evidence) -> Option<String> {
    const PARTS: u64 = 100;
    let history = &evidence.history;
    let part = (history.end_time() / PARTS).max(1);
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); usize::try_from(PARTS + 1).expect("small")];
    for operation in history
        .operations
        .iter()
        .filter(|operation| operation.answer().is_some())
    {
        if let (Some(end), Some(latency)) = (operation.ended, operation.latency()) {
            let at = usize::try_from(end.time / part)
                .unwrap_or(0)
                .min(times.len() - 1);
            times[at].push(latency as f64 / 1e6);
        }
    }
    let all: Vec<f64> = times.iter().flatten().copied().collect();
    let mut chart = Chart::new(
        history,
        "Latency of answers",
        "ms",
        Scale::around(all.iter().copied()),
    );
    let shown = [
        (100, "max", COLOURS[6]),
        (99, "p99", COLOURS[1]),
        (95, "p95", COLOURS[5]),
        (50, "p50", COLOURS[0]),
    ];
    for (percent, _, colour) in shown {
        let mut points = Vec::new();
        for (at, times) in (0..).zip(&mut times) {
            times.sort_by(f64::total_cmp);
            let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            points.push(times.get(place).map(|ms| (at * part + part / 2, *ms)));
        }
        // While nothing is answered there is no latency: the line has a gap there.
        for run in points.split(Option::is_none) {
            let run: Vec<(u64, f64)> = run.iter().copied().flatten().collect();
            chart.line(&run, colour, if percent == 50 { 2.2 } else { 1.4 });
        }
    }
    for (_, name, colour) in shown.into_iter().rev() {
        chart.key(name, colour);
    }
    (!all.is_empty()).then(|| chart.finish())
}

fn kinds(operations: &[(&Operation, f64)]) -> Vec<(String, &'static str)> {
    let mut kinds: Vec<String> = operations
        .iter()
        .map(|(operation, _)| kind(operation))
        .collect();
    kinds.sort();
    kinds.dedup();
    kinds
        .into_iter()
        .zip(KIND_COLOURS.into_iter().cycle())
        .collect()
}
