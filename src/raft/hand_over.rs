//! Handing leadership over to another voter.
//!
//! The core stops writing, reading and sending heartbeats the moment a transfer is triggered, and has no time limit of its
//! own: a transfer to a node that lags or is gone would leave the cluster without a leader for an election. So the heir is
//! looked at first.

use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, ServerState};

use super::types::{Raft, Types};
use super::{Options, config};

/// Entries an heir may lack when leadership is handed to it: it gets them before it stands for election.
const LAG_MAX: u64 = 1024;

/// Hands leadership over; clones are the same.
#[derive(Clone)]
pub(super) struct HandOver {
    raft: Raft,
    lease: Duration,
}

type Metrics = openraft::RaftMetrics<Types>;

impl HandOver {
    pub(super) fn new(raft: Raft, options: &Options) -> HandOver {
        HandOver {
            raft,
            lease: config::lease(options),
        }
    }

    /// See [`super::Client::hand_over`].
    pub(super) async fn run(&self, deadline: Instant) -> Result<(), String> {
        let mut metrics = self.raft.metrics();
        let heir = {
            let now = metrics.borrow_and_update();
            if now.state != ServerState::Leader {
                return Ok(());
            }
            heir(&now, self.lease)?
        };
        tracing::info!("handing leadership over to node {heir}");
        self.raft
            .trigger()
            .transfer_leader(heir)
            .await
            .map_err(|fatal| fatal.to_string())?;
        let me = metrics.borrow_watched().id;
        let leads = metrics.wait_until(|now| now.current_leader.is_some_and(|leader| leader != me));
        match tokio::time::timeout_at(deadline.into(), leads).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err("this node stopped".to_owned()),
            Err(_) => Err(format!("node {heir} did not take over in time")),
        }
    }
}

/// The voter that has most of the log, if it has nearly all and answered within the lease.
fn heir(now: &Metrics, lease: Duration) -> Result<u64, String> {
    let (Some(replication), Some(heartbeats)) = (&now.replication, &now.heartbeat) else {
        return Err("this node does not lead yet".to_owned());
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
        .filter(answered)
        .filter_map(|id| Some((matched(&id)?, id)))
        .max();
    match best {
        Some((matched, id)) if matched + LAG_MAX >= last => Ok(id),
        Some((matched, id)) => Err(format!(
            "the best voter, node {id}, has entries up to {matched} of {last}"
        )),
        None => Err("no other voter answered lately".to_owned()),
    }
}
