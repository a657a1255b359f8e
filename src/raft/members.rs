//! Changing who belongs to the cluster, on the leader.
//!
//! What a change comes to is decided from what the leader knows at that moment (`plan`), and proposed under the condition that
//! the membership is still the one it was decided on. A change of voters goes through two entries of the log: first the old and
//! the new voters decide together, then the new ones alone. If the leader dies in between, whoever leads next finishes it
//! (`reconcile`); which of the voters left are to go altogether stands in the membership itself ([`leaving`](super::Member::leaving)).
//!
//! A node id is used once. The largest one there ever was stands in the membership too ([`ids_upto`](super::Member::ids_upto)), so every node can
//! tell one that was removed from one that it has not heard of yet, after restarts as well; a node that is told so, or finds its
//! own id gone, stops (`farewell`).

mod farewell;
mod ids;
mod plan;
mod reconcile;

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::{ClientWriteResponse, Precondition};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

pub(super) use farewell::{Farewell, Removed, Verdict, ask_about_me, refuse};
pub(super) use ids::{LEAP_MAX, epoch, is_removed, next_id, upto as ids_upto};

use super::context::PeerContext;
use super::form::{UnaryCall, ask};
use super::hand_over::HandOver;
use super::handshake::{AdoptRequest, AdoptResponse, HelloRequest, HelloResponse, PROTOCOL};
use super::types::{Raft, RaftLogId, Types};
use super::{Call, Changed, MemberChange, MemberError, Options, TransferError, config, status};
use crate::storage::clock::now;
use plan::{Plan, Proposal};

/// Changes members; clones are the same.
#[derive(Clone)]
pub(super) struct Members {
    context: Arc<PeerContext>,
    raft: Raft,
    call: UnaryCall,
    hand_over: HandOver,
    lease: Duration,
    /// One at a time: the second one would be decided on what the first one changes.
    running: Arc<Mutex<()>>,
}

type Written = Result<ClientWriteResponse<Types>, RaftError<Types, ClientWriteError<Types>>>;

impl Members {
    pub(super) fn new(
        context: Arc<PeerContext>,
        raft: Raft,
        call: UnaryCall,
        hand_over: HandOver,
        options: &Options,
    ) -> Members {
        Members {
            context,
            raft,
            call,
            hand_over,
            lease: config::lease(options),
            running: Arc::default(),
        }
    }

    /// See [`super::Client::change_members`].
    pub(super) async fn change(
        &self,
        mut change: MemberChange,
        deadline: Instant,
    ) -> Result<Changed, MemberError> {
        let Ok(_running) = timeout_at(deadline.into(), self.running.lock()).await else {
            let why = "another change of the members is under way".to_owned();
            return Err(MemberError::InProgress(why));
        };
        // What can be refused without asking anybody is.
        let mut planned = self.decide(&change, deadline).await?;
        if let MemberChange::Add { id, member } | MemberChange::Move { id, member } = &mut change {
            let (id, addr) = (*id, member.peer_addr.clone());
            let hello = self.dial_back(id, &addr).await?;
            member.uuid.clone_from(&hello.node_uuid);
            planned = self.decide(&change, deadline).await?;
            if matches!(planned, Plan::Propose(_)) {
                self.adopt(id, &addr, hello).await?;
            }
        }
        match planned {
            Plan::Done => Ok(Changed::Before),
            Plan::HandOver => Err(self.give_up_leadership(deadline).await),
            Plan::Propose(proposal) => self.propose(proposal, deadline).await,
        }
    }

    /// What it comes to. A leader that was just elected has heard of nobody yet, and soon will; and a change that was just begun
    /// is soon finished.
    async fn decide(&self, change: &MemberChange, deadline: Instant) -> Result<Plan, MemberError> {
        let patience = deadline.min(now() + self.lease);
        let mut metrics = self.raft.metrics();
        loop {
            let is_full = |id| self.context.vitals.space.is_full(id);
            let planned = plan::plan(&metrics.borrow_and_update(), change, self.lease, is_full);
            match planned {
                Err(
                    MemberError::QuorumLost(_)
                    | MemberError::NotCaughtUp(_)
                    | MemberError::InProgress(_),
                ) => {}
                decided => return decided,
            }
            if !matches!(
                timeout_at(patience.into(), metrics.changed()).await,
                Ok(Ok(()))
            ) {
                return planned;
            }
        }
    }

    /// Asks the node at `addr` who it is: it must be `id` and free to belong here.
    async fn dial_back(&self, id: u64, addr: &str) -> Result<HelloResponse, MemberError> {
        let silent =
            |why: String| MemberError::PeerUnreachable(format!("node {id} at {addr}: {why}"));
        let request = HelloRequest::of(&self.context.dir, id);
        let hello: HelloResponse = ask(&self.call, addr, Call::Hello, &request)
            .await
            .map_err(silent)?;
        if (hello.node_id, hello.protocol) != (id, PROTOCOL) {
            return Err(silent(format!("node {} answers there", hello.node_id)));
        }
        let cluster_id = self.context.dir.identity().cluster_id;
        match &hello.cluster_id {
            Some(other) if Some(other) != cluster_id.as_ref() && !hello.pristine => {
                Err(MemberError::PeerInOtherCluster(format!(
                    "node {id} at {addr} belongs to cluster {other}"
                )))
            }
            _ => Ok(hello),
        }
    }

    /// Has the node that said `hello` write the cluster's id down, if it has not.
    async fn adopt(&self, id: u64, addr: &str, hello: HelloResponse) -> Result<(), MemberError> {
        let Some(cluster_id) = self.context.dir.identity().cluster_id else {
            return Err(MemberError::NotReady("this node has no cluster".to_owned()));
        };
        if hello.cluster_id.as_ref() == Some(&cluster_id) {
            return Ok(());
        }
        let request = AdoptRequest {
            to: id,
            node_uuid: hello.node_uuid,
            cluster_id,
        };
        let answer = ask(&self.call, addr, Call::Adopt, &request).await;
        let answer = answer
            .map_err(|why| MemberError::PeerUnreachable(format!("node {id} at {addr}: {why}")))?;
        match answer {
            AdoptResponse::Adopted => Ok(()),
            AdoptResponse::Refused(why) => Err(MemberError::PeerInOtherCluster(format!(
                "node {id} at {addr} refused: {why}"
            ))),
        }
    }

    /// Has another voter lead, which then does what was asked for.
    async fn give_up_leadership(&self, deadline: Instant) -> MemberError {
        match self.hand_over.transfer(None, deadline).await {
            Ok(_) => MemberError::NotLeader(status::leader(
                &self.raft.metrics().borrow_watched().clone(),
            )),
            Err(TransferError::NotLeader(leader)) => MemberError::NotLeader(leader),
            Err(TransferError::NotReady(why)) => MemberError::NotReady(why),
            Err(error) => MemberError::NoHeir(format!(
                "this node leads, and another one must before it loses its vote: {error}"
            )),
        }
    }

    /// In a task of its own: a change that was begun is not left half done because somebody stopped waiting.
    async fn propose(&self, proposal: Proposal, deadline: Instant) -> Result<Changed, MemberError> {
        let decided_on = proposal.decided_on;
        let members = self.clone();
        let proposing = tokio::spawn(async move { members.write(proposal).await });
        let written = match timeout_at(deadline.into(), proposing).await {
            Ok(Ok(written)) => written,
            Ok(Err(_)) => return Err(MemberError::Unknown("this node stopped".to_owned())),
            Err(_) => {
                let why = "the change is not committed yet, and may still be".to_owned();
                return Err(MemberError::Unknown(why));
            }
        };
        match written {
            Ok(done) => {
                self.wait_published(&done.log_id, deadline).await;
                Ok(Changed::Now(done.log_id.index))
            }
            Err(error) => Err(self.told(error, &decided_on)),
        }
    }

    async fn write(&self, proposal: Proposal) -> Written {
        let unchanged = Precondition::LastMembershipLogId {
            last_membership_log_id: proposal.decided_on,
        };
        let Proposal {
            changes, retain, ..
        } = proposal;
        tracing::info!("changing the members: {changes}");
        self.raft
            .change_membership_if(changes, retain, [unchanged])
            .await
    }

    /// Waits until this node's own view shows the change: the next one is decided on it.
    async fn wait_published(&self, upto: &RaftLogId, deadline: Instant) {
        let mut metrics = self.raft.metrics();
        let shown = metrics
            .wait_until(|now| now.committed_membership_config.log_id().as_ref() >= Some(upto));
        // Committed it is: whoever looks too early is told that a change is in progress.
        let _ = timeout_at(deadline.into(), shown).await;
    }

    /// What came of a proposal that was decided on the membership at `decided_on` and failed.
    fn told(
        &self,
        error: RaftError<Types, ClientWriteError<Types>>,
        decided_on: &Option<RaftLogId>,
    ) -> MemberError {
        let now = self.raft.metrics().borrow_watched().clone();
        let untouched = now.membership_config.log_id() == decided_on;
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) if untouched => {
                MemberError::NotLeader(status::leader(&now))
            }
            RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
                ChangeMembershipError::InProgress(_)
                | ChangeMembershipError::UncommittedLeaderLog(_) => MemberError::InProgress(
                    "the change before this one is not committed yet".to_owned(),
                ),
                other => MemberError::Unknown(other.to_string()),
            },
            RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => {
                MemberError::InProgress("the members were changed meanwhile".to_owned())
            }
            other => MemberError::Unknown(format!(
                "the leader changed meanwhile; whoever leads finishes what was begun: {other}"
            )),
        }
    }
}
