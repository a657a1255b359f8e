//! The cluster itself: forming it, and how nodes see it.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::{Read, Written};
use super::ask::{Ask, Repeat};
use super::error::Error;
use super::{Client, text};

/// A member to form a cluster of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewMember {
    /// Its id.
    pub id: u64,
    /// `host:port` of its peer listener.
    pub peer_addr: String,
    /// URL of its client listener.
    pub client_url: String,
}

#[derive(Serialize)]
struct Members<'a> {
    members: &'a [NewMember],
}

/// The request to form a cluster of `members`. Repeating it does no harm: the list is its id.
pub fn init_ask(members: &[NewMember]) -> Ask {
    Ask::post("/v1/cluster/init", &Members { members }, Repeat::ById)
}

/// The request for a node's view of its cluster.
pub fn view_ask() -> Ask {
    Ask::get("/v1/cluster")
}

/// The request to have node `to` lead, or else the voter that has most of the log. Not to be repeated: by the time of the
/// second attempt, another move may have been asked for.
pub fn move_ask(to: Option<u64>) -> Ask {
    let body = to.map_or(json!({}), |to| json!({ "to": to }));
    Ask::post("/v1/cluster/leader/transfer", &body, Repeat::Never)
}

/// What moving the leadership gave.
#[derive(Clone, Debug, Deserialize)]
pub struct Moved {
    /// `moved` to another node, or `unchanged` because it led already.
    pub result: String,
    /// Who leads now.
    pub leader: u64,
    /// In which term.
    #[serde(with = "text")]
    pub term: u64,
}

/// A cluster as one node sees it.
#[derive(Clone, Debug, Deserialize)]
pub struct View {
    /// Id of the cluster; nothing if none is formed.
    pub cluster_id: Option<String>,
    /// 1 for a cluster that was formed of new nodes, and one more after each recovery and restore.
    #[serde(default)]
    pub epoch: Option<u64>,
    /// The node whose view it is.
    pub node: u64,
    /// Its role: `leader`, `follower`, `candidate`, `learner` or `stopped`.
    pub role: String,
    /// Its term.
    #[serde(with = "text")]
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<Leader>,
    /// Everyone.
    pub members: Vec<Member>,
    /// How many voters are a majority.
    pub quorum: u64,
    /// One set of voters is being replaced by another.
    #[serde(default)]
    pub changing: bool,
    /// The smallest id that a new node may have; nothing without a cluster.
    #[serde(default)]
    pub next_node_id: Option<u64>,
    /// Index of its last log entry.
    #[serde(default, with = "text::option")]
    pub last_log_index: Option<u64>,
    /// Index up to which it knows the log committed.
    #[serde(default, with = "text::option")]
    pub commit_index: Option<u64>,
    /// Index up to which it has applied the log.
    #[serde(default, with = "text::option")]
    pub applied_index: Option<u64>,
    /// Milliseconds since a quorum last acknowledged it as a leader.
    pub quorum_ack_ms: Option<u64>,
    /// Milliseconds since it last heard of the leader.
    pub last_contact_ms: Option<u64>,
    /// It has applied again what was committed when it last stopped.
    pub recovered: bool,
    /// Why it takes no writes, or none that add anything, though it leads.
    #[serde(default)]
    pub writes_refused: Option<String>,
    /// Why its core failed, if it did.
    pub fault: Option<String>,
}

/// Who leads.
#[derive(Clone, Debug, Deserialize)]
pub struct Leader {
    /// Its id.
    pub id: u64,
    /// URL of its client listener.
    pub client_url: String,
}

/// A member, as a node sees it. How far it is only the leader knows.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// `voter` or `learner`.
    pub role: String,
    /// `host:port` of its peer listener.
    pub peer_addr: String,
    /// URL of its client listener.
    pub client_url: String,
    /// Index up to which its log is known to agree with the leader's.
    #[serde(default, with = "text::option")]
    pub matched_index: Option<u64>,
    /// How many entries it is behind.
    #[serde(default, with = "text::option")]
    pub lag_entries: Option<u64>,
    /// Milliseconds since it last acknowledged anything.
    pub last_ack_ms: Option<u64>,
    /// How much it has of the snapshot that it is being sent, in per cent.
    #[serde(default)]
    pub snapshot_percent: Option<u64>,
}

/// What forming a cluster gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Formed {
    /// It is formed.
    #[serde(rename = "formed")]
    Now,
    /// It was formed before, of the same members.
    #[serde(rename = "exists")]
    Before,
}

/// What stands in an answer to forming a cluster.
#[derive(Clone, Debug, Deserialize)]
pub struct Formation {
    /// Whether it was done now.
    pub result: Formed,
    /// The cluster.
    #[serde(flatten)]
    pub view: View,
}

impl Client {
    /// Forms a cluster of running nodes, or finds that it is formed. The endpoint must be one of them.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn init(&self, members: &[NewMember]) -> Result<Written<Formation>, Error> {
        self.write(&init_ask(members)).await
    }

    /// The cluster as whichever node answers sees it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn view(&self) -> Result<Read<View>, Error> {
        self.read(&view_ask()).await
    }

    /// Has node `to` lead, or else the voter that has most of the log, and waits until it does.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn move_leader(&self, to: Option<u64>) -> Result<Written<Moved>, Error> {
        self.write(&move_ask(to)).await
    }
}
