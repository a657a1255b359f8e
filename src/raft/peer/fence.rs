//! Who may speak to this node.
//!
//! Safety of the protocol rests on node ids: two nodes answering to one id, or a node of another cluster, could acknowledge
//! what they do not hold. So every request names its cluster, both node ids and the sender's data directory, and is held
//! against this node's identity before anything else looks at it.
//!
//! A sender this node has never heard of is *not* refused for that alone: a node that lags behind may be called by a leader
//! that joined after its last known membership, and can learn of it only by listening. What is refused is a sender whose
//! removal this node knows to be committed (ids are never used again), one whose data directory is not the one that the
//! membership says it has, and a candidate that is not a member and whose log does not reach past the membership that says so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::metrics::RaftServerMetrics;
use tokio_util::sync::CancellationToken;

use crate::mutants::{self, Mutant};
use crate::raft::convert;
use crate::raft::members::is_removed;
use crate::raft::space::{Room, Space};
use crate::raft::types::Types;
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
    let own = wire::id_bytes(&me.node_uuid).map_err(|reason| Refusal::new("identity", reason))?;
    let is_meant =
        header.to_uuid == [0; 16] || header.to_uuid == own || mutants::on(Mutant::OldIdAfterWipe);
    let Some(cluster) = &me.cluster_id else {
        return Err(match is_meant {
            true => Refusal::new("no cluster", "this node belongs to no cluster yet"),
            false => Refusal::new("wiped", not_meant(me, header, "is new: the node was wiped")),
        });
    };
    let id = wire::id_bytes(cluster).map_err(|reason| Refusal::new("identity", reason))?;
    if id != header.cluster {
        let reason =
            format!("node {from} belongs to another cluster, this node to cluster {cluster}");
        return Err(Refusal::new("cluster", reason));
    }
    if !is_meant {
        let reason = not_meant(me, header, "is another's");
        return Err(Refusal::new("directory", reason));
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

/// What is said when another data directory is meant than the one of `me`, which `is` something.
fn not_meant(me: &Identity, header: &Header, is: &str) -> String {
    format!(
        "node {} has data directory {} in this cluster, and this one, {}, {is}. A node that lost its disk joins again under a new \
         id (quorate node replace)",
        me.node_id,
        wire::id_text(header.to_uuid),
        me.node_uuid
    )
}

/// Refuses a sender whose removal is committed, or whose data directory is not the one of the member.
pub(super) fn check_member(
    metrics: &RaftServerMetrics<Types>,
    header: &Header,
) -> Result<(), Refusal> {
    let node = header.from;
    if is_removed(&metrics.committed_membership_config, node) {
        let reason = format!("node {node} was removed from the cluster");
        return Err(Refusal::new("removed", reason));
    }
    let Some(member) = metrics.membership_config.get_node(&node) else {
        return Ok(());
    };
    let is_the_member = wire::id_bytes(&member.uuid) == Ok(header.from_uuid);
    if member.uuid.is_empty() || is_the_member || mutants::on(Mutant::OldIdAfterWipe) {
        return Ok(());
    }
    let reason = format!(
        "node {node} speaks from data directory {}, and the member has {}: it was wiped, or is another's. Keep that directory \
         aside and join again under a new id (quorate node replace)",
        wire::id_text(header.from_uuid),
        member.uuid
    );
    Err(Refusal::new("directory", reason))
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
    use crate::raft::peer::Call;
    use crate::raft::types::{RaftMembership, RaftStoredMembership};
    use crate::storage::Vote;
    use crate::storage::identity::Boot;

    const OWN: &str = "11111111111111111111111111111111";

    /// What is known once the members `members`, all of data directory [`OWN`], are committed, and ids up to 5 are used up.
    fn knowing(members: &[u64]) -> RaftServerMetrics<Types> {
        let id = LogId {
            term: 1,
            node: 1,
            index: 7,
        };
        let member = Member {
            uuid: OWN.to_owned(),
            ids_upto: 5,
            ..Member::default()
        };
        let nodes: BTreeMap<u64, Member> = members.iter().map(|id| (*id, member.clone())).collect();
        let voters = vec![members.iter().copied().collect()];
        let membership = RaftMembership::new(voters, nodes).unwrap();
        let stored = RaftStoredMembership::new(Some(convert::raft_log_id(id)), membership);
        let mut known = openraft::RaftMetrics::<Types>::new_initial(1);
        known.membership_config = Arc::new(stored);
        RaftServerMetrics {
            id: 1,
            vote: known.vote,
            state: known.state,
            current_leader: None,
            membership_config: known.membership_config.clone(),
            committed_membership_config: known.membership_config,
        }
    }

    fn from(node: u64, uuid: &str) -> Header {
        Header {
            call: Call::Append,
            cluster: [0; 16],
            from: node,
            from_uuid: wire::id_bytes(uuid).unwrap(),
            boot: Boot::default(),
            to_uuid: [0; 16],
            to: 1,
            vote: Vote::default(),
            seq: 0,
        }
    }

    #[test]
    fn who_was_removed_is_refused_for_ever_and_who_may_have_joined_since_is_not() {
        let known = knowing(&[1, 2]);
        check_member(&known, &from(2, OWN)).unwrap();
        check_member(&known, &from(6, OWN)).unwrap();
        for gone in [3, 5] {
            let refused = check_member(&known, &from(gone, OWN)).unwrap_err();
            assert_eq!(refused.problem, "removed");
        }
    }

    #[test]
    fn a_member_on_another_data_directory_is_refused_and_told_what_to_do() {
        let other = "22222222222222222222222222222222";
        let refused = check_member(&knowing(&[1, 2]), &from(2, other)).unwrap_err();
        assert_eq!(refused.problem, "directory");
        for says in [OWN, other, "quorate node replace"] {
            assert!(refused.reason.contains(says), "{}", refused.reason);
        }
    }
}
