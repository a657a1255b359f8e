//! Why no order explains a register's history, in one fact.

use std::time::Instant;

use crate::history::{Answer, Call, Operation};
use crate::promises::Fact;

use super::prepare::{self, prepare};
use super::search::{Found, search};

/// The operation with whose end the history became impossible, and what it contradicts.
///
/// A longer history is harder to explain, so the shortest impossible beginning is found by bisection. Its last line is
/// the end of the culprit: without that answer everything before it can still be put into an order.
pub(crate) fn explain(operations: &[&Operation], deadline: Instant) -> Fact {
    let mut ends: Vec<u64> = operations
        .iter()
        .filter_map(|operation| operation.returned())
        .collect();
    ends.sort_unstable();
    let possible = |end: u64| search(&prepare(operations, end + 1), deadline) != Found::None;
    let at = ends.partition_point(|end| possible(*end));
    let Some(culprit) = ends
        .get(at)
        .and_then(|end| operations.iter().find(|o| o.returned() == Some(*end)))
    else {
        return Fact::new("out of time while the shortest impossible beginning was looked for");
    };
    let before: Vec<&Operation> = operations
        .iter()
        .copied()
        .filter(|operation| operation.invoked.index < ends[at])
        .collect();
    overwritten(culprit, &before).unwrap_or_else(|| {
        let what = format!(
            "no order explains {} together with what was answered before it",
            culprit.told()
        );
        Fact::new(what).about([*culprit])
    })
}

/// The plain case: a value was seen after another was acknowledged that must have come later.
fn overwritten(culprit: &Operation, before: &[&Operation]) -> Option<Fact> {
    let seen = observed(culprit)?;
    let writer = seen.and_then(|value| {
        before
            .iter()
            .find(|operation| put(operation) == Some(value))
    });
    // Absent was there before every write, so any write will do; otherwise one that began after the writer was over.
    let is_later = |newer: &Operation| match (seen, writer) {
        (None, _) => true,
        (Some(_), Some(writer)) => {
            prepare::is_over(writer, before).is_some_and(|end| end < newer.invoked.index)
        }
        (Some(_), None) => false,
    };
    let newest = before
        .iter()
        .filter(|newer| {
            newer.precedes(culprit) && put(newer).is_some_and(|value| Some(value) != seen)
        })
        .filter(|newer| is_later(newer))
        .max_by_key(|newer| newer.returned())?;
    let what = format!(
        "{}, after {} was acknowledged",
        culprit.told(),
        newest.told()
    );
    let fact = Fact::new(what).about([culprit, *newest]);
    Some(match writer {
        Some(writer) => Fact {
            what: format!("{}; {} is older", fact.what, writer.told()),
            ..fact
        }
        .about([*writer]),
        None => fact,
    })
}

/// The value that an answer proves to have been there.
fn observed(operation: &Operation) -> Option<Option<i64>> {
    match (operation.answer()?, &operation.call) {
        (Answer::Register(value), _) => Some(*value),
        (Answer::Applied(true), Call::Cas(old, _)) => Some(*old),
        _ => None,
    }
}

/// The value that an operation puts there, if it is known to have happened or could have.
fn put(operation: &Operation) -> Option<i64> {
    match (&operation.call, operation.answer()) {
        (_, Some(Answer::Applied(false))) => None,
        (Call::Write(value) | Call::Cas(_, value), _) => Some(*value),
        _ => None,
    }
}
