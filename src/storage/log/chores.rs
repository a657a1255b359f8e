//! What is done to the log's directory beside the writing: a segment made before it is needed, and old ones removed. Both
//! take milliseconds that no acknowledgement should wait for.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, File};
use super::scan::{SPARE, segment_name};

/// A file that can become a segment: all zeros, synced but for its name.
pub struct Spare {
    pub(super) file: Arc<dyn File>,
    /// In bytes.
    pub(super) length: u64,
    pub(super) name: &'static str,
}

impl Spare {
    /// Makes one of `length` bytes under `name`.
    pub(super) fn make<D: Disk>(disk: &D, name: &'static str, length: u64) -> io::Result<Spare> {
        let file = disk.create(name)?;
        file.preallocate(length)?;
        file.sync()?;
        Ok(Spare { file, length, name })
    }
}

/// Work that a [`Wal`](super::wal::Wal) hands out.
pub struct Chores<D: Disk> {
    pub(super) disk: D,
    /// Length of the spare to make, if one is wanted.
    pub(super) spare_bytes: Option<u64>,
    /// Segments to remove, in this order.
    pub(super) remove: Vec<u32>,
}

impl<D: Disk> Chores<D> {
    /// Does it.
    ///
    /// # Errors
    /// If a segment cannot be removed. That no spare could be made is no error: the log makes the segment itself when it
    /// needs it, and then it is.
    pub fn run(self) -> io::Result<Option<Spare>> {
        for number in self.remove {
            self.disk.remove(&segment_name(number))?;
            // One by one: a crash must not leave a hole.
            self.disk.sync_dir()?;
        }
        let Some(bytes) = self.spare_bytes else {
            return Ok(None);
        };
        match Spare::make(&self.disk, SPARE, bytes) {
            Ok(spare) => Ok(Some(spare)),
            Err(error) => {
                tracing::warn!(%error, "cannot prepare the log's next segment");
                Ok(None)
            }
        }
    }
}
