//! Snapshots as directories, to be kept and to be sent to a node that is too far behind for the log.
//!
//! | path | what |
//! |---|---|
//! | `state/` | a checkpoint: a database as it stood at one entry, its large files hard links |
//! | `manifest` | what belongs to it, each file with its size and BLAKE3 hash; written last, so it is there or nothing counts |
//!
//! What a snapshot says of itself (last entry, membership, digest) is read from inside the checkpoint, never from the state
//! beside it, which has moved on by then. A node that receives one stages its files ([`Staging`]) and takes nothing for the
//! state before every one of them has the hash that the manifest names.

mod manifest;
mod staging;
#[cfg(test)]
mod tests;

pub use manifest::{FileEntry, Manifest};
pub use staging::{Missing, Staging};

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::LogId;
use super::crash;
use super::directory::sync as sync_dir;
use super::state::{CheckpointMeta, State};
use crate::machine::Fault;
use crate::mutants::{self, Mutant};

const MANIFEST: &str = "manifest";
const STATE: &str = "state";
/// Bytes read at once by who has time.
const SLOW_LEN: usize = 256 << 10;
/// How names of files of tables end: they never change once they are written.
const TABLE: &str = ".sst";

/// Where the checkpoint of the snapshot in `dir` is.
pub fn state_dir(dir: &Path) -> PathBuf {
    dir.join(STATE)
}

/// Makes a snapshot in `dir`, which must not exist, for a node of `cluster`: of the state that `checkpoint` leaves a checkpoint
/// of where it is told, on the same file system. Durable when it returns. Files that the snapshot `known` has as well, being the
/// same on the disk, are not read to be hashed again. Blocking; apply goes on meanwhile.
///
/// # Errors
/// If the disk fails; what is in `dir` then is worth nothing.
pub fn make(
    checkpoint: impl FnOnce(&Path) -> Result<CheckpointMeta, Fault>,
    dir: &Path,
    cluster: Option<String>,
    known: Option<(&Path, &Manifest)>,
) -> io::Result<Manifest> {
    fs::create_dir(dir)?;
    let at = state_dir(dir);
    let held = checkpoint(&at).map_err(|fault| io::Error::other(fault.what))?;
    let mut files = Vec::new();
    for name in names(&at)? {
        let path = at.join(&name);
        let metadata = path.metadata()?;
        let hash = match known_hash(&metadata, &name, known) {
            Some(hash) => hash,
            None => hash_of(&path)?,
        };
        // RocksDB syncs its tables when it makes them, and there may be thousands.
        if !name.ends_with(TABLE) {
            File::open(&path)?.sync_all()?;
        }
        files.push(FileEntry {
            name,
            size: metadata.len(),
            hash,
        });
    }
    let manifest = Manifest {
        cluster,
        applied: held.applied,
        files,
    };
    finish(dir, &manifest)?;
    Ok(manifest)
}

/// The hash of a file that is the very same in an older snapshot: RocksDB never changes a table's file once it is written.
fn known_hash(
    metadata: &fs::Metadata,
    name: &str,
    known: Option<(&Path, &Manifest)>,
) -> Option<[u8; 32]> {
    let (dir, manifest) = known?;
    let entry = manifest.find(name)?;
    let old = state_dir(dir).join(name).metadata().ok()?;
    let same = (old.dev(), old.ino(), old.len()) == (metadata.dev(), metadata.ino(), entry.size);
    (same && name.ends_with(TABLE)).then_some(entry.hash)
}

/// What the snapshot in `dir` says of itself, if all of it seems to be there. Hashes are not looked at: [`verify`] does.
///
/// # Errors
/// If there is no manifest, as in a snapshot that was not finished, or files do not fit it. The message says which.
pub fn read(dir: &Path) -> io::Result<Manifest> {
    let manifest = manifest(dir)?;
    check_listing(dir, &manifest)?;
    Ok(manifest)
}

/// The manifest of the snapshot in `dir`, whatever its files are like.
///
/// # Errors
/// If there is none, or it is damaged.
pub fn manifest(dir: &Path) -> io::Result<Manifest> {
    let path = dir.join(MANIFEST);
    let bytes = fs::read(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    Manifest::decode(&bytes).map_err(|what| damaged(format!("{}: {what}", path.display())))
}

/// Makes the snapshot in `dir` one that nobody takes for complete, durably. What its manifest says stays. Blocking.
///
/// # Errors
/// If the disk fails.
pub fn empty(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(state_dir(dir)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    sync_dir(dir)
}

/// Holds every file of the snapshot in `dir` against `manifest`. Reads all of it: blocking.
///
/// # Errors
/// If one is missing, of another size or content, or does not belong there; the message names it.
pub fn verify(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    check_listing(dir, manifest)?;
    let at = state_dir(dir);
    for entry in &manifest.files {
        check_file(&at.join(&entry.name), entry)?;
    }
    check_inside(dir, manifest)
}

/// What [`verify_all`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Snapshots.
    pub count: u64,
    /// Bytes of their files.
    pub bytes: u64,
    /// The last entry in any of them that is as it should be.
    pub last: Option<LogId>,
    /// What is wrong with the others.
    pub problems: Vec<String>,
}

/// Verifies every snapshot in `dir`, a node's directory of them, which may be absent. What was not finished is none.
///
/// # Errors
/// If `dir` cannot be read.
pub fn verify_all(dir: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    if !dir.exists() {
        return Ok(found);
    }
    for name in names(dir)? {
        let path = dir.join(name);
        if !path.join(MANIFEST).exists() {
            continue;
        }
        let verified = read(&path).and_then(|held| verify(&path, &held).map(|()| held));
        found.count += 1;
        match verified {
            Ok(held) => {
                found.bytes += held.bytes();
                found.last = found.last.max(held.applied.log_id);
            }
            Err(error) => found.problems.push(format!(
                "{error}; the node does without it: delete {}",
                path.display()
            )),
        }
    }
    Ok(found)
}

/// Holds what the checkpoint of the snapshot in `dir` says of itself against `manifest`.
///
/// # Errors
/// If it cannot be opened or is as of something else.
pub fn check_inside(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    let held = State::inspect_checkpoint(&state_dir(dir)).map_err(|fault| damaged(fault.what))?;
    if held.applied != manifest.applied && !mutants::on(Mutant::SnapshotMislabelled) {
        return Err(damaged(format!(
            "snapshot {} ends at {:?}, its manifest says {:?}",
            dir.display(),
            held.applied.log_id,
            manifest.applied.log_id
        )));
    }
    Ok(())
}

/// Whether the files are those of `manifest`, by name and size.
fn check_listing(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    let at = state_dir(dir);
    for name in names(&at)? {
        if manifest.find(&name).is_none() {
            return Err(damaged(format!(
                "file {} is not in the manifest",
                at.join(name).display()
            )));
        }
    }
    for entry in &manifest.files {
        check_size(&at.join(&entry.name), entry)?;
    }
    Ok(())
}

fn check_size(path: &Path, entry: &FileEntry) -> io::Result<()> {
    let named = |error: io::Error| {
        io::Error::new(error.kind(), format!("file {}: {error}", path.display()))
    };
    let size = path.metadata().map_err(named)?.len();
    if size != entry.size {
        return Err(damaged(format!(
            "file {} has {size} bytes, the manifest says {}",
            path.display(),
            entry.size
        )));
    }
    Ok(())
}

/// Holds the file at `path` against what a manifest says of it.
fn check_file(path: &Path, entry: &FileEntry) -> io::Result<()> {
    check_size(path, entry)?;
    let hash = hash_of(path)?;
    if hash != entry.hash {
        return Err(damaged(format!(
            "file {} has hash {}, the manifest says {}",
            path.display(),
            blake3::Hash::from_bytes(hash),
            blake3::Hash::from_bytes(entry.hash)
        )));
    }
    Ok(())
}

/// Holds the file at `path` against `entry`, reading no faster than `pace` has it. Whether it came to its end.
///
/// # Errors
/// If it is not what the manifest says (`InvalidData`), is gone, or the disk fails.
pub(super) fn check_slowly(
    path: &Path,
    entry: &FileEntry,
    pace: &mut super::state::Pace<'_>,
) -> io::Result<bool> {
    check_size(path, entry)?;
    let mut file = File::open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; SLOW_LEN];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        if !pace(read as u64) {
            return Ok(false);
        }
    }
    match <[u8; 32]>::from(hasher.finalize()) == entry.hash {
        true => Ok(true),
        false => Err(damaged(format!(
            "file {} is not what it was when its snapshot was made",
            path.display()
        ))),
    }
}

fn hash_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().into())
}

/// The files in `dir`, in order of their names.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().into_string();
        names.push(name.map_err(|name| damaged(format!("a file named {name:?}")))?);
    }
    names.sort_unstable();
    Ok(names)
}

/// Syncs the names of the files and writes the manifest: from here on the snapshot counts.
fn finish(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    sync_dir(&state_dir(dir))?;
    let fresh = dir.join("manifest.new");
    let mut file = File::create(&fresh)?;
    file.write_all(manifest.encode().as_bytes())?;
    file.sync_all()?;
    crash::at("manifest:written");
    fs::rename(&fresh, dir.join(MANIFEST))?;
    crash::at("manifest:renamed");
    sync_dir(dir)?;
    dir.parent().map_or(Ok(()), sync_dir)
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
