//! The vote gate: a restarted voter has forgotten which leader it promised not to depose, so for a while it helps nobody
//! to become one.
//!
//! A leader serves lease reads because a majority promised to grant no vote before its lease ends. The promise lives in
//! memory: after a restart the same node would grant a vote at once, a second leader could acknowledge a write, and the
//! first would still answer lease reads from the old state. So from the start of the process, for
//! [`VOTE_GATE_FACTOR`](super::VOTE_GATE_FACTOR) times the lease, a gated node refuses votes, pre-votes and leadership
//! transfers and does not stand itself. It accepts appends all the while: it follows a leader that is there.

use std::time::Duration;

use tokio::time::Instant;

/// Whether this node may take part in making a leader; clones are the same gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    opens_at: Option<Instant>,
}

impl Gate {
    /// A gate that is open: the node promised nothing before, or nobody else has a vote.
    pub(crate) fn open() -> Gate {
        Gate { opens_at: None }
    }

    /// A gate that opens `wait` after `start`.
    pub(crate) fn closed_for(start: Instant, wait: Duration) -> Gate {
        Gate {
            opens_at: Some(start + wait),
        }
    }

    /// Whether votes, pre-votes and leadership transfers may be answered; `Err` says why not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let Some(opens_at) = self.opens_at else {
            return Ok(());
        };
        let left = opens_at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        Err(format!(
            "this node restarted and grants no vote for another {} ms",
            left.as_millis()
        ))
    }

    /// Waits until the gate is open.
    pub(crate) async fn opened(&self) {
        if let Some(opens_at) = self.opens_at {
            tokio::time::sleep_until(opens_at).await;
        }
    }
}
