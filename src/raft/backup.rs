//! Backups of this node's state, made while it serves.
//!
//! A checkpoint is made beside the snapshots, which is hard links, and sent from there: the state goes on meanwhile. One at a time,
//! because each keeps files on the disk that would be gone otherwise; it gives them back as soon as it ends, however it ends, and at
//! once when the disk fills up.

use std::io::{self, Write};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::members::epoch;
use super::snapshots::meta_of;
use super::space::{Room, Space};
use super::types::SnapshotData;
use super::{Client, blocking};
use crate::storage::backup;

/// Who may make one; clones share it.
#[derive(Clone)]
pub(super) struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Turn {
        Turn(Arc::new(Semaphore::new(1)))
    }
}

/// A backup that is ready to be written out. What it takes on the disk is given back when it goes.
pub struct Backup {
    backup: backup::Backup,
    space: Space,
    /// Dropped before the turn ends: the next one is made in the same place.
    _checkpoint: SnapshotData,
    _turn: OwnedSemaphorePermit,
}

/// Why there is no backup. Nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BackupError {
    /// Another one is being made, or sent.
    #[error("this node makes one backup at a time, and is at one")]
    Busy,
    /// The state is not one to be kept: the node is starting or stopping, in no cluster, or at odds with others.
    #[error("not ready: {0}")]
    NotReady(String),
    /// The disk has no room.
    #[error("{0}")]
    NoRoom(String),
    /// It could not be read or written.
    #[error("{0}")]
    Failed(String),
}

impl Backup {
    /// Log index of the last entry in it.
    pub fn index(&self) -> u64 {
        self.backup.manifest.index()
    }

    /// Bytes of the whole.
    pub fn len(&self) -> u64 {
        self.backup.len()
    }

    /// Never: there is always a manifest.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the whole to `out`. Blocking, for as long as `out` does.
    ///
    /// # Errors
    /// If `out` fails, a file is not what it was, or the disk fills up meanwhile. What was written until then is worth nothing, and
    /// cannot be taken for a backup.
    pub fn write(self, out: impl Write) -> io::Result<()> {
        let space = &self.space;
        self.backup.write(Watching { out, space })
    }
}

/// Goes on as long as the disk has room.
struct Watching<'a, W> {
    out: W,
    space: &'a Space,
}

impl<W: Write> Write for Watching<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.space.room() != Room::Enough {
            let what = "the disk fills up, and a backup keeps files there that would be gone";
            return Err(io::Error::new(io::ErrorKind::StorageFull, what));
        }
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Client {
    /// Makes a backup of what this node has applied by now. Reads all of it; the node goes on meanwhile.
    ///
    /// # Errors
    /// If the state is not one to be kept, another backup is under way, or the disk has no room or fails.
    pub async fn backup(&self) -> Result<Backup, BackupError> {
        let node = &self.node;
        let turn = node.backups.0.clone().try_acquire_owned();
        let turn = turn.map_err(|_| BackupError::Busy)?;
        let cluster = self.check_backup()?;
        let space = node.space.clone();
        let disk = space.get();
        if disk.room != Room::Enough {
            return Err(BackupError::NoRoom(format!(
                "the disk of this node has {} bytes left, and a backup keeps files there that would be gone",
                disk.free
            )));
        }
        let (snapshots, state) = (node.snapshots.clone(), node.state.clone());
        // All of it in one piece of work that owns what it makes: whoever stops waiting for it leaves nothing behind.
        let making = move || {
            let checkpoint = snapshots.make_apart(&state)?;
            let membership = meta_of(&checkpoint.manifest.applied)?.last_membership;
            let (path, held) = (&checkpoint.path, &checkpoint.manifest);
            let backup = backup::Backup::of(path, held, cluster, epoch(&membership))?;
            Ok(Backup {
                backup,
                space,
                _checkpoint: checkpoint,
                _turn: turn,
            })
        };
        blocking::io(making)
            .await
            .map_err(|error| BackupError::Failed(error.to_string()))
    }

    /// The id of the cluster, if what this node has is what the cluster has.
    fn check_backup(&self) -> Result<String, BackupError> {
        let node = &self.node;
        node.check_runs().map_err(BackupError::NotReady)?;
        if let Some(fault) = &*node.state.fault().borrow() {
            return Err(BackupError::NotReady(fault.what.clone()));
        }
        node.compared.check().map_err(BackupError::NotReady)?;
        let status = self.status();
        if let Some(why) = status.removed {
            return Err(BackupError::NotReady(why));
        }
        if !status.recovered {
            return Err(BackupError::NotReady(
                "this node has not caught up since it started".to_owned(),
            ));
        }
        status.cluster_id.ok_or_else(|| {
            BackupError::NotReady("this node is not a member of a cluster yet".to_owned())
        })
    }
}
