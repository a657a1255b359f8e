//! A data directory that is made of a backup: nothing that starts, until all of it is there.
//!
//! While it is made it holds the file `restoring`, which comes before everything else and keeps nodes out. The identity comes last, by
//! a rename: from then on it is a data directory like any other. What a crash leaves before that is cleared away by the next attempt.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{
    IDENTITY, IDENTITY_NEW, Identity, LOCK, LOG, LOST_AND_FOUND, OpenError, SNAPSHOTS, STATE,
    io_error, recovered, take_lock, write,
};
use crate::storage::LogId;
use crate::storage::directory;
use crate::storage::log;
use crate::storage::log::disk::{Disk, RealDisk};

/// Says that a directory is being made of a backup.
pub(super) const RESTORING: &str = "restoring";

/// A data directory in the making, locked. Unless it is finished, all that was put there goes when it is dropped.
#[derive(Debug)]
pub struct Restoring {
    path: PathBuf,
    node_id: u64,
    node_uuid: String,
    /// There was no such directory before.
    is_new: bool,
    is_done: bool,
    _lock: File,
}

impl Restoring {
    /// Begins to make the directory at `path`, which must be absent, empty, or left by an attempt that did not come to its end, one for
    /// node `node_id`.
    ///
    /// # Errors
    /// If there is anything else in it, it is locked, or the disk fails; then nothing in it is changed.
    pub fn begin(path: &Path, node_id: u64) -> Result<Restoring, OpenError> {
        let here = |error: io::Error| io_error(path, &error);
        let is_new = !path.exists();
        directory::make(path).map_err(here)?;
        let disk = RealDisk::new(path);
        check(path, &disk)?;
        let lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(here)?;
        take_lock(path, &lock)?;
        // A node may have begun to use it before the lock was ours.
        check(path, &disk)?;
        let restoring = Restoring {
            path: path.to_owned(),
            node_id,
            node_uuid: uuid::Uuid::new_v4().simple().to_string(),
            is_new,
            is_done: false,
            _lock: lock,
        };
        restoring.prepare(&disk).map_err(here)?;
        Ok(restoring)
    }

    /// Marks the directory before there is anything in it, and makes a log's directory that holds no log yet.
    fn prepare(&self, disk: &RealDisk) -> io::Result<()> {
        File::create(self.path.join(RESTORING))?.sync_all()?;
        disk.sync_dir()?;
        self.clear()?;
        fs::create_dir(self.log_dir())?;
        let log = RealDisk::new(self.log_dir());
        log.create(log::FRESH)?;
        log.sync_dir()?;
        disk.sync_dir()?;
        match self.path.canonicalize()?.parent() {
            Some(parent) => RealDisk::new(parent).sync_dir(),
            None => Ok(()),
        }
    }

    /// The node it is for.
    pub fn node_id(&self) -> u64 {
        self.node_id
    }

    /// The random identity that the directory will have.
    pub fn node_uuid(&self) -> &str {
        &self.node_uuid
    }

    /// Where its log is made.
    pub fn log_dir(&self) -> PathBuf {
        self.path.join(LOG)
    }

    /// Where its state is made.
    pub fn state_dir(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// Makes it a data directory, durably, of a new cluster that was made of cluster `from`: of this node alone, from entry `at` on.
    /// Log and state must be durable by now. Gives the new cluster's id.
    ///
    /// # Errors
    /// If the write fails: what is there then starts, or is cleared away by the next attempt.
    pub fn finish(mut self, from: &str, at: LogId) -> Result<String, OpenError> {
        let disk = RealDisk::new(&self.path);
        let old = Identity {
            cluster_id: Some(from.to_owned()),
            node_id: self.node_id,
            node_uuid: self.node_uuid.clone(),
            recovered: None,
        };
        let identity = recovered::changed(&old, at).map_err(OpenError)?;
        // Whatever becomes of it, it may be complete now.
        self.is_done = true;
        disk.sync_dir()
            .and_then(|()| write(&disk, &identity))
            .and_then(|()| clear_mark(&disk))
            .map_err(|error| io_error(&self.path, &error))?;
        Ok(identity.cluster_id.unwrap_or_default())
    }

    /// Deletes all that makes a data directory, but for lock and mark.
    fn clear(&self) -> io::Result<()> {
        for name in [STATE, LOG, SNAPSHOTS] {
            match fs::remove_dir_all(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        remove(&self.path, IDENTITY_NEW)
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        // What cannot be deleted now is by the next attempt, and keeps nodes out until then.
        let cleared = self
            .clear()
            .and_then(|()| remove(&self.path, RESTORING))
            .and_then(|()| remove(&self.path, LOCK));
        if cleared.is_ok() && self.is_new {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Takes the mark off a directory that is complete.
pub(super) fn clear_mark(disk: &RealDisk) -> io::Result<()> {
    match disk.remove(RESTORING) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(),
    }
}

/// Fails if there is anything in the directory that is not this module's.
fn check(path: &Path, disk: &RealDisk) -> Result<(), OpenError> {
    let names = disk.list().map_err(|error| io_error(path, &error))?;
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let is_ours = |name: &str| match name {
        LOCK | LOST_AND_FOUND | RESTORING => true,
        STATE | LOG | IDENTITY_NEW => has(RESTORING),
        _ => false,
    };
    match names.iter().find(|name| !is_ours(name)) {
        None => Ok(()),
        Some(name) => Err(OpenError(format!(
            "{} holds {name:?}: a backup is restored into a directory that is empty or absent, and nothing was changed here{}",
            path.display(),
            match has(IDENTITY) {
                true => ". It is the data directory of a node",
                false => "",
            }
        ))),
    }
}

fn remove(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::DataDir;
    use super::*;

    const FROM: &str = "0123456789abcdef0123456789abcdef";

    fn at() -> LogId {
        LogId {
            term: 3,
            node: 7,
            index: 70,
        }
    }

    fn names(path: &Path) -> Vec<String> {
        let mut names = RealDisk::new(path).list().unwrap();
        names.sort();
        names
    }

    #[test]
    fn it_is_a_directory_of_a_new_cluster_once_it_is_finished_and_nothing_before() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let restoring = Restoring::begin(&path, 7).unwrap();
        let uuid = restoring.node_uuid().to_owned();
        fs::create_dir(restoring.state_dir()).unwrap();
        let busy = DataDir::open(&path, 7).unwrap_err().0;
        assert!(busy.contains("quorate restore"), "{busy}");
        assert!(DataDir::inspect(&path).is_err());
        assert!(Restoring::begin(&path, 7).unwrap_err().0.contains("in use"));
        let made = restoring.finish(FROM, at()).unwrap();
        assert_ne!(made, FROM);
        assert!(!names(&path).contains(&RESTORING.to_owned()));
        let identity = DataDir::open(&path, 7).unwrap().identity();
        let wanted = Identity {
            cluster_id: Some(made),
            node_id: 7,
            node_uuid: uuid,
            recovered: Some(crate::storage::identity::Recovered {
                from: FROM.to_owned(),
                at: at(),
            }),
        };
        assert_eq!(identity, wanted);
        let refused = Restoring::begin(&path, 7).unwrap_err().0;
        assert!(refused.contains("data directory of a node"), "{refused}");
    }

    #[test]
    fn one_that_is_given_up_leaves_nothing_and_one_that_was_cut_off_is_begun_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("new");
        drop(Restoring::begin(&path, 7).unwrap());
        assert!(!path.exists());
        drop(Restoring::begin(temp.path(), 7).unwrap());
        assert_eq!(names(temp.path()), [""; 0]);
        // As a crash leaves it.
        let restoring = Restoring::begin(&path, 7).unwrap();
        fs::create_dir(restoring.state_dir()).unwrap();
        fs::write(restoring.state_dir().join("half"), "x").unwrap();
        fs::write(path.join(IDENTITY_NEW), "x").unwrap();
        std::mem::forget(restoring);
        let left = temp.path().join("left");
        fs::create_dir(&left).unwrap();
        for name in [STATE, LOG, IDENTITY_NEW, RESTORING] {
            fs::rename(path.join(name), left.join(name)).unwrap();
        }
        let refused = DataDir::open(&left, 7).unwrap_err().0;
        assert!(refused.contains("did not come to its end"), "{refused}");
        let restoring = Restoring::begin(&left, 8).unwrap();
        assert!(!restoring.state_dir().exists());
        restoring.finish(FROM, at()).unwrap();
        assert_eq!(DataDir::open(&left, 8).unwrap().identity().node_id, 8);
    }

    #[test]
    fn a_mark_that_a_crash_left_on_a_complete_one_goes_with_its_first_start() {
        let temp = tempfile::tempdir().unwrap();
        let restoring = Restoring::begin(temp.path(), 7).unwrap();
        restoring.finish(FROM, at()).unwrap();
        fs::write(temp.path().join(RESTORING), "").unwrap();
        drop(DataDir::open(temp.path(), 7).unwrap());
        assert!(!temp.path().join(RESTORING).exists());
    }

    #[test]
    fn what_holds_anything_else_is_refused_and_left_alone() {
        for name in ["letter.txt", STATE, LOG, "boot", IDENTITY] {
            let temp = tempfile::tempdir().unwrap();
            fs::write(temp.path().join(name), "dear").unwrap();
            let refused = Restoring::begin(temp.path(), 7).unwrap_err().0;
            assert!(refused.contains(name), "{refused}");
            assert_eq!(names(temp.path()), [name]);
        }
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join(LOST_AND_FOUND)).unwrap();
        Restoring::begin(temp.path(), 7)
            .unwrap()
            .finish(FROM, at())
            .unwrap();
    }
}
