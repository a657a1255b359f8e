//! The state machine as openraft drives it: applies what is committed and on the local disk, and makes and takes
//! snapshots.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use super::Replica;
use super::convert;
use super::flush_gate::FlushGate;
use super::log_store::blocking;
use super::types::{
    RaftEntry, RaftLogId, RaftSnapshot, RaftSnapshotMeta, RaftStoredMembership, SnapshotData,
    SnapshotDir, Types,
};
use crate::storage::state::Applied;
use crate::storage::{LogEntry, LogId, watch};

/// Bytes of entries applied, and written to the state, at once.
const CHUNK_BYTES_MAX: usize = 16 << 20;
/// Entries applied at once.
const CHUNK_ENTRIES_MAX: usize = 4096;

/// Applies committed entries to the state; clones are the same machine.
#[derive(Clone)]
pub(crate) struct StateMachine {
    state: Arc<dyn Replica>,
    flushed: FlushGate,
    snapshots: Arc<Snapshots>,
    applied: watch::Sender<Option<LogId>>,
}

/// Where snapshots are kept, and the current one.
struct Snapshots {
    dir: PathBuf,
    next: AtomicU64,
    current: Mutex<Option<RaftSnapshot>>,
}

/// Entries to apply at once, with who waits for them.
#[derive(Default)]
struct Chunk {
    entries: Vec<LogEntry>,
    responders: Vec<Option<ApplyResponder<Types>>>,
    bytes: usize,
}

impl StateMachine {
    /// The machine on `state`, which applies nothing that `flushed` does not cover. Snapshots are kept in `dir`; those a
    /// former process left there are removed.
    ///
    /// # Errors
    /// If `dir` cannot be emptied.
    pub(crate) fn new(
        state: impl Replica,
        flushed: FlushGate,
        dir: PathBuf,
    ) -> io::Result<StateMachine> {
        match std::fs::remove_dir_all(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        std::fs::create_dir_all(&dir)?;
        let applied = watch::Sender::new(state.applied().log_id);
        let snapshots = Arc::new(Snapshots {
            dir,
            next: AtomicU64::new(0),
            current: Mutex::new(None),
        });
        Ok(StateMachine {
            state: Arc::new(state),
            flushed,
            snapshots,
            applied,
        })
    }

    /// The last entry applied, as it changes: by then a view shows it.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<Option<LogId>> {
        self.applied.subscribe()
    }

    async fn apply_chunk(&self, chunk: Chunk) -> io::Result<()> {
        let Some(last) = chunk.entries.last().map(|entry| entry.id) else {
            return Ok(());
        };
        let (state, entries) = (self.state.clone(), chunk.entries);
        let replies = blocking(move || state.apply(&entries).map_err(io::Error::other)).await?;
        assert_eq!(
            replies.len(),
            chunk.responders.len(),
            "one list of replies per entry"
        );
        self.applied.send_replace(Some(last));
        for (responder, replies) in chunk.responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(replies);
            }
        }
        Ok(())
    }
}

impl Chunk {
    fn push(&mut self, entry: RaftEntry, responder: Option<ApplyResponder<Types>>) {
        let entry = convert::entry(entry);
        self.bytes += entry.body.len();
        self.entries.push(entry);
        self.responders.push(responder);
    }

    fn is_full(&self) -> bool {
        self.bytes >= CHUNK_BYTES_MAX || self.entries.len() >= CHUNK_ENTRIES_MAX
    }
}

impl Snapshots {
    fn current(&self) -> std::sync::MutexGuard<'_, Option<RaftSnapshot>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path that was never used in this process.
    fn new_path(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{number:010}"))
    }
}

impl RaftSnapshotBuilder<Types> for StateMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        let machine = self.clone();
        blocking(move || {
            let path = machine.snapshots.new_path();
            let held = machine.state.checkpoint(&path).map_err(io::Error::other)?;
            let snapshot = RaftSnapshot {
                meta: meta_of(&held.applied)?,
                snapshot: Arc::new(SnapshotDir { path }),
            };
            *machine.snapshots.current() = Some(snapshot.clone());
            Ok(snapshot)
        })
        .await
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = StateMachine;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftStoredMembership)> {
        let meta = meta_of(&self.state.applied())?;
        Ok((meta.last_log_id, meta.last_membership))
    }

    /// Applies in chunks: what is committed and flushed by now, then answers, then waits for more to be flushed.
    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + Send,
    {
        let mut chunk = Chunk::default();
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let id = convert::log_id(&entry.log_id);
            if chunk.is_full() || !self.flushed.covers(id) {
                self.apply_chunk(std::mem::take(&mut chunk)).await?;
                self.flushed.wait(id).await?;
            }
            chunk.push(entry, responder);
        }
        self.apply_chunk(chunk).await
    }

    async fn get_snapshot_builder(&mut self) -> StateMachine {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &RaftSnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let (state, from) = (self.state.clone(), snapshot.clone());
        let held = blocking(move || state.install(&from.path).map_err(io::Error::other)).await?;
        let held = meta_of(&held.applied)?;
        if held.last_log_id != meta.last_log_id {
            return Err(io::Error::other(format!(
                "the snapshot was said to end at {:?} and ends at {:?}",
                meta.last_log_id, held.last_log_id
            )));
        }
        let last = held.last_log_id.as_ref().map(convert::log_id);
        if let Some(last) = last {
            self.flushed.raise(last);
        }
        self.applied.send_replace(last);
        *self.snapshots.current() = Some(RaftSnapshot {
            meta: held,
            snapshot,
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        Ok(self.snapshots.current().clone())
    }
}

/// What a state that is `applied` holds, in openraft's terms.
fn meta_of(applied: &Applied) -> io::Result<RaftSnapshotMeta> {
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
