//! The snapshots of this node: the current one, those that transfers still read, and what is staged of one that comes in.
//!
//! They stand in a directory beside the state, numbered, each complete or nothing ([`crate::storage::snapshot`]). The current one
//! is kept over a restart, so that the hashes of its files need not be made again; one that was replaced is deleted as soon as no
//! transfer reads it, and at the start whatever a crash left behind.

mod transfers;

pub use transfers::Progress;
pub(crate) use transfers::{Receiving, Sending, Transfers};

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Replica;
use super::blocking;
use super::convert;
use super::stats::SnapshotStats;
use super::types::{RaftSnapshot, RaftSnapshotMeta, RaftStoredMembership, SnapshotData};
use crate::mutants::{self, Mutant};
use crate::storage::LogId;
use crate::storage::clock::now;
use crate::storage::directory;
use crate::storage::identity::DataDir;
use crate::storage::snapshot::{self, Manifest, Staging};
use crate::storage::state::Applied;

/// Where what comes in is staged.
const INCOMING: &str = "incoming";
/// Where one that is made for a backup is. A start clears it away, as all that has no number.
const APART: &str = "backup";

/// When snapshots are made, how they are sent, and how much of the log stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Log written since the last snapshot, in bytes on the disk, at which the next one is made.
    pub log_bytes: u64,
    /// A snapshot is made after so long even if less was written, if anything was.
    pub every: Duration,
    /// Newest bytes of the log that are not purged, so that a node that was away for a moment catches up from them.
    pub log_keep_bytes: u64,
    /// Most bytes that one transfer sends in a second; 0 for no bound.
    pub rate: u64,
    /// A transfer that does not move for so long is given up; the next goes on from what arrived.
    pub stall: Duration,
}

impl Default for SnapshotOptions {
    fn default() -> SnapshotOptions {
        SnapshotOptions {
            log_bytes: 1 << 30,
            every: Duration::from_secs(3600),
            log_keep_bytes: 256 << 20,
            rate: 256 << 20,
            stall: Duration::from_secs(30),
        }
    }
}

/// The snapshots of one node; clones share them.
#[derive(Clone)]
pub(crate) struct Snapshots {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    /// Whose cluster id they carry; tests do without.
    identity: Option<Arc<DataDir>>,
    next: AtomicU64,
    current: Mutex<Option<RaftSnapshot>>,
    /// Held while one is made: one at a time.
    making: Mutex<()>,
    counters: Mutex<Counters>,
    transfers: Transfers,
    /// Where a snapshot should end, at least, that a peer asked for.
    wanted: AtomicU64,
    /// What is given to peers piece by piece, and when each last asked.
    lent: Mutex<BTreeMap<u64, (Instant, SnapshotData)>>,
}

/// What a node counts of its snapshots since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Snapshots made.
    pub made: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Snapshots received and installed.
    pub installed: u64,
    /// Time that making took.
    pub took: Duration,
    /// Time that the last one took.
    pub last_took: Duration,
}

/// A directory with a snapshot in it. Once it is not the current one any more it is removed when the last handle goes, so a
/// transfer keeps it alive.
pub(crate) struct SnapshotDir {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it holds.
    pub(crate) manifest: Manifest,
    /// Every file was held against the manifest, by this process.
    pub(crate) verified: bool,
    /// What is known of transfers of it.
    pub(crate) transfers: Transfers,
    keep: AtomicBool,
}

impl std::fmt::Debug for SnapshotDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotDir")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl SnapshotDir {
    /// Has it stay on the disk, whoever lets go of it, until another one takes its place.
    pub(crate) fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }
}

impl Drop for SnapshotDir {
    fn drop(&mut self) {
        if !*self.keep.get_mut() {
            // Whatever cannot be removed now is removed with the other left-overs at the next start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

impl Snapshots {
    /// Those in `dir` of a node whose state is `applied`. The newest complete one becomes the current one, unless the state is
    /// not that far: such a one was never installed. Everything else goes, but for what is staged. So does what was made in
    /// another cluster, before this node was made one of its own: no other would take it.
    ///
    /// # Errors
    /// If `dir` cannot be made, read or cleaned.
    pub(crate) fn open(
        dir: PathBuf,
        identity: Option<Arc<DataDir>>,
        applied: Option<LogId>,
    ) -> io::Result<Snapshots> {
        // The log is purged on the strength of what is in it.
        directory::make_in_ours(&dir)?;
        let cluster = identity.as_ref().map(|dir| dir.identity().cluster_id);
        let is_ours = |of: &Manifest| {
            cluster
                .as_ref()
                .is_none_or(|cluster| *cluster == of.cluster)
        };
        let transfers = Transfers::default();
        let mut newest: Option<(Option<LogId>, PathBuf, Manifest)> = None;
        let mut next = 0;
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            if name == Some(INCOMING) {
                continue;
            }
            let number = name.and_then(|name| name.parse::<u64>().ok());
            next = next.max(number.map_or(0, |number| number + 1));
            let held = snapshot::read(&path)
                .ok()
                .filter(is_ours)
                .map(|manifest| (manifest.applied.log_id, manifest));
            let unneeded = match held {
                Some((last, manifest)) if number.is_some() && last <= applied => {
                    let better = newest.as_ref().is_none_or(|(known, ..)| *known < last);
                    match better {
                        true => newest
                            .replace((last, path, manifest))
                            .map(|(_, path, _)| path),
                        false => Some(path),
                    }
                }
                _ => Some(path),
            };
            unneeded.map_or(Ok(()), |path| remove(&path))?;
        }
        let current = newest.map(|(_, path, manifest)| found(path, manifest, transfers.clone()));
        let current = current.transpose()?;
        Ok(Snapshots {
            inner: Arc::new(Inner {
                dir,
                identity,
                next: AtomicU64::new(next),
                current: Mutex::new(current),
                making: Mutex::default(),
                counters: Mutex::default(),
                transfers,
                wanted: AtomicU64::new(0),
                lent: Mutex::default(),
            }),
        })
    }

    /// The newest one.
    pub(crate) fn current(&self) -> Option<RaftSnapshot> {
        lock(&self.inner.current).clone()
    }

    /// The last entry in it.
    pub(crate) fn last(&self) -> Option<LogId> {
        let current = lock(&self.inner.current);
        current.as_ref()?.snapshot.manifest.applied.log_id
    }

    /// Transfers under way.
    pub(crate) fn transfers(&self) -> &Transfers {
        &self.inner.transfers
    }

    /// What was counted, and what is under way.
    pub(crate) fn stats(&self) -> SnapshotStats {
        let current = self.current();
        let manifest = current.as_ref().map(|current| &current.snapshot.manifest);
        let (sent_bytes, received_bytes) = self.inner.transfers.bytes();
        SnapshotStats {
            counters: *lock(&self.inner.counters),
            index: manifest.and_then(|manifest| Some(manifest.applied.log_id?.index)),
            bytes: manifest.map_or(0, Manifest::bytes),
            sending: self.inner.transfers.sending(),
            receiving: self.inner.transfers.receiving(),
            sent_bytes,
            received_bytes,
        }
    }

    /// Where a snapshot that comes in is staged.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.inner.dir.join(INCOMING)
    }

    /// Deletes what is staged of a transfer that was given up, once none has come in for `patience`.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) async fn clear_abandoned(&self, patience: Duration) -> io::Result<()> {
        let Some(turn) = self.inner.transfers.quiet(patience) else {
            return Ok(());
        };
        let incoming = self.incoming();
        let clearing = move || {
            let _turn = turn;
            if incoming.exists() {
                tracing::info!("no snapshot comes in any more: what is staged of one is deleted");
                Staging::clear(&incoming)?;
            }
            Ok(())
        };
        blocking::io(clearing).await
    }

    /// Makes one of `state` as it is now and makes it the current one. Blocking.
    ///
    /// # Errors
    /// If the disk fails; the current one stays.
    pub(crate) fn make(&self, state: &dyn Replica) -> io::Result<RaftSnapshot> {
        self.make_with(state, true)
    }

    /// As [`Snapshots::make`], but nothing that is known of files from the current one is believed. Blocking.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn make_afresh(&self, state: &dyn Replica) -> io::Result<RaftSnapshot> {
        self.make_with(state, false)
    }

    fn make_with(&self, state: &dyn Replica, believe: bool) -> io::Result<RaftSnapshot> {
        let _one = lock(&self.inner.making);
        let began = now();
        let made = self.try_make(state, believe);
        let mut counters = lock(&self.inner.counters);
        match &made {
            Ok(_) => {
                counters.made += 1;
                counters.last_took = now().duration_since(began);
                counters.took += now().duration_since(began);
            }
            Err(_) => counters.failed += 1,
        }
        made
    }

    fn try_make(&self, state: &dyn Replica, believe: bool) -> io::Result<RaftSnapshot> {
        let path = self.new_path();
        let manifest = self.make_at(state, &path, believe)?;
        let snapshot = RaftSnapshot {
            meta: meta_of(&manifest.applied)?,
            snapshot: self.hold(path, manifest, false),
        };
        self.replace(snapshot.clone());
        Ok(snapshot)
    }

    /// Makes one of `state` as it is now for another purpose than to be sent to nodes: the current one stays what it is, and this one
    /// goes with its handle. Only one at a time. Blocking.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn make_apart(&self, state: &dyn Replica) -> io::Result<SnapshotData> {
        let _one = lock(&self.inner.making);
        let path = self.inner.dir.join(APART);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let manifest = self.make_at(state, &path, true)?;
        Ok(self.hold(path, manifest, false))
    }

    /// Makes one in `path`, of which nothing is left if that fails.
    fn make_at(&self, state: &dyn Replica, path: &Path, believe: bool) -> io::Result<Manifest> {
        let known = self.current().filter(|_| believe);
        let known = known.as_ref().map(|known| &known.snapshot);
        let known = known.map(|known| (known.path.as_path(), &known.manifest));
        let identity = self.inner.identity.as_ref();
        let cluster = identity.and_then(|dir| dir.identity().cluster_id);
        let checkpoint = |at: &Path| {
            let mut held = state.checkpoint(at)?;
            if mutants::on(Mutant::SnapshotMislabelled) {
                held.applied = state.applied();
            }
            Ok(held)
        };
        let made = snapshot::make(checkpoint, path, cluster, known);
        if made.is_err() {
            let _ = fs::remove_dir_all(path);
        }
        made
    }

    /// A snapshot for `peer`, kept while it asks for pieces of it. `None` if there is none yet that ends at index `reach` or later:
    /// then it is wanted.
    pub(crate) fn lend(&self, peer: u64, reach: u64) -> Option<SnapshotData> {
        let ends = |of: &SnapshotData| of.manifest.applied.log_id.map(|last| last.index);
        let current = self.current().map(|current| current.snapshot);
        let lent = current.filter(|current| ends(current) >= Some(reach));
        match &lent {
            Some(lent) => {
                lock(&self.inner.lent).insert(peer, (now(), lent.clone()));
            }
            None => {
                self.inner.wanted.fetch_max(reach, Ordering::Relaxed);
            }
        }
        lent
    }

    /// What was lent to `peer`, if it ends at `last`.
    pub(crate) fn lent(&self, peer: u64, last: LogId) -> Option<SnapshotData> {
        let mut lent = lock(&self.inner.lent);
        let (asked, snapshot) = lent.get_mut(&peer)?;
        *asked = now();
        let is_it = snapshot.manifest.applied.log_id == Some(last);
        is_it.then(|| snapshot.clone())
    }

    /// Keeps nothing any longer for peers that have not asked for `patience`.
    pub(crate) fn take_back(&self, patience: Duration) {
        lock(&self.inner.lent).retain(|_, (asked, _)| asked.elapsed() < patience);
    }

    /// Whether a peer wants one beyond the current one, which a state applied up to `applied` could be made into.
    pub(crate) fn is_wanted(&self, applied: Option<LogId>) -> bool {
        let wanted = self.inner.wanted.load(Ordering::Relaxed);
        let reaches = |id: Option<LogId>| id.is_some_and(|id| id.index >= wanted);
        wanted > 0 && !reaches(self.last()) && reaches(applied)
    }

    /// Makes `snapshot`, which was received and is installed, the current one.
    pub(crate) fn installed(&self, snapshot: RaftSnapshot) {
        lock(&self.inner.counters).installed += 1;
        self.replace(snapshot);
    }

    /// A handle to the complete snapshot in `path`, which goes away with it unless it becomes the current one, or is kept.
    pub(crate) fn hold(&self, path: PathBuf, manifest: Manifest, verified: bool) -> SnapshotData {
        Arc::new(SnapshotDir {
            path,
            manifest,
            verified,
            transfers: self.inner.transfers.clone(),
            keep: AtomicBool::new(false),
        })
    }

    /// A path that was never used.
    pub(crate) fn new_path(&self) -> PathBuf {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.inner.dir.join(format!("{number:010}"))
    }

    /// Only forward: while one was made, a newer one may have been installed.
    fn replace(&self, snapshot: RaftSnapshot) {
        let mut current = lock(&self.inner.current);
        let last = |of: &RaftSnapshot| of.snapshot.manifest.applied.log_id;
        if current
            .as_ref()
            .is_some_and(|current| last(current) > last(&snapshot))
        {
            snapshot.snapshot.keep.store(false, Ordering::Relaxed);
            return;
        }
        snapshot.snapshot.keep();
        let old = current.replace(snapshot);
        drop(current);
        if let Some(old) = old {
            old.snapshot.keep.store(false, Ordering::Relaxed);
        }
    }
}

/// The current one as a former process left it.
fn found(path: PathBuf, manifest: Manifest, transfers: Transfers) -> io::Result<RaftSnapshot> {
    Ok(RaftSnapshot {
        meta: meta_of(&manifest.applied)?,
        snapshot: Arc::new(SnapshotDir {
            path,
            manifest,
            verified: false,
            transfers,
            keep: AtomicBool::new(true),
        }),
    })
}

/// What a state that is `applied` holds, in openraft's terms.
pub(crate) fn meta_of(applied: &Applied) -> io::Result<RaftSnapshotMeta> {
    let last_membership = match &applied.membership {
        Some(bytes) => convert::decode_membership(bytes)
            .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))?,
        None => RaftStoredMembership::default(),
    };
    Ok(RaftSnapshotMeta {
        last_log_id: applied.log_id.map(convert::raft_log_id),
        last_membership,
    })
}

fn remove(path: &Path) -> io::Result<()> {
    match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
