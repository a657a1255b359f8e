//! After the last heal, every node has the same state.

use crate::run::Evidence;

use super::{Fact, Limits, Promise, Verdict};

/// One state everywhere.
pub(crate) const PROMISE: Promise = Promise {
    name: "digests",
    says: "after the last heal all nodes are at one index and have one digest",
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
    Verdict::of(evidence.finals.len(), facts.collect())
}
