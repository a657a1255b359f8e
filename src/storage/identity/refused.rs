//! What a cluster refused once is not started again: it would look like the newest of the copies.

use std::fs;
use std::io::{self, IoSlice};
use std::path::Path;

use super::{OpenError, io_error};
use crate::storage::log::disk::Disk;

const REFUSED: &str = "refused";

/// Notes durably why.
pub(super) fn note<D: Disk>(disk: &D, why: &str) -> io::Result<()> {
    let file = disk.create(REFUSED)?;
    file.write(0, &[IoSlice::new(why.as_bytes())])?;
    file.sync()?;
    disk.sync_dir()
}

/// Fails if it was noted for the directory at `path`.
pub(super) fn check(path: &Path) -> Result<(), OpenError> {
    let note = path.join(REFUSED);
    match fs::read(&note) {
        Ok(why) => Err(OpenError(format!(
            "data directory {} was refused by its cluster: {}. (Only if it is all that is left of the cluster: delete {})",
            path.display(),
            String::from_utf8_lossy(&why),
            note.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error(path, &error)),
    }
}
