//! Forgetting what can have no effect any more, so that states that differ in nothing else are one state.

use crate::log::Log;
use crate::protocol::{Cluster, Flaw, Memory};
use crate::state::{Append, NODES, Node, Reads, Role, Since, State, bit};

impl Cluster {
    /// Drops messages and timers that nothing depends on, and puts the requests under way in order. Votes only grow:
    /// what a vote refuses now it refuses for ever.
    pub(crate) fn forget_what_is_dead(&self, state: &mut State) {
        self.forget_past_timers(state);
        state.appends.sort_unstable();
        if self.memory == Memory::AllButTime {
            return;
        }
        for node in &mut state.nodes {
            self.forget_idle_timers(node);
        }
        for id in 0..NODES {
            self.forget_last_leaders_timers(state, id);
        }
        self.forget_appends(state);
        forget_ballots(state);
        forget_handover(state);
        state.appends.sort_unstable();
    }

    /// A timer is forgotten when its time is over.
    fn forget_past_timers(&self, state: &mut State) {
        for node in &mut state.nodes {
            node.acknowledged = node.acknowledged.forget_after(self.limits.read);
            node.started = node.started.forget_after(self.limits.gate);
            node.heard = node.heard.forget_after(self.limits.promise);
        }
        for append in state.appends.iter_mut().flatten() {
            let (Append::Request { sent, .. } | Append::Answer { sent, .. }) = append;
            *sent = sent.forget_after(self.limits.read);
        }
    }

    /// A promise is forgotten when the gate lasts longer, a lease when its reads are revoked. What a follower matched
    /// below the commit index is as good as the commit index.
    fn forget_idle_timers(&self, node: &mut Node) {
        if node.heard.left(self.limits.promise) <= node.started.left(self.limits.gate) {
            node.heard = Since::LONG;
        }
        if let Role::Leader { matched, reads, .. } = &mut node.role {
            for len in matched {
                *len = (*len).max(node.committed);
            }
            let is_over = match reads {
                Reads::Serving => false,
                Reads::Revoked {
                    check_in_flight, ..
                } => !*check_in_flight,
                Reads::Transferring {
                    check_in_flight,
                    cached,
                } => !*check_in_flight && !*cached,
            };
            if is_over && self.flaw != Flaw::CacheOutlivesTransfer {
                node.acknowledged = Since::LONG;
            }
        } else if node.acknowledged == Since::LONG {
            node.committed = 0;
        }
    }

    /// Once no vote above a node's can come about within the bounds, neither its promise nor its gate matters, and as
    /// a leader it is the last one: its lease cannot be broken any more, so it need not age.
    fn forget_last_leaders_timers(&self, state: &mut State, id: usize) {
        let own = state.nodes[id].vote;
        let is_outvoted = state.nodes.iter().any(|node| node.vote > own)
            || state
                .ballots
                .iter()
                .flatten()
                .any(|ballot| ballot.vote > own);
        if is_outvoted || state.campaigns < self.bounds.campaigns {
            return;
        }
        let node = &mut state.nodes[id];
        node.heard = Since::LONG;
        node.started = Since::LONG;
        let sent = state.appends.iter_mut().flatten().filter_map(|append| {
            let (Append::Request { vote, sent, .. } | Append::Answer { vote, sent, .. }) = append;
            (*vote == own).then_some(sent)
        });
        for since in sent.chain([&mut node.acknowledged]) {
            if since.within(self.limits.read) {
                *since = Since::NOW;
            }
        }
    }

    /// A request with a lower vote is refused; one whose log the follower has is a heartbeat. An answer brings nothing
    /// to a leader that does not lead by its vote, or that already knows as much.
    fn forget_appends(&self, state: &mut State) {
        let State { nodes, appends, .. } = state;
        for place in appends {
            let Some(append) = place else { continue };
            let (Append::Request { vote, to, sent, .. } | Append::Answer { vote, to, sent, .. }) =
                append;
            let (leader, follower) = (&nodes[vote.node()], &nodes[*to]);
            let known = match &leader.role {
                Role::Leader { matched, .. } if leader.vote == *vote => Some(matched[*to]),
                Role::Leader { .. } | Role::Candidate { .. } | Role::Follower => None,
            };
            let renews = *sent < leader.acknowledged || self.flaw == Flaw::LeaseFromReceipt;
            if known.is_none() || !renews {
                *sent = Since::LONG;
            }
            let is_dead = match append {
                Append::Request { vote, log, .. } => {
                    if *vote == follower.vote && follower.has_on_disk(log) {
                        *log = Log::default();
                    }
                    *vote < follower.vote
                }
                Append::Answer { matched, .. } => {
                    if known.is_some_and(|known| *matched <= known) {
                        *matched = 0;
                    }
                    known.is_none() || (*matched == 0 && !renews)
                }
            };
            if is_dead {
                *place = None;
            }
        }
    }
}

/// A voter refuses a request with a vote below its own.
fn forget_ballots(state: &mut State) {
    for slot in &mut state.ballots {
        let Some(ballot) = slot else { continue };
        for (voter, node) in state.nodes.iter().enumerate() {
            if node.vote > ballot.vote {
                ballot.pending &= !bit(voter);
            }
        }
        if ballot.pending == 0 {
            *slot = None;
        }
    }
}

/// A node ignores a transfer from a leader with a vote below its own.
fn forget_handover(state: &mut State) {
    let Some(handover) = &mut state.handover else {
        return;
    };
    for (id, node) in state.nodes.iter().enumerate() {
        if node.vote > handover.from {
            handover.pending &= !bit(id);
        }
    }
    if handover.pending == 0 {
        state.handover = None;
    }
}
