//! The files behind the tables, for who reads them again.

use std::fmt::Display;
use std::time::Duration;

use super::tables::{self, Table};
use super::{Db, manifest, told};
use crate::machine::Fault;

/// How often the list of files is read before what it says is believed, and the pause between: it may be replaced meanwhile.
const LIST_TRIES: usize = 5;
const LIST_PAUSE: Duration = Duration::from_millis(200);

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

    /// Reads RocksDB's list of its files, which it may be replacing meanwhile. Blocking.
    pub(in super::super) fn check_list(&self) -> Result<(), Fault> {
        let mut tries = 1;
        loop {
            let listed = match manifest::check(&self.path) {
                Err(what) => Err(self.damage(what)),
                Ok(()) => tables::missing(&self.path).map_err(|error| {
                    let what = format!(
                        "state database {}: list of files: {error}",
                        self.path.display()
                    );
                    told(&error, what)
                }),
            };
            match listed {
                Err(_) if tries < LIST_TRIES => {
                    tries += 1;
                    std::thread::sleep(LIST_PAUSE);
                }
                Err(fault) => return Err(self.note(fault)),
                Ok(_) => return Ok(()),
            }
        }
    }

    /// A file that is not what it should be.
    pub(in super::super) fn damaged_file(&self, what: impl Display) -> Fault {
        self.note(self.damage(what))
    }

    fn damage(&self, what: impl Display) -> Fault {
        Fault::damage(format!("state database {}: {what}", self.path.display()))
    }
}
