//! What all threads of a run share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::roster::Roster;
use crate::history::recorder::Recorder;
use crate::history::{Event, Happening};

/// A value of a register that was seen, with the tag it came with. Absent has no tag.
pub(crate) type Seen = (Option<i64>, Option<String>);

/// The shared part of a run.
pub(crate) struct World {
    recorder: Recorder<BufWriter<File>>,
    /// Who can be asked.
    pub(crate) roster: Arc<Roster>,
    next_process: AtomicI64,
    next_value: AtomicI64,
    stop: AtomicBool,
    /// By register, its newest values as clients saw them: what conditional writes start from.
    seen: Mutex<BTreeMap<String, Vec<Seen>>>,
    /// Every key that was ever used.
    keys: Mutex<BTreeMap<String, u64>>,
    /// Nodes that were healed and are not known to serve again.
    awaited: Mutex<BTreeSet<u64>>,
    failures: Mutex<Vec<String>>,
}

/// Values of a register that are remembered.
const SEEN_MAX: usize = 4;

impl World {
    /// With a history that goes to `out`.
    pub(crate) fn new(out: File, roster: Arc<Roster>) -> World {
        World {
            recorder: Recorder::new(BufWriter::new(out)),
            roster,
            next_process: AtomicI64::new(0),
            next_value: AtomicI64::new(1),
            stop: AtomicBool::new(false),
            seen: Mutex::default(),
            keys: Mutex::default(),
            awaited: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// Writes a line of the history.
    pub(crate) fn record(&self, event: Event) {
        if let Err(error) = self.recorder.record(event) {
            self.note_failure(format!("the history cannot be written: {error}"));
        }
    }

    /// Writes what was done to the cluster or seen of it.
    pub(crate) fn say(&self, happening: &Happening) {
        self.record(happening.event());
    }

    /// The run is worth nothing: it is written down, and everybody stops.
    pub(crate) fn fail(&self, what: impl Into<String>) {
        let what = what.into();
        self.say(&Happening::Failure(what.clone()));
        self.note_failure(what);
    }

    fn note_failure(&self, what: String) {
        lock(&self.failures).push(what);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What failed so far.
    pub(crate) fn failures(&self) -> Vec<String> {
        lock(&self.failures).clone()
    }

    /// A fault on these nodes is healed: when each serves again is to be written down.
    pub(crate) fn await_serving(&self, nodes: &[u64]) {
        lock(&self.awaited).extend(nodes);
    }

    /// Nodes whose return is to be written down; who was removed does not return.
    pub(crate) fn awaited(&self) -> Vec<u64> {
        let mut awaited = lock(&self.awaited);
        awaited.retain(|node| self.roster.has(*node));
        awaited.iter().copied().collect()
    }

    /// A node serves again, which is news once.
    pub(crate) fn serves(&self, node: u64) {
        if lock(&self.awaited).remove(&node) {
            self.say(&Happening::Serving { node });
        }
    }

    /// A process number that was never used.
    pub(crate) fn process(&self) -> i64 {
        self.next_process.fetch_add(1, Ordering::Relaxed)
    }

    /// A value that was never used.
    pub(crate) fn value(&self) -> i64 {
        self.next_value.fetch_add(1, Ordering::Relaxed)
    }

    /// Asks everybody to come to an end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether to come to an end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Remembers a value of a register.
    pub(crate) fn saw(&self, key: &str, seen: Seen) {
        let mut all = lock(&self.seen);
        let values = all.entry(key.to_owned()).or_default();
        values.retain(|known| *known != seen);
        values.push(seen);
        if values.len() > SEEN_MAX {
            values.remove(0);
        }
    }

    /// Values of a register, the one seen last at the end.
    pub(crate) fn seen(&self, key: &str) -> Vec<Seen> {
        lock(&self.seen).get(key).cloned().unwrap_or_default()
    }

    /// Counts a use of a key.
    pub(crate) fn uses(&self, key: &str) {
        *lock(&self.keys).entry(key.to_owned()).or_default() += 1;
    }

    /// Whether a key was used less often than that.
    pub(crate) fn is_used_less(&self, key: &str, uses: u64) -> bool {
        lock(&self.keys).get(key).is_none_or(|used| *used < uses)
    }

    /// Every key that was ever used.
    pub(crate) fn keys(&self) -> Vec<String> {
        lock(&self.keys).keys().cloned().collect()
    }

    /// Where a node serves clients.
    pub(crate) fn addr(&self, node: u64) -> SocketAddr {
        self.roster.addr(node)
    }

    /// Ends the history.
    ///
    /// # Errors
    /// When what is buffered cannot be written.
    pub(crate) fn finish(self) -> std::io::Result<()> {
        self.recorder.finish().map(drop)
    }
}

/// A mutex's content, whoever died with it: what is in these is whole after every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
