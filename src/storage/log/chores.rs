//! What is done to the log's directory beside the writing: a segment made before it is needed, and old ones removed. Both
//! take milliseconds that no acknowledgement should wait for.
//!
//! The next segment is made bit by bit while the active one fills, from its first to its third quarter. Made at once it
//! would keep a processor and the disk busy for a tenth of a second, and all nodes do it at the same time because they
//! write the same.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, File};
use super::record::BLOCK;
use super::scan::{SPARE, segment_name};
use crate::storage::crash;

/// A spare is made in so many steps.
const STEPS: u64 = 64;

/// A file that becomes a segment: it reads as zeros.
pub struct Spare {
    pub(super) file: Arc<dyn File>,
    /// In bytes.
    pub(super) length: u64,
    pub(super) name: &'static str,
    /// Of so many bytes the zeros are written and synced.
    ready: u64,
}

impl Spare {
    /// Makes one of `length` bytes under `name`: all zeros, synced but for its name.
    pub(super) fn make<D: Disk>(disk: &D, name: &'static str, length: u64) -> io::Result<Spare> {
        let mut spare = Spare::begin(disk, name, length)?;
        spare.complete()?;
        Ok(spare)
    }

    fn begin<D: Disk>(disk: &D, name: &'static str, length: u64) -> io::Result<Spare> {
        let file = disk.create(name)?;
        file.reserve(length)?;
        Ok(Spare {
            file,
            length,
            name,
            ready: 0,
        })
    }

    /// Writes the zeros that are missing.
    pub(super) fn complete(&mut self) -> io::Result<()> {
        self.prepare(self.length)
    }

    /// Of how many bytes the zeros are written and synced.
    #[cfg(test)]
    pub(super) fn ready(&self) -> u64 {
        self.ready
    }

    fn prepare(&mut self, upto: u64) -> io::Result<()> {
        if upto <= self.ready {
            return Ok(());
        }
        self.file.zero(self.ready, upto)?;
        if upto == self.length {
            self.file.sync()?;
        }
        self.ready = upto;
        Ok(())
    }
}

/// The segment after the active one.
pub(super) enum Next {
    /// Not begun.
    Missing,
    /// Being worked at.
    Away,
    /// Begun, if not ready.
    Here(Spare),
    /// It could not be made; the log makes the segment itself.
    GivenUp,
}

impl Next {
    /// Takes the file out if there is work to do on it, the active segment being written up to `offset` of `length` bytes.
    /// `spare_bytes`: how long spares are.
    pub(super) fn due(&mut self, offset: u64, length: u64, spare_bytes: u64) -> Option<Prepare> {
        let quarter = length / 4;
        if offset <= quarter {
            return None;
        }
        // Twice as fast as the segment fills.
        let step = (spare_bytes / STEPS).next_multiple_of(BLOCK);
        let share = (offset - quarter).saturating_mul(2) / step;
        let upto = ((share + 1) * step).min(spare_bytes);
        match self {
            Next::Missing => {}
            Next::Here(spare) if spare.ready < upto.min(spare.length) => {}
            Next::Here(_) | Next::Away | Next::GivenUp => return None,
        }
        let begun = match std::mem::replace(self, Next::Away) {
            Next::Here(spare) => Some(spare),
            Next::Missing | Next::Away | Next::GivenUp => None,
        };
        Some(Prepare {
            begun,
            length: spare_bytes,
            upto,
        })
    }

    /// Takes the file out if it is here and at least `bytes` long.
    pub(super) fn take(&mut self, bytes: u64) -> Option<Spare> {
        match std::mem::replace(self, Next::Missing) {
            Next::Here(spare) if spare.length >= bytes => Some(spare),
            // Another attempt may be luckier.
            Next::GivenUp => None,
            other => {
                *self = other;
                None
            }
        }
    }
}

/// Work on a spare.
pub struct Prepare {
    begun: Option<Spare>,
    length: u64,
    upto: u64,
}

impl Prepare {
    pub(super) fn run<D: Disk>(self, disk: &D) -> io::Result<Spare> {
        let mut spare = match self.begun {
            Some(spare) => spare,
            None => Spare::begin(disk, SPARE, self.length)?,
        };
        spare.prepare(self.upto.min(spare.length))?;
        Ok(spare)
    }
}

/// Work that a [`Wal`](super::wal::Wal) hands out.
pub struct Chores<D: Disk> {
    pub(super) disk: D,
    /// The spare to go on with, if that is due.
    pub(super) prepare: Option<Prepare>,
    /// Segments to remove, in this order.
    pub(super) remove: Vec<u32>,
}

/// What chores came to, for the one that handed them out.
pub enum Outcome {
    /// Segments are gone, no spare was due.
    Removed,
    /// The spare, further on.
    Spare(Spare),
    /// The spare could not be made.
    NoSpare,
}

impl<D: Disk> Chores<D> {
    /// Does it.
    ///
    /// # Errors
    /// If a segment cannot be removed. That no spare could be made is no error: the log makes the segment itself when it
    /// needs it, and then it is.
    pub fn run(self) -> io::Result<Outcome> {
        for number in self.remove {
            self.disk.remove(&segment_name(number))?;
            crash::at("purge:removed");
            // One by one: a crash must not leave a hole.
            self.disk.sync_dir()?;
        }
        let Some(prepare) = self.prepare else {
            return Ok(Outcome::Removed);
        };
        match prepare.run(&self.disk) {
            Ok(spare) => Ok(Outcome::Spare(spare)),
            Err(error) => {
                tracing::warn!(%error, "cannot prepare the log's next segment");
                // It may be the space it took that others lack. If it was never made, there is nothing to remove.
                let _ = self.disk.remove(SPARE);
                Ok(Outcome::NoSpare)
            }
        }
    }
}
