//! The write-ahead log: votes and entries, durable before anything is acknowledged.
//!
//! **Promises.** What was acknowledged is there after any crash, or the log refuses to open and says where it is damaged.
//! Operations become durable in the order they came: if one survived, so did all before it. After an error of the disk
//! nothing is acknowledged any more, for good.
//!
//! **How data passes through.** [`Log`] puts operations in a queue and entries in the [`cache`]; nothing that consensus
//! calls waits for the disk. The [`writer`] takes the whole queue, [`wal`] writes it as one group ([`record`]: the format)
//! to the current segment and syncs it once, then writes the [`witness`], then [`shared`] tells who waits. Opening is
//! [`scan`] (is everything there?) and [`recover`] (make it durable, go on). Everything reaches the directory through
//! [`disk`]; on the [`model`] disk the tests try every crash.
//!
//! | file | what |
//! |---|---|
//! | `0000000001.log` ... | segments; deleted from the front, whole, once everything in them is purged |
//! | `witness` | how far the log is known to be durable |
//! | `fresh` | no log was ever opened here; made with the data directory, gone once the log is |
//! | `spare`, `next`, `tail` | files being made, worth nothing if found |
//! | `torn-...` | copies of torn tails that were cut, for people |

pub mod disk;
pub mod model;
pub mod wal;

mod cache;
mod chores;
mod codec;
mod entries;
mod head;
mod index;
mod read;
mod record;
mod recover;
mod scan;
mod scrub;
mod shape;
mod shared;
mod size;
#[cfg(test)]
mod tests;
mod verify;
mod witness;
mod writer;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use chores::{Chores, Outcome, Prepare, Spare};
pub use entries::Entries;
pub use head::FORMAT;
pub use record::{BLOCK, Position};
pub use recover::Recovered;
pub(crate) use scan::FRESH;
pub use shape::{Op, Shape};
pub use verify::{Report, verify, verify_on};
pub use writer::Writer;

use self::disk::{Disk, RealDisk};
use self::shared::Shared;
use self::wal::Wal;
use super::histogram::Counted;
use super::identity::OpenError;
use super::{LogEntry, LogId, Vote, watch};

/// Name of the witness: a directory of a log that was ever opened has one.
pub(crate) const WITNESS: &str = witness::NAME;

/// Called once with the fate of a write, on the log's writer thread: must not block, nor call the log back and wait. Once
/// the log has failed or is closed it is called with the error by the caller's own thread.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Settings of the log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size a segment is preallocated to, in bytes: from 8 KiB to 1 GiB, rounded up to 4 KiB.
    pub segment_bytes: u64,
    /// Entries kept in memory, in bytes of their bodies and 64 for each. Those not yet flushed are kept beyond that.
    pub cache_bytes: u64,
    /// How often the witness is synced in the background: after a power cut it is at most that old.
    pub witness_sync: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            witness_sync: Duration::from_millis(150),
        }
    }
}

impl Options {
    fn bounded(self) -> Options {
        let segment_bytes = self
            .segment_bytes
            .clamp(2 * BLOCK, 1 << 30)
            .next_multiple_of(BLOCK);
        Options {
            segment_bytes,
            ..self
        }
    }
}

/// What the log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Last entry purged.
    pub purged: Option<LogId>,
    /// Last entry, flushed or not; the purged one if there is none after it.
    pub last: Option<LogId>,
    /// Last vote saved.
    pub vote: Option<Vote>,
    /// Last committed position saved; never above a durable entry after a restart.
    pub committed: Option<LogId>,
}

/// Handle to the log; clones share it. Dropping the last one closes it, as [`Log::close`] does.
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log of node `node_uuid` in `dir` on the real disk, or makes it if the directory is absent, empty or marked
    /// fresh. The caller holds the lock of the data directory.
    ///
    /// # Errors
    /// If it may not hold everything that was acknowledged, belongs to another node, is of a newer format, or the disk
    /// fails. The message says where and what to do.
    pub fn open(dir: &Path, node_uuid: &str, options: Options) -> Result<Log, OpenError> {
        let made = std::fs::create_dir_all(dir);
        made.map_err(|error| {
            OpenError(format!("cannot make directory {}: {error}", dir.display()))
        })?;
        Log::start(RealDisk::new(dir), node_uuid, options)
            .map_err(|OpenError(text)| OpenError(format!("{}: {text}", dir.display())))
    }

    /// [`Log::open`] on any disk.
    ///
    /// # Errors
    /// As there.
    pub fn start<D: Disk>(disk: D, node_uuid: &str, options: Options) -> Result<Log, OpenError> {
        let (log, writer) = Log::with_writer(disk, node_uuid, options)?;
        let thread = writer.spawn();
        let thread =
            thread.map_err(|error| OpenError(format!("cannot start the log's thread: {error}")))?;
        *log.handle.writer.lock().expect("nobody panics holding it") = Some(thread);
        Ok(log)
    }

    /// [`Log::start`] without threads: nothing is written until the caller has the writer do so.
    ///
    /// # Errors
    /// As there.
    pub fn with_writer<D: Disk>(
        disk: D,
        node_uuid: &str,
        options: Options,
    ) -> Result<(Log, Writer<D>), OpenError> {
        let (wal, recovered) = Wal::open(disk, node_uuid, options)?;
        if recovered.torn_bytes > 0 {
            let bytes = recovered.torn_bytes;
            tracing::warn!(
                bytes,
                "cut a torn tail off the log; it was acknowledged to nobody, a copy is kept"
            );
        }
        let shared = Arc::new(Shared::new(recovered, options));
        read::warm(&shared, options.cache_bytes)
            .map_err(|error| OpenError(format!("cannot read the log back: {error}")))?;
        let writer = Writer::new(wal, shared.clone());
        let handle = Handle {
            shared,
            writer: Mutex::new(None),
        };
        let handle = Arc::new(handle);
        Ok((Log { handle }, writer))
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// What the log holds now, as readers see it.
    pub fn state(&self) -> LogState {
        self.shared().lock().view.state
    }

    /// Appends `entries` (contiguous, right after the last; into a log that never held one, from any index). They are
    /// readable on return; `done` runs when they and all before them are on the disk. Never waits for the disk.
    /// Completions run in order of submission.
    ///
    /// # Panics
    /// If the entries do not follow the last one.
    pub fn append(&self, entries: Vec<LogEntry>, done: Done) {
        self.shared().append(entries, done);
    }

    /// Saves a vote, in order with everything appended before it.
    pub fn save_vote(&self, vote: Vote, done: Done) {
        self.shared().save_vote(vote, done);
    }

    /// Drops every entry after `last` (`None`: all). Readers no longer see them and [`Log::flushed`] is lowered on return.
    /// Written with the next write; until then a crash may undo it.
    pub fn truncate_after(&self, last: Option<LogId>) {
        self.shared().truncate_after(last);
    }

    /// Drops every entry up to and including `upto`; whole segments are deleted. If `upto` is beyond the last entry the
    /// log is empty then and goes on after it.
    pub fn purge(&self, upto: LogId) {
        self.shared().purge(upto);
    }

    /// Notes how far entries are committed; rides with the next write.
    pub fn save_committed(&self, committed: Option<LogId>) {
        self.shared().save_committed(committed);
    }

    /// The entries of `range` in order without holes, up to about `bytes_max` of bodies but at least one if the log holds
    /// any of the range. They begin at the start of the range, or after the purge point if that is later. From memory, or
    /// from the disk for old ones (blocking: [`Log::is_cached`]).
    ///
    /// # Errors
    /// If the disk fails or an entry read back is damaged.
    pub fn read(&self, range: Range<u64>, bytes_max: u64) -> io::Result<Vec<LogEntry>> {
        read::read(self.shared(), range, bytes_max)
    }

    /// Whether [`Log::read`] of `range` would be served from memory.
    pub fn is_cached(&self, range: Range<u64>) -> bool {
        read::is_cached(&self.shared().lock(), &range)
    }

    /// The last entry on this node's disk: starts at the recovered one, lowered by truncation, raised by flushes and
    /// [`Log::raise_flushed`]. What `borrow` gives must not be held across a call of the log.
    pub fn flushed(&self) -> watch::Receiver<Option<LogId>> {
        self.shared().flushed()
    }

    /// An installed snapshot holds everything up to `upto`.
    pub fn raise_flushed(&self, upto: LogId) {
        self.shared().raise_flushed(upto);
    }

    /// Bytes handed over and not yet flushed: what back-pressure bounds. A body and 64 bytes for each entry.
    pub fn unflushed_bytes(&self) -> u64 {
        self.shared().unflushed_bytes()
    }

    /// How long the oldest unfinished write has been waiting; zero if none.
    pub fn oldest_unflushed(&self) -> Duration {
        self.shared().oldest_unflushed()
    }

    /// Why the log failed, if it did: it never recovers, and the process must be aborted.
    pub fn poisoned(&self) -> Option<String> {
        self.failure().borrow().clone()
    }

    /// Becomes `Some` when the log fails: [`Log::poisoned`] as it happens.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.shared().failure()
    }

    /// How long it took to write groups of entries and sync them, since the log was opened.
    pub fn writes(&self) -> Counted {
        self.shared().writes.read()
    }

    /// Closes the log in good order after writing what is queued: the next opening is quicker. Later writes fail. Waits
    /// for the disk. Without threads ([`Log::with_writer`]) only the queue is closed.
    pub fn close(&self) {
        self.handle.close();
    }
}

impl Handle {
    fn close(&self) {
        self.shared.stop();
        let writer = self.writer.lock().expect("nobody panics holding it").take();
        // The last handle may be dropped by a callback on the writer's thread, which cannot wait for itself.
        if let Some(writer) = writer
            && writer.thread().id() != thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!("the log's writer panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
