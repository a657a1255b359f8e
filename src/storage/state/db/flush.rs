//! Getting to the disk what the memory tables hold.

use std::time::Duration;

use rocksdb::{ColumnFamily, FlushOptions};

use super::Db;
use super::tables::Table;
use crate::machine::Fault;

/// How often a flush is looked after.
const FLUSH_POLL: Duration = Duration::from_millis(1);

impl Db {
    /// Everything written before is on the disk when this returns.
    ///
    /// RocksDB 11.8.1 says so too early: `DBImpl::AtomicFlushMemTables` waits for the tables in one order and takes the numbers of
    /// the memory tables to wait for from a hash map, so a table may be waited for by the number of another, and found done
    /// while it is not. What is certain is that the call made everything written before immutable, and that an immutable
    /// memory table goes away only once its file is in the manifest. So each table is waited for until it has none.
    pub(in super::super) fn flush(&self) -> Result<(), Fault> {
        self.begin_flush(true)?;
        self.await_flush()
    }

    fn begin_flush(&self, wait: bool) -> Result<(), Fault> {
        let handles: Vec<&ColumnFamily> =
            Table::ALL.iter().map(|&table| self.handle(table)).collect();
        let mut options = FlushOptions::default();
        options.set_wait(wait);
        self.db
            .flush_cfs_opt(&handles, &options)
            .map_err(|error| self.fault("flush", error))
    }

    /// Waits until no table has a memory table that is to be flushed, or none will be flushed any more.
    fn await_flush(&self) -> Result<(), Fault> {
        for table in Table::ALL {
            while self.property(table, "rocksdb.num-immutable-mem-table")? > 0 {
                self.check_background()?;
                std::thread::sleep(FLUSH_POLL);
            }
        }
        Ok(())
    }

    /// Fails if something went wrong in the background: nothing is done there after that.
    fn check_background(&self) -> Result<(), Fault> {
        // A write is answered with what it was, if it was grave.
        self.write(self.batch())?;
        // These are counted for the whole database, and told only of the table that it was made with.
        let name = "rocksdb.background-errors";
        let count = self.db.property_int_value(name);
        match count.map_err(|error| self.fault(name, error))? {
            Some(0) => Ok(()),
            Some(_) => Err(self.fault("flush", "an error in the background")),
            None => Err(self.fault(name, "unknown")),
        }
    }

    /// What the tables' files take, in bytes.
    pub(in super::super) fn disk_bytes(&self) -> Result<u64, Fault> {
        let sizes = Table::ALL
            .iter()
            .map(|table| self.property(*table, "rocksdb.total-sst-files-size"));
        sizes.sum()
    }

    fn property(&self, table: Table, name: &str) -> Result<u64, Fault> {
        let value = self
            .db
            .property_int_value_cf(self.handle(table), name)
            .map_err(|error| self.fault(name, error))?;
        value.ok_or_else(|| self.fault(name, "unknown"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Access;
    use super::*;

    #[test]
    fn memory_tables_are_flushed_by_what_they_take_together() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state-0");
        let db = Db::open(&path, Access::Create, 1 << 20).unwrap();
        // None of them reaches the size at which it would be flushed by itself.
        let tables = [
            Table::Journal,
            Table::Kv,
            Table::Ids,
            Table::History,
            Table::Balances,
            Table::Filter,
        ];
        let value = vec![7; 200 << 10];
        for row in 0_u32..100 {
            for table in tables {
                let mut batch = db.batch();
                batch.put(table, &row.to_be_bytes(), &value);
                db.write(batch).unwrap();
            }
        }
        db.await_flush().unwrap();
        let held = Table::ALL
            .into_iter()
            .map(|table| db.property(table, "rocksdb.cur-size-all-mem-tables"));
        let held: u64 = held.map(Result::unwrap).sum();
        let written = tables.len() * 100 * value.len();
        assert!(held < 96 << 20, "of {written} bytes {held} are in memory");
    }

    #[test]
    fn a_flush_that_fails_in_the_background_ends_the_wait_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state-0");
        let db = Db::open(&path, Access::Create, 1 << 20).unwrap();
        let mut batch = db.batch();
        batch.put(Table::Kv, b"key", b"value");
        db.write(batch).unwrap();
        std::fs::remove_dir_all(&path).unwrap();
        // As if the call had not waited for this table: then whatever fails is nobody's to be told.
        let _ = db.begin_flush(false);
        let (done, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(db.await_flush()));
        let waited = told.recv_timeout(Duration::from_secs(60));
        assert!(waited.expect("it never ends").is_err());
    }
}
