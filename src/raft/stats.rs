//! What a node counts, for whoever measures it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{
    DiskSpace, Permit, Progress, ReadError, ReadLevel, ScrubStats, SnapshotCounters, WriteError,
    Written,
};
use crate::storage::histogram::Counted;
use crate::storage::state;

/// What became of a write that a client of this node asked for.
const WRITE_OUTCOMES: [&str; 8] = [
    "applied",
    "not_leader",
    "overloaded",
    "expired",
    "not_ready",
    "too_large",
    "unknown",
    "no_room",
];
/// Why a read was not permitted.
const READ_FAILURES: [&str; 3] = ["not_leader", "timeout", "not_ready"];
const LEVELS: [ReadLevel; 3] = [ReadLevel::Leader, ReadLevel::Lease, ReadLevel::Follower];

/// Counts of what was asked of this node. Relaxed throughout: they are read for people.
#[derive(Debug, Default)]
pub(super) struct Counters {
    writes: [AtomicU64; WRITE_OUTCOMES.len()],
    /// By level asked for, then by level reached.
    reads: [[AtomicU64; LEVELS.len()]; LEVELS.len()],
    reads_refused: [AtomicU64; READ_FAILURES.len()],
}

impl Counters {
    /// Counts a write.
    pub(super) fn wrote(&self, result: &Result<Written, WriteError>) {
        let place = match result {
            Ok(_) => 0,
            Err(WriteError::NotLeader(_)) => 1,
            Err(WriteError::Overloaded { .. }) => 2,
            Err(WriteError::Expired) => 3,
            Err(WriteError::NotReady(_)) => 4,
            Err(WriteError::TooLarge { .. }) => 5,
            Err(WriteError::Unknown(_)) => 6,
            Err(WriteError::NoRoom(_)) => 7,
        };
        self.writes[place].fetch_add(1, Relaxed);
    }

    /// Counts a read that was asked for at `level`.
    pub(super) fn read(&self, level: ReadLevel, result: &Result<Permit, ReadError>) {
        let counter = match result {
            Ok(permit) => &self.reads[place(level)][place(permit.effective)],
            Err(ReadError::NotLeader(_)) => &self.reads_refused[0],
            Err(ReadError::Timeout) => &self.reads_refused[1],
            Err(ReadError::NotReady(_)) => &self.reads_refused[2],
        };
        counter.fetch_add(1, Relaxed);
    }

    /// Writes by what became of them.
    pub(super) fn writes(&self) -> Vec<(&'static str, u64)> {
        named(&WRITE_OUTCOMES, &self.writes)
    }

    /// Reads that were permitted, by level asked for and level reached.
    pub(super) fn reads(&self) -> Vec<(ReadLevel, ReadLevel, u64)> {
        let pairs = LEVELS
            .into_iter()
            .flat_map(|asked| LEVELS.map(|reached| (asked, reached)));
        pairs
            .map(|(asked, reached)| {
                (
                    asked,
                    reached,
                    self.reads[place(asked)][place(reached)].load(Relaxed),
                )
            })
            .filter(|(asked, reached, count)| asked == reached || *count > 0)
            .collect()
    }

    /// Reads that were refused, by why.
    pub(super) fn reads_refused(&self) -> Vec<(&'static str, u64)> {
        named(&READ_FAILURES, &self.reads_refused)
    }
}

fn named(names: &[&'static str], counters: &[AtomicU64]) -> Vec<(&'static str, u64)> {
    let counts = counters.iter().map(|counter| counter.load(Relaxed));
    names.iter().copied().zip(counts).collect()
}

/// Snapshots of a node, and their transfers.
#[derive(Clone, Debug)]
pub struct SnapshotStats {
    /// What was counted since the start.
    pub counters: SnapshotCounters,
    /// Last index in the current one.
    pub index: Option<u64>,
    /// Bytes of its files, most of which it shares with the state.
    pub bytes: u64,
    /// Transfers to other nodes.
    pub sending: Vec<Progress>,
    /// The transfer that comes in.
    pub receiving: Option<Progress>,
    /// Bytes of files sent since the start.
    pub sent_bytes: u64,
    /// Bytes of files received since the start.
    pub received_bytes: u64,
}

fn place(level: ReadLevel) -> usize {
    match level {
        ReadLevel::Leader => 0,
        ReadLevel::Lease => 1,
        ReadLevel::Follower => 2,
    }
}

/// What a node counted since it started, and what waits now. See [`super::Client::stats`].
#[derive(Clone, Debug)]
pub struct Stats {
    /// Writes by what became of them.
    pub writes: Vec<(&'static str, u64)>,
    /// Reads that were permitted: level asked for, level reached, how many.
    pub reads: Vec<(ReadLevel, ReadLevel, u64)>,
    /// Reads that were refused, by why.
    pub reads_refused: Vec<(&'static str, u64)>,
    /// Commands that wait to be proposed.
    pub waiting: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// Commands that wait, or were proposed and have no verdict.
    pub pending: usize,
    /// How long it took to write groups of entries to the log and sync them.
    pub log_writes: Counted,
    /// What the log takes on the disk, in bytes.
    pub log_bytes: u64,
    /// Bytes handed to the log and not yet on the disk.
    pub unflushed_bytes: u64,
    /// How long the oldest of them has been waiting.
    pub oldest_unflushed: Duration,
    /// Where the time of applying went.
    pub apply: state::Stats,
    /// What the state's tables take on the disk, in bytes.
    pub state_bytes: u64,
    /// Answers held under idempotency keys.
    pub answers_held: u64,
    /// Snapshots and their transfers.
    pub snapshots: SnapshotStats,
    /// Damaged states that were set aside and are still kept; `None` if the disk does not say.
    pub states_aside: Option<usize>,
    /// The disk.
    pub disk: DiskSpace,
    /// What was read again of what is on the disk.
    pub scrub: ScrubStats,
}
