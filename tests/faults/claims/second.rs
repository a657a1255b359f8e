//! Second opinions, by other means: slow, plain, and written without a look at what they are compared with.

use std::collections::{BTreeMap, BTreeSet};

use todc_utils::linearizability::WGLChecker;
use todc_utils::linearizability::history::{Action, History};
use todc_utils::specifications::Specification;

use crate::history::{Answer, Call, Level, Micro, Operation, Outcome};
use crate::run::Evidence;

/// Whether one register's history is linearizable, decided line by line: the set of all states that the register may be
/// in, each with the open operations that have taken effect in it, is carried along from event to event. Nothing is
/// reduced; an unknown operation stays open for ever.
pub(crate) fn is_linear(operations: &[&Operation]) -> bool {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, operation) in operations
        .iter()
        .enumerate()
        .filter(|(_, o)| o.outcome != Outcome::Fail)
    {
        events.push((operation.invoked.index, true, at));
        events.extend(operation.returned().map(|end| (end, false, at)));
    }
    events.sort_unstable();
    let mut open: BTreeSet<usize> = BTreeSet::new();
    let mut worlds: BTreeSet<(Option<i64>, BTreeSet<usize>)> =
        BTreeSet::from([(None, BTreeSet::new())]);
    for (_, is_begin, at) in events {
        if is_begin {
            open.insert(at);
            continue;
        }
        let mut grown = worlds.clone();
        let mut fresh: Vec<_> = worlds.into_iter().collect();
        while let Some((state, done)) = fresh.pop() {
            for next in open.iter().filter(|next| !done.contains(next)) {
                let Some(state) = effect(operations[*next], state) else {
                    continue;
                };
                let world = (state, done.iter().copied().chain([*next]).collect());
                if grown.insert(world.clone()) {
                    fresh.push(world);
                }
            }
        }
        open.remove(&at);
        worlds = grown
            .into_iter()
            .filter(|(_, done)| done.contains(&at))
            .map(|(state, mut done)| {
                done.remove(&at);
                (state, done)
            })
            .collect();
    }
    !worlds.is_empty()
}

/// Whether every follower read of a register that names the log index it was true at answers what the nodes' logs have written by
/// then: how many do, and what is wrong with the others. Each log is gone through by itself, read by read, from its beginning.
pub(crate) fn prefixes(evidence: &Evidence) -> (usize, Vec<String>) {
    let (mut right, mut wrong) = (0, Vec::new());
    let operations = evidence.history.operations.iter();
    for read in operations.filter(|one| one.level == Some(Level::Follower)) {
        let (Some(Answer::Register(value)), Some(applied)) = (read.answer(), read.applied) else {
            continue;
        };
        for log in &evidence.logs {
            let until = log.entries.iter().take_while(|one| one.index <= applied);
            let of_key = until.filter(|one| one.key == read.key && !one.dup);
            let written = of_key.filter_map(|one| match one.f.as_str() {
                "write" => one.value.as_i64(),
                "cas" if one.result == true => one.value[1].as_i64(),
                _ => None,
            });
            match written.last() == *value {
                true => right += 1,
                false => wrong.push(format!("by the log of node {}: {}", log.node, read.told())),
            }
        }
    }
    (right, wrong)
}

/// The register after an operation, if it can have its answer here; one without an answer that changes nothing has not
/// taken effect.
fn effect(operation: &Operation, state: Option<i64>) -> Option<Option<i64>> {
    match (&operation.call, operation.answer()) {
        (Call::Read, Some(Answer::Register(value))) => (*value == state).then_some(state),
        (Call::Write(value), _) => Some(Some(*value)),
        (Call::Cas(old, _), Some(Answer::Applied(false))) => (*old != state).then_some(state),
        (Call::Cas(old, new), _) => (*old == state).then_some(Some(*new)),
        _ => None,
    }
}

/// The same of another's search, todc-utils, which knows of no unknown operations: such a one is given an answer after
/// everything else, where it disturbs nobody if it never took effect.
pub(crate) fn is_linear_by_another(operations: &[&Operation]) -> bool {
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (at, operation) in operations.iter().enumerate() {
        let is_read = operation.call == Call::Read;
        if operation.outcome == Outcome::Fail || (is_read && operation.answer().is_none()) {
            continue;
        }
        events.push((operation.invoked.index, true, at));
        events.push((operation.returned().unwrap_or(u64::MAX), false, at));
    }
    events.sort_unstable();
    // Each operation is a process of its own: the order of a client's operations is that of their times.
    let actions = events.iter().map(|&(_, is_begin, at)| {
        let step = Step::from(operations[at]);
        let action = if is_begin {
            Action::Call(step)
        } else {
            Action::Response(step)
        };
        (at, action)
    });
    events.is_empty()
        || WGLChecker::<Register>::is_linearizable(History::from_actions(actions.collect()))
}

/// A register for another's search.
struct Register;

/// An operation on it, with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read(Option<i64>),
    Write(i64),
    Cas(Option<i64>, i64, Option<bool>),
}

impl From<&Operation> for Step {
    fn from(operation: &Operation) -> Step {
        match (&operation.call, operation.answer()) {
            (Call::Read, Some(Answer::Register(value))) => Step::Read(*value),
            (Call::Write(value), _) => Step::Write(*value),
            (Call::Cas(old, new), Some(Answer::Applied(done))) => {
                Step::Cas(*old, *new, Some(*done))
            }
            (Call::Cas(old, new), _) => Step::Cas(*old, *new, None),
            other => panic!("{other:?} is not of a register"),
        }
    }
}

impl Specification for Register {
    type State = Option<i64>;
    type Operation = Step;

    fn init() -> Option<i64> {
        None
    }

    fn apply(step: &Step, state: &Option<i64>) -> (bool, Option<i64>) {
        match *step {
            Step::Read(value) => (value == *state, *state),
            Step::Write(value) => (true, Some(value)),
            Step::Cas(old, new, told) => {
                let done = old == *state;
                let after = if done { Some(new) } else { *state };
                (told.is_none_or(|told| told == done), after)
            }
        }
    }
}

/// Whether transactions over lists are strictly serializable, by trying every order. Unknown ones may have happened or not.
pub(crate) fn is_strictly_serializable(transactions: &[&Operation]) -> bool {
    let left: Vec<&Operation> = transactions
        .iter()
        .copied()
        .filter(|t| t.outcome != Outcome::Fail)
        .collect();
    goes_on(&left, &BTreeMap::new())
}

fn goes_on(left: &[&Operation], lists: &BTreeMap<String, Vec<i64>>) -> bool {
    if left
        .iter()
        .all(|transaction| transaction.answer().is_none())
    {
        return true;
    }
    left.iter().enumerate().any(|(at, next)| {
        let is_first = !left.iter().any(|other| other.precedes(next));
        let after = if is_first { run(next, lists) } else { None };
        after.is_some_and(|lists| {
            let mut rest = left.to_vec();
            rest.remove(at);
            goes_on(&rest, &lists)
        })
    })
}

fn run(
    transaction: &Operation,
    lists: &BTreeMap<String, Vec<i64>>,
) -> Option<BTreeMap<String, Vec<i64>>> {
    let steps = match (transaction.answer(), &transaction.call) {
        (Some(Answer::Txn(steps)), _) | (_, Call::Txn(steps)) => steps,
        _ => return None,
    };
    let mut lists = lists.clone();
    for step in steps {
        match step {
            Micro::Append(key, element) => lists.entry(key.clone()).or_default().push(*element),
            Micro::Read(_, None) => {}
            Micro::Read(key, Some(seen)) => {
                if lists.get(key).cloned().unwrap_or_default() != *seen {
                    return None;
                }
            }
        }
    }
    Some(lists)
}
