//! The state's directory: which of the databases in it is the current one.
//!
//! It holds `state-N`, a database, and `CURRENT`, which names it: so a snapshot takes a database's place by one rename. A
//! directory in the making holds `CREATING` from before its first file until after `CURRENT`. So one that has lost `CURRENT`
//! is told from a fresh one, and refused: it is never read as an empty state.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::storage::identity::OpenError;

/// Version of this layout.
const FORMAT: u32 = 1;
const CURRENT: &str = "CURRENT";
const CREATING: &str = "CREATING";

/// What [`find`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The current database.
    Current(PathBuf),
    /// Nothing yet: make a database here, then [`finish`].
    Fresh(PathBuf),
}

/// Finds the current database of `root`; an absent or empty directory is prepared for its first.
pub(super) fn find(root: &Path) -> Result<Found, OpenError> {
    let failed =
        |error: io::Error| OpenError(format!("state directory {}: {error}", root.display()));
    fs::create_dir_all(root).map_err(failed)?;
    match inspect(root)? {
        Some(current) => {
            remove_if_there(&root.join(CREATING)).map_err(failed)?;
            remove_others(root, &current).map_err(failed)?;
            Ok(Found::Current(current))
        }
        None => {
            let first = root.join("state-0");
            write_file(&root.join(CREATING), b"quorate-state\n").map_err(failed)?;
            if first.exists() {
                fs::remove_dir_all(&first).map_err(failed)?;
            }
            Ok(Found::Fresh(first))
        }
    }
}

/// Finds the current database of `root`, changing nothing; `None` if the directory is empty or was never finished.
pub(super) fn inspect(root: &Path) -> Result<Option<PathBuf>, OpenError> {
    let failed =
        |error: io::Error| OpenError(format!("state directory {}: {error}", root.display()));
    match fs::read_to_string(root.join(CURRENT)) {
        Ok(text) => parse_current(root, &text).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let empty = fs::read_dir(root).map_err(failed)?.next().is_none();
            if empty || root.join(CREATING).exists() {
                return Ok(None);
            }
            Err(OpenError(format!(
                "state directory {} has lost its file {CURRENT}: what it holds cannot be trusted; replace this node under a \
                 new node id so that it copies the state from its peers",
                root.display()
            )))
        }
        Err(error) => Err(failed(error)),
    }
}

/// Makes `database`, a complete one in `root`, the current one, durably.
pub(super) fn set_current(root: &Path, database: &Path) -> io::Result<()> {
    let name = database.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| io::Error::other("a database's directory has a name"))?;
    let line = format!("quorate-state {FORMAT} {name}");
    let text = format!("{line} {:08x}\n", crc32c::crc32c(line.as_bytes()));
    sync_dir(root)?;
    let fresh = root.join("CURRENT.new");
    write_file(&fresh, text.as_bytes())?;
    fs::rename(&fresh, root.join(CURRENT))?;
    sync_dir(root)
}

/// Ends the making of the first database.
pub(super) fn finish(root: &Path, database: &Path) -> io::Result<()> {
    set_current(root, database)?;
    remove_if_there(&root.join(CREATING))
}

/// A directory for the database after `current`; it does not exist.
pub(super) fn next(root: &Path, current: &Path) -> io::Result<PathBuf> {
    let number = current
        .file_name()
        .and_then(|name| name.to_str()?.strip_prefix("state-")?.parse::<u64>().ok());
    let number = number.ok_or_else(|| io::Error::other("a database's directory is numbered"))?;
    let next = root.join(format!("state-{}", number + 1));
    if next.exists() {
        // Of an installation that did not come to its end.
        fs::remove_dir_all(&next)?;
    }
    Ok(next)
}

/// Copies the database in `from` to `to`, durably. Files that never change are linked where the file system can.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let source = entry?.path();
        let Some(name) = source.file_name() else {
            continue;
        };
        let target = to.join(name);
        let immutable = source
            .extension()
            .is_some_and(|extension| extension == "sst");
        if !immutable || fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target)?;
        }
        File::open(&target)?.sync_all()?;
    }
    sync_dir(to)
}

fn parse_current(root: &Path, text: &str) -> Result<PathBuf, OpenError> {
    let wrong = |what: String| {
        OpenError(format!(
            "state directory {}: file {CURRENT} {what}",
            root.display()
        ))
    };
    let damaged = || wrong("is damaged: replace this node under a new node id".to_owned());
    let (line, crc) = text.trim_end().rsplit_once(' ').ok_or_else(damaged)?;
    if u32::from_str_radix(crc, 16) != Ok(crc32c::crc32c(line.as_bytes())) {
        return Err(damaged());
    }
    let mut words = line.split(' ');
    let (Some("quorate-state"), Some(format), Some(name)) =
        (words.next(), words.next(), words.next())
    else {
        return Err(damaged());
    };
    let format: u32 = format.parse().map_err(|_| damaged())?;
    if format > FORMAT {
        return Err(wrong(format!(
            "has format {format}, this program reads up to {FORMAT}: start a newer one"
        )));
    }
    let database = root.join(name);
    if !database.is_dir() {
        return Err(wrong(format!(
            "names {name}, which is not there: replace this node under a new node id"
        )));
    }
    Ok(database)
}

/// Removes databases that are not the current one: of installations that did not come to their end, or came to it.
fn remove_others(root: &Path, current: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with("state-") && path != current {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), sync_dir)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
