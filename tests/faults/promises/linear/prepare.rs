//! From the history of one register to the problem that the search solves.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Answer, Call, Operation, Outcome};
use crate::promises::Fact;

/// What an operation does at its moment, and under which condition that is possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The register holds this.
    Saw(Option<i64>),
    /// It holds this from now on.
    Set(i64),
    /// It held the first and holds the second from now on.
    Swapped(Option<i64>, i64),
    /// It did not hold this.
    Refused(Option<i64>),
}

impl Step {
    /// The state after, if the step is possible in `state`.
    pub(crate) fn apply(self, state: Option<i64>) -> Option<Option<i64>> {
        match self {
            Step::Saw(value) => (state == value).then_some(state),
            Step::Set(value) => Some(Some(value)),
            Step::Swapped(old, new) => (state == old).then_some(Some(new)),
            Step::Refused(old) => (state != old).then_some(state),
        }
    }

    /// The value that it proves to have been there.
    fn observes(self) -> Option<i64> {
        match self {
            Step::Saw(value) | Step::Swapped(value, _) => value,
            Step::Set(_) | Step::Refused(_) => None,
        }
    }

    /// The value that it puts there.
    pub(crate) fn leaves(self) -> Option<i64> {
        match self {
            Step::Set(value) | Step::Swapped(_, value) => Some(value),
            Step::Saw(_) | Step::Refused(_) => None,
        }
    }
}

/// An operation that certainly took place, within an interval of lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Must {
    /// Its invoke.
    pub(crate) call: u64,
    /// The line before which it had happened.
    pub(crate) end: u64,
    /// What it did.
    pub(crate) step: Step,
}

/// An operation that may have taken place, at any time after its invoke, unseen by anybody.
#[derive(Clone, Copy, Debug)]
pub(crate) struct May {
    /// Its invoke.
    pub(crate) call: u64,
    /// What it did if it did.
    pub(crate) step: Step,
}

/// One register's history, to be put into an order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Problem {
    /// By invoke.
    pub(crate) must: Vec<Must>,
    /// By invoke; empty unless a refused cas could have been refused because of one of them.
    pub(crate) may: Vec<May>,
}

/// Makes a problem of the part of a history before line `until`: what ended later has not ended.
///
/// Unknown outcomes are what makes the search explode, so they are reduced first, without trust in any node:
/// - an unknown write that an answered operation observed took place before that observer's end (values are unique per
///   key), and so did one that such a write, being a cas, observed;
/// - one that nobody observed matters only to a refused cas: it may be what the cas met. Without a refused cas on the key
///   it is left out. With one it is kept as [`May`].
pub(crate) fn prepare(operations: &[&Operation], until: u64) -> Problem {
    let mut must = Vec::new();
    let mut unknown: BTreeMap<i64, May> = BTreeMap::new();
    for operation in operations
        .iter()
        .filter(|operation| operation.invoked.index < until)
    {
        let call = operation.invoked.index;
        let is_fail = operation.outcome == Outcome::Fail
            && operation.ended.is_some_and(|end| end.index < until);
        match operation.returned().filter(|end| *end < until) {
            Some(end) => {
                let step = answered(operation).expect("only operations of registers come here");
                must.push(Must { call, end, step });
            }
            None if is_fail => {}
            None => {
                if let Some(step) = unanswered(&operation.call) {
                    let value = step.leaves().expect("only writes have unknown effects");
                    unknown.insert(value, May { call, step });
                }
            }
        }
    }
    settle(&mut must, &mut unknown);
    must.sort_by_key(|operation| operation.call);
    let refused: BTreeSet<Option<i64>> = must
        .iter()
        .filter_map(|operation| match operation.step {
            Step::Refused(old) => Some(old),
            Step::Saw(_) | Step::Set(_) | Step::Swapped(..) => None,
        })
        .collect();
    let mut may: Vec<May> = unknown
        .into_values()
        .filter(|_| !refused.is_empty())
        .collect();
    may.sort_by_key(|operation| operation.call);
    Problem { must, may }
}

/// Moves every unknown write that was observed to those that certainly took place.
fn settle(must: &mut Vec<Must>, unknown: &mut BTreeMap<i64, May>) {
    // The earliest end of an operation that observed the value.
    let mut seen: BTreeMap<i64, u64> = BTreeMap::new();
    for operation in must.iter() {
        if let Some(value) = operation.step.observes() {
            let end = seen.entry(value).or_insert(operation.end);
            *end = operation.end.min(*end);
        }
    }
    let mut queue: Vec<(i64, u64)> = seen.iter().map(|(value, end)| (*value, *end)).collect();
    let mut placed: BTreeMap<i64, usize> = BTreeMap::new();
    while let Some((value, end)) = queue.pop() {
        let at = match placed.get(&value) {
            Some(at) if must[*at].end <= end => continue,
            Some(at) => {
                must[*at].end = end;
                *at
            }
            None => {
                let Some(May { call, step }) = unknown.remove(&value) else {
                    continue;
                };
                must.push(Must { call, end, step });
                placed.insert(value, must.len() - 1);
                must.len() - 1
            }
        };
        if let Some(older) = must[at].step.observes() {
            queue.push((older, end));
        }
    }
}

fn answered(operation: &Operation) -> Option<Step> {
    match (&operation.call, operation.answer()?) {
        (Call::Read, Answer::Register(value)) => Some(Step::Saw(*value)),
        (Call::Write(value), _) => Some(Step::Set(*value)),
        (Call::Cas(old, new), Answer::Applied(true)) => Some(Step::Swapped(*old, *new)),
        (Call::Cas(old, _), Answer::Applied(false)) => Some(Step::Refused(*old)),
        _ => None,
    }
}

fn unanswered(call: &Call) -> Option<Step> {
    match call {
        Call::Write(value) => Some(Step::Set(*value)),
        Call::Cas(old, new) => Some(Step::Swapped(*old, *new)),
        _ => None,
    }
}

/// A value that was read although nobody can have written it, or that two writes share. Asked of every level: not even
/// a stale read may invent. Without this the reduction would not be sound, which rests on unique values.
pub(crate) fn invented(operations: &[&Operation]) -> Option<Fact> {
    let mut writers: BTreeMap<i64, &Operation> = BTreeMap::new();
    for operation in operations {
        let (Call::Write(value) | Call::Cas(_, value)) = operation.call else {
            continue;
        };
        if let Some(other) = writers.insert(value, operation) {
            let what = format!(
                "{} and {} use one value: no register can be checked so",
                other.told(),
                operation.told()
            );
            return Some(Fact::new(what).about([other, *operation]));
        }
    }
    let reads = operations
        .iter()
        .filter_map(|operation| match operation.answer()? {
            Answer::Register(Some(value)) => Some((*operation, *value)),
            Answer::Applied(true) => match operation.call {
                Call::Cas(Some(old), _) => Some((*operation, old)),
                _ => None,
            },
            _ => None,
        });
    for (read, value) in reads {
        let Some(writer) = writers.get(&value) else {
            let what = format!("{}, a value that nobody wrote", read.told());
            return Some(Fact::new(what).about([read]));
        };
        let refused = writer.answer() == Some(&Answer::Applied(false));
        let too_late = read
            .returned()
            .is_some_and(|end| end < writer.invoked.index);
        if refused || writer.outcome == Outcome::Fail || too_late {
            let why = if too_late {
                "was not asked yet"
            } else {
                "did not happen"
            };
            let what = format!("{}, but {} {why}", read.told(), writer.told());
            return Some(Fact::new(what).about([read, *writer]));
        }
    }
    None
}

/// When a write was certainly over: its end, or that of the first that saw it.
pub(crate) fn is_over(writer: &Operation, operations: &[&Operation]) -> Option<u64> {
    let (Call::Write(value) | Call::Cas(_, value)) = writer.call else {
        return None;
    };
    let saw = |operation: &&&Operation| answered(operation).and_then(Step::observes) == Some(value);
    let seen = operations
        .iter()
        .filter(saw)
        .filter_map(|operation| operation.returned())
        .min();
    [writer.returned(), seen].into_iter().flatten().min()
}
