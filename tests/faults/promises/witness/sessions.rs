//! What one client may expect from one read to the next, and what a read demands of itself.

use std::collections::BTreeMap;

use crate::history::{Level, Operation};
use crate::promises::Fact;

use super::Claim;
use super::order::index_shown;

/// Checks every follower read that was answered.
pub(crate) fn check(claim: &Claim<'_>) -> Vec<Fact> {
    let mut facts = going_back(claim);
    facts.extend(demands(claim));
    facts.extend(beyond_bound(claim));
    facts
}

fn follower_reads<'a>(claim: &Claim<'a>) -> impl Iterator<Item = &'a Operation> {
    let operations = claim.history.operations.iter();
    operations.filter(|operation| {
        operation.level == Some(Level::Follower) && operation.answer().is_some()
    })
}

/// At one node the applied index never falls, restarts included: what was committed when it stopped is applied before
/// it answers again. Between nodes only a demanded index says anything.
fn going_back(claim: &Claim<'_>) -> Vec<Fact> {
    let mut last: BTreeMap<(i64, u64), &Operation> = BTreeMap::new();
    let mut facts = Vec::new();
    for read in follower_reads(claim) {
        let (Some(node), Some(_)) = (read.node, read.applied) else {
            continue;
        };
        let before = last.insert((read.process, node), read);
        if let Some(before) = before.filter(|before| before.applied > read.applied) {
            let what = format!(
                "process {} at node {node}: {} after {}",
                read.process,
                read.told(),
                before.told()
            );
            facts.push(Fact::new(what).about([read, before]));
        }
    }
    facts
}

/// A read that demands an index (its session's token) sees at least that, at every level.
fn demands(claim: &Claim<'_>) -> Vec<Fact> {
    let reads = claim
        .history
        .operations
        .iter()
        .filter(|operation| operation.answer().is_some());
    reads
        .filter(|read| {
            read.min_index
                .is_some_and(|min| read.applied.is_none_or(|applied| applied < min))
        })
        .map(|read| {
            let min = read.min_index.unwrap_or_default();
            Fact::new(format!("{} demanded to see index {min}", read.told())).about([read])
        })
        .collect()
}

/// A read that demands a bound on its age, or names one, is no older.
fn beyond_bound(claim: &Claim<'_>) -> Vec<Fact> {
    let ages = Ages::new(&claim.history.operations);
    follower_reads(claim)
        .filter_map(|read| {
            let bound = [read.max_staleness, read.staleness]
                .into_iter()
                .flatten()
                .min()?;
            let (age, missed) = ages.of(read)?;
            let (age_ms, bound_ms) = (age / 1_000_000, bound / 1_000_000);
            let what = || {
                format!(
                    "{} is {age_ms} ms old, its bound is {bound_ms} ms: it misses {}",
                    read.told(),
                    missed.told()
                )
            };
            (age > bound).then(|| Fact::new(what()).about([read, missed]))
        })
        .collect()
}

/// How old reads certainly were: since when something had been known that they did not see.
pub(crate) struct Ages<'a> {
    /// By index shown, from the highest down: the earliest moment at which that index or a higher one was shown.
    shown: Vec<(u64, u64, &'a Operation)>,
}

impl<'a> Ages<'a> {
    /// From every answer of a run.
    pub(crate) fn new(operations: &'a [Operation]) -> Ages<'a> {
        let mut shown: Vec<(u64, u64, &Operation)> = operations
            .iter()
            .filter(|operation| operation.answer().is_some())
            .filter_map(|operation| {
                Some((index_shown(operation)?, operation.ended?.time, operation))
            })
            .collect();
        shown.sort_by_key(|(index, time, _)| (*index, *time));
        for at in (1..shown.len()).rev() {
            if shown[at].1 < shown[at - 1].1 {
                (shown[at - 1].1, shown[at - 1].2) = (shown[at].1, shown[at].2);
            }
        }
        Ages { shown }
    }

    /// The age at the invoke, in nanoseconds, and who had shown more by then; nothing if nobody had.
    pub(crate) fn of(&self, read: &Operation) -> Option<(u64, &'a Operation)> {
        let applied = read.applied?;
        let at = self
            .shown
            .partition_point(|(index, _, _)| *index <= applied);
        let (_, time, missed) = self.shown.get(at)?;
        let age = read.invoked.time.checked_sub(*time)?;
        Some((age, missed))
    }
}
