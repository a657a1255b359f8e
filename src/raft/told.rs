//! What the layers above are told: members, permits, outcomes of writes, status.

use std::time::Duration;

use super::Progress;
use crate::machine::Reply;
use crate::storage::LogId;

/// A member of the cluster: how to reach it.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Member {
    /// `host:port` of its peer listener.
    pub peer_addr: String,
    /// Base URL of its client listener, such as `http://127.0.0.1:7001`.
    pub client_url: String,
    /// Its data directory ([`Identity::node_uuid`](crate::storage::identity::Identity::node_uuid)); empty if that is not known
    /// yet: nobody asked, or an older version wrote the membership.
    pub uuid: String,
    /// Node ids up to this one were members at some time, and are never given to another node. The memory of ids that are
    /// gone: a member that stays carries it.
    pub ids_upto: u64,
    /// It is on its way out: who finishes the change that was begun takes it out altogether.
    pub leaving: bool,
    /// How many clusters this one and those it was made of are; zero is one. See [`super::members::epoch`]. A fact of the cluster
    /// that members carry, not something that a node says of itself: so it is not part of what nodes tell each other.
    #[serde(skip)]
    pub epoch: u64,
}

impl Member {
    /// Whether it is reached as `other` is.
    pub fn is_reached_as(&self, other: &Member) -> bool {
        (&self.peer_addr, &self.client_url) == (&other.peer_addr, &other.client_url)
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLevel {
    /// Linearizable: a quorum confirmed the leader after the request arrived.
    Leader,
    /// Linearizable while clocks drift less than 20 %: no round trip, only on a leader with a fresh lease.
    Lease,
    /// This node's state now, possibly stale.
    Follower,
}

/// Leave to read: the view may be used from now on.
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    /// The level reached: what was asked for, or a stronger one.
    pub effective: ReadLevel,
    /// Proven bound on the age of what will be read; `None` if unknown.
    pub staleness: Option<Duration>,
}

/// A committed and applied command.
#[derive(Clone, Debug)]
pub struct Written {
    /// The entry it was part of.
    pub log_id: LogId,
    /// Log index at which it was done: that of `log_id`, or an earlier one if it is `replayed`.
    pub index: u64,
    /// It was done before under its idempotency key, and this is what was answered then.
    pub replayed: bool,
    /// Its position among the entry's commands.
    pub command: u32,
    /// What the machine answered.
    pub reply: Reply,
}

/// Why a write has no reply, and so what the caller may assume.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// Certainly not applied: this node does not lead. The leader, if known.
    #[error("this node does not lead")]
    NotLeader(Option<(u64, Member)>),
    /// Certainly not applied: too much is waiting.
    #[error("too many writes are waiting: {limit}")]
    Overloaded {
        /// Which limit was reached, with its setting's name and value.
        limit: String,
    },
    /// Certainly not applied: the deadline passed before it was proposed.
    #[error("the deadline passed before the command was proposed")]
    Expired,
    /// Certainly not applied: the node is stopping, not a member yet, or refuses proposals (its disk hangs).
    #[error("not ready: {0}")]
    NotReady(String),
    /// Certainly not applied: a disk has no room for it. Which, and how much is left.
    #[error("{0}")]
    NoRoom(String),
    /// Certainly not applied: the command is larger than an entry may be.
    #[error("the command needs {len} bytes, an entry may have {max}")]
    TooLarge {
        /// Bytes needed.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Proposed, and its fate is not known: it may be applied, now or later, or never.
    #[error("outcome unknown: {0}")]
    Unknown(String),
}

/// Why a read was not permitted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// This node does not lead. The leader, if known.
    #[error("this node does not lead")]
    NotLeader(Option<(u64, Member)>),
    /// It leads but no quorum confirmed it in time.
    #[error("no quorum confirmed this leader before the deadline")]
    Timeout,
    /// The node is still recovering or stopping.
    #[error("not ready: {0}")]
    NotReady(String),
}

impl From<ReadError> for MemberError {
    /// Of a change that was found done already, which this node could not confirm.
    fn from(error: ReadError) -> MemberError {
        match error {
            ReadError::NotLeader(leader) => MemberError::NotLeader(leader),
            other @ (ReadError::Timeout | ReadError::NotReady(_)) => {
                MemberError::NotReady(other.to_string())
            }
        }
    }
}

impl From<ReadError> for TransferError {
    /// Of a leadership that this node says to have, and could not confirm.
    fn from(error: ReadError) -> TransferError {
        match error {
            ReadError::NotLeader(leader) => TransferError::NotLeader(leader),
            other @ (ReadError::Timeout | ReadError::NotReady(_)) => {
                TransferError::NotReady(other.to_string())
            }
        }
    }
}

/// What part a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Leads.
    Leader,
    /// Follows, with a vote.
    Follower,
    /// Stands for election.
    Candidate,
    /// Follows, without a vote.
    Learner,
    /// Core stopped.
    Stopped,
}

/// A member as this node sees it.
#[derive(Clone, Debug)]
pub struct MemberStatus {
    /// Node id.
    pub id: u64,
    /// How to reach it.
    pub member: Member,
    /// Has a vote.
    pub voter: bool,
    /// On the leader: last index known to be on its disk.
    pub matched: Option<u64>,
    /// On the leader: time since it last acknowledged anything.
    pub last_ack: Option<Duration>,
    /// The snapshot that this node is sending it, if it is.
    pub snapshot: Option<Progress>,
}

/// What every answer says of the node that gives it: the part of [`Status`] that costs nearly nothing to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// This node.
    pub node: u64,
    /// What it does.
    pub role: Role,
    /// The leader it knows, and the base URL of its client listener.
    pub leader: Option<(u64, String)>,
    /// Current term.
    pub term: u64,
    /// Last log index this node knows to be committed.
    pub committed_index: Option<u64>,
}

/// This node's view of itself and the cluster; cheap to take.
#[derive(Clone, Debug)]
pub struct Status {
    /// Node id.
    pub node: u64,
    /// Cluster id, once one is formed.
    pub cluster_id: Option<String>,
    /// How many clusters it is, counting those it was made of: 1 when it was formed of new nodes, one more after each recovery
    /// and restore; zero if there is no cluster.
    pub epoch: u64,
    /// Its part.
    pub role: Role,
    /// The leader it knows.
    pub leader: Option<(u64, Member)>,
    /// Its term.
    pub term: u64,
    /// Last index in its log.
    pub last_log_index: Option<u64>,
    /// Last index it knows to be committed.
    pub committed_index: Option<u64>,
    /// Last index it applied.
    pub applied_index: Option<u64>,
    /// Last index purged from its log: a node that lacks it must get a snapshot.
    pub purged_index: Option<u64>,
    /// On a leader: time since a quorum last acknowledged it.
    pub quorum_ack_age: Option<Duration>,
    /// On a leader: how long it has led in this term.
    pub leading: Option<Duration>,
    /// Time since a leader was last heard of (zero on a leader); `None` if never.
    pub last_contact: Option<Duration>,
    /// Everything that was committed before the start is applied: reads may be served.
    pub recovered: bool,
    /// Members, voters and learners, by id.
    pub members: Vec<MemberStatus>,
    /// Entries that this node, leading, stamped with no time since its start, because its clock and those of most voters differ:
    /// while this grows, log time stands still and nothing expires.
    pub clock_disputes: u64,
    /// The snapshot that this node is getting from a leader, if it is.
    pub receiving: Option<Progress>,
    /// One set of voters is being replaced by another: both decide until that is finished.
    pub changing: bool,
    /// The smallest id that a new node may have; zero if there is no cluster.
    pub next_id: u64,
    /// On a leader: why it takes no writes, or none that add anything.
    pub writes_refused: Option<String>,
    /// Set once this node is certainly no member any more, or not the one that the cluster means: why.
    pub removed: Option<String>,
    /// Set when the node cannot go on.
    pub fault: Option<String>,
}

/// What forming the cluster did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initialized {
    /// Formed now.
    Formed,
    /// Was formed before with the same members.
    Already,
}

/// Why a cluster was not formed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InitError {
    /// Formed before, with other members.
    #[error("this node belongs to a cluster already: {0}")]
    AlreadyInitialized(String),
    /// A listed member cannot be reached or answers as another node.
    #[error("{0}")]
    PeerUnreachable(String),
    /// A listed member belongs to another cluster.
    #[error("{0}")]
    PeerInOtherCluster(String),
    /// The list is wrong: empty, this node is missing, duplicate addresses.
    #[error("{0}")]
    Invalid(String),
    /// The node failed.
    #[error("{0}")]
    Failed(String),
}

/// Who leads after a transfer of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transferred {
    /// The leader.
    pub leader: u64,
    /// Its term.
    pub term: u64,
    /// Whether it is another one than before.
    pub moved: bool,
}

/// Why leadership was not transferred.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransferError {
    /// This node does not lead. The leader, if known.
    #[error("this node does not lead")]
    NotLeader(Option<(u64, Member)>),
    /// The heir is no member.
    #[error("node {0} is no member of this cluster")]
    NoSuchMember(u64),
    /// The heir is a learner.
    #[error("node {0} has no vote")]
    NoVoter(u64),
    /// Nobody can take over now; nothing was tried.
    #[error("{0}")]
    NoHeir(String),
    /// The node is stopping or cannot go on; nothing was tried.
    #[error("not ready: {0}")]
    NotReady(String),
    /// It was begun, and who leads is not known.
    #[error("{0}")]
    Unknown(String),
}

/// A change of who belongs to the cluster. Asked for again, each finds itself done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A node that was never a member joins, without a vote.
    Add {
        /// Its id, above all there ever were.
        id: u64,
        /// How it is reached.
        member: Member,
    },
    /// A member is reached elsewhere from now on.
    Move {
        /// Which.
        id: u64,
        /// How it is reached.
        member: Member,
    },
    /// A member gets a vote.
    Promote {
        /// Which.
        id: u64,
        /// Entries it may lack; `None` for the default.
        lag_max: Option<u64>,
        /// Even if it lacks more, or no majority of the new voters answers.
        force: bool,
    },
    /// A voter loses its vote and stays.
    Demote {
        /// Which.
        id: u64,
        /// Even if no majority of the voters left answers.
        force: bool,
    },
    /// A member goes, for good.
    Remove {
        /// Which.
        id: u64,
        /// Even if no majority of the voters left answers.
        force: bool,
    },
    /// A member without a vote takes the place of a voter, which goes, in one change.
    Replace {
        /// Who goes.
        old: u64,
        /// Who takes its place.
        new: u64,
        /// Entries it may lack; `None` for the default.
        lag_max: Option<u64>,
        /// Even if it lacks more, or no majority of the new voters answers.
        force: bool,
    },
}

/// What a [`MemberChange`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Log index of the membership that holds.
    Now(u64),
    /// It was so before.
    Before,
}

/// Why the members are not changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MemberError {
    /// This node does not lead. The leader, if known.
    #[error("this node does not lead")]
    NotLeader(Option<(u64, Member)>),
    /// The node named is no member.
    #[error("node {0} is no member of this cluster")]
    NoSuchMember(u64),
    /// The node named has no vote.
    #[error("node {0} has no vote")]
    NoVoter(u64),
    /// The id belongs to another node, or the addresses do.
    #[error("{0}")]
    Exists(String),
    /// The id was used before, or is so large that it would use up all others.
    #[error("{0}")]
    IdUsed(String),
    /// Nobody with a vote would be left.
    #[error("node {0} is the only voter")]
    LastVoter(u64),
    /// The change before this one is not finished; nothing was tried.
    #[error("{0}")]
    InProgress(String),
    /// The node lacks too much of the log; nothing was tried.
    #[error("{0}")]
    NotCaughtUp(String),
    /// Too few of the voters there would be answer; nothing was tried.
    #[error("{0}")]
    QuorumLost(String),
    /// The node does not answer at its address, or another one does.
    #[error("{0}")]
    PeerUnreachable(String),
    /// The node belongs to another cluster.
    #[error("{0}")]
    PeerInOtherCluster(String),
    /// This node leads and must not after the change, and nobody can take over.
    #[error("{0}")]
    NoHeir(String),
    /// The node is stopping or cannot go on; nothing was tried.
    #[error("not ready: {0}")]
    NotReady(String),
    /// It was begun, and whether it comes about is not known.
    #[error("{0}")]
    Unknown(String),
}
