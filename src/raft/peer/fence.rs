//! Who may speak to this node.
//!
//! Safety of the protocol rests on node ids: two nodes answering to one id, or a node of another cluster, could acknowledge
//! what they do not hold. So every request names its cluster, both node ids and the sender's data directory, and is held
//! against this node's identity before anything else looks at it.
//!
//! A sender this node has never heard of is *not* refused for that alone: a node that lags behind may be called by a leader
//! that joined after its last known membership, and can learn of it only by listening. What is refused is a sender whose
//! removal this node knows to be committed (ids are never used again), and a candidate that is not a member and whose log
//! does not reach past the membership that says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::metrics::RaftServerMetrics;
use tokio_util::sync::CancellationToken;

use crate::raft::convert;
use crate::raft::space::{Room, Space};
use crate::raft::types::{RaftStoredMembership, Types};
use crate::raft::wire::append::Append;
use crate::raft::wire::{self, Header};
use crate::storage::LogId;
use crate::storage::identity::Identity;

/// Why a request is not acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The kind of problem, said once per peer.
    pub(super) problem: &'static str,
    /// The whole sentence, sent to the peer.
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(problem: &'static str, reason: impl Into<String>) -> Refusal {
        Refusal {
            problem,
            reason: reason.into(),
        }
    }
}

/// Checks senders and knows their live streams.
#[derive(Debug, Default)]
pub(super) struct Fence {
    /// A plain lock: held for map operations, never across an await.
    roster: Mutex<Roster>,
}

#[derive(Debug, Default)]
struct Roster {
    /// The live append stream of each peer.
    streams: BTreeMap<u64, Live>,
    /// Streams admitted so far.
    admitted: u64,
    /// Members of the last committed membership seen, with its place.
    members: BTreeSet<u64>,
    members_at: Option<LogId>,
    /// Nodes that were members of a committed membership seen by this process and are not any more.
    removed: BTreeSet<u64>,
}

#[derive(Debug)]
struct Live {
    uuid: [u8; 16],
    number: u64,
    close: CancellationToken,
}

/// A stream's place in the roster; leaving it on drop.
#[derive(Debug)]
pub(super) struct Admission {
    fence: Arc<Fence>,
    node: u64,
    number: u64,
    /// Cancelled when a newer stream of the same peer takes over.
    pub(super) close: CancellationToken,
}

impl Fence {
    /// Whether the sender of `header` speaks of the same cluster to the right node and is who it was before.
    pub(super) fn check(&self, me: &Identity, header: &Header) -> Result<(), Refusal> {
        check_identity(me, header)?;
        self.roster().check_uuid(header)
    }

    /// Refuses a sender whose removal is committed in `metrics`.
    pub(super) fn check_member(
        &self,
        metrics: &RaftServerMetrics<Types>,
        node: u64,
    ) -> Result<(), Refusal> {
        let mut roster = self.roster();
        roster.observe(&metrics.committed_membership_config);
        if roster.removed.contains(&node) {
            let reason = format!("node {node} was removed from the cluster");
            return Err(Refusal::new("removed", reason));
        }
        Ok(())
    }

    /// Makes the stream that starts with `header` the only one of its sender: an older one of the same directory is closed,
    /// it can only be a connection the sender has given up.
    pub(super) fn admit(self: &Arc<Fence>, header: &Header) -> Result<Admission, Refusal> {
        let mut roster = self.roster();
        roster.check_uuid(header)?;
        roster.admitted += 1;
        let close = CancellationToken::new();
        let live = Live {
            uuid: header.from_uuid,
            number: roster.admitted,
            close: close.clone(),
        };
        let number = live.number;
        if let Some(older) = roster.streams.insert(header.from, live) {
            older.close.cancel();
        }
        Ok(Admission {
            fence: Arc::clone(self),
            node: header.from,
            number,
            close,
        })
    }

    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut roster = self.fence.roster();
        let live = roster.streams.get(&self.node);
        if live.is_some_and(|live| live.number == self.number) {
            roster.streams.remove(&self.node);
        }
    }
}

impl Roster {
    fn check_uuid(&self, header: &Header) -> Result<(), Refusal> {
        match self.streams.get(&header.from) {
            Some(live) if live.uuid != header.from_uuid => Err(Refusal::new(
                "uuid",
                format!(
                    "node {} is connected from another data directory; a node id is never used twice",
                    header.from
                ),
            )),
            _ => Ok(()),
        }
    }

    fn observe(&mut self, committed: &RaftStoredMembership) {
        let at = committed.log_id().as_ref().map(convert::log_id);
        if at <= self.members_at {
            return;
        }
        let members: BTreeSet<u64> = committed.nodes().map(|(id, _)| *id).collect();
        let gone: Vec<u64> = self.members.difference(&members).copied().collect();
        self.removed.extend(gone);
        self.removed.retain(|id| !members.contains(id));
        self.members = members;
        self.members_at = at;
    }
}

fn check_identity(me: &Identity, header: &Header) -> Result<(), Refusal> {
    let from = header.from;
    if header.to != me.node_id {
        let reason = format!(
            "node {from} means node {}, this is node {}",
            header.to, me.node_id
        );
        return Err(Refusal::new("target", reason));
    }
    if from == me.node_id {
        let reason = format!("node {from} speaks to itself, or another node has its id");
        return Err(Refusal::new("self", reason));
    }
    let Some(cluster) = &me.cluster_id else {
        return Err(Refusal::new(
            "no cluster",
            "this node belongs to no cluster yet",
        ));
    };
    let id = wire::id_bytes(cluster).map_err(|reason| Refusal::new("identity", reason))?;
    if id != header.cluster {
        let reason =
            format!("node {from} belongs to another cluster, this node to cluster {cluster}");
        return Err(Refusal::new("cluster", reason));
    }
    if header.vote.node != from {
        let reason = format!(
            "node {from} speaks under the vote of node {}",
            header.vote.node
        );
        return Err(Refusal::new("vote", reason));
    }
    Ok(())
}

/// Refuses a candidate that is no member of the last membership in this node's log and whose own log, ending at `last`, does
/// not reach past it: no later membership can have added it. Nothing is lost by it: such a log is not ahead of this node's.
pub(super) fn check_candidate(
    metrics: &RaftServerMetrics<Types>,
    candidate: u64,
    last: Option<LogId>,
) -> Result<(), Refusal> {
    let membership = &metrics.membership_config;
    let at = membership.log_id().as_ref().map(convert::log_id);
    if at.is_none() || membership.nodes().any(|(id, _)| *id == candidate) || last > at {
        return Ok(());
    }
    let reason = format!("node {candidate} is not a member of the cluster");
    Err(Refusal::new("not a member", reason))
}

/// Refuses entries while the disk of this node is full. Heartbeats it takes.
pub(super) fn check_room(space: &Space, append: &Append) -> Result<(), Refusal> {
    match append.entries.is_empty() {
        true => Ok(()),
        false => check_disk(space),
    }
}

/// A node whose disk is full is as good as away until it has room.
pub(super) fn check_disk(space: &Space) -> Result<(), Refusal> {
    if space.room() != Room::Full {
        return Ok(());
    }
    let reason = format!("the disk is full: {} bytes are left", space.get().free);
    Err(Refusal::new("disk full", reason))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Member;
    use crate::raft::types::RaftMembership;

    fn committed(index: u64, members: &[u64]) -> RaftStoredMembership {
        let id = LogId {
            term: 1,
            node: 1,
            index,
        };
        let nodes: BTreeMap<u64, Member> =
            members.iter().map(|id| (*id, Member::default())).collect();
        let voters = vec![members.iter().copied().collect()];
        let membership = RaftMembership::new(voters, nodes).unwrap();
        RaftStoredMembership::new(Some(convert::raft_log_id(id)), membership)
    }

    #[test]
    fn who_was_removed_is_known_from_the_newest_membership_seen() {
        let mut roster = Roster::default();
        roster.observe(&committed(1, &[1, 2, 3]));
        assert_eq!(roster.removed, BTreeSet::new());
        roster.observe(&committed(5, &[1, 2]));
        assert_eq!(roster.removed, BTreeSet::from([3]));
        roster.observe(&committed(1, &[1, 2, 3]));
        roster.observe(&committed(5, &[1, 2, 3]));
        assert_eq!(roster.removed, BTreeSet::from([3]), "nothing newer");
        roster.observe(&committed(7, &[1, 3]));
        assert_eq!(roster.removed, BTreeSet::from([2]));
    }
}
