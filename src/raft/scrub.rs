//! Reads state and log again, round after round at a bounded rate, so that what rots on the disk is found while other nodes still
//! have it. A damaged state stops the node, and its next start gets the state back ([`super::repair`]); a damaged log stops it for
//! good. A snapshot that alone is damaged is made anew.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::snapshots::Snapshots;
use super::watchdog::{Faults, stops_for};
use super::{Replica, ScrubOptions, blocking};
use crate::storage::clock::now;
use crate::storage::log::Log;

/// The first round begins so long after the start, or after the period if that is shorter: a start has enough to read.
const FIRST: Duration = Duration::from_secs(600);

/// Longest sleep between two looks whether the node stops.
const NAP: Duration = Duration::from_millis(250);

/// What a node counts of its rounds since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStats {
    /// Rounds that came to their end.
    pub rounds: u64,
    /// Bytes of state and snapshot that were read.
    pub state_bytes: u64,
    /// Bytes of log that were read.
    pub log_bytes: u64,
    /// Files that were not as they should be.
    pub findings: u64,
}

/// Counts; clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    rounds: AtomicU64,
    state_bytes: AtomicU64,
    log_bytes: AtomicU64,
    findings: AtomicU64,
}

impl Counters {
    /// What they say.
    pub(super) fn read(&self) -> ScrubStats {
        let Counts {
            rounds,
            state_bytes,
            log_bytes,
            findings,
        } = &*self.0;
        ScrubStats {
            rounds: rounds.load(Relaxed),
            state_bytes: state_bytes.load(Relaxed),
            log_bytes: log_bytes.load(Relaxed),
            findings: findings.load(Relaxed),
        }
    }
}

/// Scrubs one node; clones are the same.
#[derive(Clone)]
pub(super) struct Scrubber {
    pub(super) log: Log,
    pub(super) state: Arc<dyn Replica>,
    pub(super) snapshots: Snapshots,
    pub(super) options: ScrubOptions,
    pub(super) faults: Faults,
    pub(super) counters: Counters,
}

impl Scrubber {
    /// Round after round, for as long as the node runs.
    pub(super) async fn run(self) {
        if self.options.rate == 0 {
            return std::future::pending().await;
        }
        let mut next = now() + self.options.every.min(FIRST);
        loop {
            tokio::time::sleep_until(next.into()).await;
            next = now() + self.options.every;
            let round = self.clone();
            if let Err(error) = blocking::run(move || round.round()).await {
                self.faults.report(&error.to_string());
            }
        }
    }

    /// One round. Blocking. What it finds is reported, but for what is mended here.
    pub(super) fn round(&self) {
        let began = now();
        if let Err(why) = self.state().and_then(|()| self.log()) {
            if !self.faults.is_stopping() {
                self.counters.0.findings.fetch_add(1, Relaxed);
                self.faults.report(&why);
            }
            return;
        }
        self.counters.0.rounds.fetch_add(1, Relaxed);
        let seconds = now().duration_since(began).as_secs();
        tracing::info!(seconds, "state and log were read through and are whole");
    }

    fn state(&self) -> Result<(), String> {
        let current = self.snapshots.current().map(|current| current.snapshot);
        let snapshot = current
            .as_ref()
            .map(|held| (held.path.as_path(), &held.manifest));
        let mut pace = self.pace(&self.counters.0.state_bytes);
        let scrubbed = self.state.scrub(snapshot, &mut pace);
        let problems = match scrubbed {
            Ok(problems) => problems,
            Err(fault) if fault.is_damage => return Err(stops_for(&fault.what)),
            Err(fault) => return Err(fault.what),
        };
        for problem in &problems {
            self.counters.0.findings.fetch_add(1, Relaxed);
            tracing::error!("the snapshot of this node is damaged and made anew: {problem}");
        }
        if problems.is_empty() {
            return Ok(());
        }
        let made = self.snapshots.make_afresh(&*self.state);
        made.map(drop).map_err(|error| {
            format!("a snapshot cannot be made in place of a damaged one: {error}")
        })
    }

    fn log(&self) -> Result<(), String> {
        let mut pace = self.pace(&self.counters.0.log_bytes);
        self.log.scrub(&mut pace).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => format!(
                "the log is damaged: {error}. Keep the data directory aside and join this node again under a new id (quorate node \
                 replace)"
            ),
            _ => format!("the log cannot be read: {error}"),
        })
    }

    /// Counts bytes in `counter` and keeps to the rate, without bursts; ends when the node stops.
    fn pace<'a>(&'a self, counter: &'a AtomicU64) -> impl FnMut(u64) -> bool + 'a {
        let mut due = now();
        move |bytes| {
            counter.fetch_add(bytes, Relaxed);
            due = turn(due, now(), bytes, self.options.rate);
            while let Some(left) = due
                .checked_duration_since(now())
                .filter(|left| !left.is_zero())
            {
                if self.faults.is_stopping() {
                    return false;
                }
                std::thread::sleep(left.min(NAP));
            }
            !self.faults.is_stopping()
        }
    }
}

/// When the next bytes may be read, `bytes` having been read at `now`.
fn turn(due: Instant, now: Instant, bytes: u64, rate: u64) -> Instant {
    due.max(now) + Duration::from_secs_f64(bytes as f64 / rate as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_without_bursts() {
        let start = now();
        let next = turn(start, start, 500, 1000);
        assert_eq!(next - start, Duration::from_millis(500));
        assert_eq!(turn(next, start, 500, 1000) - start, Duration::from_secs(1));
        let later = start + Duration::from_secs(60);
        assert_eq!(
            turn(next, later, 1000, 1000) - later,
            Duration::from_secs(1)
        );
    }
}
