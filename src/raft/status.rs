//! This node's view of itself and the cluster, from what the core publishes: taking it costs the core nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, RaftMetrics, ServerState};

use super::clocks::Clocks;
use super::members::{Removed, epoch, next_id};
use super::snapshots::Snapshots;
use super::types::{Raft, Types};
use super::watchdog::Faults;
use super::{Member, MemberStatus, Options, Progress, Replica, Role, Standing, Status};
use crate::storage::clock::now;
use crate::storage::identity::DataDir;
use crate::storage::watch;

/// When a leader was last heard of, and since when this node leads; clones share it.
#[derive(Clone, Default)]
pub(super) struct LastContact(Arc<Mutex<Heard>>);

#[derive(Clone, Copy, Default)]
struct Heard {
    contact: Option<Instant>,
    /// The term in which this node leads, and when that was first seen.
    leading: Option<(u64, Instant)>,
}

/// What a status is made of.
#[derive(Clone)]
pub(super) struct StatusSource {
    pub(super) raft: Raft,
    pub(super) dir: Arc<DataDir>,
    pub(super) state: Arc<dyn Replica>,
    pub(super) recovered: watch::Receiver<bool>,
    pub(super) contact: LastContact,
    pub(super) clocks: Clocks,
    pub(super) snapshots: Snapshots,
    pub(super) removed: Removed,
    pub(super) faults: Faults,
}

impl LastContact {
    /// How long ago that was.
    pub(super) fn get(&self) -> Option<Duration> {
        let contact = self.lock().contact;
        contact.map(|contact| now().saturating_duration_since(contact))
    }

    fn set(&self, contact: Instant) {
        self.lock().contact = Some(contact);
    }

    /// Notes in which term this node leads, if it does.
    fn note_leading(&self, term: Option<u64>) {
        let mut heard = self.lock();
        if heard.leading.map(|(term, _)| term) != term {
            heard.leading = term.map(|term| (term, now()));
        }
    }

    /// How long this node has led in `term`.
    fn leading(&self, term: u64) -> Option<Duration> {
        let (_, since) = self.lock().leading.filter(|(known, _)| *known == term)?;
        Some(now().saturating_duration_since(since))
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes since when this node leads, and when the leader's vote was last renewed: the core keeps that and publishes it nowhere. At start it claims to have
/// been renewed just then; that is not a contact.
pub(super) async fn watch_contact(raft: Raft, contact: LastContact, options: Options) {
    let mut ticks = tokio::time::interval(options.heartbeat);
    let mut before = None;
    loop {
        ticks.tick().await;
        contact.note_leading(leads_in(&raft.metrics().borrow_watched()));
        let heard = raft
            .with_raft_state(|state| (state.vote_ref().committed, state.vote_last_modified()))
            .await;
        let Ok((is_leaders, renewed)) = heard else {
            return std::future::pending().await;
        };
        let is_news = before.is_some() && before != Some(renewed);
        if let (true, true, Some(renewed)) = (is_leaders, is_news, renewed) {
            contact.set(now() - renewed.elapsed());
        }
        before = Some(renewed);
    }
}

impl StatusSource {
    /// See [`super::Client::status`].
    pub(super) fn take(&self) -> Status {
        // Cloned out at once: the core waits for whoever holds it.
        let metrics = self.raft.metrics().borrow_watched().clone();
        let identity = self.dir.identity();
        let role = role(&metrics);
        let leads = role == Role::Leader;
        let applied = self.state.applied().log_id.map(|applied| applied.index);
        // A sole voter is its own quorum, which nothing has to remind of itself.
        let mut voters = metrics.membership_config.voter_ids();
        let is_alone = voters.next() == Some(identity.node_id) && voters.next().is_none();
        let acked = metrics.last_quorum_acked.as_ref();
        let ack_age = match is_alone {
            true => Some(Duration::ZERO),
            false => acked.map(|acked| acked.elapsed()),
        };
        Status {
            node: identity.node_id,
            cluster_id: identity.cluster_id,
            epoch: epoch(&metrics.membership_config),
            role,
            leader: leader(&metrics),
            term: metrics.current_term,
            last_log_index: metrics.last_log_index,
            committed_index: metrics.local_committed.as_ref().map(|id| id.index),
            applied_index: applied,
            purged_index: metrics.purged.as_ref().map(|id| id.index),
            quorum_ack_age: ack_age.filter(|_| leads),
            leading: leads.then(|| {
                let seen = self.contact.leading(metrics.current_term);
                seen.unwrap_or_default()
            }),
            last_contact: if leads {
                Some(Duration::ZERO)
            } else {
                self.contact.get()
            },
            recovered: *self.recovered.borrow(),
            members: members(&metrics, self.snapshots.transfers().sending()),
            clock_disputes: self.clocks.disputes(),
            receiving: self.snapshots.transfers().receiving(),
            changing: metrics.membership_config.get_joint_config().len() > 1,
            next_id: next_id(&metrics.membership_config),
            writes_refused: None,
            removed: self.removed.get(),
            fault: self.faults.get(),
        }
    }

    /// See [`super::Client::standing`].
    pub(super) fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let url = |id| {
            let member = metrics.membership_config.get_node(&id)?;
            Some((id, member.client_url.clone()))
        };
        Standing {
            node: metrics.id,
            role: role(&metrics),
            leader: metrics.current_leader.and_then(url),
            term: metrics.current_term,
            committed_index: metrics.local_committed.as_ref().map(|id| id.index),
        }
    }
}

/// The term in which this node leads, if it does.
fn leads_in(metrics: &RaftMetrics<Types>) -> Option<u64> {
    (role(metrics) == Role::Leader).then_some(metrics.current_term)
}

fn role(metrics: &RaftMetrics<Types>) -> Role {
    match metrics.state {
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Stopped,
    }
}

/// The leader that `metrics` name, with its addresses.
pub(super) fn leader(metrics: &RaftMetrics<Types>) -> Option<(u64, Member)> {
    let id = metrics.current_leader?;
    let member = metrics.membership_config.get_node(&id)?;
    Some((id, member.clone()))
}

fn members(metrics: &RaftMetrics<Types>, mut sending: Vec<Progress>) -> Vec<MemberStatus> {
    let stored = &metrics.membership_config;
    let is_voter = |id: u64| stored.voter_ids().any(|voter| voter == id);
    let matched = |id: u64| {
        if id == metrics.id && metrics.state == ServerState::Leader {
            return metrics.last_log_index;
        }
        let replication = metrics.replication.as_ref()?;
        Some(replication.get(&id)?.as_ref()?.index)
    };
    let last_ack = |id: u64| {
        let heartbeat = metrics.heartbeat.as_ref()?;
        Some(heartbeat.get(&id)?.as_ref()?.elapsed())
    };
    let mut snapshot = |id: u64| {
        let place = sending.iter().position(|sent| sent.peer == id)?;
        Some(sending.swap_remove(place))
    };
    let status = |(id, member): (&u64, &Member)| MemberStatus {
        id: *id,
        member: member.clone(),
        voter: is_voter(*id),
        matched: matched(*id),
        last_ack: last_ack(*id),
        snapshot: snapshot(*id),
    };
    stored.nodes().map(status).collect()
}
