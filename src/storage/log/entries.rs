//! Reading the entries of a log that no process has open, without changing it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{File, RealDisk};
use super::index::Index;
use super::read::read_at;
use super::recover::is_fresh;
use super::scan::scan;
use crate::storage::LogEntry;
use crate::storage::identity::OpenError;

/// The entries of a log at rest.
pub struct Entries {
    index: Index,
    files: BTreeMap<u32, Arc<dyn File>>,
}

impl Entries {
    /// Reads and checks the whole log in `dir`, as [`verify`](super::verify()) does.
    ///
    /// # Errors
    /// If the log could not be opened.
    pub fn open(dir: &Path) -> Result<Entries, OpenError> {
        let disk = RealDisk::new(dir);
        let failed = |error| OpenError(format!("cannot read the log's directory: {error}"));
        if is_fresh(&disk).map_err(failed)? {
            return Ok(Entries {
                index: Index::default(),
                files: BTreeMap::new(),
            });
        }
        let scan = scan(&disk, None)?;
        let files = scan.segments.iter();
        Ok(Entries {
            index: scan.index,
            files: files.map(|s| (s.number, s.file.clone())).collect(),
        })
    }

    /// Index of the first entry, or of the next one if there is none: what was before is purged.
    pub fn first(&self) -> u64 {
        self.index.start()
    }

    /// Index after the last entry.
    pub fn end(&self) -> u64 {
        self.index.end()
    }

    /// The entry at `index`; `None` if it is purged or was never written.
    ///
    /// # Errors
    /// If the disk fails or has another content than when the log was opened.
    pub fn get(&self, index: u64) -> io::Result<Option<LogEntry>> {
        let Some(place) = self.index.get(index) else {
            return Ok(None);
        };
        let file = self.files.get(&place.segment());
        let file = file.expect("an entry's segment was scanned");
        read_at(file, place, index).map(Some)
    }
}
