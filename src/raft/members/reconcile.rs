//! Finishes on the leader what another leader began and did not live to finish.

use std::collections::BTreeSet;

use openraft::async_runtime::WatchReceiver;
use openraft::{ChangeMembers, ServerState};

use super::Members;
use super::plan::Proposal;
use crate::raft::types::{RaftLogId, RaftStoredMembership, Types};
use crate::storage::clock;

impl Members {
    /// Looks now and then, for as long as the core lives. What is seen twice is nobody's work any more.
    pub(in crate::raft) async fn reconcile(self) {
        let mut seen: Option<RaftLogId> = None;
        loop {
            tokio::time::sleep(self.lease).await;
            let now = self.raft.metrics().borrow_watched().clone();
            if leads_without_a_vote(&now) {
                self.resign().await;
            }
            let Some(proposal) = unfinished(&now) else {
                seen = None;
                continue;
            };
            let before = std::mem::replace(&mut seen, proposal.decided_on);
            let Ok(_running) = self.running.try_lock() else {
                continue;
            };
            if before.is_none() || before != proposal.decided_on {
                continue;
            }
            tracing::info!("finishing a change of the members that was left half done");
            if let Err(why) = self.write(proposal).await {
                tracing::warn!("a change of the members is still half done: {why}");
            }
        }
    }

    /// Has a voter lead. Who is none any more and leads on would do so for good: the core does not step down by itself.
    async fn resign(&self) {
        tracing::info!("this node leads and has no vote any more: another one is to lead");
        if let Err(why) = self.hand_over.run(clock::now() + self.lease * 3).await {
            tracing::warn!("leadership could not be handed over: {why}");
        }
    }
}

/// Whether the leader with the metrics `now` lost its vote by a change that is committed: one that was elected amid its own demotion,
/// and finished that.
fn leads_without_a_vote(now: &openraft::RaftMetrics<Types>) -> bool {
    let committed = &now.committed_membership_config;
    let leads = now.state == ServerState::Leader;
    leads
        && committed.get_joint_config().len() == 1
        && committed.voter_ids().all(|voter| voter != now.id)
}

/// What finishes the change that the leader with the metrics `now` finds half done, if there is one and it is committed.
fn unfinished(now: &openraft::RaftMetrics<Types>) -> Option<Proposal> {
    let stored = &*now.membership_config;
    let leads = now.state == ServerState::Leader;
    if !leads || now.committed_membership_config.log_id() != stored.log_id() {
        return None;
    }
    let retain = !goes(stored);
    match stored.get_joint_config().as_slice() {
        [_] => None,
        _ => Some(Proposal {
            // No change but that the old voters are gone.
            changes: ChangeMembers::AddVoterIds(BTreeSet::new()),
            retain,
            decided_on: *stored.log_id(),
        }),
    }
}

/// Whether the voters that are none any more after the change go altogether.
fn goes(stored: &RaftStoredMembership) -> bool {
    let mut nodes = stored.nodes();
    let after = stored.get_joint_config().last();
    nodes.any(|(id, member)| member.leaving && after.is_some_and(|after| !after.contains(id)))
}
