//! The files behind the tables, for who reads them again.

use std::fmt::Display;

use super::Db;
use super::tables::{self, Table};
use crate::machine::Fault;

/// A file of a table.
pub(in super::super) struct Live {
    pub(in super::super) table: Table,
    /// Its name.
    pub(in super::super) file: String,
    /// Its first key.
    pub(in super::super) first: Vec<u8>,
    /// Its last one.
    pub(in super::super) last: Vec<u8>,
}

impl Db {
    /// The files of tables that are in use now.
    pub(in super::super) fn live(&self) -> Result<Vec<Live>, Fault> {
        let files = self.db.live_files();
        let files = files.map_err(|error| self.fault("list of files", error))?;
        let live = files.into_iter().filter_map(|file| {
            let mut tables = Table::ALL.into_iter();
            Some(Live {
                table: tables.find(|table| table.name() == file.column_family_name)?,
                file: file.name.trim_start_matches('/').to_owned(),
                first: file.start_key.unwrap_or_default(),
                last: file.end_key.unwrap_or_default(),
            })
        });
        Ok(live.collect())
    }

    /// Reads the list of files on the disk, which may be replaced meanwhile.
    pub(in super::super) fn check_list(&self) -> Result<(), rocksdb::Error> {
        tables::missing(&self.path).map(drop)
    }

    /// A file that is not what it should be.
    pub(in super::super) fn damaged_file(&self, what: impl Display) -> Fault {
        self.note(Fault::damage(format!(
            "state database {}: {what}",
            self.path.display()
        )))
    }
}
