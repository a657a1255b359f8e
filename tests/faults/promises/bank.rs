//! The bank, from the history alone: what every single read of all accounts must look like, at every level.
//!
//! A read is a snapshot, so money is neither made nor lost in it, whatever transfers are under way. Conservation does not
//! see a transfer that was applied twice; [`super::witness`] does.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::nemesis::Accounts;
use crate::history::{Answer, Happening, Operation};
use crate::run::Evidence;

use super::{Fact, Limits, Promise, Verdict};

/// Money is conserved in every read.
pub(crate) const PROMISE: Promise = Promise {
    name: "bank",
    says: "every read of the bank shows every account, the same total, and no balance below what is allowed",
    check,
};

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let history = &evidence.history;
    let accounts = history
        .moments
        .iter()
        .find_map(|moment| match &moment.what {
            Happening::Accounts(accounts) => Some(accounts),
            _ => None,
        });
    let reads = history
        .operations
        .iter()
        .filter_map(|operation| match operation.answer()? {
            Answer::Balances(balances) => Some((operation, balances)),
            _ => None,
        });
    let reads: Vec<_> = reads.collect();
    let Some(accounts) = accounts else {
        let nothing = reads.is_empty();
        return if nothing {
            Verdict::valid(0)
        } else {
            Verdict::unknown("the history does not open the bank")
        };
    };
    let facts = reads.iter().filter_map(|(read, balances)| {
        Some(Fact::new(fault(accounts, read, balances)?).about([*read]))
    });
    Verdict::of(reads.len(), facts.collect())
}

fn fault(accounts: &Accounts, read: &Operation, seen: &BTreeMap<String, i64>) -> Option<String> {
    let node = read
        .node
        .map(|node| format!(" at node {node}"))
        .unwrap_or_default();
    let known: BTreeSet<&String> = accounts.balances.keys().collect();
    if let Some(missing) = known.iter().find(|name| !seen.contains_key(**name)) {
        return Some(format!(
            "{}{node}: account {missing} is missing",
            read.told()
        ));
    }
    if let Some(strange) = seen.keys().find(|name| !known.contains(name)) {
        return Some(format!(
            "{}{node}: account {strange} was never opened",
            read.told()
        ));
    }
    let owes = seen
        .iter()
        .find(|(name, balance)| **balance < 0 && !accounts.overdraft.contains(name));
    if let Some((name, balance)) = owes {
        return Some(format!("{}{node}: {name} has {balance}", read.told()));
    }
    let sum =
        |balances: &BTreeMap<String, i64>| balances.values().map(|b| i128::from(*b)).sum::<i128>();
    let (total, due) = (sum(seen), sum(&accounts.balances));
    (total != due).then(|| {
        format!(
            "{}{node}: the total is {total}, it was {due} when the bank opened",
            read.told()
        )
    })
}
