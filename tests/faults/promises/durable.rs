//! After the last heal, every node has everything that was ever acknowledged.
//!
//! That what they have is right is the business of [`super::witness`]; here it is only asked whether anybody fell short.

use crate::history::Operation;
use crate::run::Evidence;

use super::{Fact, Limits, Promise, Verdict};

/// Nothing acknowledged is missing at the end, anywhere.
pub(crate) const PROMISE: Promise = Promise {
    name: "durable",
    says: "after the last heal every node has applied every acknowledged write",
    check,
};

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let acknowledged = evidence
        .history
        .operations
        .iter()
        .filter(|operation| operation.answer().is_some());
    let acknowledged: Vec<(u64, &Operation)> = acknowledged
        .filter_map(|o| Some((o.log_index?, o)))
        .collect();
    let Some((index, newest)) = acknowledged.iter().max_by_key(|(index, _)| *index) else {
        return Verdict::valid(0);
    };
    if evidence.finals.is_empty() {
        return if evidence.plan.expect.final_phase {
            Verdict::unknown("no node says where it ended")
        } else {
            Verdict::valid(0)
        };
    }
    let mut facts = Vec::new();
    for end in &evidence.finals {
        let mut logs = (evidence.logs.iter())
            .filter(|log| log.node == end.node)
            .peekable();
        // What it got by snapshot is in no log of its own.
        let is_logged = logs.peek().is_some() && end.first <= *index;
        let entries = logs.flat_map(|log| log.entries.last());
        let last = is_logged.then(|| entries.map(|entry| entry.index).max().unwrap_or(0));
        let short = [Some(end.applied), last]
            .into_iter()
            .flatten()
            .find(|last| last < index);
        if let Some(last) = short {
            let what = format!(
                "node {} ended at index {last}, without {}",
                end.node,
                newest.told()
            );
            facts.push(Fact::new(what).about([*newest]));
        }
    }
    let plan = &evidence.plan;
    let last = if plan.members.is_empty() {
        &plan.nodes
    } else {
        &plan.members
    };
    let absent = last
        .iter()
        .filter(|node| evidence.finals.iter().all(|end| end.node != **node));
    facts.extend(absent.map(|node| Fact::new(format!("node {node} does not say where it ended"))));
    Verdict::of(acknowledged.len() * evidence.finals.len(), facts)
}
