//! What a node keeps on its disk, and the only folder that knows RocksDB.
//!
//! A data directory holds `lock` (held while a process uses it), `identity` (who this is), `log/` (the write-ahead log and its
//! tail witness: [`log`]), `state/` (the journal and what is derived from it: [`state`]), `snapshots/` (the state as of earlier entries,
//! to be sent to other nodes: [`snapshot`]) and `audit.jsonl` (what was asked of it as of a part of its cluster: [`audit`]). A state
//! that was found damaged is kept beside as `state.damaged-N`.

pub mod applied;
pub mod audit;
pub mod backup;
pub(crate) mod clock;
pub(crate) mod crash;
pub mod directory;
pub mod histogram;
pub mod identity;
mod lines;
pub mod log;
pub mod snapshot;
pub mod space;
pub mod state;
pub mod watch;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Position of an entry in the replicated log. Ordered by term, node, then index.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogId {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// That leader's node id: one term may see more than one leader.
    pub node: u64,
    /// Index, from 0.
    pub index: u64,
}

/// A vote, as consensus stores it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Vote {
    /// Term.
    pub term: u64,
    /// Node voted for.
    pub node: u64,
    /// A quorum granted it: `node` leads.
    pub committed: bool,
}

/// What an entry of the log carries. Durable numbers: append-only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// Nothing: a new leader's first entry.
    Blank = 0,
    /// Client commands: [`crate::machine::entry`].
    Commands = 1,
    /// A membership, encoded by `raft`; opaque here.
    Membership = 2,
}

/// An entry of the log. Cloning is cheap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Where it stands.
    pub id: LogId,
    /// What `body` is.
    pub kind: Kind,
    /// Its bytes.
    pub body: Bytes,
}
