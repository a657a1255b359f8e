//! Between openraft's types and ours: log ids, votes, entries and memberships.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use openraft::EntryPayload;
use serde::{Deserialize, Serialize};

use super::Member;
use super::types::{
    Commands, RaftEntry, RaftLeaderId, RaftLogId, RaftMembership, RaftStoredMembership, RaftVote,
};
use crate::storage::{Kind, LogEntry, LogId, Vote};

/// Version of the encoding of memberships.
///
/// | version | what is new |
/// |---|---|
/// | 1 | |
/// | 2 | members with their data directories, the ids used up, and who is on its way out |
/// | 3 | the cluster's epoch; written only if that is not the first one, so that older versions read what they can know |
const MEMBERSHIP_FORMAT: u8 = 3;

/// A membership as it stands in an entry's body, on the disk and on the wire. Append-only.
#[derive(Serialize, Deserialize)]
struct MembershipBody {
    format: u8,
    /// Of the entry that holds it; `None` only before anything was proposed.
    log_id: Option<LogId>,
    /// One set of voters, or two while one replaces the other.
    configs: Vec<BTreeSet<u64>>,
    /// Voters and learners.
    nodes: BTreeMap<u64, MemberRow>,
}

/// A member there.
#[derive(Serialize, Deserialize)]
struct MemberRow {
    member: Member,
    epoch: u64,
}

/// The second version of [`MembershipBody`]: still read, and written in the first epoch.
#[derive(Serialize, Deserialize)]
struct MembershipBody2 {
    format: u8,
    log_id: Option<LogId>,
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, Member>,
}

/// The first version of [`MembershipBody`]: still read.
#[derive(Serialize, Deserialize)]
struct MembershipBody1 {
    format: u8,
    log_id: Option<LogId>,
    configs: Vec<BTreeSet<u64>>,
    nodes: BTreeMap<u64, Member1>,
}

/// The first version of [`Member`].
#[derive(Serialize, Deserialize)]
struct Member1 {
    peer_addr: String,
    client_url: String,
}

impl From<MembershipBody1> for MembershipBody2 {
    fn from(old: MembershipBody1) -> MembershipBody2 {
        let nodes = old.nodes.into_iter().map(|(id, old)| {
            let member = Member {
                peer_addr: old.peer_addr,
                client_url: old.client_url,
                ..Member::default()
            };
            (id, member)
        });
        MembershipBody2 {
            format: 2,
            log_id: old.log_id,
            configs: old.configs,
            nodes: nodes.collect(),
        }
    }
}

impl From<MembershipBody2> for MembershipBody {
    fn from(old: MembershipBody2) -> MembershipBody {
        let row = |(id, member)| (id, MemberRow { member, epoch: 0 });
        MembershipBody {
            format: MEMBERSHIP_FORMAT,
            log_id: old.log_id,
            configs: old.configs,
            nodes: old.nodes.into_iter().map(row).collect(),
        }
    }
}

/// Our log id.
pub(crate) fn log_id(id: &RaftLogId) -> LogId {
    LogId {
        term: id.leader_id.term,
        node: id.leader_id.node_id,
        index: id.index,
    }
}

/// Openraft's log id.
pub(crate) fn raft_log_id(id: LogId) -> RaftLogId {
    RaftLogId {
        leader_id: RaftLeaderId {
            term: id.term,
            node_id: id.node,
        },
        index: id.index,
    }
}

/// Our vote.
pub(crate) fn vote(vote: &RaftVote) -> Vote {
    Vote {
        term: vote.leader_id.term,
        node: vote.leader_id.node_id,
        committed: vote.committed,
    }
}

/// Openraft's vote.
pub(crate) fn raft_vote(vote: Vote) -> RaftVote {
    RaftVote {
        leader_id: RaftLeaderId {
            term: vote.term,
            node_id: vote.node,
        },
        committed: vote.committed,
    }
}

/// Our entry. Commands are not copied.
pub(crate) fn entry(entry: RaftEntry) -> LogEntry {
    let id = log_id(&entry.log_id);
    let (kind, body) = match entry.payload {
        EntryPayload::Blank => (Kind::Blank, Bytes::new()),
        EntryPayload::Normal(Commands(bytes)) => (Kind::Commands, bytes),
        EntryPayload::Membership(membership) => {
            (Kind::Membership, encode_membership(Some(id), &membership))
        }
    };
    LogEntry { id, kind, body }
}

/// Openraft's entry. Commands are not copied. `Err` names what is wrong with the bytes.
pub(crate) fn raft_entry(entry: LogEntry) -> Result<RaftEntry, String> {
    let payload = match entry.kind {
        Kind::Blank => EntryPayload::Blank,
        Kind::Commands => EntryPayload::Normal(Commands(entry.body)),
        Kind::Membership => {
            let stored = decode_membership(&entry.body)?;
            if *stored.log_id() != Some(raft_log_id(entry.id)) {
                return Err(format!(
                    "the membership in entry {} says it is of another entry",
                    entry.id.index
                ));
            }
            EntryPayload::Membership(stored.membership().clone())
        }
    };
    Ok(RaftEntry {
        log_id: raft_log_id(entry.id),
        payload,
    })
}

/// The body of an entry with a membership; what the state keeps as the last one applied.
pub(crate) fn encode_membership(id: Option<LogId>, membership: &RaftMembership) -> Bytes {
    let configs = membership.get_joint_config().clone();
    let nodes = membership.nodes().map(|(id, member)| (*id, member.clone()));
    let is_first = membership.nodes().all(|(_, member)| member.epoch <= 1);
    let bytes = match is_first {
        true => postcard::to_stdvec(&MembershipBody2 {
            format: 2,
            log_id: id,
            configs,
            nodes: nodes.collect(),
        }),
        false => postcard::to_stdvec(&MembershipBody {
            format: MEMBERSHIP_FORMAT,
            log_id: id,
            configs,
            nodes: nodes
                .map(|(id, member)| {
                    let epoch = member.epoch;
                    (id, MemberRow { member, epoch })
                })
                .collect(),
        }),
    };
    bytes.expect("plain data into memory").into()
}

/// Reads back [`encode_membership`]. `Err` names what is wrong.
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<RaftStoredMembership, String> {
    let body = match bytes.first() {
        Some(1) => postcard::from_bytes::<MembershipBody1>(bytes)
            .map(|old| MembershipBody2::from(old).into()),
        Some(2) => postcard::from_bytes::<MembershipBody2>(bytes).map(MembershipBody::from),
        Some(&format) if format != MEMBERSHIP_FORMAT => {
            return Err(format!(
                "a membership has format {format}, this version reads up to {MEMBERSHIP_FORMAT}"
            ));
        }
        _ => postcard::from_bytes(bytes),
    };
    let body = body.map_err(|error| format!("a membership cannot be decoded: {error}"))?;
    let nodes = body.nodes.into_iter();
    let nodes: BTreeMap<_, _> = nodes
        .map(|(id, MemberRow { member, epoch })| (id, Member { epoch, ..member }))
        .collect();
    let membership = RaftMembership::new(body.configs, nodes)
        .map_err(|error| format!("a membership is not valid: {error}"))?;
    Ok(RaftStoredMembership::new(
        body.log_id.map(raft_log_id),
        membership,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_of_the_first_version_is_still_read_and_one_of_a_later_version_is_not() {
        // What the first version wrote for one voter, number 3, at index 7 of term 2.
        let old = b"\x01\x01\x02\x03\x07\x01\x01\x03\x01\x03\x03a:1\x0ahttp://a:2";
        let read = decode_membership(old).unwrap();
        assert_eq!(read.log_id().map(|id| log_id(&id).index), Some(7));
        assert_eq!(read.voter_ids().collect::<Vec<_>>(), [3]);
        let member = read.get_node(&3).unwrap();
        assert_eq!(
            (&*member.peer_addr, &*member.client_url),
            ("a:1", "http://a:2")
        );
        assert_eq!((&*member.uuid, member.ids_upto), ("", 0));
        let later = decode_membership(b"\x04\x00\x00\x00").unwrap_err();
        assert!(later.contains("format 4"), "{later}");
    }

    #[test]
    fn the_epoch_is_kept_and_only_a_cluster_that_has_one_needs_a_newer_version() {
        let with = |epoch| {
            let member = Member {
                peer_addr: "a:1".to_owned(),
                epoch,
                ..Member::default()
            };
            let nodes = BTreeMap::from([(1, member)]);
            RaftMembership::new(vec![BTreeSet::from([1])], nodes).unwrap()
        };
        for (epoch, format) in [(0, 2), (1, 2), (2, 3), (7, 3)] {
            let bytes = encode_membership(None, &with(epoch));
            assert_eq!(bytes[0], format, "epoch {epoch}");
            let read = decode_membership(&bytes).unwrap();
            assert_eq!(crate::raft::members::epoch(&read), epoch.max(1));
        }
    }

    #[test]
    fn a_membership_is_believed_only_in_the_entry_it_was_written_for() {
        let nodes = BTreeMap::from([(1, Member::default())]);
        let membership = RaftMembership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let id = |index| LogId {
            term: 1,
            node: 1,
            index,
        };
        let body = encode_membership(Some(id(3)), &membership);
        let at = |index| LogEntry {
            id: id(index),
            kind: Kind::Membership,
            body: body.clone(),
        };
        let read = raft_entry(at(3)).unwrap();
        assert!(matches!(read.payload, EntryPayload::Membership(found) if found == membership));
        let refused = raft_entry(at(4)).unwrap_err();
        assert!(refused.contains("of another entry"), "{refused}");
    }
}
