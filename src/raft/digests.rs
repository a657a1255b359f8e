//! Digests compared between nodes: whoever applied the same entries must have come to the same state.
//!
//! Apply is deterministic, so the chain of digests ([`crate::machine::digest`]) is the same on every node at the same index. Were
//! it not (memory that flips a bit, a bug, two versions that decide differently), nothing else would notice: log and checksums are
//! in order, and reads of one node answer other things than reads of another. So each node keeps [`Marks`] of where it was with
//! which digest, and asks all others for theirs, round after round.
//!
//! Most voters decide ([`judge()`]). A node that differs from what most of them have does not go on: its state is marked as damaged,
//! it stops, and its next start gets the state back as after any damage, but from none of its own snapshots, which may be just as
//! wrong. Where nodes differ and no majority has the same, nobody knows who is right: a leader takes no writes then, until somebody
//! comes back who tips the scales, or whoever is known to be wrong was replaced.

mod judge;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use openraft::async_runtime::WatchReceiver;

pub use judge::Agreement;
use judge::{Judgement, judge};

use super::context::PeerContext;
use super::form::UnaryCall;
use super::types::{Raft, RaftStoredMembership};
use super::wire::answer::Answer;
use super::wire::{self, Header, Segments, rare};
use super::{Call, Member, Replica};
use crate::storage::Vote;
use crate::storage::clock::now;
use crate::storage::state::Applied;

/// Digests are kept of every index that is a multiple of this, and that many of the newest of them.
const FINE: u64 = 256;
/// And of every multiple of this, for nodes that are far apart.
const COARSE: u64 = 64 * FINE;
const KEPT: usize = 64;

/// Rounds are so many heartbeats apart.
const HEARTBEATS: u32 = 25;

/// What begins the reason for which a node sets aside a state that others do not share.
pub(super) const ALONE: &str = "this node's state is not that of a majority";

/// A digest, and the log index up to which it covers everything.
pub(crate) type Mark = (u64, [u8; 32]);

/// Where this node was with which digest; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The newest of all, whatever its index: where nothing is written, all nodes end at the same.
    last: Option<Mark>,
    fine: VecDeque<Mark>,
    coarse: VecDeque<Mark>,
}

impl Marks {
    /// Notes how far the state is.
    pub(super) fn note(&self, applied: &Applied) {
        let Some(last) = applied.log_id else { return };
        let mark = (last.index, applied.digest);
        let kept = &mut *self.kept();
        kept.last = Some(mark);
        for (marks, every) in [(&mut kept.fine, FINE), (&mut kept.coarse, COARSE)] {
            if last.index.is_multiple_of(every) {
                marks.push_back(mark);
            }
            while marks.len() > KEPT {
                marks.pop_front();
            }
        }
    }

    /// Whether what is applied up to `index` ought to be noted before more is applied.
    pub(super) fn is_due(index: u64) -> bool {
        index.is_multiple_of(FINE)
    }

    /// Forgets everything: another state takes the place of the one that was noted.
    pub(super) fn clear(&self) {
        *self.kept() = Kept::default();
    }

    /// All of them, for others.
    pub(super) fn all(&self) -> Vec<Mark> {
        let kept = self.kept();
        let marks = kept.coarse.iter().chain(&kept.fine).chain(&kept.last);
        let marks: BTreeSet<Mark> = marks.copied().collect();
        marks.into_iter().collect()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a comparison of the nodes' states came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consistency {
    /// When it was made; nothing before the first.
    pub at: Option<Instant>,
    /// Each member: up to where its digest is known, what it is there, and how it compares.
    pub nodes: BTreeMap<u64, NodeDigest>,
    /// Why no majority agrees, if none does: no writes are taken then.
    pub disputed: Option<String>,
}

/// A node's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeDigest {
    /// The digest, and the log index up to which it covers everything; nothing if the node was not reached or has applied nothing.
    pub mark: Option<(u64, [u8; 32])>,
    /// How it compares with the others'.
    pub agreement: Agreement,
}

/// The last comparison; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Compared {
    last: Arc<Mutex<Consistency>>,
}

impl Compared {
    /// It.
    pub(super) fn get(&self) -> Consistency {
        self.last().clone()
    }

    /// Whether a leader may take writes.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self) -> Result<(), String> {
        match &self.last().disputed {
            Some(why) => Err(why.clone()),
            None => Ok(()),
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Consistency> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares one node with the others.
pub(super) struct Comparer {
    pub(super) context: Arc<PeerContext>,
    pub(super) raft: Raft,
    pub(super) call: UnaryCall,
    pub(super) state: Arc<dyn Replica>,
    pub(super) compared: Compared,
}

impl Comparer {
    /// Round after round, for as long as the core lives.
    pub(super) async fn run(self) {
        let every = self.context.options.heartbeat * HEARTBEATS;
        loop {
            tokio::time::sleep(every).await;
            let members = {
                let metrics = self.raft.server_metrics();
                let metrics = metrics.borrow_watched();
                metrics.membership_config.clone()
            };
            if members.nodes().nth(1).is_none() {
                continue; // Alone, or in no cluster.
            }
            self.round(&members, every).await;
        }
    }

    async fn round(&self, members: &RaftStoredMembership, within: Duration) {
        let me = self.context.dir.identity().node_id;
        let others = members.nodes().filter(|(id, _)| **id != me);
        let asked = others.map(|(id, member)| async {
            let asked = self.ask(*id, member);
            let marks = tokio::time::timeout(within, asked).await;
            (*id, marks.map_err(|_| "no answer".to_owned()).flatten())
        });
        let mut heard: BTreeMap<u64, Vec<Mark>> = BTreeMap::new();
        for (id, marks) in join_all(asked).await {
            match marks {
                Ok(marks) => drop(heard.insert(id, marks)),
                Err(why) => tracing::debug!(peer = id, "its digests are not known: {why}"),
            }
        }
        // Taken last: whatever the others have applied, this node may have by now.
        heard.insert(me, self.context.marks.all());
        let ids: BTreeSet<u64> = members.nodes().map(|(id, _)| *id).collect();
        let judgement = judge(&ids, &heard, members.membership().get_joint_config());
        self.act(me, judgement, &heard);
    }

    /// Draws the conclusions.
    fn act(&self, me: u64, judgement: Judgement, heard: &BTreeMap<u64, Vec<Mark>>) {
        let alone = judgement.agreement.get(&me) == Some(&Agreement::Differs);
        let before = self.compared.get();
        let nodes = judgement.agreement.iter().map(|(id, agreement)| {
            let mark = heard.get(id).and_then(|marks| marks.last()).copied();
            let agreement = *agreement;
            (*id, NodeDigest { mark, agreement })
        });
        let nodes: BTreeMap<u64, NodeDigest> = nodes.collect();
        for (id, node) in &nodes {
            let differs = node.agreement == Agreement::Differs;
            let known = before.nodes.get(id);
            if differs && known.is_none_or(|known| known.agreement != Agreement::Differs) {
                tracing::error!(node = id, "its state is not that of a majority");
            }
        }
        if let Some(why) = &judgement.disputed
            && before.disputed.is_none()
        {
            tracing::error!("no writes are taken: {why}");
        }
        *self.compared.last() = Consistency {
            at: Some(now()),
            nodes,
            disputed: judgement.disputed,
        };
        if alone {
            let at = judgement.differs_at.get(&me).copied().unwrap_or_default();
            self.state
                .condemn(&format!("{ALONE}: it has another digest at index {at}"));
        }
    }

    /// The marks of node `id`, which is `member`.
    async fn ask(&self, id: u64, member: &Member) -> Result<Vec<Mark>, String> {
        let me = self.context.dir.identity();
        let cluster = me.cluster_id.ok_or("this node belongs to no cluster")?;
        let header = Header {
            call: Call::Marks,
            cluster: wire::id_bytes(&cluster)?,
            from: me.node_id,
            from_uuid: wire::id_bytes(&me.node_uuid)?,
            boot: self.context.dir.boot(),
            to: id,
            to_uuid: wire::known_id(&member.uuid)?,
            // It is nobody's to vote with; a header names its sender.
            vote: Vote {
                term: 0,
                node: me.node_id,
                committed: false,
            },
            seq: 1,
        };
        let mut message = Segments::default();
        header.encode(&mut message);
        let answer =
            (self.call)(member.peer_addr.clone(), Call::Marks, message.into_bytes()).await?;
        match Answer::decode(answer)
            .map_err(|error| error.to_string())?
            .answer
        {
            Answer::Rare(given) => rare::decode(&given).map_err(|error| error.to_string()),
            Answer::Refused(why) => Err(why),
            other => Err(format!("it answered with {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LogId;

    fn applied(index: u64) -> Applied {
        let term_and_node = 1;
        Applied {
            log_id: Some(LogId {
                term: term_and_node,
                node: term_and_node,
                index,
            }),
            digest: [u8::try_from(index % 251).unwrap(); 32],
            ..Applied::default()
        }
    }

    #[test]
    fn the_newest_marks_are_kept_and_some_that_reach_far_back() {
        let marks = Marks::default();
        marks.note(&Applied::default());
        assert_eq!(marks.all(), []);
        let end = 3 * COARSE + 10;
        for index in 1..=end {
            marks.note(&applied(index));
        }
        let all = marks.all();
        let indexes: Vec<u64> = all.iter().map(|(index, _)| *index).collect();
        assert!(indexes.is_sorted(), "{indexes:?}");
        assert_eq!(indexes.last(), Some(&end), "the newest, whatever it is");
        assert!(indexes.contains(&COARSE) && indexes.contains(&(3 * COARSE - FINE)));
        assert!(indexes.len() <= 2 * KEPT + 1);
        let digest = |index: u64| [u8::try_from(index % 251).unwrap(); 32];
        assert!(all.iter().all(|(index, kept)| *kept == digest(*index)));
        marks.clear();
        assert_eq!(marks.all(), []);
    }
}
