//! The nodes' applied logs as witnesses: one total order that must explain everything that any client saw.
//!
//! The log is a claim, and the claim is tested in parts, each a file. It is linear in the length of the run, so that it
//! checks what no search can: the ledger, every follower read, strict serializability of everything together.
//!
//! 1. [`merge`]: the nodes agree on what is at each index.
//! 2. [`once`]: each acknowledged write is there once, with its answer; nothing failed is; nothing unknown is twice.
//! 3. [`replay`]: an independent model, fed with the log, gives every answer that the log and the clients were given.
//! 4. [`order`]: the order of the log does not contradict real time, nor do reads that promise to be fresh.
//! 5. [`sessions`]: reads of one client at one node never go back, and demands of freshness are met.
//!
//! [`super::linear`] trusts no node and guards against a log that lies; this guards against what that cannot search.

pub(crate) mod merge;

pub(crate) mod once;

pub(crate) mod model;

pub(crate) mod replay;

pub(crate) mod order;

pub(crate) mod sessions;

use std::collections::BTreeMap;

use crate::history::applied::Entry;
use crate::history::{History, Operation};
use crate::run::Evidence;

use super::{Fact, Limits, Promise, Verdict};

/// Everything is explained by one log.
pub(crate) const PROMISE: Promise = Promise {
    name: "witness",
    says: "one log, the same on every node, explains every answer, in an order that real time does not contradict",
    check,
};

/// The merged log and how the clients' operations relate to it.
pub(crate) struct Claim<'a> {
    /// What the clients saw.
    pub(crate) history: &'a History,
    /// Every command in the order of application.
    pub(crate) log: Vec<&'a Entry>,
    /// By idempotency key, the operation.
    pub(crate) asked: BTreeMap<&'a str, &'a Operation>,
    /// By idempotency key, its place in `log` where it took effect: the first that is no recognised retry.
    pub(crate) placed: BTreeMap<&'a str, usize>,
}

impl<'a> Claim<'a> {
    fn new(history: &'a History, log: Vec<&'a Entry>) -> Claim<'a> {
        let asked = history
            .operations
            .iter()
            .filter_map(|operation| Some((operation.id.as_deref()?, operation)))
            .collect();
        let mut placed = BTreeMap::new();
        for (at, entry) in log.iter().enumerate().filter(|(_, entry)| !entry.dup) {
            placed.entry(entry.op.as_str()).or_insert(at);
        }
        Claim {
            history,
            log,
            asked,
            placed,
        }
    }

    /// The operation that an entry carries out.
    pub(crate) fn operation(&self, entry: &Entry) -> Option<&'a Operation> {
        self.asked.get(entry.op.as_str()).copied()
    }
}

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let history = &evidence.history;
    if evidence.logs.is_empty() {
        let has_writes = history
            .operations
            .iter()
            .any(|operation| operation.call.is_write());
        return if has_writes {
            Verdict::unknown("no applied log of any node")
        } else {
            Verdict::valid(0)
        };
    }
    let (log, mut facts) = merge::merge(&evidence.logs);
    let claim = Claim::new(history, log);
    facts.extend(shared_ids(history));
    facts.extend(once::check(&claim));
    facts.extend(order::check(&claim));
    facts.extend(sessions::check(&claim));
    // A log that is wrong in itself explains nothing rightly: the replay's facts would only repeat those above.
    facts.extend(replay::check(&claim));
    Verdict::of(history.operations.len() + claim.log.len(), facts)
}

/// One idempotency key for two operations: a fault of the harness that would hide faults of the cluster.
fn shared_ids(history: &History) -> Option<Fact> {
    let mut seen: BTreeMap<&str, &Operation> = BTreeMap::new();
    for operation in &history.operations {
        let Some(id) = operation.id.as_deref() else {
            continue;
        };
        if let Some(other) = seen.insert(id, operation) {
            let what = format!(
                "{} and {} share the idempotency key {id}",
                other.told(),
                operation.told()
            );
            return Some(Fact::new(what).about([other, operation]));
        }
    }
    None
}
