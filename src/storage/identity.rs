//! Who a data directory belongs to, its lock and its format version.
//!
//! The identity file is text, for people too, and ends with a checksum. It is written whole beside the old one and renamed
//! over it. A directory with anything in it but no identity is refused, never given a new one: a node that forgot who it
//! was would vote twice.

mod boot;
mod recovered;
mod refused;
mod restoring;

#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

pub use boot::Boot;
pub use recovered::Recovered;
pub use restoring::Restoring;

use super::LogId;
use super::audit::Audit;
use super::crash;
use super::directory;
use super::log;
use super::log::disk::{Disk, RealDisk, read_all};

/// Version of the layout of a data directory.
///
/// | version | what is new |
/// |---|---|
/// | 1 | |
/// | 2 | the cluster was made of this node alone: which one it was before, and from which entry on |
pub const FORMAT: u32 = 2;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
const IDENTITY_NEW: &str = "identity.new";
const LOG: &str = "log";
const STATE: &str = "state";
const SNAPSHOTS: &str = "snapshots";

/// What a new directory may hold beside what an interrupted creation leaves: file systems put it in their root.
const LOST_AND_FOUND: &str = "lost+found";

const TITLE: &str = "quorate data directory";

/// The identity file: written when the directory is created, completed once when the cluster is formed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Identity {
    /// Cluster this node belongs to (32 hex digits); `None` until one is formed.
    pub cluster_id: Option<String>,
    /// Node id, never reused.
    pub node_id: u64,
    /// Random, made with the directory: tells a directory from its copy's original or a wiped one.
    pub node_uuid: String,
    /// Set if this node was the first one of its cluster because the majority of another was lost.
    pub recovered: Option<Recovered>,
}

/// An open, locked data directory. The lock is held until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    identity: Mutex<Identity>,
    audit: Audit,
    boot: Boot,
    _lock: Option<File>,
    /// Nothing of it is on a disk.
    #[cfg(feature = "simulation")]
    is_simulated: bool,
}

/// Why a data directory cannot be used. Each message says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

impl DataDir {
    /// Opens the directory at `path` for node `node_id`, making it if it is absent or empty, and locks it.
    ///
    /// # Errors
    /// If it is locked by another process, belongs to another node, is of a newer format, is damaged, or is not a data directory.
    pub fn open(path: &Path, node_id: u64) -> Result<DataDir, OpenError> {
        let here = |error: io::Error| io_error(path, &error);
        directory::make(path).map_err(here)?;
        let disk = RealDisk::new(path);
        // Before the lock: nothing is put into a directory that is somebody else's.
        check_kind(path, &disk)?;
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(here)?;
        take_lock(path, &lock)?;
        if check_kind(path, &disk)? == DirKind::New {
            create(path, &disk, node_id).map_err(here)?;
        }
        // A process that died may not have come to sync the name it gave a new identity.
        disk.sync_dir().map_err(here)?;
        restoring::clear_mark(&disk).map_err(here)?;
        let identity = read(path, &disk)?;
        if identity.node_id != node_id {
            return Err(OpenError(format!(
                "data directory {} belongs to node {}, not to node {node_id}: give node {node_id} a directory of its own, \
                 or start node {} here",
                path.display(),
                identity.node_id,
                identity.node_id
            )));
        }
        check_log(path)?;
        refused::check(path)?;
        let boot = boot::next(&disk).map_err(|why| {
            OpenError(format!(
                "cannot use data directory {}: {why}. Put the right file back from a copy, or keep this directory aside and join \
                 this node again under a new id (quorate node replace)",
                path.display()
            ))
        })?;
        Ok(DataDir {
            path: path.to_owned(),
            identity: Mutex::new(identity),
            audit: Audit::of(path),
            boot,
            _lock: Some(lock),
            #[cfg(feature = "simulation")]
            is_simulated: false,
        })
    }

    /// Opens an existing directory, whoever's it is, to inspect it. Writes nothing.
    ///
    /// # Errors
    /// As [`DataDir::open`], and if there is no data directory.
    pub fn inspect(path: &Path) -> Result<DataDir, OpenError> {
        if !path.is_dir() {
            return Err(OpenError(format!(
                "there is no directory {}",
                path.display()
            )));
        }
        let disk = RealDisk::new(path);
        if check_kind(path, &disk)? == DirKind::New {
            return Err(OpenError(format!(
                "{} is not a data directory: it holds nothing of a node",
                path.display()
            )));
        }
        let lock = match File::open(path.join(LOCK)) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(io_error(path, &error)),
        };
        if let Some(lock) = &lock {
            take_lock(path, lock)?;
        }
        let identity = Mutex::new(read(path, &disk)?);
        Ok(DataDir {
            path: path.to_owned(),
            identity,
            audit: Audit::of(path),
            boot: Boot::default(),
            _lock: lock,
            #[cfg(feature = "simulation")]
            is_simulated: false,
        })
    }

    /// Who this is.
    pub fn identity(&self) -> Identity {
        self.lock().clone()
    }

    /// Which start on this directory this is.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// Notes durably that its cluster refuses what is in it: it is never opened for a node again.
    ///
    /// # Errors
    /// If the write fails.
    pub fn refuse(&self, why: &str) -> Result<(), OpenError> {
        #[cfg(feature = "simulation")]
        if self.is_simulated {
            return Ok(());
        }
        refused::note(&RealDisk::new(&self.path), why).map_err(|error| io_error(&self.path, &error))
    }

    /// Adds a line to what was asked of this node: the text of a JSON object.
    ///
    /// # Errors
    /// If the write fails.
    pub fn audit(&self, object: &str) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if self.is_simulated {
            return Ok(());
        }
        self.audit.add(object)
    }

    /// Writes the cluster id durably. `replace` permits changing one that was set (only while the log is pristine).
    ///
    /// # Errors
    /// If the write fails, or another cluster id is set and `replace` is false.
    pub fn set_cluster_id(&self, cluster_id: &str, replace: bool) -> Result<(), OpenError> {
        if cluster_id.len() != 32 || !cluster_id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(OpenError(format!(
                "a cluster id is 32 hex digits, not {cluster_id:?}"
            )));
        }
        let mut identity = self.lock();
        match &identity.cluster_id {
            Some(set) if set == cluster_id => return Ok(()),
            Some(set) if !replace => {
                return Err(OpenError(format!(
                    "data directory {} belongs to cluster {set}, not to cluster {cluster_id}: a node changes its cluster \
                     only with a new, empty data directory and a new node id",
                    self.path.display()
                )));
            }
            _ => {}
        }
        let changed = Identity {
            cluster_id: Some(cluster_id.to_owned()),
            ..identity.clone()
        };
        self.keep(&changed)
            .map_err(|error| io_error(&self.path, &error))?;
        *identity = changed;
        Ok(())
    }

    /// Makes the cluster of this node another one, of which it is the only member from entry `at` on, durably: after a crash it
    /// is the old or the new one. Gives the new id.
    ///
    /// # Errors
    /// If it belongs to no cluster, or the write fails.
    pub fn recover(&self, at: LogId) -> Result<String, OpenError> {
        let mut identity = self.lock();
        let changed = recovered::changed(&identity, at)
            .map_err(|why| OpenError(format!("data directory {}: {why}", self.path.display())))?;
        self.keep(&changed)
            .map_err(|error| io_error(&self.path, &error))?;
        *identity = changed;
        Ok(identity.cluster_id.clone().unwrap_or_default())
    }

    fn keep(&self, identity: &Identity) -> io::Result<()> {
        #[cfg(feature = "simulation")]
        if self.is_simulated {
            return Ok(());
        }
        write(&RealDisk::new(&self.path), identity)
    }

    /// A directory of which only the path is real.
    #[cfg(feature = "simulation")]
    pub(crate) fn simulated(path: PathBuf, identity: Identity, boot: Boot) -> DataDir {
        DataDir {
            audit: Audit::of(&path),
            path,
            identity: Mutex::new(identity),
            boot,
            _lock: None,
            is_simulated: true,
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log is.
    pub fn log_dir(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where the state lives.
    pub fn state_dir(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// Where snapshots live: on the file system of the state, since they share files.
    pub fn snapshots_dir(&self) -> PathBuf {
        self.path.join(SNAPSHOTS)
    }

    fn lock(&self) -> MutexGuard<'_, Identity> {
        self.identity.lock().expect("nobody panics holding it")
    }
}

fn io_error(path: &Path, error: &io::Error) -> OpenError {
    OpenError(format!(
        "cannot use data directory {}: {error}",
        path.display()
    ))
}

fn take_lock(path: &Path, lock: &File) -> Result<(), OpenError> {
    match lock.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError(format!(
            "data directory {} is in use by another process: stop that one first, or give this node a directory of its own",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(io_error(path, &error)),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DirKind {
    /// Empty, or left by a creation that did not finish.
    New,
    /// It has an identity.
    Old,
}

/// What the directory is; an error if it is neither empty nor a data directory.
fn check_kind(path: &Path, disk: &RealDisk) -> Result<DirKind, OpenError> {
    let names = disk.list().map_err(|error| io_error(path, &error))?;
    if names.iter().any(|name| name == IDENTITY) {
        return Ok(DirKind::Old);
    }
    if names.iter().any(|name| name == restoring::RESTORING) {
        return Err(OpenError(format!(
            "{}: a backup was being restored into it, and that did not come to its end: do it again (quorate restore)",
            path.display()
        )));
    }
    for name in &names {
        let expected = match name.as_str() {
            LOCK | IDENTITY_NEW | LOST_AND_FOUND => true,
            LOG => holds_only(&path.join(LOG), &[log::FRESH])
                .map_err(|error| io_error(path, &error))?,
            STATE => holds_only(&path.join(STATE), &[]).map_err(|error| io_error(path, &error))?,
            _ => false,
        };
        if !expected {
            return Err(OpenError(format!(
                "{} holds {name:?} but no identity file: it is not a data directory, or lost its identity. Give the node an \
                 empty directory; if one of its own is damaged, keep that aside and join this node again under a new id \
                 (quorate node replace)",
                path.display()
            )));
        }
    }
    Ok(DirKind::New)
}

fn holds_only(path: &Path, allowed: &[&str]) -> io::Result<bool> {
    let names = RealDisk::new(path).list()?;
    Ok(names.iter().all(|name| allowed.contains(&name.as_str())))
}

/// Makes a data directory in an empty one. The identity comes last: without it the directory still counts as new.
fn create(path: &Path, disk: &RealDisk, node_id: u64) -> io::Result<()> {
    let log_dir = path.join(LOG);
    fs::create_dir_all(&log_dir)?;
    let log_disk = RealDisk::new(&log_dir);
    if log_disk.list()?.is_empty() {
        log_disk.create(log::FRESH)?;
    }
    log_disk.sync_dir()?;
    if let Some(parent) = path.canonicalize()?.parent() {
        RealDisk::new(parent).sync_dir()?;
    }
    let identity = Identity {
        cluster_id: None,
        node_id,
        node_uuid: uuid::Uuid::new_v4().simple().to_string(),
        recovered: None,
    };
    write(disk, &identity)
}

/// A directory with an identity has a log, be it a fresh one: a log that was lost must not be made anew.
fn check_log(path: &Path) -> Result<(), OpenError> {
    let log_dir = path.join(LOG);
    if [log::FRESH, log::WITNESS]
        .iter()
        .any(|name| log_dir.join(name).exists())
    {
        return Ok(());
    }
    Err(OpenError(format!(
        "the log in {} is gone, and with it votes and entries this node acknowledged: put it back, or keep this directory \
         aside and join this node again under a new id (quorate node replace)",
        log_dir.display()
    )))
}

fn encode(identity: &Identity) -> String {
    let cluster_id = identity.cluster_id.as_deref().unwrap_or("-");
    let Identity {
        node_id, node_uuid, ..
    } = identity;
    // Older versions still read what they can know.
    let (format, more) = match &identity.recovered {
        None => (1, String::new()),
        Some(recovered) => (FORMAT, recovered.encode()),
    };
    let text = format!(
        "{TITLE}\nformat {format}\ncluster_id {cluster_id}\nnode_id {node_id}\nnode_uuid {node_uuid}\n{more}"
    );
    let checksum = blake3::hash(text.as_bytes()).to_hex();
    format!("{text}checksum {checksum}\n")
}

/// Reads the text back; else why not.
fn decode(text: &str) -> Result<Identity, String> {
    let damaged = || "it is damaged".to_owned();
    let mut lines = text.lines();
    let mut value = |name: &str| {
        let line = lines.next()?;
        line.strip_prefix(name)?.strip_prefix(' ')
    };
    let first_words = TITLE.rsplit_once(' ').expect("it has several words");
    value(first_words.0)
        .filter(|last| *last == first_words.1)
        .ok_or_else(damaged)?;
    let format: u32 = value("format")
        .and_then(|v| v.parse().ok())
        .ok_or_else(damaged)?;
    if !(1..=FORMAT).contains(&format) {
        return Err(format!(
            "its format is {format}, this version of Quorate knows up to {FORMAT}; run a newer version"
        ));
    }
    let fields = (|| {
        let cluster_id = Some(value("cluster_id")?)
            .filter(|id| *id != "-")
            .map(str::to_owned);
        let node_id = value("node_id")?.parse().ok()?;
        let node_uuid = value("node_uuid")?.to_owned();
        let recovered = match format {
            1 => None,
            _ => Some(Recovered::decode(&mut value)?),
        };
        Some(Identity {
            cluster_id,
            node_id,
            node_uuid,
            recovered,
        })
    })();
    // Written again it must be the same to the last byte, checksum and all.
    fields
        .filter(|identity| encode(identity) == text)
        .ok_or_else(damaged)
}

fn read<D: Disk>(path: &Path, disk: &D) -> Result<Identity, OpenError> {
    let bytes = disk.open(IDENTITY).and_then(|file| read_all(&*file));
    let bytes = bytes.map_err(|error| io_error(path, &error))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "it is damaged".to_owned());
    text.and_then(decode).map_err(|reason| {
        OpenError(format!(
            "cannot use the identity file {}: {reason}. Do not make a new one: put the right one back from a copy, or keep \
             this directory aside and join this node again under a new id (quorate node replace)",
            path.join(IDENTITY).display()
        ))
    })
}

/// Writes the identity: after a crash it is the old or the new one.
fn write<D: Disk>(disk: &D, identity: &Identity) -> io::Result<()> {
    match disk.remove(IDENTITY_NEW) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(IDENTITY_NEW)?;
    file.write(0, &[IoSlice::new(encode(identity).as_bytes())])?;
    file.sync()?;
    crash::at("identity:written");
    disk.rename(IDENTITY_NEW, IDENTITY)?;
    crash::at("identity:renamed");
    disk.sync_dir()
}
