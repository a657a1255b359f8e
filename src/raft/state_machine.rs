//! The state machine as openraft drives it: applies what is committed and on the local disk, and makes and takes
//! snapshots.

use std::io;
use std::sync::Arc;

use futures_util::stream::{Stream, StreamExt};
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};

use super::Replica;
use super::blocking;
use super::convert;
use super::digests::Marks;
use super::flush_gate::FlushGate;
use super::snapshots::{Snapshots, meta_of};
use super::types::{
    RaftEntry, RaftLogId, RaftSnapshot, RaftSnapshotMeta, RaftStoredMembership, SnapshotData, Types,
};
use crate::storage::{LogEntry, LogId, crash, snapshot, watch};

/// Bytes of entries applied, and written to the state, at once.
const CHUNK_BYTES_MAX: usize = 16 << 20;

/// Applies committed entries to the state; clones are the same machine.
#[derive(Clone)]
pub(crate) struct StateMachine {
    state: Arc<dyn Replica>,
    flushed: FlushGate,
    snapshots: Snapshots,
    marks: Marks,
    applied: watch::Sender<Option<LogId>>,
}

/// What openraft asks for a snapshot.
pub(crate) struct Builder {
    machine: StateMachine,
    /// Made already, by whoever told openraft to ask.
    made: Option<RaftSnapshot>,
}

/// Entries to apply at once, with who waits for them.
#[derive(Default)]
struct Chunk {
    entries: Vec<LogEntry>,
    responders: Vec<Option<ApplyResponder<Types>>>,
    bytes: usize,
}

impl StateMachine {
    /// The machine on `state`, which applies nothing that `flushed` does not cover and keeps its snapshots in `snapshots`.
    pub(crate) fn new(
        state: impl Replica,
        flushed: FlushGate,
        snapshots: Snapshots,
        marks: Marks,
    ) -> StateMachine {
        let applied = state.applied();
        marks.note(&applied);
        let applied = watch::Sender::new(applied.log_id);
        StateMachine {
            state: Arc::new(state),
            flushed,
            snapshots,
            marks,
            applied,
        }
    }

    /// The last entry applied, as it changes: by then a view shows it.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<Option<LogId>> {
        self.applied.subscribe()
    }

    async fn apply_chunk(&self, chunk: Chunk) -> io::Result<()> {
        let Some(last) = chunk.entries.last().map(|entry| entry.id) else {
            return Ok(());
        };
        let (state, marks, entries) = (self.state.clone(), self.marks.clone(), chunk.entries);
        let replies = blocking::io(move || {
            let replies = state.apply(&entries).map_err(io::Error::other)?;
            marks.note(&state.applied());
            Ok(replies)
        })
        .await?;
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
        let ends_at_mark = |entry: &LogEntry| Marks::is_due(entry.id.index);
        self.bytes >= CHUNK_BYTES_MAX || self.entries.last().is_some_and(ends_at_mark)
    }
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        if let Some(made) = self.made.take() {
            return Ok(made);
        }
        let (snapshots, state) = (self.machine.snapshots.clone(), self.machine.state.clone());
        blocking::io(move || snapshots.make(&*state)).await
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder;

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

    /// Without `force` openraft is told of the snapshot that was made last ([`super::keeper`]): a failure to make one is
    /// no reason to stop, as it would be here.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let made = self.snapshots.current().filter(|_| !force);
        if made.is_none() && !force {
            return None;
        }
        let machine = self.clone();
        Some(Builder { machine, made })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let (machine, made) = (self.clone(), None);
        Builder { machine, made }
    }

    async fn install_snapshot(
        &mut self,
        meta: &RaftSnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let held = meta_of(&snapshot.manifest.applied)?;
        if held.last_log_id != meta.last_log_id {
            return Err(io::Error::other(format!(
                "the snapshot was said to end at {:?} and ends at {:?}",
                meta.last_log_id, held.last_log_id
            )));
        }
        // What the log has instead of entries of the snapshot was cut off. A crash must not bring it back beside a state that is
        // past it: the node would not start again.
        self.flushed.settle().await?;
        crash::at("install:settled");
        let (state, marks, from) = (self.state.clone(), self.marks.clone(), snapshot.clone());
        blocking::io(move || {
            if !from.verified {
                snapshot::verify(&from.path, &from.manifest)?;
            }
            let dir = snapshot::state_dir(&from.path);
            marks.clear();
            // From here on the state may be that of the snapshot, and nobody may be left to hear of it: this node stops amid it, or
            // the rename is done and then the disk fails. A state past its log is believed only beside its snapshot, so that stays;
            // the next start deletes it if the state did not get that far.
            from.keep();
            state.install(&dir).map_err(io::Error::other)?;
            marks.note(&state.applied());
            Ok(())
        })
        .await?;
        crash::at("install:done");
        let last = held.last_log_id.as_ref().map(convert::log_id);
        if let Some(last) = last {
            self.flushed.raise(last);
        }
        self.applied.send_replace(last);
        self.snapshots.installed(RaftSnapshot {
            meta: held,
            snapshot,
        });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        Ok(self.snapshots.current())
    }
}
