//! What is done when the database fails: whoever watches is told, and if it turns out to be damaged its directory is marked.
//!
//! A node must not go on from a state that cannot be trusted, and must not start again only to find the same. So the first
//! finding writes [`MARK`] into the state's directory, durably, and from then on nobody opens that state any more: a node that
//! starts there sets it aside and gets its state back from elsewhere.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rocksdb::ErrorKind;

use super::dirs;
use crate::machine::Fault;
use crate::storage::watch;

/// The file that marks a damaged state; it says why.
pub(super) const MARK: &str = "DAMAGED";

/// Longest reason that is kept, in bytes.
const REASON_LEN_MAX: u64 = 4096;

/// What an error of the device says.
const DEVICE: &str = "Input/output error";

/// What RocksDB says it was at when a read fails: a sector that cannot be read is not mended by another try, only by writing the
/// state anew. A write that fails says nothing of what is stored.
const READING: [&str; 5] = [
    "While pread ",
    "While reading file sequentially",
    "for random read",
    "for sequentially read",
    "While prefetching",
];

/// What errors of the system say that have nothing to do with what is stored: RocksDB wraps them as it likes.
const PASSING: [&str; 6] = [
    DEVICE,
    "No space left on device",
    "Too many open files",
    "Permission denied",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
];

/// Why something failed, and whether what is stored is to blame.
pub(super) trait Cause: Display {
    /// Whether trying again would find the same.
    fn is_damage(&self) -> bool {
        false
    }
}

impl Cause for &str {}

impl Cause for String {}

impl Cause for rocksdb::Error {
    /// A file that is gone counts: RocksDB asks only for files that its manifest names.
    fn is_damage(&self) -> bool {
        blames_what_is_stored(&self.kind(), self.as_ref())
    }
}

fn blames_what_is_stored(kind: &ErrorKind, text: &str) -> bool {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&[DEVICE]) && says(&READING) {
        return true;
    }
    if says(&PASSING) {
        return false;
    }
    match kind {
        ErrorKind::Corruption | ErrorKind::NotFound => true,
        ErrorKind::IOError => text.contains("No such file"),
        // What it says of a database without its file CURRENT.
        ErrorKind::InvalidArgument => text.contains("does not exist"),
        _ => false,
    }
}

/// Whether an error of the system says that what was to be read is not there as it was written.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    let of_device = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    of_device
        || matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::NotFound
        )
}

/// Tells of the state in one directory, once; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Alarm {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    marked: OnceLock<()>,
    told: watch::Sender<Option<Fault>>,
}

impl Alarm {
    /// Of the state in `root`.
    pub(super) fn new(root: &Path) -> Alarm {
        Alarm {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                marked: OnceLock::new(),
                told: watch::Sender::new(None),
            }),
        }
    }

    /// Becomes `Some` when it is raised, with what was found.
    pub(super) fn watch(&self) -> watch::Receiver<Option<Fault>> {
        self.inner.told.subscribe()
    }

    /// Says that `fault` was found, and marks the state if that is damage. Only the first time counts, and the first damage.
    pub(super) fn raise(&self, fault: &Fault) {
        if fault.is_damage
            && self.inner.marked.set(()).is_ok()
            && let Err(error) = mark(&self.inner.root, &fault.what)
        {
            // Then the next start finds out for itself.
            tracing::error!("the damaged state could not be marked: {error}");
        }
        self.inner.told.send_if_modified(|told| {
            let is_first = told.is_none();
            told.get_or_insert_with(|| fault.clone());
            is_first
        });
    }
}

/// Marks the state in `root` as damaged because of `what`, durably.
pub(super) fn mark(root: &Path, what: &str) -> io::Result<()> {
    dirs::write_file(&root.join(MARK), format!("{what}\n").as_bytes())
}

/// Why the state in `root` is marked as damaged, if it is. A mark counts though its text may not be readable.
pub(super) fn marked(root: &Path) -> Option<String> {
    let path = root.join(MARK);
    let length = path.symlink_metadata().ok()?.len();
    let text = match length {
        0..=REASON_LEN_MAX => fs::read(&path).unwrap_or_default(),
        _ => Vec::new(),
    };
    Some(String::from_utf8_lossy(&text).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_that_the_device_fails_is_damage_and_a_write_is_not() {
        // As RocksDB 11.8.1 says it.
        for (text, wanted) in [
            (
                "IO error: While pread offset 4096 len 4101: state-0/000012.sst: Input/output error",
                true,
            ),
            (
                "IO error: While reading file sequentially: state-0/MANIFEST-000005: Input/output error",
                true,
            ),
            (
                "IO error: While open a file for random read: state-0/000012.sst: Input/output error",
                true,
            ),
            (
                "IO error: While open a file for random read: state-0/000012.sst: Too many open files",
                false,
            ),
            (
                "IO error: While appending to file: state-0/000012.sst: Input/output error",
                false,
            ),
            (
                "IO error: While fdatasync: state-0/000012.sst: Input/output error",
                false,
            ),
            (
                "IO error: While fsync: a directory: Input/output error",
                false,
            ),
            (
                "IO error: No such file or directory: While open a file for random read: state-0/000012.sst: No such file or directory",
                true,
            ),
        ] {
            let found = blames_what_is_stored(&ErrorKind::IOError, text);
            assert_eq!(found, wanted, "{text}");
        }
        let of_system = |errno: rustix::io::Errno| io::Error::from(errno);
        assert!(is_unreadable(&of_system(rustix::io::Errno::IO)));
        assert!(is_unreadable(&of_system(rustix::io::Errno::NOENT)));
        assert!(!is_unreadable(&of_system(rustix::io::Errno::MFILE)));
    }
}
