//! Steps of elections, and of restarts, which forget what a node promised.

use crate::log::{Entry, Vote, small};
use crate::protocol::{Cluster, Flaw, leading};
use crate::state::{Append, Ballot, NODES, Node, Role, Since, State, bit};

/// Each step returns `None` where it is not possible.
impl Cluster {
    /// A node stands once it is past its gate and its promise. The election timeout only ever makes it later, a
    /// pre-vote only rarer, so the model has neither.
    pub(crate) fn stand(&self, state: &mut State, id: usize) -> Option<()> {
        let node = &state.nodes[id];
        let is_bound = self.flaw != Flaw::ForcedElection && node.keeps_promise(&self.limits);
        if node.leads() || is_bound || node.is_gated(&self.limits) {
            return None;
        }
        self.campaign(state, id, false)
    }

    /// Votes for itself, in the next term, and asks the others.
    pub(crate) fn campaign(&self, state: &mut State, id: usize, by_transfer: bool) -> Option<()> {
        if state.campaigns == self.bounds.campaigns {
            return None;
        }
        state.campaigns += 1;
        let node = &mut state.nodes[id];
        let vote = Vote::new(node.vote.term() + 1, id);
        self.take_vote(node, vote);
        node.role = Role::Candidate {
            granted: bit(id),
            by_transfer,
        };
        let last_id = node.log.last_id();
        let pending = 0b111 & !bit(id);
        state.ballots[id] = Some(Ballot {
            vote,
            last_id,
            by_transfer,
            pending,
        });
        Some(())
    }

    /// A voter grants its vote, and the candidate has the answer if it still stands. A refusal leaves the request
    /// under way, as if it were sent again. openraft's leader also refuses while a quorum follows it; that only makes
    /// elections rarer, so the model leaves it out.
    pub(crate) fn poll(&self, state: &mut State, candidate: usize, voter: usize) -> Option<()> {
        let ballot = state.ballots[candidate].filter(|ballot| ballot.pending & bit(voter) != 0)?;
        let node = &mut state.nodes[voter];
        let is_bound = self.flaw != Flaw::NoPromise && node.keeps_promise(&self.limits);
        if node.is_gated(&self.limits)
            || is_bound && !ballot.by_transfer
            || ballot.last_id < node.log.last_id()
            || ballot.vote < node.vote
        {
            return None;
        }
        self.take_vote(node, ballot.vote);
        let pending = ballot.pending & !bit(voter);
        state.ballots[candidate] = Some(Ballot { pending, ..ballot });
        let asking = &mut state.nodes[candidate];
        match &mut asking.role {
            Role::Candidate { granted, .. } if asking.vote == ballot.vote => *granted |= bit(voter),
            Role::Candidate { .. } | Role::Leader { .. } | Role::Follower => {}
        }
        Some(())
    }

    /// A node learns from an answer that another has a higher vote, and takes it as a candidate's. A leader steps
    /// down by it at once, whatever its lease; a follower gets such answers only while it asks for votes, so never
    /// while it keeps a promise or is gated.
    pub(crate) fn learn(&self, state: &mut State, id: usize, of: usize) -> Option<()> {
        let higher = state.nodes[of].vote.uncommitted();
        let node = &mut state.nodes[id];
        let is_bound = node.keeps_promise(&self.limits) || node.is_gated(&self.limits);
        if higher <= node.vote || is_bound {
            return None;
        }
        self.take_vote(node, higher);
        Some(())
    }

    /// A candidate that a quorum granted its vote leads and proposes a blank entry. That this may come late stands
    /// for answers that come late.
    pub(crate) fn lead(&self, state: &mut State, id: usize) -> Option<()> {
        let node = &mut state.nodes[id];
        let Role::Candidate {
            granted,
            by_transfer,
        } = node.role
        else {
            return None;
        };
        if granted.count_ones() < 2 {
            return None;
        }
        node.vote = node.vote.committed();
        node.log.push(Entry::new(node.vote, 0));
        node.role = leading(node.log.len(), [0; NODES], by_transfer);
        node.committed = 0;
        node.acknowledged = Since::LONG;
        let leader_id = 1 << node.vote.leader_id();
        state.established_twice |= state.established & leader_id != 0;
        state.established |= leader_id;
        Some(())
    }

    /// Everything volatile is lost, with it the promise to the leader, the lease and the unflushed tail of the log.
    /// Answers do not find the new process. Time spent down needs no state of its own: a node that is down does what
    /// a node does that nobody hears, or less.
    pub(crate) fn restart(&self, state: &mut State, id: usize) -> Option<()> {
        if state.restarts == self.bounds.restarts {
            return None;
        }
        state.restarts += 1;
        for place in &mut state.appends {
            if matches!(place, Some(Append::Answer { vote, .. }) if vote.node() == id) {
                *place = None;
            }
        }
        let node = &mut state.nodes[id];
        self.lose_what_is_not_on_disk(node);
        node.committed = 0;
        node.heard = Since::LONG;
        node.promises = true;
        node.started = if self.flaw == Flaw::NoVoteGate {
            Since::LONG
        } else {
            Since::NOW
        };
        node.acknowledged = Since::LONG;
        node.role = Role::Follower;
        if node.vote.is_committed() && node.vote.node() == id {
            if self.flaw == Flaw::LeaderRestore {
                restore(node);
            } else {
                node.vote = node.vote.uncommitted();
            }
        }
        Some(())
    }

    fn lose_what_is_not_on_disk(&self, node: &mut Node) {
        if self.flaw == Flaw::FlushBeforeSync {
            node.flushed -= 1;
        }
        node.log.truncate(node.flushed);
        if self.flaw == Flaw::VoteBeforeSync {
            node.vote = node.log.last_vote();
        }
    }
}

/// What openraft's leader restore does: a leader by its stored vote leads on, and proposes a blank entry only if it
/// finds none of its own.
fn restore(node: &mut Node) {
    let is_own = |entry: &Entry| entry.leader_id() == node.vote.leader_id();
    let first = node
        .log
        .entries()
        .iter()
        .position(is_own)
        .map_or(node.log.len(), small)
        + 1;
    if first > node.log.len() {
        node.log.push(Entry::new(node.vote, 0));
    }
    node.role = leading(first, [0; NODES], false);
}
