//! Read barriers: when a view of this node may be used at the level a reader asked for.
//!
//! One task per level takes every request that waits, asks the core once, waits once until the state has applied what it
//! must, and releases them all. A check only serves requests that came before it began. A core message splits a batch of
//! writes, so a hundred thousand readers a second must not each send one.
//!
//! - *leader*: a quorum confirmed this leader after the request came (ReadIndex).
//! - *lease*: a quorum acknowledged a message sent less than [`LEASE_READ_FRACTION`] of the lease ago; nobody else can
//!   lead yet. No message, no waiting. If the acknowledgement is older, the request becomes a *leader* one. Nothing is
//!   cached between checks: the core itself refuses from the moment it hands leadership over, so there is no promise
//!   outstanding that would have to be revoked.
//! - *follower*: at once.
//!
//! No level is served before this node has recovered: until then its state may be older than what it showed before.

use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::type_config::alias::SerdeInstantOf;
use openraft::{Instant as _, LinearizerOption};
use tokio::sync::{mpsc, oneshot};

use super::types::{Raft, Types};
use super::{LEASE_READ_FRACTION, Options, Permit, ReadError, ReadLevel, batcher, config};
use crate::mutants::{self, Mutant};
use crate::storage::LogId;
use crate::storage::clock::now;
use crate::storage::watch;

/// Requests that may wait for one level; a full queue makes the next ones wait to get in.
const QUEUE_MAX: usize = 65_536;

/// A reader that waits.
struct Request {
    deadline: Instant,
    answer: oneshot::Sender<Result<Permit, ReadError>>,
}

/// Handle to the barriers; clones share them.
#[derive(Clone)]
pub(super) struct Barriers {
    leader: mpsc::Sender<Request>,
    lease: mpsc::Sender<Request>,
    recovered: watch::Receiver<bool>,
    applied: watch::Receiver<Option<LogId>>,
    patience: Duration,
}

/// What the two tasks work with.
#[derive(Clone)]
pub(super) struct Checker {
    raft: Raft,
    applied: watch::Receiver<Option<LogId>>,
    lease_age_max: Duration,
}

/// Why a check gave no permits.
enum Refusal {
    /// The last acknowledgement of a quorum is too old.
    Stale,
    /// To be told to every reader.
    Error(ReadError),
}

/// The barriers of `raft`, and the task that serves them.
pub(super) fn new(
    raft: Raft,
    applied: watch::Receiver<Option<LogId>>,
    recovered: watch::Receiver<bool>,
    options: &Options,
) -> (Barriers, impl Future<Output = ()> + Send + 'static) {
    let (leader, leader_queue) = mpsc::channel(QUEUE_MAX);
    let (lease, lease_queue) = mpsc::channel(QUEUE_MAX);
    let fraction = match mutants::on(Mutant::LeaseWithoutMargin) {
        true => 1.0,
        false => LEASE_READ_FRACTION,
    };
    let checker = Checker {
        raft,
        applied: applied.clone(),
        lease_age_max: config::lease(options).mul_f64(fraction),
    };
    let barriers = Barriers {
        leader: leader.clone(),
        lease,
        recovered,
        applied,
        patience: options.election_max,
    };
    let leaders = checker.clone().serve_leader(leader_queue);
    let leases = checker.serve_lease(lease_queue, leader);
    (barriers, async {
        tokio::join!(leaders, leases);
        // Every handle is gone: nobody can ask any more, which is no fault.
        std::future::pending::<()>().await;
    })
}

impl Barriers {
    /// See [`super::Client::read`].
    pub(super) async fn read(
        &self,
        level: ReadLevel,
        deadline: Instant,
    ) -> Result<Permit, ReadError> {
        self.recovered(deadline).await?;
        let queue = match level {
            ReadLevel::Leader => &self.leader,
            ReadLevel::Lease => &self.lease,
            ReadLevel::Follower => {
                return Ok(Permit {
                    effective: ReadLevel::Follower,
                    staleness: None,
                });
            }
        };
        let (answer, permit) = oneshot::channel();
        let wait = async {
            queue.send(Request { deadline, answer }).await.ok()?;
            permit.await.ok()
        };
        match tokio::time::timeout_at(deadline.into(), wait).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err(ReadError::NotReady("this node is stopping".to_owned())),
            Err(_) => Err(ReadError::Timeout),
        }
    }

    /// See [`super::Client::wait_applied`].
    pub(super) async fn wait_applied(&self, index: u64, deadline: Instant) -> bool {
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| applied.is_some_and(|id| id.index >= index));
        matches!(
            tokio::time::timeout_at(deadline.into(), reached).await,
            Ok(Ok(_))
        )
    }

    /// Waits a little for recovery: right after a start or the forming of a cluster it is about to end.
    async fn recovered(&self, deadline: Instant) -> Result<(), ReadError> {
        if *self.recovered.borrow() {
            return Ok(());
        }
        let patience = deadline.min(now() + self.patience);
        let mut recovered = self.recovered.clone();
        let wait = recovered.wait_for(|recovered| *recovered);
        match tokio::time::timeout_at(patience.into(), wait).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ReadError::NotReady(
                "this node has not yet caught up with what was committed before it started"
                    .to_owned(),
            )),
        }
    }
}

impl Checker {
    async fn serve_leader(self, mut queue: mpsc::Receiver<Request>) {
        while let Some(requests) = next(&mut queue).await {
            // Long enough for the most patient of them: those in a hurry give up by themselves.
            let last = requests.iter().map(|request| request.deadline).max();
            let left = last.map_or(Duration::ZERO, |last| last.saturating_duration_since(now()));
            if mutants::on(Mutant::ReadAnywhere) {
                release(requests, ReadLevel::Leader);
                continue;
            }
            let is_unconfirmed = mutants::on(Mutant::ReadIndexUnconfirmed);
            let left = if is_unconfirmed { Duration::ZERO } else { left };
            let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(left);
            match self.check(option).await {
                Ok(index) => self.release_at(index, requests, ReadLevel::Leader),
                Err(Refusal::Stale) if is_unconfirmed => release(requests, ReadLevel::Leader),
                Err(Refusal::Stale) => refuse(requests, &ReadError::Timeout),
                Err(Refusal::Error(error)) => refuse(requests, &error),
            }
        }
    }

    async fn serve_lease(self, mut queue: mpsc::Receiver<Request>, leader: mpsc::Sender<Request>) {
        let mut heard = (None, now());
        while let Some(requests) = next(&mut queue).await {
            let heard_lately = self.heard_lately(&mut heard);
            let option = LinearizerOption::new(Some(self.lease_age_max), false)
                .with_wait_timeout(Duration::ZERO);
            match self.check(option).await {
                Ok(index) => self.release_at(index, requests, ReadLevel::Lease),
                Err(Refusal::Stale) if heard_lately || mutants::on(Mutant::LeaseUnchecked) => {
                    release(requests, ReadLevel::Lease);
                }
                Err(Refusal::Stale) => {
                    for request in requests {
                        if leader.send(request).await.is_err() {
                            return;
                        }
                    }
                }
                Err(Refusal::Error(_)) if self.keeps_lease() => release(requests, ReadLevel::Lease),
                Err(Refusal::Error(error)) => refuse(requests, &error),
            }
        }
    }

    /// Whether to answer although the core refuses to, as it does from the moment it hands leadership over: never.
    fn keeps_lease(&self) -> bool {
        mutants::on(Mutant::LeaseKeptInTransfer) && {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            let acked = now.last_quorum_acked.as_ref();
            now.state.is_leader() && acked.is_some_and(|sent| sent.elapsed() < self.lease_age_max)
        }
    }

    /// Whether to answer because a quorum's answer came lately, however old the question was: never. `heard` is the last
    /// question that was answered, and when that was seen.
    fn heard_lately(&self, heard: &mut (Option<SerdeInstantOf<Types>>, Instant)) -> bool {
        mutants::on(Mutant::LeaseFromReceiveTime) && {
            let metrics = self.raft.metrics();
            let seen = metrics.borrow_watched();
            if seen.last_quorum_acked != heard.0 {
                *heard = (seen.last_quorum_acked, now());
            }
            seen.state.is_leader() && now() - heard.1 < self.lease_age_max
        }
    }

    /// Asks the core. The index that must be applied before a view may be used.
    async fn check(&self, option: LinearizerOption) -> Result<u64, Refusal> {
        match self.raft.get_read_linearizer(option).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(Refusal::Stale)
            }
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => Err(
                Refusal::Error(ReadError::NotLeader(batcher::leader(forward))),
            ),
            Err(RaftError::Fatal(fatal)) => {
                Err(Refusal::Error(ReadError::NotReady(fatal.to_string())))
            }
        }
    }

    /// Lets `requests` go once `index` is applied. Whatever is applied was committed, so the index is enough.
    fn release_at(&self, index: u64, requests: Vec<Request>, effective: ReadLevel) {
        let is_applied =
            move |applied: &Option<LogId>| applied.is_some_and(|applied| applied.index >= index);
        if is_applied(&self.applied.borrow()) || mutants::on(Mutant::ReadUnapplied) {
            return release(requests, effective);
        }
        let mut applied = self.applied.clone();
        tokio::spawn(async move {
            match applied.wait_for(is_applied).await {
                Ok(_) => release(requests, effective),
                Err(_) => refuse(
                    requests,
                    &ReadError::NotReady("this node is stopping".to_owned()),
                ),
            }
        });
    }
}

/// Everything that waits now, at least one; `None` once nobody can ask any more.
async fn next(queue: &mut mpsc::Receiver<Request>) -> Option<Vec<Request>> {
    loop {
        let mut requests = vec![queue.recv().await?];
        while let Ok(request) = queue.try_recv() {
            requests.push(request);
        }
        requests.retain(|request| !request.answer.is_closed());
        if !requests.is_empty() {
            return Some(requests);
        }
    }
}

fn release(requests: Vec<Request>, effective: ReadLevel) {
    for request in requests {
        let permit = Permit {
            effective,
            staleness: Some(Duration::ZERO),
        };
        // Who asked may have given up.
        let _ = request.answer.send(Ok(permit));
    }
}

fn refuse(requests: Vec<Request>, error: &ReadError) {
    for request in requests {
        let _ = request.answer.send(Err(error.clone()));
    }
}
