//! The order of the log against real time.

use crate::history::Operation;
use crate::promises::Fact;

use super::Claim;
use super::merge::told;

/// Writes among each other, then reads against the writes.
pub(crate) fn check(claim: &Claim<'_>) -> Vec<Fact> {
    let mut facts = writes(claim);
    facts.extend(floors(claim));
    facts.extend(ceilings(claim));
    facts
}

/// A write that was over before another began comes before it in the log.
fn writes(claim: &Claim<'_>) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut latest: Option<&Operation> = None;
    let placed = claim
        .log
        .iter()
        .enumerate()
        .filter(|(at, entry)| claim.placed.get(entry.op.as_str()) == Some(at));
    for (_, entry) in placed {
        let Some(operation) = claim.operation(entry) else {
            continue;
        };
        if let Some(latest) = latest.filter(|latest| operation.precedes(latest)) {
            let what = format!(
                "{} is in the log before {}, which was over before it began",
                latest.told(),
                operation.told()
            );
            facts.push(Fact::new(what).about([latest, operation]));
        }
        if latest.is_none_or(|latest| latest.invoked.index < operation.invoked.index) {
            latest = Some(operation);
        }
    }
    facts
}

/// A leader or lease read sees everything that was acknowledged, or seen by another read, before it began.
fn floors(claim: &Claim<'_>) -> Vec<Fact> {
    let operations = &claim.history.operations;
    let mut known: Vec<(u64, u64, &Operation)> = operations
        .iter()
        .filter_map(|operation| Some((operation.returned()?, index_shown(operation)?, operation)))
        .collect();
    known.sort_by_key(|(end, _, _)| *end);
    let (mut next, mut floor) = (0, None::<(u64, &Operation)>);
    let mut facts = Vec::new();
    // Operations are in the order of their invokes, so the floor only rises.
    for read in operations
        .iter()
        .filter(|operation| operation.level.is_some_and(|level| level.is_linearizable()))
    {
        while let Some((_, index, operation)) = known
            .get(next)
            .filter(|(end, _, _)| *end < read.invoked.index)
        {
            if floor.is_none_or(|(highest, _)| highest < *index) {
                floor = Some((*index, operation));
            }
            next += 1;
        }
        let (Some(applied), Some((index, operation))) = (read.applied, floor) else {
            continue;
        };
        if applied < index {
            let what = format!(
                "{} saw the state at {applied}, though {} had shown {index} before: stale",
                read.told(),
                operation.told()
            );
            facts.push(Fact::new(what).about([read, operation]));
        }
    }
    facts
}

/// No read, of any level, sees a write that was only asked for after it was over.
fn ceilings(claim: &Claim<'_>) -> Vec<Fact> {
    // For each beginning of the log, the write in it that was asked for last.
    let mut newest: Vec<Option<&Operation>> = vec![None];
    for entry in &claim.log {
        let last = *newest.last().expect("begins with one");
        let asked = claim.operation(entry).filter(|_| !entry.dup);
        let later = match (last, asked) {
            (Some(last), Some(asked)) if last.invoked.index > asked.invoked.index => Some(last),
            (last, asked) => asked.or(last),
        };
        newest.push(later);
    }
    let reads = claim
        .history
        .operations
        .iter()
        .filter(|operation| !operation.call.is_write());
    reads
        .filter_map(|read| {
            let (end, applied) = (read.returned()?, read.applied?);
            let seen = claim.log.partition_point(|entry| entry.index <= applied);
            let write = newest[seen].filter(|write| write.invoked.index > end)?;
            let entry = told(claim.log[*claim.placed.get(write.id.as_deref()?)?]);
            let what = format!("{} saw {entry}, which was not asked for yet", read.told());
            Some(Fact::new(what).about([read, write]))
        })
        .collect()
}

/// The log index that an answer shows to be committed.
pub(crate) fn index_shown(operation: &Operation) -> Option<u64> {
    operation.log_index.or(operation.applied)
}
