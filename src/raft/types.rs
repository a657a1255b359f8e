//! The types openraft is used with, and how ours map to them. Log ids, votes and payloads of our own formats stay our own: a
//! change of openraft is a change of this folder.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::Member;
use super::snapshots::SnapshotDir;
use crate::machine::Reply;

/// The bytes of one log entry with commands ([`crate::machine::entry`]): cloning is cheap, encoding happened once.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Commands(pub Bytes);

impl fmt::Debug for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Commands({} bytes)", self.0.len())
    }
}

impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.peer_addr, self.client_url)
    }
}

/// The replies to one entry's commands, in order.
pub type Replies = Vec<Reply>;

/// What openraft runs on: its timers, tasks and random numbers.
#[cfg(not(feature = "simulation"))]
pub use openraft::TokioRuntime as Runtime;

#[cfg(feature = "simulation")]
pub use super::sim::Runtime;

openraft::declare_raft_types!(
    /// How this crate uses openraft.
    pub Types:
        D = Commands,
        R = Replies,
        NodeId = u64,
        Node = Member,
        AsyncRuntime = Runtime,
);

/// The core, with this crate's state machine.
pub(crate) type Raft = openraft::Raft<Types, super::state_machine::StateMachine>;
/// A snapshot: a directory, which is kept for as long as it is the current one or somebody has a handle to it.
pub(crate) type SnapshotData = Arc<SnapshotDir>;
/// A log id as openraft has it.
pub(crate) type RaftLogId = openraft::type_config::alias::LogIdOf<Types>;
/// A leader id as openraft has it.
pub(crate) type RaftLeaderId = openraft::type_config::alias::LeaderIdOf<Types>;
/// A vote as openraft has it.
pub(crate) type RaftVote = openraft::type_config::alias::VoteOf<Types>;
/// An entry as openraft has it.
pub(crate) type RaftEntry = openraft::type_config::alias::EntryOf<Types>;
/// A membership with the log id of its entry, as openraft has it.
pub(crate) type RaftStoredMembership = openraft::type_config::alias::StoredMembershipOf<Types>;
/// A membership as openraft has it.
pub(crate) type RaftMembership = openraft::Membership<u64, Member>;
/// What a snapshot holds, as openraft has it.
pub(crate) type RaftSnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;
/// A snapshot, as openraft has it.
pub(crate) type RaftSnapshot = openraft::type_config::alias::SnapshotOf<Types, SnapshotData>;
