//! The little the log asks of a disk, and the real one.
//!
//! Everything the log does to its directory goes through [`Disk`] and [`File`], so that the same code runs on the
//! [model disk](super::model), which knows what a crash may take. A write is durable only after [`File::sync`] of its
//! file, a name only after [`Disk::sync_dir`]. Nothing is ever retried after an error: what a failed sync leaves behind
//! is unknown.

use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::mutants::{self, Mutant};

/// Most buffers one system call takes (`IOV_MAX` on Linux).
const SLICES_MAX: usize = 1024;

/// Zeros are written and synced in pieces of this many bytes, so that a sync of the log meanwhile does not wait for all of them.
const ZEROS_BYTES: usize = 1 << 20;

/// One directory. Names are plain file names in it.
pub trait Disk: Clone + Send + Sync + 'static {
    /// Makes a file to read and write; an error if the name is taken.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file to read.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Opens a file to read and write.
    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn File>>;

    /// Renames a file; one of the new name is replaced, at once for every observer.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name; who has it open can still read it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names in the directory, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes the names durable as they are now.
    fn sync_dir(&self) -> io::Result<()>;
}

/// An open file, usable from many threads.
pub trait File: Send + Sync {
    /// Makes the new file `bytes` long with its space reserved, so that it reads as zeros.
    fn reserve(&self, bytes: u64) -> io::Result<()>;

    /// Writes zeros from `from` to `to`, synced: what is written there later costs a sync no more than its data.
    fn zero(&self, from: u64, to: u64) -> io::Result<()>;

    /// Writes `parts`, one after another, at `offset`: all of them or an error.
    fn write(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Makes what was written, and the length, durable.
    fn sync(&self) -> io::Result<()>;

    /// Reads at `offset`; fewer bytes than asked for only at the end of the file.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Length of the file in bytes.
    fn length(&self) -> io::Result<u64>;
}

/// Makes the new `file` `bytes` long and all zeros, with its space allocated.
pub(crate) fn preallocate(file: &dyn File, bytes: u64) -> io::Result<()> {
    file.reserve(bytes)?;
    file.zero(0, bytes)
}

/// Reads the whole of `file`.
pub(crate) fn read_all(file: &dyn File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.length()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = file.read(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct RealDisk {
    dir: PathBuf,
}

impl RealDisk {
    /// The directory `dir`, which must exist.
    pub fn new(dir: impl Into<PathBuf>) -> RealDisk {
        RealDisk { dir: dir.into() }
    }
}

impl Disk for RealDisk {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.dir.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(RealFile(fs::File::open(self.dir.join(name))?)))
    }

    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.dir.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        fs::File::open(&self.dir)?.sync_all()
    }
}

struct RealFile(fs::File);

impl File for RealFile {
    fn reserve(&self, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => Ok(()),
            // Some file systems cannot reserve; writing the zeros allocates there too.
            Err(rustix::io::Errno::OPNOTSUPP) => self.0.set_len(bytes),
            Err(error) => Err(error.into()),
        }
    }

    /// They are really written: to overwrite a block that was only reserved, a sync must also record that it now holds
    /// data, which costs half as much again (measured on ext4: 132 against 88 us).
    fn zero(&self, mut from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        while from < to {
            let left = usize::try_from(to - from).unwrap_or(usize::MAX);
            let piece = &zeros[..left.min(ZEROS_BYTES)];
            self.0.write_all_at(piece, from)?;
            self.0.sync_data()?;
            from += piece.len() as u64;
        }
        Ok(())
    }

    fn write(&self, mut offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut parts = parts.to_vec();
        let mut rest: &mut [IoSlice<'_>] = &mut parts;
        // Empty parts would make a write of nothing look like a disk that takes no more.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let count = rest.len().min(SLICES_MAX);
            match rustix::io::pwritev(&self.0, &rest[..count], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        match self.0.sync_data() {
            Err(_) if mutants::on(Mutant::SyncErrorIgnored) => Ok(()),
            synced => synced,
        }
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.0.read_at(&mut buffer[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
