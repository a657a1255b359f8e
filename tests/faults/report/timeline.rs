//! `timeline.html`: every operation as a bar in its client's lane, the faults behind; one file, nothing from outside.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::history::nemesis::Process;
use crate::history::{History, Operation, Outcome};
use crate::promises::Verdict;
use crate::run::Evidence;
use crate::statistics::{kind, phases};

use super::Report;
use super::leads::leads;
use super::plots::chart::fault_colours;

/// The page without its data.
const TEMPLATE: &str = include_str!("timeline.html");

/// The page.
pub(crate) fn html(report: &Report, evidence: &Evidence) -> String {
    let history = &evidence.history;
    let windows = history.windows();
    // What was sent again is drawn as well, or a client would seem to do nothing.
    let operations = history
        .operations
        .iter()
        .map(|operation| (operation, false));
    let again = history.again.iter().map(|operation| (operation, true));
    let mut drawn: Vec<(&Operation, bool)> = operations.chain(again).collect();
    drawn.sort_by_key(|(operation, _)| operation.invoked.index);
    let lanes = lanes(&drawn);
    let lane_count = lanes.values().max().map_or(0, |lane| lane + 1);
    let micros = |nanos: u64| nanos / 1000;
    let colours: BTreeMap<String, &str> = fault_colours(&windows).into_iter().collect();
    let faults: Vec<Value> = windows
        .iter()
        .map(|w| {
            json!({
                "name": w.fault, "nodes": w.nodes, "onLeader": w.on_leader, "shape": w.shape, "colour": colours[&w.fault],
                "start": micros(w.start), "end": micros(w.end), "ready": w.ready.map(micros),
                "starts": matches!(Process::under(&w.fault), Process::Ends | Process::MayEnd),
            })
        })
        .collect();
    let leads: Vec<Value> = leads(history)
        .into_iter()
        .map(|lead| {
            let doubts = lead.doubts.iter();
            let doubts: Vec<[u64; 2]> = doubts.map(|(a, b)| [micros(*a), micros(*b)]).collect();
            json!({
                "node": lead.node, "term": lead.term, "start": micros(lead.from), "end": micros(lead.until),
                "doubts": doubts,
            })
        })
        .collect();
    let phases: Vec<Value> = phases(history)
        .into_iter()
        .map(|(time, name)| json!([micros(time), name]))
        .collect();
    let operations: Vec<Value> = drawn
        .iter()
        .map(|(operation, again)| row(history, operation, *again, lanes[&operation.process]))
        .collect();
    let data = json!({
        "title": format!("{} on {} nodes, seed {}", report.plan.workload, report.plan.nodes.len(), report.plan.seed),
        "verdict": report.verdict,
        "end": micros(history.end_time()),
        "lanes": lane_count,
        "promises": report.promises.iter().map(|judgement| json!({
            "name": judgement.promise,
            "says": judgement.says,
            "verdict": shown(&judgement.verdict),
            "facts": facts(&judgement.verdict),
        })).collect::<Vec<_>>(),
        "faults": faults,
        "leads": leads,
        "phases": phases,
        "operations": operations,
    });
    // `</script>` in a value must not end the script.
    let data = data.to_string().replace("</", "<\\/");
    TEMPLATE
        .replace(
            "__TITLE__",
            &super::plots::chart::escape(&report.plan.workload),
        )
        .replace("__DATA__", &data)
}

/// `[lane, process, begin, end or null, outcome, kind, key, asked, answered, node, place in the log, first index, last index,
/// whether it was sent again, error]`
fn row(history: &History, operation: &Operation, again: bool, lane: usize) -> Value {
    let outcome = match operation.outcome {
        Outcome::Ok(_) => 0,
        Outcome::Fail => 1,
        Outcome::Info => 2,
    };
    let answered = match operation.answer() {
        Some(crate::history::Answer::Applied(applied)) => json!(applied),
        Some(answer) => answer.value(),
        None => Value::Null,
    };
    json!([
        lane,
        operation.process,
        operation.invoked.time / 1000,
        operation.ended.map(|end| end.time / 1000),
        outcome,
        kind(operation),
        operation.key,
        operation.call.value(),
        answered,
        operation.node,
        operation.log_index.or(operation.applied),
        operation.invoked.index,
        operation.ended.map(|end| end.index),
        again,
        error(history, operation),
    ])
}

/// Why it failed or is unknown.
fn error<'a>(history: &'a History, operation: &Operation) -> Option<&'a str> {
    let at = usize::try_from(operation.ended?.index).ok()?;
    history.events.get(at)?.error.as_deref()
}

/// A promise that found nothing to check is shown as such.
fn shown(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Valid { checked: 0, .. } => "idle",
        _ => verdict.name(),
    }
}

fn facts(verdict: &Verdict) -> Vec<Value> {
    match verdict {
        Verdict::Valid { .. } => Vec::new(),
        Verdict::Unknown { reason } => vec![json!({"what": reason, "lines": []})],
        Verdict::Violated { facts, .. } => facts.iter().map(|fact| json!(fact)).collect(),
    }
}

/// The lane of each process. A process that ended in an unknown outcome is succeeded by another in the same lane, as the
/// client behind it goes on under a new number.
fn lanes(operations: &[(&Operation, bool)]) -> BTreeMap<i64, usize> {
    let mut free_from: Vec<u64> = Vec::new();
    let mut lanes: BTreeMap<i64, usize> = BTreeMap::new();
    let mut last: BTreeMap<i64, u64> = BTreeMap::new();
    for (operation, _) in operations {
        let end = operation.ended.map_or(u64::MAX, |end| end.time);
        let end = if operation.outcome == Outcome::Info {
            end
        } else {
            u64::MAX
        };
        last.insert(operation.process, end);
    }
    for (operation, _) in operations {
        if lanes.contains_key(&operation.process) {
            continue;
        }
        let begin = operation.invoked.time;
        let lane = free_from
            .iter()
            .position(|free| *free <= begin)
            .unwrap_or(free_from.len());
        if lane == free_from.len() {
            free_from.push(0);
        }
        free_from[lane] = last[&operation.process];
        lanes.insert(operation.process, lane);
    }
    lanes
}
