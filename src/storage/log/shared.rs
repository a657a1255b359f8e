//! What the log's handles, its readers and its writer share: the log as readers see it, the queue of what is not yet
//! written, and where the rest is on the disk.
//!
//! One mutex, held for memory operations only. The writer takes the whole queue, writes it without the mutex, and then
//! says so here; meanwhile the log may have been appended to and truncated any number of times. Two views are kept apart
//! for that: `view` is what all operations submitted add up to, `index` what those written do.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::cache::{Cache, ENTRY_OVERHEAD, weight};
use super::disk::File;
use super::index::Index;
use super::recover::Recovered;
use super::shape::{Op, Shape};
use super::wal::Written;
use super::{Done, Options};
use crate::storage::clock::now;
use crate::storage::histogram::Histogram;
use crate::storage::{LogEntry, LogId, Vote, watch};

/// See the module.
pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Wakes the writer.
    wake: Condvar,
    flushed: watch::Sender<Option<LogId>>,
    failure: watch::Sender<Option<String>>,
    options: Options,
    /// How long writing a group took, with its sync.
    pub(super) writes: Histogram,
}

/// What the mutex guards.
pub(super) struct Inner {
    /// What everything submitted adds up to.
    pub view: Shape,
    /// The end of the log, in memory. Holds everything that is not written.
    pub cache: Cache,
    /// Where the entries are that everything written adds up to. For an entry of `view` that is not in `cache` it is
    /// right: that entry was written, and every truncation since that concerned it is in `view` already.
    pub index: Index,
    /// The segments `index` refers to.
    pub files: BTreeMap<u32, Arc<dyn File>>,
    queue: Queue,
    in_flight: Queue,
    /// Number of the last operation submitted.
    submitted: u64,
    /// Number of the last operation written.
    written: u64,
    /// What the watch of the same name is to say.
    flushed: Option<LogId>,
    /// Entries up to here are durable in an installed snapshot.
    snapshot: Option<LogId>,
    failed: Option<(io::ErrorKind, String)>,
    stopping: bool,
}

/// Operations submitted, and who waits for them.
#[derive(Default)]
struct Queue {
    ops: Vec<Op>,
    waiting: Vec<Done>,
    /// Where each truncation in `ops` cut the log.
    cuts: Vec<Option<LogId>>,
    /// How far entries are committed is to be noted, after `ops`.
    committed: bool,
    bytes: u64,
    /// When the first operation came that somebody waits for.
    since: Option<Instant>,
    /// When the first came that nobody waits for, which can ride with a later one.
    riding_since: Option<Instant>,
}

/// What the writer took from the queue.
pub(super) struct Batch {
    pub(super) ops: Vec<Op>,
    pub(super) waiting: Vec<Done>,
    /// Number of the last operation submitted.
    upto: u64,
}

/// Why the writer is woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Somebody waits for a write.
    Work,
    /// Nobody has for a while, though there is something to write down.
    Idle,
    /// The log is closed.
    Stop,
}

impl Shared {
    pub(super) fn new(recovered: Recovered, options: Options) -> Shared {
        let inner = Inner {
            view: recovered.shape,
            cache: Cache::default(),
            index: recovered.index,
            files: recovered.files.into_iter().collect(),
            queue: Queue::default(),
            in_flight: Queue::default(),
            submitted: 0,
            written: 0,
            flushed: recovered.shape.state.last,
            snapshot: None,
            failed: None,
            stopping: false,
        };
        Shared {
            flushed: watch::Sender::new(inner.flushed),
            failure: watch::Sender::new(None),
            inner: Mutex::new(inner),
            wake: Condvar::new(),
            options,
            writes: Histogram::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nobody panics holding it")
    }

    pub(super) fn flushed(&self) -> watch::Receiver<Option<LogId>> {
        self.flushed.subscribe()
    }

    pub(super) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    pub(super) fn append(&self, entries: Vec<LogEntry>, done: Done) {
        self.submit(done, |inner| {
            let mut after = inner.view;
            for entry in &entries {
                if !after.takes(entry.id) {
                    return Err(format!("entry {:?} after {:?}", entry.id, after.state.last));
                }
                after.append(entry.id);
            }
            inner.view = after;
            for entry in entries {
                inner.queue.bytes += weight(&entry);
                inner.push(Op::Append(entry.clone()));
                inner.cache.append(entry, inner.submitted);
            }
            inner.cache.evict(self.options.cache_bytes, inner.written);
            Ok(())
        });
    }

    pub(super) fn save_vote(&self, vote: Vote, done: Done) {
        self.submit(done, |inner| {
            inner.view.state.vote = Some(vote);
            inner.queue.bytes += ENTRY_OVERHEAD;
            inner.push(Op::Vote(vote));
            Ok(())
        });
    }

    fn submit(&self, done: Done, change: impl FnOnce(&mut Inner) -> Result<(), String>) {
        let mut inner = self.lock();
        if let Some(error) = inner.refusal() {
            drop(inner);
            return done(Err(error));
        }
        if let Err(misuse) = change(&mut inner) {
            // Not while the mutex is held: others go on.
            drop(inner);
            panic!("{misuse}");
        }
        inner.queue.waiting.push(done);
        inner.queue.since.get_or_insert_with(now);
        drop(inner);
        self.wake.notify_one();
    }

    pub(super) fn truncate_after(&self, upto: Option<LogId>) {
        let mut inner = self.lock();
        let before = inner.view.state.last;
        inner.view.truncate_after(upto);
        let last = inner.view.state.last;
        if last == before {
            return;
        }
        let end = inner.view.end();
        inner.cache.truncate(end);
        inner.queue.cuts.push(last);
        inner.snapshot = lower(inner.snapshot, last);
        inner.push(Op::Truncate(last));
        inner.flushed = lower(inner.flushed, last);
        self.ride(inner);
        self.publish_flushed();
    }

    pub(super) fn purge(&self, upto: LogId) {
        let mut inner = self.lock();
        let before = inner.view.state.purged;
        inner.view.purge(upto);
        if inner.view.state.purged == before {
            return;
        }
        let first = inner.view.first;
        inner.cache.purge(first);
        inner.push(Op::Purge(upto));
        inner.queue.since.get_or_insert_with(now);
        drop(inner);
        self.wake.notify_one();
    }

    pub(super) fn save_committed(&self, committed: Option<LogId>) {
        let mut inner = self.lock();
        let before = inner.view.state.committed;
        inner.view.note_committed(committed);
        if inner.view.state.committed != before {
            inner.queue.committed = true;
            self.ride(inner);
        }
    }

    /// Something is queued that nobody waits for. The writer is woken for the first such, to know when it is due.
    fn ride(&self, mut inner: MutexGuard<'_, Inner>) {
        let first = inner.queue.riding_since.is_none();
        inner.queue.riding_since.get_or_insert_with(now);
        drop(inner);
        if first {
            self.wake.notify_one();
        }
    }

    pub(super) fn raise_flushed(&self, upto: LogId) {
        let mut inner = self.lock();
        inner.snapshot = inner.snapshot.max(Some(upto));
        inner.flushed = inner.flushed.max(Some(upto));
        drop(inner);
        self.publish_flushed();
    }

    /// Tells the watch. Not under the mutex: who looks at the watch keeps it from being changed, and may ask the log
    /// something meanwhile. What it is told is looked up when it can be, so the last to tell it tells the latest.
    fn publish_flushed(&self) {
        self.flushed.send_if_modified(|flushed| {
            let latest = self.lock().flushed;
            std::mem::replace(flushed, latest) != latest
        });
    }

    pub(super) fn unflushed_bytes(&self) -> u64 {
        let inner = self.lock();
        inner.queue.bytes + inner.in_flight.bytes
    }

    pub(super) fn oldest_unflushed(&self) -> Duration {
        let inner = self.lock();
        let since = inner.in_flight.since.or(inner.queue.since);
        since.map_or(Duration::ZERO, |since| now() - since)
    }

    /// Lets the writer stop once the queue is written.
    pub(super) fn stop(&self) {
        self.lock().stopping = true;
        self.wake.notify_one();
    }

    /// Waits for something to do. What nobody waits for is due `patience` after it came, the witness at `witness_due`.
    pub(super) fn wait(&self, witness_due: Option<Instant>, patience: Duration) -> Wake {
        let mut inner = self.lock();
        loop {
            if inner.queue.since.is_some() {
                return Wake::Work;
            }
            if inner.stopping {
                return Wake::Stop;
            }
            let queue_due = inner.queue.riding_since.map(|since| since + patience);
            let Some(due) = queue_due.into_iter().chain(witness_due).min() else {
                inner = self.wake.wait(inner).expect("nobody panics holding it");
                continue;
            };
            let left = due.saturating_duration_since(now());
            if left.is_zero() {
                return Wake::Idle;
            }
            let waited = self.wake.wait_timeout(inner, left);
            (inner, _) = waited.expect("nobody panics holding it");
        }
    }

    /// Whether there is something to do now, short of syncing the witness: as [`Shared::wait`] has it.
    pub(super) fn is_due(&self, patience: Duration) -> bool {
        let inner = self.lock();
        let riding = inner.queue.riding_since;
        inner.queue.since.is_some() || riding.is_some_and(|since| now() >= since + patience)
    }

    /// Takes everything queued, to be written and then given to [`Shared::complete`].
    pub(super) fn take(&self) -> Batch {
        let mut inner = self.lock();
        let Queue {
            mut ops,
            waiting,
            committed,
            bytes,
            since,
            ..
        } = std::mem::take(&mut inner.queue);
        // Last, and as it is now that everything before is in `ops`: never above what is written with it.
        ops.extend(committed.then_some(Op::Committed(inner.view.state.committed)));
        inner.in_flight = Queue {
            bytes,
            since,
            ..Queue::default()
        };
        let upto = inner.submitted;
        Batch { ops, waiting, upto }
    }

    /// `batch` is durable: readers and watchers learn it. Who waits for it is to be told next.
    pub(super) fn complete(&self, batch: &Batch, written: Written) {
        let mut inner = self.lock();
        inner.files.extend(written.files);
        let mut places = written.places.into_iter();
        for op in &batch.ops {
            match op {
                Op::Append(entry) => {
                    let place = places.next().expect("every entry has a place");
                    inner.index.append(entry.id.index, place);
                }
                Op::Truncate(upto) => inner.index.truncate(upto.map_or(0, |upto| upto.index + 1)),
                Op::Purge(upto) => inner.index.purge(upto.index + 1),
                Op::Vote(_) | Op::Committed(_) => {}
            }
        }
        inner.files = inner.files.split_off(&written.first_segment);
        inner.in_flight = Queue::default();
        inner.written = batch.upto;
        inner.cache.evict(self.options.cache_bytes, batch.upto);
        // Entries of this batch that were cut since are not flushed, whatever stands in their place now.
        let cuts = inner.queue.cuts.iter();
        let durable = cuts.fold(written.shape.state.last, |durable, cut| {
            lower(durable, *cut)
        });
        inner.flushed = durable.max(inner.snapshot);
        drop(inner);
        self.publish_flushed();
    }

    /// The log failed: everything that waits, and everything to come, fails.
    pub(super) fn fail(&self, error: &io::Error) -> Vec<Done> {
        let mut inner = self.lock();
        let text = error.to_string();
        inner.failed.get_or_insert((error.kind(), text.clone()));
        let queue = std::mem::take(&mut inner.queue);
        inner.in_flight = Queue::default();
        drop(inner);
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(text);
            first
        });
        queue.waiting
    }
}

impl Inner {
    fn push(&mut self, op: Op) {
        self.submitted += 1;
        self.queue.ops.push(op);
    }

    /// Why nothing more is taken.
    fn refusal(&self) -> Option<io::Error> {
        if let Some((kind, text)) = &self.failed {
            return Some(io::Error::new(*kind, text.clone()));
        }
        self.stopping.then(|| io::Error::other("the log is closed"))
    }

    /// Keeps in memory an entry that is on the disk, right after the last one kept.
    pub(super) fn keep(&mut self, entry: LogEntry) {
        self.cache.append(entry, 0);
    }
}

/// `id`, or `cut` if the log ends there before it.
fn lower(id: Option<LogId>, cut: Option<LogId>) -> Option<LogId> {
    match (id, cut) {
        (Some(id), Some(cut)) if id.index <= cut.index => Some(id),
        (None, _) => None,
        (Some(_), cut) => cut,
    }
}
