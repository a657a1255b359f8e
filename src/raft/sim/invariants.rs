//! What holds at every moment of a cluster, whatever its clients see: looked at after every tick.
//!
//! - What is committed at an index stays there, the same on every node that says it is committed (log matching).
//! - Who leads holds everything that was committed by leaders before it (leader completeness).
//! - The same entries give the same digest.
//! - While a process lives, neither its vote, which is a term and a node, nor what it has committed or applied goes back.
//! - Nor does a vote go back over a restart behind one under which the node led: it gave that one to itself. (Of what a node voted and
//!   did not say before it ended, nobody knows.)

use std::collections::BTreeMap;

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::node::Running;
use super::trace::Trace;
use crate::raft::convert;
use crate::storage::{LogEntry, LogId};

/// What was seen so far.
#[derive(Default)]
pub(super) struct Invariants {
    /// By index, what is committed there, with a hash of what it carries.
    committed: Vec<(LogId, blake3::Hash)>,
    /// By index, the digest after it.
    digests: BTreeMap<u64, [u8; 32]>,
    nodes: BTreeMap<u64, Seen>,
    /// By node, the newest term in which it led, in whatever process.
    led: BTreeMap<u64, u64>,
    /// The newest leader: its term, then its node.
    pub(super) leader: Option<(u64, u64)>,
}

/// What a process said last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    term: u64,
    /// Whom it votes for in that term. A later one may follow in the same term, an earlier one may not.
    votes_for: u64,
    leads: bool,
    /// Number of entries committed.
    committed: u64,
    applied: Option<LogId>,
}

impl Invariants {
    /// Another process runs in the place of the one before.
    pub(super) fn restarted(&mut self, id: u64) {
        self.nodes.remove(&id);
    }

    /// Looks at a node.
    ///
    /// # Errors
    /// What does not hold.
    pub(super) fn look(&mut self, id: u64, node: &Running, trace: &Trace) -> Result<(), String> {
        self.digests_of(id, node)?;
        let now = seen(node);
        let before = self.nodes.insert(id, now).unwrap_or_default();
        if now == before {
            return Ok(());
        }
        trace.note("node", &[id, now.term, u64::from(now.leads), now.committed]);
        // A process that has not read its vote yet says that it has none.
        let led = self.led.get(&id).filter(|_| now.term > 0);
        let led = led.map(|term| (*term, id)).unwrap_or_default();
        if (now.term, now.votes_for) < (before.term, before.votes_for).max(led)
            || now.committed < before.committed
            || now.applied < before.applied
        {
            return Err(format!(
                "node {id} went back from {before:?} to {now:?}; it led in term {}",
                led.0
            ));
        }
        if now.committed > before.committed {
            self.commits(id, node, before.committed, now.committed)?;
        }
        if now.leads && !(before.leads && before.term == now.term) {
            self.leads(id, node, now.term)?;
        }
        Ok(())
    }

    fn digests_of(&mut self, id: u64, node: &Running) -> Result<(), String> {
        for (index, digest) in node.state.take_digests() {
            if *self.digests.entry(index).or_insert(digest) != digest {
                return Err(format!(
                    "node {id} has another digest after entry {index} than a node before"
                ));
            }
        }
        Ok(())
    }

    fn commits(&mut self, id: u64, node: &Running, from: u64, to: u64) -> Result<(), String> {
        let entries = read(id, node, from, to)?;
        for (index, entry) in (from..).zip(entries) {
            let at = usize::try_from(index).expect("few entries");
            let told = (entry.id, blake3::hash(&entry.body));
            match self.committed.get(at) {
                Some(before) if *before != told => {
                    return Err(format!(
                        "node {id} has {:?} committed where {:?} was committed before",
                        entry.id, before.0
                    ));
                }
                Some(_) => {}
                None => self.committed.push(told),
            }
        }
        Ok(())
    }

    fn leads(&mut self, id: u64, node: &Running, term: u64) -> Result<(), String> {
        self.leader = self.leader.max(Some((term, id)));
        self.led.insert(id, term);
        let older = |(entry, _): &&(LogId, blake3::Hash)| (entry.term, entry.node) <= (term, id);
        let Some((last, _)) = self.committed.iter().rev().find(older) else {
            return Ok(());
        };
        let held = read(id, node, last.index, last.index + 1);
        match held.as_deref() {
            Ok([entry]) if entry.id == *last => Ok(()),
            held => Err(format!(
                "node {id} leads in term {term} without {last:?}, which is committed: it has {held:?}"
            )),
        }
    }
}

fn seen(node: &Running) -> Seen {
    let metrics = node.client.node.raft.metrics();
    let metrics = metrics.borrow_watched();
    let committed = metrics.local_committed.as_ref();
    let vote = convert::vote(&metrics.vote);
    Seen {
        term: vote.term,
        votes_for: vote.node,
        leads: metrics.state == ServerState::Leader,
        committed: committed.map_or(0, |id| id.index + 1),
        applied: metrics.last_applied.as_ref().map(convert::log_id),
    }
}

/// The entries from index `from` to before `to`.
fn read(id: u64, node: &Running, from: u64, to: u64) -> Result<Vec<LogEntry>, String> {
    let entries = node.client.node.log.read(from..to, u64::MAX);
    let entries = entries.map_err(|error| format!("node {id} cannot read its log: {error}"))?;
    if entries.len() as u64 != to - from {
        return Err(format!(
            "node {id} has only {} of the entries {from} to {to}, which are committed",
            entries.len()
        ));
    }
    Ok(entries)
}
