//! Reading everything on the disk again while the node runs, so that what rots where nobody looks is found while others still
//! have it.
//!
//! Files that the node's current snapshot holds are held against the hashes in its manifest, to the last byte; most of the
//! state's tables are among them, being the same files. Tables written since are read row by row, which checks every block that
//! is not in memory; the next snapshot has their hashes. At the end RocksDB's own list of files is read through.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::State;
use super::alarm::is_unreadable;
use super::core::Core;
use super::db::{Live, Range};
use crate::machine::Fault;
use crate::storage::snapshot::{self, Manifest};

/// Told of bytes that were read; waits for as long as the rate asks for. Whether to go on.
pub type Pace<'a> = dyn FnMut(u64) -> bool + 'a;

/// Rows of so many bytes are read between two calls of the pace.
const PIECE_BYTES: u64 = 256 << 10;

impl State {
    /// Reads everything again. Gives what is wrong with files of `snapshot` that the state does not share; it is whole otherwise, or
    /// the pace ended it. Blocking, for long.
    ///
    /// # Errors
    /// A fault: damage, or a disk that fails.
    pub fn scrub(
        &self,
        snapshot: Option<(&Path, &Manifest)>,
        pace: &mut Pace<'_>,
    ) -> Result<Vec<String>, Fault> {
        let core = self.core();
        core.check()?;
        let mut problems = Vec::new();
        let mut hashed = Vec::new();
        if let Some((dir, manifest)) = snapshot {
            for entry in &manifest.files {
                let path = snapshot::state_dir(dir).join(&entry.name);
                let inode = inode(&path);
                match snapshot::check_slowly(&path, entry, pace) {
                    Ok(true) => hashed.extend(inode),
                    Ok(false) => return Ok(problems),
                    Err(error) if is_unreadable(&error) => {
                        let shared =
                            inode.is_some() && inode == self::inode(&core.path.join(&entry.name));
                        if shared {
                            return Err(core.db.damaged_file(&error));
                        }
                        problems.push(error.to_string());
                    }
                    Err(error) => return Err(failed(&path, &error)),
                }
            }
        }
        for table in core.db.live()? {
            let path = core.path.join(&table.file);
            match inode(&path) {
                Some(inode) if hashed.contains(&inode) => {}
                Some(_) => {
                    if !core.scan(&table, pace)? {
                        return Ok(problems);
                    }
                }
                // Gone with a compaction since, or else lost.
                None => core.check_gone(&table, &path)?,
            }
        }
        core.db.check_list()?;
        Ok(problems)
    }
}

impl Core {
    /// Reads every row in the range of a file of a table. Whether to go on.
    fn scan(&self, table: &Live, pace: &mut Pace<'_>) -> Result<bool, Fault> {
        let mut end = table.last.clone();
        end.push(0);
        let range = Range::whole(&table.first).to(&end);
        let mut rows = self.db.rows(table.table, range, None);
        let mut bytes = 0;
        while let Some((key, value)) = rows.next()? {
            bytes += (key.len() + value.len()) as u64;
            if bytes >= PIECE_BYTES && !pace(std::mem::take(&mut bytes)) {
                return Ok(false);
            }
        }
        Ok(pace(bytes))
    }

    fn check_gone(&self, table: &Live, path: &Path) -> Result<(), Fault> {
        let still = self.db.live()?.iter().any(|live| live.file == table.file);
        if !still || path.exists() {
            return Ok(());
        }
        let gone = format!("file {} is gone", path.display());
        Err(self.db.damaged_file(gone))
    }
}

fn inode(path: &PathBuf) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn failed(path: &Path, error: &io::Error) -> Fault {
    Fault::new(format!("read of {}: {error}", path.display()))
}
