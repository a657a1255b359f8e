//! One log out of the logs of all nodes.

use std::collections::BTreeMap;

use crate::history::applied::{Entry, NodeLog};
use crate::promises::Fact;

/// Merges the logs and says where two nodes disagree.
///
/// A node may be behind, and it may begin late (it was given the state by snapshot); between its first and last command
/// it must have what the others have, results included. At a disagreement the merged log follows the first node.
pub(crate) fn merge(logs: &[NodeLog]) -> (Vec<&Entry>, Vec<Fact>) {
    let indexed: Vec<(u64, BTreeMap<u64, &[Entry]>)> =
        logs.iter().map(|log| (log.node, log.by_index())).collect();
    let mut merged: BTreeMap<u64, (u64, &[Entry])> = BTreeMap::new();
    for (node, log) in &indexed {
        for (index, entries) in log {
            merged.entry(*index).or_insert((*node, entries));
        }
    }
    let mut facts = Vec::new();
    for (node, log) in &indexed {
        let (Some((first, _)), Some((last, _))) = (log.first_key_value(), log.last_key_value())
        else {
            continue;
        };
        let differs = merged
            .range(*first..=*last)
            .find(|(index, (_, entries))| log.get(index).copied() != Some(*entries));
        if let Some((index, (other, entries))) = differs {
            facts.push(disagreement(
                *index,
                *node,
                log.get(index).copied(),
                *other,
                entries,
            ));
        }
    }
    (
        merged
            .into_values()
            .flat_map(|(_, entries)| entries)
            .collect(),
        facts,
    )
}

fn disagreement(
    index: u64,
    node: u64,
    has: Option<&[Entry]>,
    other: u64,
    entries: &[Entry],
) -> Fact {
    let Some(has) = has else {
        let told = told(&entries[0]);
        return Fact::new(format!(
            "log index {index}: node {other} applied {told}, node {node} nothing"
        ));
    };
    let at = has.iter().zip(entries).position(|(a, b)| a != b);
    let what = match at {
        Some(at) => format!(
            "node {other} applied {}, node {node} {}",
            told(&entries[at]),
            told(&has[at])
        ),
        None => format!(
            "node {other} applied {} commands, node {node} {}",
            entries.len(),
            has.len()
        ),
    };
    Fact::new(format!("log index {index}: {what}"))
}

/// An entry for people.
pub(crate) fn told(entry: &Entry) -> String {
    let key = entry
        .key
        .as_deref()
        .map(|key| format!(" {key}"))
        .unwrap_or_default();
    let dup = if entry.dup { ", a retry" } else { "" };
    let result = if entry.result.is_null() {
        String::new()
    } else {
        format!(" -> {}", entry.result)
    };
    format!(
        "{}{key} {}{result} (op {}, term {}{dup})",
        entry.f, entry.value, entry.op, entry.term
    )
}
