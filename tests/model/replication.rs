//! Steps of replication: proposing, appending, acknowledging, and the lease that acknowledgements carry.

use crate::log::{Entry, Vote};
use crate::promises::serves_lease_reads;
use crate::protocol::{Cluster, Flaw};
use crate::state::{Append, NODES, Node, Reads, Role, Since, State};

/// Each step returns `None` where it is not possible.
impl Cluster {
    /// openraft appends to the leader's own log without waiting for the disk. It wants a valid lease for it; safety
    /// does not depend on that, so the model does not.
    pub(crate) fn write(&self, state: &mut State, leader: usize) -> Option<()> {
        let node = &mut state.nodes[leader];
        let Role::Leader {
            reads: Reads::Serving,
            ..
        } = node.role
        else {
            return None;
        };
        if state.writes == self.bounds.writes {
            return None;
        }
        state.writes += 1;
        node.log.push(Entry::new(node.vote, state.writes));
        Some(())
    }

    /// Everything appended so far is on the disk of a node.
    pub(crate) fn flush(&self, state: &mut State, id: usize) -> Option<()> {
        let node = &mut state.nodes[id];
        if node.flushed == node.log.len() {
            return None;
        }
        node.flushed = node.log.len();
        commit(state, id);
        Some(())
    }

    /// Request and answer within the tick.
    pub(crate) fn call(&self, state: &mut State, leader: usize, follower: usize) -> Option<()> {
        let request = request(state, leader, follower)?;
        let answer = self.hear(state, request)?;
        self.acknowledge(state, answer);
        Some(())
    }

    /// Puts a request under way.
    pub(crate) fn send(&self, state: &mut State, leader: usize, follower: usize) -> Option<()> {
        if state.appends.iter().flatten().count() == usize::from(self.bounds.in_flight) {
            return None;
        }
        let request = request(state, leader, follower)?;
        let place = state.appends.iter_mut().find(|place| place.is_none())?;
        *place = Some(request);
        Some(())
    }

    /// A request arrives and becomes an answer under way, or an answer arrives.
    pub(crate) fn arrive(&self, state: &mut State, place: usize) -> Option<()> {
        let append = state.appends[place].take()?;
        match append {
            Append::Request { .. } => state.appends[place] = Some(self.hear(state, append)?),
            Append::Answer { .. } => self.acknowledge(state, append),
        }
        Some(())
    }

    /// A follower takes any vote that is not lower, renews its promise, appends, flushes and answers. That it appends
    /// and flushes in one step loses nothing: it answers only after the flush, and until then it is as if the request
    /// were still under way.
    fn hear(&self, state: &mut State, request: Append) -> Option<Append> {
        let Append::Request {
            vote,
            to,
            log,
            sent,
        } = request
        else {
            return None;
        };
        let node = &mut state.nodes[to];
        if vote < node.vote {
            return None;
        }
        self.take_vote(node, vote);
        node.heard = if node.promises {
            Since::NOW
        } else {
            Since::LONG
        };
        node.log.follow(&log);
        node.flushed = node.log.len();
        Some(Append::Answer {
            vote,
            to,
            matched: log.len(),
            sent,
        })
    }

    /// Takes a vote of another node: whatever this node led or stood for ends, and what it promised to the leader of
    /// another vote does not count for this one. The cached deadline of a leader goes before the vote is saved.
    pub(crate) fn take_vote(&self, node: &mut Node, vote: Vote) {
        if vote > node.vote {
            node.vote = vote;
            node.promises = true;
        }
        if self.flaw != Flaw::CacheOutlivesStepDown || !serves_lease_reads(self, node) {
            node.acknowledged = Since::LONG;
            node.committed = 0;
        }
        node.role = Role::Follower;
        node.heard = Since::LONG;
    }

    /// The lease counts from the sending of the request that is acknowledged. Of three voters the leader and one
    /// other are a quorum, so the newest acknowledgement is the quorum's.
    fn acknowledge(&self, state: &mut State, answer: Append) {
        let Append::Answer {
            vote,
            to,
            matched: upto,
            sent,
        } = answer
        else {
            return;
        };
        let node = &mut state.nodes[vote.node()];
        let leads_by_it = node.vote == vote;
        let Role::Leader { matched, .. } = &mut node.role else {
            return;
        };
        if !leads_by_it {
            return;
        }
        matched[to] = matched[to].max(upto);
        let from = if self.flaw == Flaw::LeaseFromReceipt {
            Since::NOW
        } else {
            sent
        };
        node.acknowledged = node.acknowledged.min(from);
        commit(state, vote.node());
    }
}

/// What a leader sends to a follower: its whole log. It does so at any time, also while it hands over (openraft then
/// sends no heartbeats any more, but still entries).
fn request(state: &State, leader: usize, follower: usize) -> Option<Append> {
    let Node { vote, log, .. } = state.nodes[leader];
    let request = Append::Request {
        vote,
        to: follower,
        log,
        sent: Since::NOW,
    };
    state.nodes[leader].leads().then_some(request)
}

/// A leader commits what two voters have on disk, up to an entry of its own, and acknowledges the writes it has
/// applied. Writes of earlier leaders count as acknowledged then: from then on others can read them.
fn commit(state: &mut State, leader: usize) {
    let node = &mut state.nodes[leader];
    let Role::Leader { matched, .. } = node.role else {
        return;
    };
    for (len, entry) in (1..).zip(node.log.entries()) {
        let others = (0..NODES)
            .filter(|id| *id != leader && matched[*id] >= len)
            .count();
        let held = others + usize::from(node.flushed >= len);
        if held >= 2 && entry.leader_id() == node.vote.leader_id() {
            node.committed = node.committed.max(len);
        }
    }
    let applied = usize::from(node.applied());
    for (len, entry) in (1..).zip(&node.log.entries()[..applied]) {
        if entry.write() > 0 {
            let acknowledged = &mut state.acknowledged[usize::from(entry.write()) - 1];
            if *acknowledged == 0 {
                *acknowledged = len;
            }
        }
    }
}
