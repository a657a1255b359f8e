//! The state's directory: which of the databases in it is the current one.
//!
//! It holds `state-N`, a database, and `CURRENT`, which names it: so a snapshot takes a database's place by one rename. A
//! directory in the making holds `CREATING` from before its first file until after `CURRENT`. So one that has lost `CURRENT`
//! is told from a fresh one, and refused: it is never read as an empty state. One that was found damaged holds the mark of
//! [`super::alarm`], and is refused too.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::alarm;
use crate::storage::crash;
use crate::storage::directory::{self, sync as sync_dir};
use crate::storage::identity::OpenError;

/// Version of this layout.
const FORMAT: u32 = 1;
const CURRENT: &str = "CURRENT";
const CREATING: &str = "CREATING";

/// How many damaged states are kept beside the one in use, the newest.
const KEPT_MAX: usize = 2;

/// Why there is no state to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// What is there cannot be trusted, and this is why: it is to be set aside.
    Damaged(String),
    /// It may be as it should be, and cannot be opened here and now.
    Refused(OpenError),
}

impl From<Unusable> for OpenError {
    fn from(unusable: Unusable) -> OpenError {
        match unusable {
            Unusable::Damaged(what) => OpenError(format!(
                "{what}; a node that is started here sets this state aside and gets it back from its snapshot or its peers"
            )),
            Unusable::Refused(error) => error,
        }
    }
}

/// What [`find`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The current database.
    Current(PathBuf),
    /// Nothing yet: make a database here, then [`finish`].
    Fresh(PathBuf),
}

/// Finds the current database of `root`; an absent or empty directory is prepared for its first.
pub(super) fn find(root: &Path) -> Result<Found, Unusable> {
    let failed = |error: io::Error| failed(root, &error);
    // The log is purged on the strength of what is in it.
    directory::make_in_ours(root).map_err(failed)?;
    match inspect(root)? {
        Some(current) => {
            // Whoever made it the current one may have ended before that was durable, and still need the one before.
            sync_dir(root).map_err(failed)?;
            remove_if_there(&root.join(CREATING)).map_err(failed)?;
            remove_others(root, &current).map_err(failed)?;
            Ok(Found::Current(current))
        }
        None => {
            let first = first(root);
            write_file(&root.join(CREATING), b"quorate-state\n").map_err(failed)?;
            if first.exists() {
                fs::remove_dir_all(&first).map_err(failed)?;
            }
            Ok(Found::Fresh(first))
        }
    }
}

/// Finds the current database of `root`, changing nothing; `None` if the directory is empty or was never finished.
pub(super) fn inspect(root: &Path) -> Result<Option<PathBuf>, Unusable> {
    let failed = |error: io::Error| failed(root, &error);
    if let Some(why) = alarm::marked(root) {
        return Err(Unusable::Damaged(format!(
            "state directory {} is marked as damaged: {why}",
            root.display()
        )));
    }
    match fs::read(root.join(CURRENT)) {
        Ok(text) => parse_current(root, &String::from_utf8_lossy(&text)).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let empty = fs::read_dir(root).map_err(failed)?.next().is_none();
            if empty || root.join(CREATING).exists() {
                return Ok(None);
            }
            Err(Unusable::Damaged(format!(
                "state directory {} has lost its file {CURRENT}: what it holds cannot be trusted",
                root.display()
            )))
        }
        Err(error) if alarm::is_unreadable(&error) => Err(Unusable::Damaged(format!(
            "state directory {}: file {CURRENT} cannot be read: {error}",
            root.display()
        ))),
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
    crash::at("current:written");
    fs::rename(&fresh, root.join(CURRENT))?;
    crash::at("current:renamed");
    sync_dir(root)
}

/// Where the first database of `root` is.
pub(super) fn first(root: &Path) -> PathBuf {
    root.join("state-0")
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

/// Sets the state in `root` aside because of `why`, as the newest of those that are kept beside it. Durable when it returns: then
/// there is no state in `root`. Gives where it is now.
pub(super) fn set_aside(root: &Path, why: &str) -> io::Result<PathBuf> {
    if alarm::marked(root).is_none() {
        alarm::mark(root, why)?;
    }
    let parent = root.parent().ok_or(io::ErrorKind::NotFound)?;
    let mut kept = aside(root)?;
    let next = kept.last().map_or(1, |(number, _)| number + 1);
    let mut aside = root.as_os_str().to_owned();
    aside.push(format!(".damaged-{next}"));
    let aside = PathBuf::from(aside);
    fs::rename(root, &aside)?;
    sync_dir(parent)?;
    kept.push((next, aside.clone()));
    for (_, old) in kept.iter().rev().skip(KEPT_MAX) {
        fs::remove_dir_all(old)?;
    }
    Ok(aside)
}

/// The states of `root` that were set aside and are still there, oldest first, each with its number.
pub(super) fn aside(root: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let number = |path: &Path| {
        let rest = path.to_str()?.strip_prefix(root.to_str()?)?;
        rest.strip_prefix(".damaged-")?.parse::<u64>().ok()
    };
    let parent = root.parent().ok_or(io::ErrorKind::NotFound)?;
    let mut kept = Vec::new();
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        kept.extend(number(&path).map(|number| (number, path)));
    }
    kept.sort_unstable();
    Ok(kept)
}

fn failed(root: &Path, error: &io::Error) -> Unusable {
    Unusable::Refused(OpenError(format!(
        "state directory {}: {error}",
        root.display()
    )))
}

fn parse_current(root: &Path, text: &str) -> Result<PathBuf, Unusable> {
    let wrong = |what: String| format!("state directory {}: file {CURRENT} {what}", root.display());
    let damaged = || Unusable::Damaged(wrong("is damaged".to_owned()));
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
        let newer =
            format!("has format {format}, this program reads up to {FORMAT}: start a newer one");
        return Err(Unusable::Refused(OpenError(wrong(newer))));
    }
    let database = root.join(name);
    if !database.is_dir() {
        let gone = format!("names {name}, which is not there");
        return Err(Unusable::Damaged(wrong(gone)));
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

/// Removes a file, if there is one.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file of these bytes, durably.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), sync_dir)
}
