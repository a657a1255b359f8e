//! After the last heal, every node has the same state.

use std::collections::BTreeMap;

use crate::run::{Evidence, FinalState, Mark};

use super::{Fact, Limits, Promise, Verdict};

/// One state everywhere.
pub(crate) const PROMISE: Promise = Promise {
    name: "digests",
    says: "after the last heal all nodes are at one index and have one digest, and their snapshots had that of their time",
    check,
};

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let Some((first, others)) = evidence.finals.split_first() else {
        return if evidence.plan.expect.final_phase {
            Verdict::unknown("no node says where it ended")
        } else {
            Verdict::valid(0)
        };
    };
    let odd = others
        .iter()
        .filter(|end| (end.applied, &end.digest) != (first.applied, &first.digest));
    let facts = odd.map(|end| {
        Fact::new(format!(
            "node {} is at index {} with digest {}, node {} at {} with {}",
            first.node, first.applied, first.digest, end.node, end.applied, end.digest
        ))
    });
    let mut facts: Vec<Fact> = facts.collect();
    facts.extend(marks(&evidence.finals));
    Verdict::of(evidence.finals.len(), facts)
}

/// Where two nodes differ in what they say of an earlier index.
fn marks(finals: &[FinalState]) -> Vec<Fact> {
    let mut known: BTreeMap<u64, (u64, &Mark)> = BTreeMap::new();
    let mut facts = Vec::new();
    let all = finals
        .iter()
        .flat_map(|end| end.marks.iter().map(move |mark| (end.node, mark)));
    for (node, mark) in all {
        let (other, first) = *known.entry(mark.index).or_insert((node, mark));
        if first.digest != mark.digest {
            facts.push(Fact::new(format!(
                "at index {} the {} of node {other} has digest {}, the {} of node {node} {}",
                mark.index, first.by, first.digest, mark.by, mark.digest
            )));
        }
    }
    facts
}
