//! Handing leadership over to another voter.
//!
//! The core stops writing, reading and sending heartbeats the moment a transfer is triggered, and has no time limit of its
//! own: a transfer to a node that lags, is gone, or has only just started and helps nobody to lead yet ([`super::gate`]), would
//! leave the cluster without a leader for an election. So the heir is looked at first.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant as _, ServerState};
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use super::types::{Raft, Types};
use super::vitals::Vitals;
use super::{Options, TransferError, Transferred, VOTE_GATE_FACTOR, config, status};
use crate::storage::clock::now;

/// Entries an heir may lack when leadership is handed to it: it gets them before it stands for election.
const LAG_MAX: u64 = 1024;

/// Hands leadership over; clones are the same.
#[derive(Clone)]
pub(super) struct HandOver {
    raft: Raft,
    vitals: Vitals,
    lease: Duration,
    /// One at a time: a second one would be told of the leader that the first one made.
    running: Arc<Mutex<()>>,
}

type Metrics = openraft::RaftMetrics<Types>;

impl HandOver {
    pub(super) fn new(raft: Raft, vitals: Vitals, options: &Options) -> HandOver {
        HandOver {
            raft,
            vitals,
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
        let (began, gate) = (now(), self.lease.mul_f64(VOTE_GATE_FACTOR));
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
                let standing = |id| match () {
                    () if self.vitals.space.is_full(id) => Standing::Full,
                    () if self.vitals.heard.is_new(id, gate) => Standing::New,
                    () => Standing::Ready,
                };
                heir(&now, to, self.lease, standing).map(|heir| (now.id, heir))
            };
            match candidate {
                Ok(found) => break found,
                Err(TransferError::NoHeir(why)) => {
                    // A leader that was just elected has heard of nobody yet, and soon will; who has just started soon helps to
                    // elect.
                    let wait = match self.awaits_a_gate(&metrics.borrow_watched(), to, gate) {
                        true => gate + self.lease / 2,
                        false => self.lease,
                    };
                    let patience = deadline.min(began + wait);
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

impl HandOver {
    /// Whether there is a voter, `to` if one is named, whose vote gate is still closed for all that is known here.
    fn awaits_a_gate(&self, now: &Metrics, to: Option<u64>, gate: Duration) -> bool {
        let mut voters = now.membership_config.voter_ids();
        voters.any(|id| to.is_none_or(|to| to == id) && self.vitals.heard.is_new(id, gate))
    }
}

/// What keeps a voter from taking over, apart from what the core knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Ready,
    /// Its disk is full.
    Full,
    /// It has just started, and its vote gate may still be closed.
    New,
}

/// The voter `to`, or the one that has most of the log: if it has nearly all, answered within the lease and is ready.
fn heir(
    now: &Metrics,
    to: Option<u64>,
    lease: Duration,
    standing: impl Fn(u64) -> Standing,
) -> Result<u64, TransferError> {
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
        .filter(|id| standing(*id) == Standing::Ready)
        .filter_map(|id| Some((matched(&id)?, id)))
        .max();
    match (best, to) {
        (Some((matched, id)), _) if matched + LAG_MAX >= last => Ok(id),
        (Some((matched, id)), _) => {
            no_heir(format!("node {id} has entries up to {matched} of {last}"))
        }
        (None, Some(id)) => no_heir(match standing(id) {
            Standing::Full => format!("the disk of node {id} is full"),
            Standing::New => format!("node {id} has just started: it helps to elect nobody yet"),
            Standing::Ready => format!("node {id} did not answer lately"),
        }),
        (None, None) => no_heir(
            "no other voter answered lately, has room on its disk and has not just started"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::raft::types::{RaftMembership, RaftStoredMembership};
    use crate::raft::{Member, convert};
    use crate::storage::LogId;

    const LEASE: Duration = Duration::from_secs(60);
    const NOW: Duration = Duration::ZERO;

    /// What node 1 knows as the leader of three voters with entries up to `last`: of each other voter that it heard of, up
    /// to where it has the log and how long ago it answered.
    fn leader(last: u64, others: &[(u64, u64, Duration)]) -> Metrics {
        let nodes = (1..=3).map(|id| (id, Member::default()));
        let nodes: BTreeMap<u64, Member> = nodes.collect();
        let voters: BTreeSet<u64> = nodes.keys().copied().collect();
        let membership = RaftMembership::new(vec![voters], nodes).unwrap();
        let mut now = Metrics::new_initial(1);
        now.membership_config = Arc::new(RaftStoredMembership::new(None, membership));
        now.last_log_index = Some(last);
        let matched = others.iter().map(|(id, index, _)| {
            let (term, node, index) = (1, 1, *index);
            let matched = LogId { term, node, index };
            (*id, Some(convert::raft_log_id(matched)))
        });
        now.replication = Some(matched.collect());
        let answered = others
            .iter()
            .map(|(id, _, ago)| (*id, Some((openraft::TokioInstant::now() - *ago).into())));
        now.heartbeat = Some(answered.collect());
        now
    }

    fn refused(now: &Metrics, to: Option<u64>) -> String {
        heir(now, to, LEASE, |_| Standing::Ready)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_heir_is_who_has_most_of_the_log_among_those_that_answer() {
        let both = leader(100, &[(2, 98, NOW), (3, 99, NOW)]);
        assert_eq!(heir(&both, None, LEASE, |_| Standing::Ready).unwrap(), 3);
        assert_eq!(heir(&both, Some(2), LEASE, |_| Standing::Ready).unwrap(), 2);
        let gone = leader(100, &[(2, 98, NOW), (3, 99, LEASE * 2)]);
        assert_eq!(heir(&gone, None, LEASE, |_| Standing::Ready).unwrap(), 2);
    }

    #[test]
    fn who_does_not_answer_is_no_heir() {
        let gone = leader(100, &[(2, 100, LEASE * 2), (3, 100, LEASE * 2)]);
        assert_eq!(
            refused(&gone, None),
            "no other voter answered lately, has room on its disk and has not just started"
        );
        assert_eq!(refused(&gone, Some(2)), "node 2 did not answer lately");
    }

    #[test]
    fn whose_disk_is_full_or_who_has_just_started_is_no_heir() {
        let both = leader(100, &[(2, 98, NOW), (3, 99, NOW)]);
        let three = |standing| {
            move |id| match id {
                3 => standing,
                _ => Standing::Ready,
            }
        };
        for (standing, why) in [
            (Standing::Full, "the disk of node 3 is full"),
            (
                Standing::New,
                "node 3 has just started: it helps to elect nobody yet",
            ),
        ] {
            assert_eq!(heir(&both, None, LEASE, three(standing)).unwrap(), 2);
            let named = heir(&both, Some(3), LEASE, three(standing)).unwrap_err();
            assert_eq!(named.to_string(), why);
        }
    }

    #[test]
    fn who_lags_is_no_heir() {
        let near = leader(LAG_MAX + 7, &[(2, 7, NOW)]);
        assert_eq!(heir(&near, None, LEASE, |_| Standing::Ready).unwrap(), 2);
        let far = leader(LAG_MAX + 8, &[(2, 7, NOW)]);
        for to in [None, Some(2)] {
            assert_eq!(refused(&far, to), "node 2 has entries up to 7 of 1032");
        }
    }
}
