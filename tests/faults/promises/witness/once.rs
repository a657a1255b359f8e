//! Exactly once: what was acknowledged is in the log once, what failed is not, what is unknown is at most once.

use std::collections::BTreeMap;

use serde_json::json;

use crate::history::applied::Entry;
use crate::history::{Answer, Operation, Outcome};
use crate::promises::Fact;

use super::Claim;
use super::merge::told;

/// Compares every operation with its entries, and every entry with its operation.
pub(crate) fn check(claim: &Claim<'_>) -> Vec<Fact> {
    let mut carried: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in &claim.log {
        carried.entry(&entry.op).or_default().push(entry);
    }
    let nothing = Vec::new();
    let writes = claim
        .history
        .operations
        .iter()
        .filter(|operation| operation.call.is_write());
    let mut facts: Vec<Fact> = writes
        .filter_map(|operation| {
            let entries = carried.get(operation.id.as_deref()?).unwrap_or(&nothing);
            of_operation(operation, entries).map(|what| Fact::new(what).about([operation]))
        })
        .collect();
    facts.extend(
        carried
            .values()
            .filter_map(|entries| of_entries(claim, entries)),
    );
    facts
}

fn of_operation(operation: &Operation, entries: &[&Entry]) -> Option<String> {
    let done: Vec<&&Entry> = entries.iter().filter(|entry| !entry.dup).collect();
    match (&operation.outcome, done.as_slice()) {
        (_, [first, second, ..]) => Some(format!(
            "{} was applied twice, at log indexes {} and {}",
            operation.told(),
            first.index,
            second.index
        )),
        (Outcome::Ok(_), []) => Some(format!(
            "{} was acknowledged and is in no log: lost",
            operation.told()
        )),
        (Outcome::Fail, [entry]) => Some(format!(
            "{} is said not to have happened, but was applied at log index {}",
            operation.told(),
            entry.index
        )),
        (Outcome::Ok(answer), [entry]) => of_answer(operation, answer, entry, entries),
        (Outcome::Fail | Outcome::Info, _) => None,
    }
}

fn of_answer(
    operation: &Operation,
    answer: &Answer,
    entry: &Entry,
    entries: &[&Entry],
) -> Option<String> {
    let expected = match answer {
        Answer::Applied(applied) => json!(applied),
        other => other.value(),
    };
    if expected != entry.result {
        return Some(format!(
            "{} was answered {expected}, the log has {}",
            operation.told(),
            told(entry)
        ));
    }
    // A retry may be answered with the place of the retry or with that of the original.
    let known = |index: u64| entries.iter().any(|entry| entry.index == index);
    let index = operation.log_index.filter(|index| !known(*index))?;
    Some(format!(
        "{} was answered with log index {index}, but it was applied at {}",
        operation.told(),
        entry.index
    ))
}

/// Whether the entries of one idempotency key carry what was asked, and the retries what the original was answered.
fn of_entries(claim: &Claim<'_>, entries: &[&Entry]) -> Option<Fact> {
    let first = entries.first()?;
    let Some(operation) = claim.operation(first) else {
        return Some(Fact::new(format!(
            "log index {}: {}, which nobody asked for",
            first.index,
            told(first)
        )));
    };
    for entry in entries {
        let is_asked = entry.f == operation.call.name()
            && entry.key == operation.key
            && entry.value == operation.call.value();
        if !is_asked {
            let what = format!(
                "log index {}: {}, but asked was {}",
                entry.index,
                told(entry),
                operation.told()
            );
            return Some(Fact::new(what).about([operation]));
        }
    }
    let original = entries.iter().find(|entry| !entry.dup);
    let Some(original) = original else {
        let what = format!(
            "log index {}: {}, of which there is no original",
            first.index,
            told(first)
        );
        return Some(Fact::new(what).about([operation]));
    };
    let odd = entries
        .iter()
        .find(|entry| entry.result != original.result || entry.index < original.index)?;
    let what = format!(
        "log index {}: {}, but the original is {}",
        odd.index,
        told(odd),
        told(original)
    );
    Some(Fact::new(what).about([operation]))
}
