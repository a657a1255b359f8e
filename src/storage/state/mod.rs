//! The state machine's database: one journal, everything else derived.
//!
//! Every entry adds its records to the *journal*; balances, totals and recent transfer ids are kept in memory; keys and new
//! accounts become rows at once. From time to time a *seal* writes what else is derived: ids and history as sorted rows, pages
//! of balances, filters, each stamped with the entry it is as of. Opening loads those and derives the rest from the journal
//! again, with the same code. So a crash may lose anything but the journal that was flushed, and derived tables can always be
//! rebuilt; `verify` does, and compares.
//!
//! Data flow: [`State::apply`] -> `apply` (machine, overlay, one batch) -> `seal` (background) ; [`View`] reads `live` first,
//! tables for what is old.

mod ahead;
mod alarm;
mod answers;
mod apply;
mod checkpoint;
mod core;
mod db;
mod dirs;
mod filter;
mod hash;
mod journal;
mod keys;
mod layout;
mod live;
mod load;
mod meta;
mod names;
mod recent;
mod seal;
mod stats;

mod dump;
mod follow;
mod read;
mod scrub;
mod summary;
mod verify;
mod view;

#[cfg(test)]
mod tests;

pub use checkpoint::CheckpointMeta;
pub use dirs::Unusable;
pub(in crate::storage) use follow::{Follower, Journal, JournalRow, Journaled, journal_index};
pub use scrub::Pace;
pub use stats::Stats;
pub use summary::{LedgerSummary, Summary};
pub use verify::VerifyReport;
pub use view::{
    AccountRow, At, KvPage, KvRow, LedgerRow, Order, StoredAnswer, TransferRow, TrialBalance, View,
};

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;

use self::alarm::Alarm;
use self::core::{Core, Hook, Loaded, Tuning, lock};
use self::db::{Access, Db};
use self::dirs::Found;
use self::live::Live;
use super::identity::OpenError;
use super::{LogId, watch};
use crate::machine::{Fault, Reply};

/// Settings of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Journal written between two seals, in bytes.
    pub seal_journal_bytes: u64,
    /// Shared block cache, in bytes.
    pub cache_bytes: u64,
}

impl Default for Options {
    /// 512 MiB each: roll-forward after a crash then takes about a second.
    fn default() -> Options {
        Options {
            seal_journal_bytes: 512 << 20,
            cache_bytes: 512 << 20,
        }
    }
}

/// How far the state is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Last entry applied.
    pub log_id: Option<LogId>,
    /// Last membership applied, as `raft` encoded it (with its own log id inside).
    pub membership: Option<Bytes>,
    /// Log time of the last entry with commands, nanoseconds since 1970.
    pub time_ns: u64,
    /// Digest of everything applied.
    pub digest: [u8; 32],
}

/// Handle to the state; clones share it.
///
/// Dropping the last one stops a running seal and closes the database without a flush, as a crash would: what was not flushed
/// is applied again from the log. [`State::close`] is the orderly end.
#[derive(Clone, Debug)]
pub struct State {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    dir: PathBuf,
    tuning: Tuning,
    /// Raised when what is in `dir` turns out to be damaged.
    alarm: Alarm,
    /// Replaced as a whole when a snapshot is installed.
    core: RwLock<Arc<Core>>,
    /// One installation at a time.
    installing: Mutex<()>,
}

impl Drop for Root {
    fn drop(&mut self) {
        self.core
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .halt();
    }
}

impl State {
    /// Opens the state in `dir`, rolling derived tables forward; makes one if `dir` is absent or empty.
    ///
    /// # Errors
    /// If it is damaged, of a newer format, in use, or the disk fails. The message says what to do.
    pub fn open(dir: &Path, options: Options) -> Result<State, OpenError> {
        Ok(State::open_checked(dir, options)?)
    }

    /// [`State::open`], for who can tell a state that must be set aside from one that cannot be opened right now.
    ///
    /// # Errors
    /// As there.
    pub fn open_checked(dir: &Path, options: Options) -> Result<State, Unusable> {
        State::open_tuned(dir, Tuning::new(options), None)
    }

    /// Sets the state in `dir`, which nobody has open, aside because of `why`: it is kept beside, the newest two of such are. Then
    /// there is none in `dir`. Gives where it is.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn set_aside(dir: &Path, why: &str) -> std::io::Result<PathBuf> {
        dirs::set_aside(dir, why)
    }

    /// How many states that were in `dir` were set aside and are still kept beside.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn count_aside(dir: &Path) -> std::io::Result<usize> {
        Ok(dirs::aside(dir)?.len())
    }

    fn open_tuned(dir: &Path, tuning: Tuning, hook: Option<Hook>) -> Result<State, Unusable> {
        let core = match dirs::find(dir)? {
            Found::Current(path) => Core::open(&path, tuning, hook).map_err(unusable)?,
            Found::Fresh(path) => {
                let core = Core::create(&path, tuning, hook).map_err(unusable)?;
                let failed = |error| {
                    let text = format!("state directory {}: {error}", dir.display());
                    Unusable::Refused(OpenError(text))
                };
                dirs::finish(dir, &path).map_err(failed)?;
                core
            }
        };
        let core = Arc::new(core);
        let alarm = Alarm::new(dir);
        core.db.set_alarm(Some(alarm.clone()));
        core.resume_seal().map_err(unusable)?;
        let root = Root {
            dir: dir.to_owned(),
            tuning,
            alarm,
            core: RwLock::new(core),
            installing: Mutex::new(()),
        };
        Ok(State {
            root: Arc::new(root),
        })
    }

    /// How far it is.
    pub fn applied(&self) -> Applied {
        lock(&self.core().applied).clone()
    }

    /// Becomes `Some` when the state can be used no more: because it turned out to be damaged, whoever found it, and then it is marked
    /// by now so that nobody opens it again; or because something could not be written.
    pub fn fault(&self) -> watch::Receiver<Option<Fault>> {
        self.root.alarm.watch()
    }

    /// Applies `entries` in order and writes them as one batch. One `Vec<Reply>` per entry (empty unless it carries commands).
    /// Blocking; one caller at a time.
    ///
    /// If a seal is due while the one before still runs, entries go on being applied until twice as much journal (or memory) is
    /// due; then this waits for the running seal.
    ///
    /// # Errors
    /// A fault: the node must stop.
    pub fn apply(&self, entries: &[super::LogEntry]) -> Result<Vec<Vec<Reply>>, Fault> {
        self.core().apply(entries)
    }

    /// Has this state count as damaged because of `why`: it is marked so, and whoever watches is told.
    pub fn condemn(&self, why: &str) {
        self.root.alarm.raise(&Fault::damage(why));
    }

    /// Has all that is applied from now on be decided otherwise than it should: as if it were an hour later.
    #[cfg(test)]
    pub(crate) fn falsify(&self) {
        lock(&self.core().applied).time_ns += 3600 * 1_000_000_000;
    }

    /// Reads of the applied state. A view stays at the database it was taken from when a snapshot is installed: take it anew
    /// for each request.
    pub fn view(&self) -> View {
        View::new(self.core())
    }

    /// Account numbers of `ids`, all under one lock: what a leader resolves before it proposes.
    pub fn resolve<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Option<u64>>, Fault> {
        self.core().resolve(ids)
    }

    /// Flushes to disk; returns the last entry that is durable without the log. Blocking.
    pub fn flush(&self) -> Result<Option<LogId>, Fault> {
        self.core().flush()
    }

    /// Log time of the oldest answer held under an idempotency key: when something can be forgotten next follows from it.
    pub fn oldest_answer_ns(&self) -> Result<Option<u64>, Fault> {
        let core = self.core();
        let known = core.read()?.answers.known_oldest();
        known.map_or_else(|| core.oldest_answer_ns(&mut *core.write()?), Ok)
    }

    /// How many answers are held under idempotency keys.
    ///
    /// # Errors
    /// If an entry failed half way.
    pub fn answers_held(&self) -> Result<u64, Fault> {
        Ok(self.core().read()?.answers.row.count)
    }

    /// The last entry known to be durable without the log, which must not be purged beyond it. Seals and flushes raise it.
    pub fn durable(&self) -> Option<LogId> {
        self.core().durable()
    }

    /// Where the time of applying went since the database was opened.
    pub fn stats(&self) -> Stats {
        self.core().counters.read()
    }

    /// What the tables take on the disk, in bytes; what is in memory only is not counted.
    ///
    /// # Errors
    /// A fault of the database.
    pub fn disk_bytes(&self) -> Result<u64, Fault> {
        self.core().db.disk_bytes()
    }

    /// Waits until RocksDB has nothing left to flush or compact: for measurements. Blocking.
    pub fn settle(&self) -> Result<(), Fault> {
        self.core().db.settle()
    }

    /// Seals everything applied so far. Blocking.
    pub fn seal(&self) -> Result<(), Fault> {
        self.core().seal_now()
    }

    /// Ends orderly: waits for a running seal and flushes, so that a start after it has nothing to apply again. Blocking.
    pub fn close(&self) -> Result<Option<LogId>, Fault> {
        let core = self.core();
        core.join_seal()?;
        core.flush()
    }

    fn core(&self) -> Arc<Core> {
        Arc::clone(
            &self
                .root
                .core
                .read()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }
}

impl Core {
    /// Opens the database in `path`.
    fn open(path: &Path, tuning: Tuning, hook: Option<Hook>) -> Result<Core, Fault> {
        let db = Db::open(path, Access::Existing, tuning.cache_bytes)?;
        upgrade(&db)?;
        let loaded = load::load(&db, &tuning)?;
        Ok(Core::new(db, path, tuning, loaded, hook))
    }

    /// Makes an empty database in `path`.
    fn create(path: &Path, tuning: Tuning, hook: Option<Hook>) -> Result<Core, Fault> {
        let db = Db::open(path, Access::Create, tuning.cache_bytes)?;
        let seed = hash::Seed::random();
        let mut batch = db.batch();
        meta::put(
            &mut batch,
            &meta::Origin {
                format: meta::FORMAT,
                seed,
            },
        );
        db.write(batch)?;
        db.flush()?;
        let live = Live::new(seed);
        let (applied, keeper) = (Applied::default(), seal::Keeper::default());
        let loaded = Loaded {
            live,
            applied,
            keeper,
            journal_bytes: 0,
            rolled_bytes: 0,
        };
        Ok(Core::new(db, path, tuning, loaded, hook))
    }
}

/// Makes a database of an older format one of ours. Its tables are there already.
fn upgrade(db: &Db) -> Result<(), Fault> {
    let origin = load::Stamps::read(db)?.origin;
    if origin.format == meta::FORMAT {
        return Ok(());
    }
    let mut batch = db.batch();
    let format = meta::FORMAT;
    meta::put(&mut batch, &meta::Origin { format, ..origin });
    db.write(batch)?;
    db.flush()
}

fn unusable(fault: Fault) -> Unusable {
    match fault.is_damage {
        true => Unusable::Damaged(fault.what),
        false => Unusable::Refused(OpenError(fault.what)),
    }
}
