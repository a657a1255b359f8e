//! The log replayed against the model: every result in it, and every read at the applied index that it named.

use std::collections::BTreeMap;

use crate::history::nemesis::Accounts;
use crate::history::{Call, Happening, Operation};
use crate::promises::Fact;

use super::Claim;
use super::merge::told;
use super::model::Model;

/// Replays the log; stops at the first result that the model does not give, since everything after is suspect.
pub(crate) fn check(claim: &Claim<'_>) -> Vec<Fact> {
    let mut model = Model::new(&accounts(claim));
    // By the number of log entries that a read saw, the reads.
    let mut reads: BTreeMap<usize, Vec<&Operation>> = BTreeMap::new();
    let mut facts = Vec::new();
    for read in claim
        .history
        .operations
        .iter()
        .filter(|operation| !operation.call.is_write())
    {
        let Some(applied) = read.applied else {
            if read.answer().is_some() {
                let what = format!("{} does not say which index it saw", read.told());
                facts.push(Fact::new(what).about([read]));
            }
            continue;
        };
        let seen = claim.log.partition_point(|entry| entry.index <= applied);
        reads.entry(seen).or_default().push(read);
    }
    look(claim, &model, 0, &reads, &mut facts);
    for (at, entry) in claim.log.iter().enumerate() {
        if !entry.dup {
            let Ok(call) = Call::parse(&entry.f, &entry.value) else {
                continue;
            };
            let result = model.apply(entry.key.as_deref(), &call);
            if result != entry.result {
                let fact = Fact::new(format!(
                    "log index {}: {}, the model says {result}",
                    entry.index,
                    told(entry)
                ));
                facts.push(fact.about(claim.operation(entry)));
                return facts;
            }
        }
        look(claim, &model, at + 1, &reads, &mut facts);
    }
    facts
}

/// Checks the reads that saw the first `seen` entries.
fn look(
    claim: &Claim<'_>,
    model: &Model,
    seen: usize,
    reads: &BTreeMap<usize, Vec<&Operation>>,
    facts: &mut Vec<Fact>,
) {
    for read in reads.get(&seen).into_iter().flatten() {
        if let Some(held) = model.contradicts(read) {
            let last = seen.checked_sub(1).map(|at| told(claim.log[at]));
            let last = last.unwrap_or_else(|| "nothing".to_owned());
            let what = format!(
                "{}, but at that index {held}; the last that it saw is {last}",
                read.told()
            );
            facts.push(Fact::new(what).about([*read]));
        }
    }
}

fn accounts(claim: &Claim<'_>) -> Accounts {
    let opened = claim
        .history
        .moments
        .iter()
        .find_map(|moment| match &moment.what {
            Happening::Accounts(accounts) => Some(accounts.clone()),
            _ => None,
        });
    opened.unwrap_or_default()
}
