//! What watches over a node: a disk that hangs, a log that failed, a core that died.
//!
//! A node that cannot go on must not linger: it would hold back an election, or answer from a state that stands still. So
//! the process ends at once, and says why. What supervises it starts it again; on the way up the log proves what it has.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::Options;
use super::batcher::Batcher;
use super::hand_over::HandOver;
use super::types::Raft;
use crate::machine::Fault;
use crate::storage::clock::now;
use crate::storage::log::Log;
use crate::storage::watch;

/// What is done when this node cannot go on.
pub(crate) type FaultAction = Arc<dyn Fn(&str) + Send + Sync>;

/// The one fault of a node, if it has one, and what is done about it; clones share it.
#[derive(Clone)]
pub(super) struct Faults {
    inner: Arc<Inner>,
}

struct Inner {
    fault: OnceLock<String>,
    action: FaultAction,
    /// Becomes true when the node stops on purpose: from then on a core that ends is no fault.
    stopping: watch::Sender<bool>,
}

/// Ends the process without running anything else: what is in memory is not to be trusted, and destructors might wait for
/// the very disk that hangs.
pub(crate) fn abort() -> FaultAction {
    Arc::new(|what| {
        tracing::error!("this node cannot go on: {what}");
        #[expect(
            clippy::print_stderr,
            reason = "the last words of the process, whatever the log filter"
        )]
        {
            eprintln!("quorate: this node cannot go on: {what}");
        }
        std::process::abort();
    })
}

impl Faults {
    pub(super) fn new(action: FaultAction) -> Faults {
        Faults {
            inner: Arc::new(Inner {
                fault: OnceLock::new(),
                action,
                stopping: watch::Sender::new(false),
            }),
        }
    }

    /// Stops the node because of `what`. Only the first time counts.
    pub(super) fn report(&self, what: &str) {
        if self.inner.fault.set(what.to_owned()).is_ok() {
            (self.inner.action)(what);
        }
    }

    /// What this node stopped for.
    pub(super) fn get(&self) -> Option<String> {
        self.inner.fault.get().cloned()
    }

    /// The node stops on purpose from now on.
    pub(super) fn stop(&self) {
        self.inner.stopping.send_replace(true);
    }

    /// Whether the node stops on purpose.
    pub(super) fn is_stopping(&self) -> bool {
        *self.inner.stopping.borrow()
    }

    /// Waits until the node stops on purpose.
    async fn stopping(&self) {
        let mut stopping = self.inner.stopping.subscribe();
        // The sender lives as long as `self`.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Runs `task` until the node stops. A panic in it, or its end, is a fault: nothing here may silently stop working.
    pub(super) fn supervise(
        &self,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let faults = self.clone();
        tokio::spawn(async move {
            let mut task = tokio::spawn(task);
            tokio::select! {
                biased;
                () = faults.stopping() => task.abort(),
                result = &mut task => {
                    if result.as_ref().is_err_and(tokio::task::JoinError::is_cancelled) {
                        return; // The runtime itself is going.
                    }
                    let how = result.map_or_else(|error| error.to_string(), |()| "it ended".to_owned());
                    faults.report(&format!("the {name} task failed: {how}"));
                }
            }
        });
    }
}

/// Watches the core: its own verdict, and whether it is there at all.
pub(super) async fn watch_core(raft: Raft, faults: Faults) {
    let mut metrics = raft.metrics();
    loop {
        let verdict = metrics.borrow_and_update().running_state.clone();
        if let Err(fatal) = verdict {
            break report_unless_stopping(&faults, &format!("consensus stopped: {fatal}")).await;
        }
        if metrics.changed().await.is_err() {
            break report_unless_stopping(&faults, "the core of consensus is gone").await;
        }
    }
}

/// Watches the log: once a write failed it is poisoned for good.
pub(super) async fn watch_log(log: Log, faults: Faults) {
    let mut failure = log.failure();
    let failed = failure.wait_for(Option::is_some).await;
    let what = failed.map_or_else(
        |_| "it was closed".to_owned(),
        |failure| failure.clone().unwrap_or_default(),
    );
    report_unless_stopping(&faults, &format!("the log failed: {what}")).await;
}

/// Watches the state: once it is found damaged nothing may be answered from it, nor made of it; and one that could not be written
/// does not get any further, though there may be nothing to apply for a while.
pub(super) async fn watch_state(mut found: watch::Receiver<Option<Fault>>, faults: Faults) {
    let Ok(Some(fault)) = found
        .wait_for(Option::is_some)
        .await
        .map(|found| found.clone())
    else {
        // A state that cannot fail, or is gone with the node.
        return std::future::pending().await;
    };
    let what = match fault.is_damage {
        true => stops_for(&fault.what),
        false => fault.what,
    };
    report_unless_stopping(&faults, &what).await;
}

/// What is said of a state found damaged because of `what`.
pub(super) fn stops_for(what: &str) -> String {
    format!("{what}; the next start sets this state aside and gets it back")
}

/// A stop on purpose ends core and log as well: then the supervisor ends this task.
async fn report_unless_stopping(faults: &Faults, what: &str) {
    if faults.is_stopping() {
        return std::future::pending().await;
    }
    faults.report(what);
}

/// Watches the disk. A leader whose log has not finished a write for as long as the shortest election takes no more
/// proposals and lets another node lead; a node whose log has not finished one for [`Options::flush_abort`] stops.
pub(super) async fn watch_disk(
    log: Log,
    batcher: Batcher,
    hand_over: HandOver,
    options: Options,
    faults: Faults,
) {
    let mut ticks = tokio::time::interval(options.heartbeat / 2);
    let mut is_hung = false;
    loop {
        ticks.tick().await;
        let oldest = log.oldest_unflushed();
        if oldest > options.flush_abort {
            return report_unless_stopping(&faults, &hung(oldest)).await;
        }
        let hangs = oldest > options.election_min;
        if hangs && !is_hung {
            tracing::warn!("{}; taking no proposals", hung(oldest));
            batcher.close(&hung(oldest));
            let hand_over = hand_over.clone();
            let wait = options.flush_abort;
            tokio::spawn(async move { give_up_leadership(hand_over, wait).await });
        }
        if !hangs && is_hung && !faults.is_stopping() {
            tracing::info!("the disk of the log works again");
            batcher.open();
        }
        is_hung = hangs;
    }
}

fn hung(oldest: Duration) -> String {
    format!(
        "the disk of the log has not finished a write for {} ms",
        oldest.as_millis()
    )
}

async fn give_up_leadership(hand_over: HandOver, wait: Duration) {
    let deadline = now() + wait;
    if let Err(why) = hand_over.run(deadline).await {
        tracing::warn!("leadership could not be handed over: {why}");
    }
}
