//! Directories whose names are on the disk: a name is there after a power cut only if the directory that holds it was synced.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Makes the directory at `path`, and those above it that are missing; the names of all that were made are durable when it
/// returns.
///
/// # Errors
/// If the disk fails, or one of them cannot be made.
pub fn make(path: &Path) -> io::Result<()> {
    let holders = holders_of_missing(path);
    fs::create_dir_all(path)?;
    holders.iter().try_for_each(|holder| sync(holder))
}

/// [`make`], for a directory in one of ours: its name is durable when it returns, also if whoever made it ended before it was.
///
/// # Errors
/// As there.
pub fn make_in_ours(path: &Path) -> io::Result<()> {
    make(path)?;
    sync(holder(path))
}

/// Makes the names in the directory at `path` durable as they are now.
///
/// # Errors
/// If the disk fails.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The directories that will hold a new name once `path` is made, the uppermost first.
fn holders_of_missing(path: &Path) -> Vec<PathBuf> {
    let missing = path.ancestors().take_while(|level| {
        // The end of a relative path: here.
        !level.as_os_str().is_empty() && !level.exists()
    });
    let mut holders: Vec<PathBuf> = missing.map(|level| holder(level).to_owned()).collect();
    holders.reverse();
    holders
}

/// The directory that holds the name of `path`.
fn holder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_that_gets_a_name_is_synced() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let path = root.join("a/b/c");
        let holders = [root.to_owned(), root.join("a"), root.join("a/b")];
        assert_eq!(holders_of_missing(&path), holders);
        make(&path).unwrap();
        assert!(path.is_dir());
        assert_eq!(holders_of_missing(&path), [""; 0].map(PathBuf::from));
        assert_eq!(holders_of_missing(&root.join("a/x")), [root.join("a")]);
        make_in_ours(&path).unwrap();
        let here = [".", "absent"].map(PathBuf::from);
        assert_eq!(holders_of_missing(Path::new("absent/too")), here);
        assert!(make(&root.join("a/b/c/\0")).is_err());
    }
}
