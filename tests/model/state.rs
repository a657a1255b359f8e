//! The state of a cluster: three nodes and what is under way between them.

use crate::log::{Log, Vote};
use crate::settings::Limits;

/// Voters in the cluster.
pub(crate) const NODES: usize = 3;
/// Most append requests under way that the state has room for.
pub(crate) const IN_FLIGHT_MAX: usize = 2;
/// Most client writes the state has room for.
pub(crate) const WRITES_MAX: usize = 2;

/// Ticks of true time since an event, or that it no longer matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Since(u8);

impl Since {
    /// It happens now.
    pub(crate) const NOW: Since = Since(0);
    /// It never happened, or too long ago. Later than everything else.
    pub(crate) const LONG: Since = Since(u8::MAX);

    /// Whether it happened less than `ticks` ago.
    pub(crate) fn within(self, ticks: u8) -> bool {
        self.0 < ticks
    }

    /// How many ticks are left until it is `ticks` ago.
    pub(crate) fn left(self, ticks: u8) -> u8 {
        ticks.saturating_sub(self.0)
    }

    /// The same event a tick later.
    pub(crate) fn later(self) -> Since {
        Since(self.0.saturating_add(1))
    }

    /// The same event, forgotten if it is `ticks` ago.
    pub(crate) fn forget_after(self, ticks: u8) -> Since {
        if self.within(ticks) {
            self
        } else {
            Since::LONG
        }
    }
}

/// Whether a leader's lease reads are served while a transfer is prepared and under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reads {
    /// No transfer.
    Serving,
    /// A transfer to `to` is prepared: the cached deadline is dropped and no check is begun.
    Revoked {
        /// The node that shall lead.
        to: usize,
        /// Whether a check that passed before still has its deadline to store.
        check_in_flight: bool,
    },
    /// openraft has sent the transfer and itself passes no check any more.
    Transferring {
        /// As before; never true if checks are drained.
        check_in_flight: bool,
        /// Whether a late check put a deadline back.
        cached: bool,
    },
}

/// What a node is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Follows, or knows no leader.
    Follower,
    /// Stands for election.
    Candidate {
        /// Bit set of the nodes that granted its vote.
        granted: u8,
        /// Whether a leader asked it to stand.
        by_transfer: bool,
    },
    /// Leads.
    Leader {
        /// Length of the log with the first entry of this leadership, which a lease read awaits.
        first: u8,
        /// Length of the log that each other node acknowledged.
        matched: [u8; NODES],
        /// Whether a leader asked it to stand.
        by_transfer: bool,
        /// Whether it serves lease reads.
        reads: Reads,
    },
}

/// One voter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    /// Its vote. On disk; synced before it is used.
    pub(crate) vote: Vote,
    /// Its log, flushed or not.
    pub(crate) log: Log,
    /// How much of the log a crash leaves.
    pub(crate) flushed: u8,
    /// How much of the log it knows to be committed as a leader; 0 otherwise, where nothing depends on it.
    pub(crate) committed: u8,
    /// What it is to the others. Volatile.
    pub(crate) role: Role,
    /// Since it last heard the leader of its vote: its promise not to vote for others. Volatile.
    pub(crate) heard: Since,
    /// Cleared by the leader's own transfer until the vote changes: hearing the leader renews no promise.
    pub(crate) promises: bool,
    /// Since its process started: the vote gate.
    pub(crate) started: Since,
    /// As a leader: since it sent the newest request that a quorum acknowledged. The cached deadline of its lease
    /// reads counts from here and follows every acknowledgement at once.
    pub(crate) acknowledged: Since,
}

impl Node {
    /// How much of the log is applied: committed and, by the flushed gate, on the local disk.
    pub(crate) fn applied(&self) -> u8 {
        self.committed.min(self.flushed)
    }

    /// Whether it already has, on disk, every entry of a leader's log, by log id.
    pub(crate) fn has_on_disk(&self, log: &Log) -> bool {
        let durable = &self.log.entries()[..usize::from(self.flushed)];
        log.len() <= self.flushed
            && durable
                .iter()
                .zip(log.entries())
                .all(|(a, b)| a.leader_id() == b.leader_id())
    }

    /// Whether it leads.
    pub(crate) fn leads(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// Whether it may neither vote nor stand because it promised so to the leader it follows.
    pub(crate) fn keeps_promise(&self, limits: &Limits) -> bool {
        self.vote.is_committed() && self.heard.within(limits.promise)
    }

    /// Whether its process started so lately that it may have forgotten a promise: the vote gate. Its exemption for a
    /// pristine vote cannot occur here: every voter has heard a leader, and one that has not has promised nothing.
    pub(crate) fn is_gated(&self, limits: &Limits) -> bool {
        self.started.within(limits.gate)
    }
}

/// An append request under way, or its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Append {
    /// On its way to the follower.
    Request {
        /// Vote of the leader that sent it.
        vote: Vote,
        /// The follower.
        to: usize,
        /// The leader's log when it sent it; a heartbeat is a request without news.
        log: Log,
        /// Since it was sent.
        sent: Since,
    },
    /// The follower's answer, on its way back.
    Answer {
        /// Vote of the leader that asked.
        vote: Vote,
        /// The follower.
        to: usize,
        /// Length of the log that the follower now has on disk.
        matched: u8,
        /// Since the *request* was sent.
        sent: Since,
    },
}

/// The last vote request of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ballot {
    /// The vote it asks for.
    pub(crate) vote: Vote,
    /// Id of the candidate's last log entry.
    pub(crate) last_id: (u8, u8),
    /// Whether a leader asked the candidate to stand: voters then do not honour their promise.
    pub(crate) by_transfer: bool,
    /// Bit set of the voters it is still on its way to.
    pub(crate) pending: u8,
}

/// The transfer message of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Handover {
    /// Vote of the leader that hands over.
    pub(crate) from: Vote,
    /// The node that shall lead.
    pub(crate) to: usize,
    /// Id of the leader's last log entry; the node must have it.
    pub(crate) last_id: (u8, u8),
    /// Bit set of the nodes it is still on its way to.
    pub(crate) pending: u8,
}

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The voters.
    pub(crate) nodes: [Node; NODES],
    /// Append requests and answers that take their time.
    pub(crate) appends: [Option<Append>; IN_FLIGHT_MAX],
    /// Vote requests, by candidate.
    pub(crate) ballots: [Option<Ballot>; NODES],
    /// The transfer under way.
    pub(crate) handover: Option<Handover>,
    /// For each client write the length of the log that ends with it, once acknowledged; 0 before. What the outside
    /// knows: no node reads it.
    pub(crate) acknowledged: [u8; WRITES_MAX],
    /// Leader ids (as bits) that were established. What the outside knows.
    pub(crate) established: u32,
    /// Whether one of them was established twice. What the outside knows.
    pub(crate) established_twice: bool,
    /// Campaigns begun.
    pub(crate) campaigns: u8,
    /// Client writes proposed.
    pub(crate) writes: u8,
    /// Restarts had.
    pub(crate) restarts: u8,
    /// Transfers begun.
    pub(crate) transfers: u8,
}

/// The bit of a node in a bit set.
pub(crate) fn bit(node: usize) -> u8 {
    1 << node
}
