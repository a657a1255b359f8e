//! Ticks: entries that only carry time. Log time stands still while nobody writes, and nothing would ever expire; so a leader
//! that finds something due proposes an entry without commands, and apply does the rest. With nothing due nothing is written.

use std::sync::Arc;

use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;

use super::clocks::{LogClock, Now};
use super::types::{Commands, Raft, Types};
use super::watchdog::Faults;
use super::{Options, Replica, blocking};
use crate::machine::{entry, once};

/// Proposes ticks on one node while it leads.
pub(super) struct Ticker {
    pub(super) raft: Raft,
    pub(super) state: Arc<dyn Replica>,
    pub(super) clock: Arc<LogClock>,
    pub(super) faults: Faults,
    pub(super) options: Options,
}

impl Ticker {
    /// Looks now and then, for as long as the core lives. What one entry cannot expire is left to the next, at once.
    pub(super) async fn run(self) {
        loop {
            tokio::time::sleep(self.options.tick).await;
            while let Some(now_ns) = self.due().await {
                if !self.propose(now_ns).await {
                    break;
                }
            }
        }
    }

    /// The time, if this node leads, the clocks of a majority agree on it, and something is due by it. While clocks disagree a
    /// tick would advance nothing.
    async fn due(&self) -> Option<u64> {
        if !self.clock.leads() {
            return None;
        }
        let (Now::Agreed(now_ns) | Now::Outvoted(now_ns)) = self.clock.now() else {
            return None;
        };
        let state = self.state.clone();
        let oldest = blocking::run(move || state.oldest_answer_ns()).await;
        match oldest.expect("a read does not panic") {
            Ok(oldest) => oldest
                .is_some_and(|used_ns| once::is_due(used_ns, now_ns))
                .then_some(now_ns),
            Err(fault) => {
                self.faults.report(&fault.what);
                None
            }
        }
    }

    /// Whether a tick was committed and applied here.
    async fn propose(&self, now_ns: u64) -> bool {
        let bytes = entry::assemble(&[], now_ns);
        let (responder, result) =
            ProgressResponder::<Types, ClientWriteResult<Types>>::complete_only();
        let sent = self
            .raft
            .client_write_ff(Commands(bytes.into()), Some(responder))
            .await;
        sent.is_ok() && matches!(result.await, Ok(Ok(_)))
    }
}
