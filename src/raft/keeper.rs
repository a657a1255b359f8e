//! Keeps the log short: makes a snapshot when the log since the last one has grown large or old, and purges what is not needed.
//!
//! Each node does so for itself, leader or not. What a snapshot holds is durable without the log, so the log may be purged up to
//! there; what is purged in fact is less. A tail stays, in bytes, so that a node that was away for a moment catches up from the log
//! and needs no snapshot; so does everything after a snapshot that is being sent, as the receiver goes on from there. Openraft
//! does not purge what it is sending to a follower that keeps answering. Whole segments go, so the log takes about as much as the
//! bound, the tail and one or two segments together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver;

use super::blocking;
use super::convert;
use super::snapshots::Snapshots;
use super::space::{Room, Space};
use super::types::Raft;
use super::{Options, Replica, SnapshotOptions};
use crate::storage::LogId;
use crate::storage::clock::now;
use crate::storage::log::Log;

/// While the disk is nearly full a snapshot is made after this part of the log that is due otherwise.
const SHORT_PART: u64 = 4;
/// How long nothing is tried after a snapshot could not be made.
const PAUSE: Duration = Duration::from_secs(10);
/// So many times the time after which a transfer is given up, what it staged is kept for the next one to go on from.
const ABANDONED_STALLS: u32 = 10;

/// Makes snapshots and purges the log on one node.
pub(super) struct Keeper {
    pub(super) raft: Raft,
    pub(super) log: Log,
    pub(super) state: Arc<dyn Replica>,
    pub(super) snapshots: Snapshots,
    pub(super) space: Space,
    pub(super) options: Options,
}

impl Keeper {
    /// Looks a few times a second, for as long as the core lives.
    pub(super) async fn run(self) {
        let mut due = Due::new(&self.options.snapshots, now());
        loop {
            tokio::time::sleep(self.options.heartbeat).await;
            self.snapshot(&mut due).await;
            if self.tend().await.is_none() {
                // The core is gone, which others report.
                return std::future::pending().await;
            }
        }
    }

    /// Makes a snapshot if one is due.
    async fn snapshot(&self, due: &mut Due) {
        let last = self.snapshots.last();
        let applied = self.state.applied().log_id;
        let grown = self.log.bytes_from(last.map_or(0, |last| last.index + 1));
        let spare = if self.is_short() { SHORT_PART } else { 1 };
        let is_due = due.is_due(grown.saturating_mul(spare), now());
        if applied <= last || !(is_due || self.snapshots.is_wanted(applied)) {
            return;
        }
        let (snapshots, state) = (self.snapshots.clone(), self.state.clone());
        let began = now();
        match blocking::io(move || snapshots.make(&*state)).await {
            Ok(made) => {
                let manifest = &made.snapshot.manifest;
                tracing::info!(
                    index = manifest.applied.log_id.map(|id| id.index),
                    bytes = manifest.bytes(),
                    log_bytes = grown,
                    "made a snapshot in {} ms",
                    now().duration_since(began).as_millis()
                );
                due.made(now());
            }
            Err(error) => {
                tracing::warn!("a snapshot could not be made, and the log grows: {error}");
                due.failed(now());
            }
        }
    }

    /// Whether the log should be as short as can be.
    fn is_short(&self) -> bool {
        self.space.room() > Room::Enough
    }

    /// Tells the core of the newest snapshot and has it purge what is not needed. `None` if there is no core any more.
    async fn tend(&self) -> Option<()> {
        let stall = self.options.snapshots.stall;
        self.snapshots.take_back(stall);
        let cleared = self.snapshots.clear_abandoned(stall * ABANDONED_STALLS);
        if let Err(error) = cleared.await {
            tracing::warn!("what is staged of a snapshot cannot be deleted: {error}");
        }
        let (known, purged) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let id = |id: &Option<_>| id.as_ref().map(convert::log_id);
            (id(&metrics.snapshot), id(&metrics.purged))
        };
        if self.snapshots.last() > known {
            self.raft.trigger().snapshot().await.ok()?;
        }
        // The tail saves others a snapshot, which room on the disk is worth.
        let keep = match self.is_short() {
            true => 0,
            false => self.options.snapshots.log_keep_bytes,
        };
        let upto = upto(
            known,
            self.log.purgeable(keep),
            self.snapshots.transfers().needs_after(),
        );
        if let Some(upto) = upto.filter(|upto| Some(*upto) > purged.map(|id| id.index)) {
            self.raft.trigger().purge_log(upto).await.ok()?;
        }
        Some(())
    }
}

/// Up to where the log may be purged: what is in the snapshot `known` to the core, what need not be kept as the tail, and what
/// no transfer needs.
fn upto(known: Option<LogId>, purgeable: Option<u64>, needs_after: Option<u64>) -> Option<u64> {
    let upto = known?.index.min(purgeable?);
    Some(upto.min(needs_after.unwrap_or(u64::MAX)))
}

/// When the next snapshot is due.
struct Due {
    log_bytes: u64,
    every: Duration,
    last: Instant,
    not_before: Option<Instant>,
}

impl Due {
    fn new(options: &SnapshotOptions, now: Instant) -> Due {
        Due {
            log_bytes: options.log_bytes,
            every: options.every,
            last: now,
            not_before: None,
        }
    }

    /// Whether one is due, `grown` bytes of log after the last, something having been applied since.
    fn is_due(&self, grown: u64, now: Instant) -> bool {
        let paused = self.not_before.is_some_and(|until| now < until);
        !paused && (grown >= self.log_bytes || now.duration_since(self.last) >= self.every)
    }

    fn made(&mut self, now: Instant) {
        self.last = now;
        self.not_before = None;
    }

    fn failed(&mut self, now: Instant) {
        self.not_before = Some(now + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_by_bytes_or_by_time_and_not_right_after_a_failure() {
        let options = SnapshotOptions {
            log_bytes: 100,
            every: Duration::from_secs(60),
            ..SnapshotOptions::default()
        };
        let start = Instant::now();
        let mut due = Due::new(&options, start);
        assert!(!due.is_due(99, start));
        assert!(due.is_due(100, start));
        assert!(due.is_due(0, start + Duration::from_secs(60)));
        due.made(start + Duration::from_secs(60));
        assert!(!due.is_due(0, start + Duration::from_secs(61)));
        due.failed(start + Duration::from_secs(61));
        assert!(!due.is_due(100, start + Duration::from_secs(62)));
        assert!(due.is_due(100, start + Duration::from_secs(61) + PAUSE));
    }

    #[test]
    fn the_log_is_purged_no_further_than_snapshot_tail_and_transfers_allow() {
        let known = |index| {
            Some(LogId {
                index,
                ..LogId::default()
            })
        };
        assert_eq!(upto(known(50), Some(70), None), Some(50));
        assert_eq!(upto(known(50), Some(30), None), Some(30));
        assert_eq!(upto(known(50), Some(70), Some(20)), Some(20));
        assert_eq!(upto(known(50), Some(30), Some(40)), Some(30));
        assert_eq!(upto(None, Some(70), None), None);
        assert_eq!(upto(known(50), None, None), None);
    }
}
