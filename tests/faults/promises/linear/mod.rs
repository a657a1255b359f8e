//! Linearizability of every register, from the history alone: no node is believed.
//!
//! Each key is searched by itself (linearizability is local), once with the reads of each level that promises it and once
//! with all of them. The search is in [`search`], what is taken off its shoulders first in [`prepare`].
//!
//! Reads at level `follower` promise less; here they are only asked whether anybody ever wrote what they returned, and
//! [`super::witness`] compares them with the log.

pub(crate) mod prepare;

pub(crate) mod search;

pub(crate) mod explain;

use std::time::Instant;

use crate::history::{Answer, Call, Level, Operation, Outcome};
use crate::run::Evidence;

use super::{Fact, Limits, Promise, Verdict};
use search::Found;

/// Every register is linearizable at each level that promises it.
pub(crate) const PROMISE: Promise = Promise {
    name: "linear",
    says: "every register is linearizable, for leader reads, for lease reads and for both together",
    check,
};

/// What came of one key.
pub(crate) enum OfKey {
    /// Some order explains every answer.
    Linear,
    /// No order does.
    Broken(Fact),
    /// Out of time.
    Unknown,
}

fn check(evidence: &Evidence, limits: &Limits) -> Verdict {
    let deadline = Instant::now() + limits.time;
    let (mut facts, mut undecided, mut checked) = (Vec::new(), Vec::new(), 0);
    for (key, operations) in evidence.history.by_key() {
        let operations: Vec<&Operation> = operations
            .into_iter()
            .filter(|o| is_of_register(o))
            .collect();
        checked += operations.len();
        if let Some(fact) = prepare::invented(&operations) {
            facts.push(fact);
            continue;
        }
        for levels in levels_of(&operations) {
            match of_key(&operations, &levels, deadline) {
                OfKey::Linear => {}
                OfKey::Broken(fact) => {
                    facts.push(fact);
                    break;
                }
                OfKey::Unknown => {
                    undecided.push(key);
                    break;
                }
            }
        }
    }
    if !facts.is_empty() || undecided.is_empty() {
        return Verdict::of(checked, facts);
    }
    let first = undecided[0];
    Verdict::unknown(format!(
        "out of time: {} keys not decided, the first is {first}",
        undecided.len()
    ))
}

/// Whether an operation is one of a register. A read without an answer says nothing and belongs to nobody.
pub(crate) fn is_of_register(operation: &Operation) -> bool {
    match (&operation.call, &operation.outcome) {
        (Call::Write(_) | Call::Cas(..), _) => true,
        (Call::Read, Outcome::Ok(answer)) => matches!(answer, Answer::Register(_)),
        _ => false,
    }
}

/// The sets of levels to search with: each that occurs alone, then all together.
pub(crate) fn levels_of(operations: &[&Operation]) -> Vec<Vec<Level>> {
    let occurs = |level: &Level| {
        operations
            .iter()
            .any(|operation| operation.level == Some(*level))
    };
    let levels: Vec<Level> = Level::ALL
        .into_iter()
        .filter(|level| level.is_linearizable() && occurs(level))
        .collect();
    let mut sets: Vec<Vec<Level>> = levels.iter().map(|level| vec![*level]).collect();
    if levels.len() != 1 {
        sets.push(levels);
    }
    sets
}

/// Decides one key, with the reads at `levels` and every write.
pub(crate) fn of_key(operations: &[&Operation], levels: &[Level], deadline: Instant) -> OfKey {
    let chosen = at_levels(operations, levels);
    match search::search(&prepare::prepare(&chosen, u64::MAX), deadline) {
        Found::Order => OfKey::Linear,
        Found::None => OfKey::Broken(explain::explain(&chosen, deadline)),
        Found::OutOfTime => OfKey::Unknown,
    }
}

/// The reads at `levels` and every write.
pub(crate) fn at_levels<'a>(operations: &[&'a Operation], levels: &[Level]) -> Vec<&'a Operation> {
    let is_chosen = |level: Level| levels.contains(&level);
    operations
        .iter()
        .copied()
        .filter(|operation| operation.level.is_none_or(is_chosen))
        .collect()
}
