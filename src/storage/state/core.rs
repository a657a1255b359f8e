//! One open database with everything derived from it in memory: what a handle points to until a snapshot replaces it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use super::Applied;
use super::db::{Db, Table};
use super::filter::{Filter, Sizes};
use super::journal::{Chunk, EntryRows, chunk_of};
use super::keys::Keys;
use super::layout::{AccountFixed, IdKey, account_id_key, journal_key, parse_position};
use super::live::Live;
use super::names::Names;
use super::seal::Keeper;
use super::stats::Counters;
use crate::machine::{Fault, Position, Record};
use crate::storage::{LogId, crash};

/// What is not for users to set; tests make it small.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// Journal between two seals, in bytes.
    pub(super) seal_journal_bytes: u64,
    /// Memory of recents at which a seal begins, whatever the journal holds.
    pub(super) seal_recents_bytes: usize,
    /// Seals of this many transfers are ingested as files; smaller ones are written like anything else.
    pub(super) ingest_transfers_min: usize,
    /// Balances are written at every seal whose number this divides. At every one: a page of 32 accounts costs little more
    /// than a row of one, and roll-forward then begins where the last seal ended.
    pub(super) balances_every: u64,
    /// Bytes of one batch of writes, about.
    pub(super) batch_bytes_max: usize,
    /// Positions of one row of history.
    pub(super) history_row_max: usize,
    /// Sizes of the filters over sealed ids.
    pub(super) filter: Sizes,
    /// Account ids cached.
    pub(super) names_max: usize,
    /// Keys cached.
    pub(super) keys_max: usize,
    /// Block cache, in bytes.
    pub(super) cache_bytes: u64,
}

impl Tuning {
    /// What production uses.
    pub(super) fn new(options: super::Options) -> Tuning {
        Tuning {
            seal_journal_bytes: options.seal_journal_bytes,
            seal_recents_bytes: 384 << 20,
            ingest_transfers_min: 100_000,
            balances_every: 1,
            batch_bytes_max: 8 << 20,
            history_row_max: 1024,
            filter: Sizes {
                first: 4 << 20,
                largest: 32 << 20,
                bytes_max: 512 << 20,
            },
            names_max: 1 << 20,
            keys_max: 1 << 16,
            cache_bytes: options.cache_bytes,
        }
    }
}

/// What a crash leaves of what was written and not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), expect(dead_code, reason = "only tests crash on purpose"))]
pub(super) enum Crash {
    /// Nothing.
    Lose,
    /// Everything: a flush happened to end right before.
    Keep,
}

/// Called with the name of each crash point passed; may stop the node there.
pub(super) type Hook = Arc<dyn Fn(&'static str) -> Option<Crash> + Send + Sync>;

/// What only the caller of `apply` touches.
#[derive(Debug)]
pub(super) struct Writer {
    /// Journal written since the last seal began, in bytes.
    pub(super) journal_bytes: u64,
    /// Memory for the rows of entries, to be used again.
    pub(super) spare: Vec<EntryRows>,
    /// What the tables hold of keys.
    pub(super) keys: Keys,
}

/// How far the tables are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// Last log index written to the memory tables: journal and all.
    pub(super) index: u64,
    /// Its log id.
    pub(super) log_id: Option<LogId>,
}

/// One open database.
pub(super) struct Core {
    pub(super) db: Db,
    pub(super) tuning: Tuning,
    pub(super) path: PathBuf,
    pub(super) counters: Counters,
    live: RwLock<Live>,
    /// As of the last entry applied.
    pub(super) applied: Mutex<Applied>,
    pub(super) writer: Mutex<Writer>,
    written: Mutex<Written>,
    written_more: Condvar,
    durable: Mutex<Option<LogId>>,
    pub(super) names: Mutex<Names>,
    /// What a seal leaves for the next one.
    pub(super) keeper: Mutex<Keeper>,
    /// The thread of the running seal, or of the last one.
    pub(super) seal_thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Why the node must stop.
    fault: OnceLock<Fault>,
    /// Nothing more is to be written: the handle is gone.
    halted: AtomicBool,
    /// A snapshot took this database's place: its directory goes away with it.
    pub(super) retired: AtomicBool,
    hook: Option<Hook>,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What opening a database found.
pub(super) struct Loaded {
    pub(super) live: Live,
    pub(super) applied: Applied,
    pub(super) keeper: Keeper,
    pub(super) journal_bytes: u64,
    /// Journal derived again, in bytes.
    pub(super) rolled_bytes: u64,
}

impl Core {
    /// Puts together what was loaded from `db`.
    pub(super) fn new(
        db: Db,
        path: &Path,
        tuning: Tuning,
        loaded: Loaded,
        hook: Option<Hook>,
    ) -> Core {
        let log_id = loaded.applied.log_id;
        let counters = Counters::default();
        Counters::add(&counters.rolled_bytes, loaded.rolled_bytes);
        Core {
            db,
            tuning,
            path: path.to_owned(),
            counters,
            names: Mutex::new(Names::new(loaded.live.seed, tuning.names_max)),
            written: Mutex::new(Written {
                index: loaded.live.index,
                log_id,
            }),
            written_more: Condvar::new(),
            live: RwLock::new(loaded.live),
            applied: Mutex::new(loaded.applied),
            writer: Mutex::new(Writer {
                journal_bytes: loaded.journal_bytes,
                spare: Vec::new(),
                keys: Keys::new(tuning.keys_max),
            }),
            // What was read from the disk after a start is on it: there is no log of RocksDB's to have come from.
            durable: Mutex::new(log_id),
            keeper: Mutex::new(loaded.keeper),
            seal_thread: Mutex::new(None),
            fault: OnceLock::new(),
            halted: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            hook,
        }
    }

    /// The state in memory, to read.
    pub(super) fn read(&self) -> Result<RwLockReadGuard<'_, Live>, Fault> {
        let live = self.live.read().map_err(|_| broken())?;
        if live.broken { Err(broken()) } else { Ok(live) }
    }

    /// The state in memory, to change.
    pub(super) fn write(&self) -> Result<RwLockWriteGuard<'_, Live>, Fault> {
        let live = self.live.write().map_err(|_| broken())?;
        if live.broken { Err(broken()) } else { Ok(live) }
    }

    /// A point at which a test may stop everything, or the process ([`crash`]), and at which a seal notices that it is no longer wanted.
    pub(super) fn point(&self, name: &'static str) -> Result<(), Fault> {
        crash::at(name);
        if let Some(crash) = self.hook.as_ref().and_then(|hook| hook(name)) {
            if crash == Crash::Keep && !self.halted.load(Ordering::SeqCst) {
                self.db.flush()?;
            }
            self.halted.store(true, Ordering::SeqCst);
        }
        if self.halted.load(Ordering::SeqCst) {
            return Err(Fault::new(format!("stopped at {name}")));
        }
        Ok(())
    }

    /// The hook of its tests, for the database that takes its place.
    pub(super) fn hook(&self) -> Option<Hook> {
        self.hook.clone()
    }

    /// Fails once the node must stop.
    pub(super) fn check(&self) -> Result<(), Fault> {
        match self.fault.get() {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    /// Notes that the node must stop; returns the fault to hand on.
    pub(super) fn fail(&self, fault: Fault) -> Fault {
        let first = self.fault.get_or_init(|| fault);
        // Whoever failed may have nobody to tell but a log, and the next to apply may come late.
        self.db.raise(first);
        // Who waits for progress must see that there will be none.
        self.written_more.notify_all();
        first.clone()
    }

    /// How far the tables are written.
    pub(super) fn written(&self) -> Written {
        *lock(&self.written)
    }

    /// Notes that the tables hold everything up to `written`.
    pub(super) fn advance_written(&self, written: Written) {
        *lock(&self.written) = written;
        self.written_more.notify_all();
    }

    /// Waits until the tables hold everything up to `index`, which was applied.
    pub(super) fn wait_written(&self, index: u64) -> Result<(), Fault> {
        let mut written = lock(&self.written);
        while written.index < index {
            self.check()?;
            self.point("wait")?;
            let wait = std::time::Duration::from_millis(100);
            let waited = self.written_more.wait_timeout(written, wait);
            written = waited.map_err(|_| broken())?.0;
        }
        Ok(())
    }

    /// Flushes; returns the last entry that is durable without the replicated log.
    pub(super) fn flush(&self) -> Result<Option<LogId>, Fault> {
        self.point("flush")?;
        let written = self.written();
        self.db.flush().map_err(|fault| self.fail(fault))?;
        let mut durable = lock(&self.durable);
        *durable = (*durable).max(written.log_id);
        Ok(*durable)
    }

    /// The last entry known to be durable without the replicated log.
    pub(super) fn durable(&self) -> Option<LogId> {
        *lock(&self.durable)
    }

    /// Ends a running seal at its next crash point and waits for it. Nothing is written afterwards.
    pub(super) fn halt(&self) {
        self.halted.store(true, Ordering::SeqCst);
        self.written_more.notify_all();
        let thread = lock(&self.seal_thread).take();
        // A panic there was noted as this database's fault.
        let _ = thread.map(std::thread::JoinHandle::join);
    }

    /// The time of an entry and the bytes of a record of it, from the journal's table.
    pub(super) fn journal_record(&self, at: Position) -> Result<(u64, Vec<u8>), Fault> {
        let missing = || {
            self.db.damaged(
                Table::Journal,
                format_args!("no record {}.{}", at.index, at.record),
            )
        };
        let key = journal_key(at.index, chunk_of(at.record).ok_or_else(missing)?);
        let value = self.db.get(Table::Journal, &key)?.ok_or_else(missing)?;
        let chunk =
            Chunk::parse(&key, &value).map_err(|what| self.db.damaged(Table::Journal, what))?;
        Ok((
            chunk.time_ns,
            chunk.record(at.record).ok_or_else(missing)?.to_vec(),
        ))
    }

    /// Where a sealed transfer stands, if `id` is one, looking in the tables if `filter` does not exclude it.
    pub(super) fn find_sealed(
        &self,
        filter: &Filter,
        hash: u64,
        id: &str,
    ) -> Result<Option<Position>, Fault> {
        if !filter.may_contain(hash) {
            return Ok(None);
        }
        let key = IdKey::new(id.as_bytes());
        let Some(value) = self.db.get(Table::Ids, key.as_bytes())? else {
            return Ok(None);
        };
        self.sealed_position(id, &key, &value).map(Some)
    }

    /// What the row `value` under `id`'s key says.
    pub(super) fn sealed_position(
        &self,
        id: &str,
        key: &IdKey,
        value: &[u8],
    ) -> Result<Position, Fault> {
        let damaged = |what: String| {
            self.db
                .damaged(Table::Ids, format_args!("row of {id:?} {what}"))
        };
        let at = parse_position(value).ok_or_else(|| damaged("is no position".to_owned()))?;
        if key.is_digest() {
            // Two long ids may share a key if BLAKE3 is broken: then the node stops rather than mix them up.
            let (_, bytes) = self.journal_record(at)?;
            let found = Record::decode(&bytes).map_err(&damaged)?;
            if !matches!(found, Record::Transfer(transfer) if transfer.id == id) {
                return Err(damaged(format!(
                    "leads to {}.{}, another id",
                    at.index, at.record
                )));
            }
        }
        Ok(at)
    }

    /// The number of the account with this id, from the cache or the tables.
    pub(super) fn find_account(&self, id: &str) -> Result<Option<u64>, Fault> {
        if let Some(number) = lock(&self.names).get(id) {
            return Ok(Some(number));
        }
        let Some(value) = self.db.get(Table::AccountIds, &account_id_key(id))? else {
            return Ok(None);
        };
        let number = self.parse_number(&value)?;
        lock(&self.names).insert(id, number);
        Ok(Some(number))
    }

    /// The value of a row of account ids.
    pub(super) fn parse_number(&self, value: &[u8]) -> Result<u64, Fault> {
        let bytes = value
            .try_into()
            .map_err(|_| self.db.damaged(Table::AccountIds, "a row is no number"))?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The fixed fields of account `number`, from its table.
    pub(super) fn account_fixed(&self, number: u64) -> Result<AccountFixed, Fault> {
        let value = self.db.get(Table::Accounts, &number.to_be_bytes())?;
        value
            .and_then(|value| AccountFixed::decode(&value))
            .ok_or_else(|| {
                self.db
                    .damaged(Table::Accounts, format_args!("no row of account {number}"))
            })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        if *self.retired.get_mut() {
            // Its files are of no use to anybody. What cannot be removed now is removed at the next start.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Locks what stays whole when a holder panics: every such value is replaced in one assignment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn broken() -> Fault {
    Fault::new("an entry failed half way through apply; this node must stop")
}
