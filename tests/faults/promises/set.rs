//! Sets, from the history alone, element by element.
//!
//! An element is *known* from the end of its add, or from the end of the first read that has it. A linearizable read that
//! begins later must have it. If one has not, the element is *stale* when a later read has it again, and *lost* when none
//! has. What was never asked for, or certainly not done, is a *phantom*, and nothing is there twice; both at every level.
//! An element that no read could have seen is counted: it proves nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Answer, Call, Operation, Outcome};
use crate::run::Evidence;

use super::{Fact, Limits, Promise, Verdict};

/// What was added stays.
pub(crate) const PROMISE: Promise = Promise {
    name: "set",
    says: "an element that was added is in every later leader or lease read, once; nothing else is in any read",
    check,
};

/// A read and what it had.
struct Read<'a> {
    operation: &'a Operation,
    elements: BTreeSet<i64>,
}

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let (mut facts, mut checked) = (Vec::new(), 0);
    let (mut never_read, mut settled) = (0, Vec::new());
    for operations in evidence.history.by_key().into_values() {
        let adds: BTreeMap<i64, &Operation> = operations
            .iter()
            .filter_map(|o| Some((added(o)?, *o)))
            .collect();
        let reads: Vec<Read<'_>> = operations
            .iter()
            .filter_map(|o| read(o, &mut facts))
            .collect();
        checked += adds.len() + reads.len();
        for read in &reads {
            facts.extend(phantom(read, &adds));
        }
        let fresh: Vec<&Read<'_>> = reads
            .iter()
            .filter(|read| {
                read.operation
                    .level
                    .is_some_and(|level| level.is_linearizable())
            })
            .collect();
        for (element, add) in &adds {
            match fate(*element, add, &fresh) {
                Fate::Unread => never_read += 1,
                Fate::Settled { after } => settled.push(after),
                Fate::Faulty(fact) => facts.push(fact),
                Fate::Unborn => {}
            }
        }
    }
    settled.sort_unstable();
    match Verdict::of(checked, facts) {
        Verdict::Valid { checked, .. } if checked > 0 => Verdict::Valid {
            checked,
            notes: vec![note(never_read, &settled)],
        },
        verdict => verdict,
    }
}

fn note(never_read: usize, settled: &[u64]) -> String {
    let at = |part: usize| {
        settled.get((settled.len() * part / 100).min(settled.len().saturating_sub(1)))
    };
    let ms = |part: usize| at(part).map_or(0.0, |nanos| *nanos as f64 / 1e6);
    format!(
        "{never_read} elements no read could have seen; the others were seen first after p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        ms(50),
        ms(99),
        ms(100)
    )
}

fn added(operation: &Operation) -> Option<i64> {
    match operation.call {
        Call::Add(element) => Some(element),
        _ => None,
    }
}

fn read<'a>(operation: &&'a Operation, facts: &mut Vec<Fact>) -> Option<Read<'a>> {
    let Some(Answer::Elements(list)) = operation.answer() else {
        return None;
    };
    let mut elements = BTreeSet::new();
    let doubled = list.iter().find(|element| !elements.insert(**element));
    if let Some(element) = doubled {
        facts.push(
            Fact::new(format!("{}: {element} is there twice", operation.told()))
                .about([*operation]),
        );
    }
    Some(Read {
        operation,
        elements,
    })
}

/// An element of a read that nobody can have put there.
fn phantom(read: &Read<'_>, adds: &BTreeMap<i64, &Operation>) -> Option<Fact> {
    let end = read.operation.returned()?;
    let told = read.operation.told();
    read.elements
        .iter()
        .find_map(|element| match adds.get(element) {
            None => Some(
                Fact::new(format!("{told} has {element}, which nobody added"))
                    .about([read.operation]),
            ),
            Some(add) if add.outcome == Outcome::Fail || add.invoked.index > end => Some(
                Fact::new(format!("{told} has {element}, but {}", add.told()))
                    .about([read.operation, add]),
            ),
            Some(_) => None,
        })
}

/// What became of an element.
enum Fate {
    /// It was never known.
    Unborn,
    /// It was known, but no read began after.
    Unread,
    /// Every read since has it; the first that has it ended so long after its add was acknowledged, in nanoseconds.
    Settled { after: u64 },
    /// Stale or lost.
    Faulty(Fact),
}

fn fate(element: i64, add: &Operation, reads: &[&Read<'_>]) -> Fate {
    let having = reads.iter().filter(|read| read.elements.contains(&element));
    let first_seen = having.clone().min_by_key(|read| read.operation.returned());
    let known = [
        add.returned(),
        first_seen.and_then(|read| read.operation.returned()),
    ];
    let Some(known) = known.into_iter().flatten().min() else {
        return Fate::Unborn;
    };
    let later = reads
        .iter()
        .filter(|read| read.operation.invoked.index > known);
    let missing: Vec<&&Read<'_>> = later
        .clone()
        .filter(|read| !read.elements.contains(&element))
        .collect();
    let Some(last_missing) = missing.last() else {
        let Some(seen) = first_seen.and_then(|read| read.operation.ended) else {
            return Fate::Unread;
        };
        let added = add
            .ended
            .filter(|_| add.answer().is_some())
            .map_or(seen.time, |end| end.time);
        return Fate::Settled {
            after: seen.time.saturating_sub(added),
        };
    };
    let found_again = reads.iter().find(|read| {
        read.operation.invoked.index > last_missing.operation.invoked.index
            && read.elements.contains(&element)
    });
    let first_missing = missing[0].operation;
    let what = match found_again {
        Some(again) => format!(
            "stale: {} lacks {element} after {}; {} has it",
            first_missing.told(),
            add.told(),
            again.operation.told()
        ),
        None => format!(
            "lost: {} lacks {element} after {}, and so does every later read",
            first_missing.told(),
            add.told()
        ),
    };
    Fate::Faulty(Fact::new(what).about([first_missing, add]))
}
