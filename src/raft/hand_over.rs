//! Handing leadership over to another voter.
//!
//! The core stops writing, reading and sending heartbeats the moment a transfer is triggered, and has no time limit of its
//! own: a transfer to a node that lags or is gone would leave the cluster without a leader for an election. So the heir is
//! looked at first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, ServerState};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use super::types::{Raft, Types};
use super::{Options, TransferError, Transferred, config, status};

/// Entries an heir may lack when leadership is handed to it: it gets them before it stands for election.
const LAG_MAX: u64 = 1024;

/// Hands leadership over; clones are the same.
#[derive(Clone)]
pub(super) struct HandOver {
    raft: Raft,
    lease: Duration,
    /// One at a time: a second one would be told of the leader that the first one made.
    running: Arc<Mutex<()>>,
}

type Metrics = openraft::RaftMetrics<Types>;

impl HandOver {
    pub(super) fn new(raft: Raft, options: &Options) -> HandOver {
        HandOver {
            raft,
            lease: config::lease(options),
            running: Arc::default(),
        }
    }

    /// See [`super::Client::hand_over`].
    pub(super) async fn run(&self, deadline: Instant) -> Result<(), TransferError> {
        match self.transfer(None, deadline).await {
            Ok(_) | Err(TransferError::NotLeader(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// See [`super::Client::transfer`].
    pub(super) async fn transfer(
        &self,
        to: Option<u64>,
        deadline: Instant,
    ) -> Result<Transferred, TransferError> {
        let Ok(_running) = timeout_at(deadline.into(), self.running.lock()).await else {
            let why = "another transfer is under way".to_owned();
            return Err(TransferError::NoHeir(why));
        };
        let mut metrics = self.raft.metrics();
        // A leader that was just elected has heard of nobody yet, and soon will.
        let patience = deadline.min(Instant::now() + self.lease);
        let (me, heir) = loop {
            let candidate = {
                let now = metrics.borrow_and_update();
                if now.state != ServerState::Leader {
                    return Err(TransferError::NotLeader(status::leader(&now)));
                }
                if to == Some(now.id) {
                    return Ok(Transferred {
                        leader: now.id,
                        term: now.current_term,
                        moved: false,
                    });
                }
                heir(&now, to, self.lease).map(|heir| (now.id, heir))
            };
            match candidate {
                Ok(found) => break found,
                Err(TransferError::NoHeir(why)) => {
                    let changed = timeout_at(patience.into(), metrics.changed()).await;
                    if !matches!(changed, Ok(Ok(()))) {
                        return Err(TransferError::NoHeir(why));
                    }
                }
                Err(error) => return Err(error),
            }
        };
        tracing::info!("handing leadership over to node {heir}");
        let triggered = self.raft.trigger().transfer_leader(heir).await;
        triggered.map_err(|fatal| TransferError::Unknown(fatal.to_string()))?;
        let leads = metrics.wait_until(|now| now.current_leader.is_some_and(|leader| leader != me));
        match timeout_at(deadline.into(), leads).await {
            Ok(Ok(now)) => Ok(Transferred {
                leader: now.current_leader.unwrap_or(heir),
                term: now.current_term,
                moved: true,
            }),
            Ok(Err(_)) => Err(TransferError::Unknown("this node stopped".to_owned())),
            Err(_) => Err(TransferError::Unknown(format!(
                "node {heir} did not take over in time"
            ))),
        }
    }
}

/// The voter `to`, or the one that has most of the log: if it has nearly all and answered within the lease.
fn heir(now: &Metrics, to: Option<u64>, lease: Duration) -> Result<u64, TransferError> {
    let no_heir = |why: String| Err(TransferError::NoHeir(why));
    if let Some(id) = to {
        let membership = &now.membership_config;
        if membership.get_node(&id).is_none() {
            return Err(TransferError::NoSuchMember(id));
        }
        if !membership.voter_ids().any(|voter| voter == id) {
            return Err(TransferError::NoVoter(id));
        }
    }
    let (Some(replication), Some(heartbeats)) = (&now.replication, &now.heartbeat) else {
        return no_heir("this node does not lead yet".to_owned());
    };
    let last = now.last_log_index.unwrap_or(0);
    let answered = |id: &u64| {
        let acknowledged = heartbeats.get(id).and_then(Option::as_ref);
        acknowledged.is_some_and(|sent| sent.elapsed() < lease)
    };
    let voters = now.membership_config.voter_ids().filter(|id| *id != now.id);
    let matched = |id: &u64| {
        replication
            .get(id)
            .and_then(|matched| matched.map(|m| m.index))
    };
    let best = voters
        .filter(|id| to.is_none_or(|to| to == *id))
        .filter(answered)
        .filter_map(|id| Some((matched(&id)?, id)))
        .max();
    match (best, to) {
        (Some((matched, id)), _) if matched + LAG_MAX >= last => Ok(id),
        (Some((matched, id)), _) => {
            no_heir(format!("node {id} has entries up to {matched} of {last}"))
        }
        (None, Some(id)) => no_heir(format!("node {id} did not answer lately")),
        (None, None) => no_heir("no other voter answered lately".to_owned()),
    }
}
