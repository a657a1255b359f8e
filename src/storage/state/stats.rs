//! Where the time of applying goes, counted since the database was opened.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One in this many id checks is timed: reading the clock costs as much as the check.
const SAMPLED: u64 = 64;

/// Counters, each written by one thread at a time.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) entries: AtomicU64,
    pub(super) transfers: AtomicU64,
    pub(super) decide_ns: AtomicU64,
    pub(super) id_check_ns: AtomicU64,
    pub(super) digest_ns: AtomicU64,
    pub(super) encode_ns: AtomicU64,
    pub(super) write_ns: AtomicU64,
    pub(super) stall_ns: AtomicU64,
    pub(super) seals: AtomicU64,
    pub(super) seal_ns: AtomicU64,
    pub(super) journal_bytes: AtomicU64,
    pub(super) rolled_bytes: AtomicU64,
    checks: AtomicU64,
}

impl Counters {
    /// Adds `count`.
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }

    /// Adds the time since `start`; returns now.
    pub(super) fn since(counter: &AtomicU64, start: Instant) -> Instant {
        let now = Instant::now();
        Counters::add(
            counter,
            u64::try_from((now - start).as_nanos()).unwrap_or(u64::MAX),
        );
        now
    }

    /// Runs an id check, timing some.
    #[inline]
    pub(super) fn id_check<T>(&self, check: impl FnOnce() -> T) -> T {
        let number = self.checks.load(Relaxed);
        self.checks.store(number.wrapping_add(1), Relaxed);
        if !number.is_multiple_of(SAMPLED) {
            return check();
        }
        let start = Instant::now();
        let result = check();
        let took = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Counters::add(&self.id_check_ns, took.saturating_mul(SAMPLED));
        result
    }

    /// What is counted so far.
    pub(super) fn read(&self) -> Stats {
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Relaxed));
        Stats {
            entries: self.entries.load(Relaxed),
            transfers: self.transfers.load(Relaxed),
            decide: time(&self.decide_ns),
            id_check: time(&self.id_check_ns),
            digest: time(&self.digest_ns),
            encode: time(&self.encode_ns),
            write: time(&self.write_ns),
            stall: time(&self.stall_ns),
            seals: self.seals.load(Relaxed),
            seal: time(&self.seal_ns),
            journal_bytes: self.journal_bytes.load(Relaxed),
            rolled_bytes: self.rolled_bytes.load(Relaxed),
        }
    }
}

/// Where the time of applying went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries with commands applied.
    pub entries: u64,
    /// Transfers journaled, posted or refused.
    pub transfers: u64,
    /// Reading entries and deciding commands, with the state locked; ids are checked here.
    pub decide: Duration,
    /// Of that, looking up transfer ids; estimated from a sample.
    pub id_check: Duration,
    /// Computing digests.
    pub digest: Duration,
    /// Building batches: chunks of the journal with their checksums, rows.
    pub encode: Duration,
    /// Writing batches to the memory tables, with RocksDB's own stalls.
    pub write: Duration,
    /// Waiting for a running seal because the next was due twice over.
    pub stall: Duration,
    /// Seals finished.
    pub seals: u64,
    /// Time they took, in the background.
    pub seal: Duration,
    /// Bytes of journal written.
    pub journal_bytes: u64,
    /// Bytes of journal that opening derived again.
    pub rolled_bytes: u64,
}
