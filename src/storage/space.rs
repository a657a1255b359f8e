//! What is free on the disk.

use std::io;
use std::path::Path;

/// What is free for this process on the file system of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Bytes.
    pub bytes: u64,
    /// Bytes of the whole file system.
    pub size: u64,
    /// Files that may still be made; [`u64::MAX`] where they are not counted.
    pub files: u64,
}

/// Asks the file system that `dir` is on. Blocking, as long as a disk that hangs.
///
/// # Errors
/// If it cannot be asked.
pub fn free(dir: &Path) -> io::Result<Free> {
    let stat = rustix::fs::statvfs(dir)?;
    // Some file systems, such as btrfs, have no table of files and say that it is empty.
    let files = if stat.f_files == 0 {
        u64::MAX
    } else {
        stat.f_favail
    };
    Ok(Free {
        bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        size: stat.f_blocks.saturating_mul(stat.f_frsize),
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_on_a_disk_and_what_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let free = free(dir.path()).unwrap();
        assert!(free.size > 0 && free.bytes <= free.size, "{free:?}");
        assert!(super::free(&dir.path().join("absent")).is_err());
    }
}
