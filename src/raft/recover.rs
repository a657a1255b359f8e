//! A cluster whose majority is gone for good: one node that is left goes on alone, as a new cluster.
//!
//! Done to the data directory of a node that is stopped. What it holds is all that the new cluster has: what only others held is
//! lost, and what it held without knowing whether it was committed counts from then on. So the new cluster has another id, and
//! nodes of the old one that come back after all are refused.
//!
//! It happens in one step, the rename of the identity file: that names the new cluster, and the entry which makes this node its only
//! member. From then on the old cluster's nodes do not listen to this one, nor it to them, and it does not start before that entry
//! is in its log ([`finish`]). Which entry that is follows from the identity and the log alone, so it may be begun any number of times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::oneshot;

use super::members::{epoch, ids_upto};
use super::repair::{Opening, last_membership};
use super::start::forget_what_the_state_is_past;
use super::types::{RaftMembership, RaftStoredMembership};
use super::{Member, Options, Replica, blocking, convert};
use crate::storage::identity::{DataDir, Identity};
use crate::storage::log::Log;
use crate::storage::state::State;
use crate::storage::{Kind, LogEntry, LogId, Vote, log, state};

/// What a stopped node has on its disk, and what a new cluster of it alone would have.
pub struct Remains {
    dir: Arc<DataDir>,
    log: Log,
    state: State,
    membership: RaftStoredMembership,
    /// The node.
    pub node: u64,
    /// The cluster that it belongs to.
    pub cluster_id: String,
    /// The cluster that this one was made of before, if it was.
    pub recovered_from: Option<String>,
    /// The members that would be left behind.
    pub others: BTreeMap<u64, Member>,
    /// The last entry that it holds: what was acknowledged after it is lost.
    pub last: LogId,
    /// Index of the last entry that it knows to be committed. What it holds after it, up to `last`, may have been refused to its
    /// client or given up by the others: it counts from then on.
    pub committed: u64,
}

impl Remains {
    /// Opens what a stopped node left, as a start of it would: what was torn off by a crash goes, a damaged state is made again from
    /// what this node has, and a recovery that was begun is finished.
    ///
    /// # Errors
    /// If it cannot be opened, or never belonged to a cluster.
    pub async fn open(
        dir: DataDir,
        log: log::Options,
        state: state::Options,
    ) -> anyhow::Result<Remains> {
        let dir = Arc::new(dir);
        let opening = Opening {
            log: super::open_log(&dir, log).await?,
            dir: dir.clone(),
            state,
            options: Options::default(),
            call: Arc::new(|_, _, _| Box::pin(async { Err("nobody is asked".to_owned()) })),
            is_alone: true,
        };
        let state = opening.open().await?;
        Remains::of(dir, opening.log, state).await
    }

    pub(super) async fn of(dir: Arc<DataDir>, log: Log, state: State) -> anyhow::Result<Remains> {
        let identity = dir.identity();
        let Some(cluster_id) = identity.cluster_id.clone() else {
            bail!("node {} belongs to no cluster", identity.node_id);
        };
        forget_what_the_state_is_past(&log, &state);
        finish(&identity, &log, &state).await?;
        let membership = membership(&log, &state).await?;
        let (held, applied) = (log.state(), state.applied().log_id);
        let Some(last) = held.last.max(applied) else {
            bail!("node {} holds nothing", identity.node_id);
        };
        let others = membership.nodes();
        let others = others.filter(|(id, _)| **id != identity.node_id);
        Ok(Remains {
            node: identity.node_id,
            cluster_id,
            recovered_from: identity.recovered.map(|recovered| recovered.from),
            others: others.map(|(id, member)| (*id, member.clone())).collect(),
            last,
            committed: held.committed.max(applied).map_or(0, |id| id.index),
            dir,
            log,
            state,
            membership,
        })
    }

    /// Whether this node has the only vote: then it needs nobody, and there is nothing to recover from.
    pub fn is_alone(&self) -> bool {
        self.membership.voter_ids().eq([self.node])
    }

    /// Makes a new cluster of this node alone; gives its id.
    ///
    /// # Errors
    /// If it was removed from its cluster, or the disk fails. In the latter case a repetition, or a start, finishes what was begun.
    pub async fn force_new_cluster(&self) -> anyhow::Result<String> {
        if self.membership.get_node(&self.node).is_none() {
            bail!("node {} was removed from its cluster", self.node);
        }
        let voted = self.log.state().vote.map_or(0, |vote| vote.term);
        let at = LogId {
            term: voted.max(self.last.term) + 1,
            node: self.node,
            index: self.last.index + 1,
        };
        let cluster_id = self.dir.recover(at)?;
        finish(&self.dir.identity(), &self.log, &self.state).await?;
        Ok(cluster_id)
    }

    /// Closes what was opened, in good order.
    ///
    /// # Errors
    /// If the disk fails; a start of the node does without.
    pub async fn close(self) -> anyhow::Result<()> {
        let closed = blocking::run(move || {
            let closed = self.state.close();
            self.log.close();
            closed
        });
        closed.await?.map(drop).map_err(anyhow::Error::from)
    }
}

/// Writes what the recovery that `identity` tells of has still to write, if it does: in the term after all that this node knows, that
/// it led, and the entry which makes it the only member.
///
/// # Errors
/// If the log is not the one that the recovery was decided on, or the disk fails.
pub(super) async fn finish(
    identity: &Identity,
    log: &Log,
    state: &impl Replica,
) -> anyhow::Result<()> {
    let Some(at) = identity.recovered.as_ref().map(|recovered| recovered.at) else {
        return Ok(());
    };
    let last = log.state().last.max(state.applied().log_id);
    if last >= Some(at) {
        return Ok(());
    }
    if last.is_none_or(|last| last.index + 1 != at.index) {
        bail!(
            "the cluster of this node was made of it alone at entry {}, and its log ends at {:?}: entries are lost, so put the \
             directory back as it was",
            at.index,
            last.map(|last| last.index)
        );
    }
    let entry = LogEntry {
        id: at,
        kind: Kind::Membership,
        body: alone(identity, &membership(log, state).await?, at)?,
    };
    let vote = Vote {
        term: at.term,
        node: at.node,
        committed: true,
    };
    tracing::warn!("making node {} a cluster of its own", identity.node_id);
    written(|done| log.save_vote(vote, done)).await?;
    written(|done| log.append(vec![entry], done)).await
}

/// The last membership that this node holds.
async fn membership(log: &Log, state: &impl Replica) -> anyhow::Result<RaftStoredMembership> {
    let reading = log.clone();
    let logged = blocking::run(move || last_membership(&reading)).await??;
    let body = logged.map(|entry| entry.body);
    let body = body.or(state.applied().membership);
    let body = body.context("this node knows of no membership")?;
    convert::decode_membership(&body).map_err(anyhow::Error::msg)
}

/// `known`, of which only the node `identity` is left. The ids of all others are used up.
fn alone(
    identity: &Identity,
    known: &RaftStoredMembership,
    at: LogId,
) -> anyhow::Result<bytes::Bytes> {
    let node = identity.node_id;
    let me = known.get_node(&node);
    let me = me.with_context(|| format!("node {node} is not in {}", known.membership()))?;
    let me = Member {
        uuid: identity.node_uuid.clone(),
        ids_upto: ids_upto(known),
        leaving: false,
        epoch: epoch(known) + 1,
        ..me.clone()
    };
    let membership =
        RaftMembership::new(vec![BTreeSet::from([node])], BTreeMap::from([(node, me)]))?;
    Ok(convert::encode_membership(Some(at), &membership))
}

/// Waits until what `write` hands to the log is on the disk.
pub(super) async fn written(write: impl FnOnce(log::Done)) -> anyhow::Result<()> {
    let (done, waits) = oneshot::channel();
    write(Box::new(move |result| drop(done.send(result))));
    Ok(waits.await.context("the log is closed")??)
}
