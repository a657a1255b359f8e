//! RocksDB as the state uses it: tables, options and typed errors. The only file that tunes it.
//!
//! The write-ahead log of RocksDB is off: after a crash the database is as of some flush, and what is missing is applied again
//! from the replicated log. `atomic_flush` makes every flush a cut through *all* tables at one point of the sequence of writes:
//! if a write is on the disk, so is every write before it. All crash reasoning in this folder rests on that sentence, and on
//! its one exception: an ingested file is on the disk at once, so what it relies on must be flushed first.

mod files;
mod flush;
mod manifest;
mod tables;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBPinnableSlice, DBRawIterator,
    IngestExternalFileOptions, Options, ReadOptions, Snapshot, SstFileWriter, WriteBatch,
    WriteOptions,
};

pub(super) use self::files::Live;
pub(super) use self::tables::Table;
use self::tables::{database_options, table_options};
use super::alarm::{Alarm, Cause};
use super::dirs;
use crate::machine::Fault;
use crate::mutants::{self, Mutant};

/// How to open a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Make a new one; there must be none.
    Create,
    /// Open one that exists.
    Existing,
    /// Read one that exists and is not in use, changing nothing.
    ReadOnly,
}

/// A key and its value, borrowed from a cursor until it moves.
pub(super) type Row<'a> = (&'a [u8], &'a [u8]);

/// An open database.
pub(super) struct Db {
    db: DB,
    path: PathBuf,
    write_options: WriteOptions,
    sst_options: Options,
    /// Raised by whatever finds it damaged, and when a write fails.
    alarm: Mutex<Option<Alarm>>,
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the database in `path` with a block cache of `cache_bytes`.
    ///
    /// # Errors
    /// A fault, which says whether the database is to blame for it.
    pub(super) fn open(path: &Path, access: Access, cache_bytes: u64) -> Result<Db, Fault> {
        let cache = Cache::new_lru_cache(usize::try_from(cache_bytes).unwrap_or(usize::MAX));
        let failed = |error: rocksdb::Error| {
            let what = format!("state database {}: {error}", path.display());
            told(&error, what)
        };
        manifest::check(path)
            .map_err(|what| Fault::damage(format!("state database {}: {what}", path.display())))?;
        let options = database_options(access).map_err(failed)?;
        let mut tables = Vec::with_capacity(Table::ALL.len() + 1);
        tables.push(ColumnFamilyDescriptor::new(
            "default",
            table_options(Table::Meta, &cache).map_err(failed)?,
        ));
        for table in Table::ALL {
            tables.push(ColumnFamilyDescriptor::new(
                table.name(),
                table_options(table, &cache).map_err(failed)?,
            ));
        }
        let db = match access {
            Access::ReadOnly => {
                if let Some(table) = tables::missing(path).map_err(failed)? {
                    return Err(Fault::new(older(path, table)));
                }
                DB::open_cf_descriptors_read_only(&options, path, tables, false)
            }
            Access::Create | Access::Existing => DB::open_cf_descriptors(&options, path, tables),
        }
        .map_err(failed)?;
        let mut write_options = WriteOptions::default();
        write_options.disable_wal(true);
        let sst_options = table_options(Table::Ids, &cache).map_err(failed)?;
        Ok(Db {
            db,
            path: path.to_owned(),
            write_options,
            sst_options,
            alarm: Mutex::default(),
        })
    }

    /// From now on damage that is found here, or a write that fails, raises `alarm`; with `None`, nothing.
    pub(super) fn set_alarm(&self, alarm: Option<Alarm>) {
        *self.alarm.lock().unwrap_or_else(PoisonError::into_inner) = alarm;
    }

    /// A fault of this database: what was tried and what went wrong.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "callers hand over what they have"
    )]
    pub(super) fn fault(&self, tried: impl Display, error: impl Cause) -> Fault {
        let what = format!("state database {}: {tried}: {error}", self.path.display());
        self.note(told(&error, what))
    }

    /// Raises the alarm if `fault` says that something is damaged.
    fn note(&self, fault: Fault) -> Fault {
        if fault.is_damage {
            self.raise(&fault);
        }
        fault
    }

    /// Raises the alarm: nothing more can be done with this database.
    pub(super) fn raise(&self, fault: &Fault) {
        let alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alarm) = &*alarm {
            alarm.raise(fault);
        }
    }

    /// A row that is not what this program writes.
    pub(super) fn damaged(&self, table: Table, what: impl Display) -> Fault {
        self.note(Fault::damage(format!(
            "state database {}: table {} is damaged: {what}",
            self.path.display(),
            table.name()
        )))
    }

    /// The value of a key.
    pub(super) fn get(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<DBPinnableSlice<'_>>, Fault> {
        self.db
            .get_pinned_cf(self.handle(table), key)
            .map_err(|error| self.fault(format_args!("read of {}", table.name()), error))
    }

    /// The values of many keys, in their order. `keys` must be sorted.
    pub(super) fn get_sorted<'k>(
        &self,
        table: Table,
        keys: impl IntoIterator<Item = &'k [u8]>,
    ) -> Result<Vec<Option<DBPinnableSlice<'_>>>, Fault> {
        self.db
            .batched_multi_get_cf(self.handle(table), keys, true)
            .into_iter()
            .map(|value| {
                value.map_err(|error| self.fault(format_args!("read of {}", table.name()), error))
            })
            .collect()
    }

    /// Writes a batch to the memory tables: visible on return, on the disk after a flush.
    pub(super) fn write(&self, batch: Batch<'_>) -> Result<(), Fault> {
        self.db
            .write_opt(batch.batch, &self.write_options)
            .map_err(|error| self.fault("write", error))
    }

    /// A batch to fill.
    pub(super) fn batch(&self) -> Batch<'_> {
        Batch {
            db: self,
            batch: WriteBatch::default(),
        }
    }

    /// Starts a file of rows to ingest.
    ///
    /// One of that name may be there: ingesting makes a file a table's by a second name, and takes the first one away without
    /// syncing the directory. So after a power cut it may still name what is a file of the table, and is never written to.
    pub(super) fn sst(&self, table: Table) -> Result<Sst<'_>, Fault> {
        let path = self.path.join(format!("{}.ingest", table.name()));
        dirs::remove_if_there(&path)
            .map_err(|error| self.fault("removal of a file to ingest", error.to_string()))?;
        let writer = SstFileWriter::create(&self.sst_options);
        writer
            .open(&path)
            .map_err(|error| self.fault("create of a file to ingest", error))?;
        Ok(Sst {
            db: self,
            table,
            path,
            writer,
        })
    }

    /// The rows of `table` from `from` (inclusive) to `to` (exclusive), as of `at` or now.
    pub(super) fn rows<'a>(
        &'a self,
        table: Table,
        range: Range<'_>,
        at: Option<&Snapshot<'a>>,
    ) -> Cursor<'a> {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(!mutants::on(Mutant::DamageBelieved));
        options.set_iterate_lower_bound(range.from);
        if let Some(to) = range.to {
            options.set_iterate_upper_bound(to);
        }
        if let Some(at) = at {
            options.set_snapshot(at);
        }
        if range.whole {
            // A scan of everything must not push out what point reads need.
            options.fill_cache(false);
            options.set_readahead_size(2 << 20);
        }
        let mut raw = self.db.raw_iterator_cf_opt(self.handle(table), options);
        if range.reverse {
            raw.seek_to_last()
        } else {
            raw.seek_to_first()
        }
        Cursor {
            db: self,
            table,
            raw,
            reverse: range.reverse,
            fresh: true,
        }
    }

    /// The database as of now, for reads that must not see later writes.
    pub(super) fn snapshot(&self) -> Snapshot<'_> {
        self.db.snapshot()
    }

    /// The value of a key as of `at`.
    pub(super) fn get_at<'a>(
        &'a self,
        at: &'a Snapshot<'a>,
        table: Table,
        key: &[u8],
    ) -> Result<Option<DBPinnableSlice<'a>>, Fault> {
        at.get_pinned_cf(self.handle(table), key)
            .map_err(|error| self.fault(format_args!("read of {}", table.name()), error))
    }

    /// Hard links everything into `path`, which must not exist, flushing first.
    pub(super) fn checkpoint(&self, path: &Path) -> Result<(), Fault> {
        rocksdb::checkpoint::Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(path))
            .map_err(|error| self.fault(format_args!("checkpoint to {}", path.display()), error))
    }

    /// Waits until no flush and no compaction is left to do.
    pub(super) fn settle(&self) -> Result<(), Fault> {
        self.db
            .wait_for_compact(&rocksdb::WaitForCompactOptions::default())
            .map_err(|error| self.fault("wait for compaction", error))
    }

    fn handle(&self, table: Table) -> &ColumnFamily {
        self.db
            .cf_handle(table.name())
            .expect("open names every table")
    }
}

/// The fault `what`, of which `error` is the cause.
fn told(error: &impl Cause, what: String) -> Fault {
    match error.is_damage() {
        true => Fault::damage(what),
        false => Fault::new(what),
    }
}

/// Why a database that lacks `table` is not read: it cannot be given one when nothing may be changed.
fn older(path: &Path, table: Table) -> String {
    format!(
        "state database {}: an older version of this program wrote it, it has no table {}: start a node of this version on it, \
         which makes it its own, before it is read otherwise; or read it with the version that wrote it",
        path.display(),
        table.name()
    )
}

/// Which rows to read, and how.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range<'a> {
    from: &'a [u8],
    to: Option<&'a [u8]>,
    reverse: bool,
    whole: bool,
}

impl<'a> Range<'a> {
    /// Keys from `from` on, in order.
    pub(super) fn from(from: &'a [u8]) -> Range<'a> {
        Range {
            from,
            ..Range::default()
        }
    }

    /// All of a table, or so much that it must not fill the cache.
    pub(super) fn whole(from: &'a [u8]) -> Range<'a> {
        Range {
            from,
            whole: true,
            ..Range::default()
        }
    }

    /// Only keys below `to`.
    pub(super) fn to(self, to: &'a [u8]) -> Range<'a> {
        Range {
            to: Some(to),
            ..self
        }
    }

    /// Last key first.
    pub(super) fn reversed(self) -> Range<'a> {
        Range {
            reverse: true,
            ..self
        }
    }
}

/// Rows in order of their keys.
pub(super) struct Cursor<'a> {
    db: &'a Db,
    table: Table,
    raw: DBRawIterator<'a>,
    reverse: bool,
    fresh: bool,
}

impl Cursor<'_> {
    /// The next row. An error of the database ends the rows with a fault, never early and silently.
    pub(super) fn next(&mut self) -> Result<Option<Row<'_>>, Fault> {
        if !self.fresh && self.raw.valid() {
            if self.reverse {
                self.raw.prev()
            } else {
                self.raw.next()
            }
        }
        self.fresh = false;
        self.raw.status().map_err(|error| {
            self.db
                .fault(format_args!("scan of {}", self.table.name()), error)
        })?;
        Ok(self.raw.item())
    }
}

/// Writes that become visible, and durable, together.
pub(super) struct Batch<'a> {
    db: &'a Db,
    batch: WriteBatch,
}

impl Batch<'_> {
    /// Sets a key.
    pub(super) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.db.handle(table), key, value);
    }

    /// Removes a key.
    pub(super) fn delete(&mut self, table: Table, key: &[u8]) {
        self.batch.delete_cf(self.db.handle(table), key);
    }

    /// Removes every key from `from` (inclusive) to `to` (exclusive).
    pub(super) fn delete_range(&mut self, table: Table, from: &[u8], to: &[u8]) {
        self.batch.delete_range_cf(self.db.handle(table), from, to);
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }
}

/// A file of sorted rows in the making.
pub(super) struct Sst<'a> {
    db: &'a Db,
    table: Table,
    path: PathBuf,
    writer: SstFileWriter<'a>,
}

impl Sst<'_> {
    /// Adds a row; keys must rise.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.writer
            .put(key, value)
            .map_err(|error| self.db.fault("write of a file to ingest", error))
    }

    /// Makes the rows part of the table, at once on the disk.
    pub(super) fn ingest(mut self) -> Result<(), Fault> {
        let db = self.db;
        self.writer
            .finish()
            .map_err(|error| db.fault("write of a file to ingest", error))?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        db.db
            .ingest_external_file_cf_opts(db.handle(self.table), &options, vec![self.path])
            .map_err(|error| db.fault(format_args!("ingest into {}", self.table.name()), error))
    }
}
