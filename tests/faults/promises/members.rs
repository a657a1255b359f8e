//! At the end every member says that those belong to the cluster whom the operator left there: a change that was said to be done
//! is done, and nothing else is.

use std::collections::BTreeSet;

use crate::history::{Happening, Membership};
use crate::run::Evidence;

use super::{Fact, Limits, Promise, Verdict};

/// One membership everywhere, and that which was asked for.
pub(crate) const PROMISE: Promise = Promise {
    name: "members",
    says: "in the end every member says who belongs to the cluster as the last completed change of the members left it",
    check,
};

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let mut last = Membership::of_voters(evidence.plan.nodes.iter().copied());
    let mut changes = 0;
    let mut told: Vec<(u64, u64, &Membership)> = Vec::new();
    for moment in &evidence.history.moments {
        match &moment.what {
            Happening::Changed(now) => {
                last = now.clone();
                changes += 1;
                // What was said before is of before.
                told.clear();
            }
            Happening::Members { node, members } => told.push((moment.index, *node, members)),
            _ => {}
        }
    }
    // Runs of old do not say, nor do those that ended before their end.
    if told.is_empty() && changes == 0 {
        return Verdict::valid(0);
    }
    let odd = told.iter().filter(|(_, _, members)| !last.fits(members));
    let odd = odd.map(|(line, node, members)| Fact {
        what: format!(
            "node {node} says that {} belong to the cluster, the last change left {}",
            shown(members),
            shown(&last)
        ),
        lines: vec![*line],
    });
    let mut facts: Vec<Fact> = odd.collect();
    let said: BTreeSet<u64> = told.iter().map(|(_, node, _)| *node).collect();
    let silent = last.all().into_iter().filter(|node| !said.contains(node));
    facts.extend(silent.map(|node| {
        Fact::new(format!(
            "node {node} does not say who belongs to the cluster"
        ))
    }));
    Verdict::of(changes, facts)
}

/// `n1 n2 n5, without a vote n6`
fn shown(members: &Membership) -> String {
    let names = |ids: &BTreeSet<u64>| {
        let names: Vec<String> = ids.iter().map(|id| format!("n{id}")).collect();
        names.join(" ")
    };
    let mut shown = names(&members.voters);
    for (which, ids) in [
        ("without a vote", &members.learners),
        ("perhaps without", &members.either),
    ] {
        if !ids.is_empty() {
            shown.push_str(&format!(", {which} {}", names(ids)));
        }
    }
    shown
}
