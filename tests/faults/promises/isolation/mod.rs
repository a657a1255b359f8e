//! Transactions over lists, from the history alone: anomalies by the names that Adya gave them.
//!
//! Elements are unique, so a list that was read shows which appends came before it and in which order. That gives a graph
//! of transactions: who wrote after whom, who read from whom, who was overwritten by whom, and who was over before whom
//! began. A cycle is an anomaly; [`graph`] finds the shortest of each kind.
//!
//! | name | what |
//! |---|---|
//! | internal | a transaction does not see its own steps |
//! | duplicate, incompatible-order | lists that no order of appends explains |
//! | G1a, G1b | a read of what was aborted, or of what a transaction had not finished |
//! | G0, G1c, G-single, G2-item | a cycle of writes; of writes and reads; with one overwritten read; with several |
//! | -realtime | the same, and it takes real time to close the cycle: serializable, but not strictly |

pub(crate) mod lists;

pub(crate) mod graph;

use crate::history::{Call, Operation, Outcome};
use crate::run::Evidence;

use super::{Limits, Promise, Verdict};

/// Transactions are strictly serializable.
pub(crate) const PROMISE: Promise = Promise {
    name: "isolation",
    says: "transactions over lists are strictly serializable: no anomaly that Adya has a name for",
    check,
};

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let transactions: Vec<&Operation> = evidence
        .history
        .operations
        .iter()
        .filter(|operation| matches!(operation.call, Call::Txn(_)))
        .collect();
    let mut facts = lists::internal(&transactions);
    let (orders, odd) = lists::orders(&transactions);
    facts.extend(odd);
    facts.extend(lists::dirty(&transactions));
    if facts.is_empty() {
        facts.extend(graph::anomalies(&transactions, &orders));
    }
    Verdict::of(transactions.len(), facts)
}

/// Whether a transaction may have happened.
pub(crate) fn may_have_happened(operation: &Operation) -> bool {
    operation.outcome != Outcome::Fail
}
