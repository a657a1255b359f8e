//! Stores on plain memory.

use super::*;

/// A log in memory: what is appended is at once as good as on a disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryLog(pub(super) Arc<Mutex<MemoryLogState>>);

#[derive(Debug, Default)]
pub(super) struct MemoryLogState {
    pub(super) vote: Option<RaftVote>,
    pub(super) entries: BTreeMap<u64, RaftEntry>,
}

impl RaftLogReader<Types> for MemoryLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<RaftEntry>> {
        let state = self.0.lock().unwrap();
        Ok(state.entries.range(range).map(|(_, e)| e.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.0.lock().unwrap().vote)
    }
}

impl RaftLogStorage<Types> for MemoryLog {
    type LogReader = MemoryLog;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let state = self.0.lock().unwrap();
        Ok(LogState {
            last_purged_log_id: None,
            last_log_id: state.entries.values().last().map(|entry| entry.log_id),
        })
    }

    async fn get_log_reader(&mut self) -> MemoryLog {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        self.0.lock().unwrap().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(|entry| (entry.log_id.index, entry));
        self.0.lock().unwrap().entries.extend(entries);
        done.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        let keep = last.map_or(0, |last| last.index + 1);
        self.0.lock().unwrap().entries.split_off(&keep);
        Ok(())
    }

    async fn purge(&mut self, _upto: RaftLogId) -> io::Result<()> {
        Ok(())
    }
}

/// What was applied, in order.
#[derive(Clone, Debug)]
pub(crate) struct MemoryMachine {
    pub(super) state: Arc<Mutex<(Option<RaftLogId>, RaftStoredMembership)>>,
    pub(crate) applied: watch::Sender<Vec<Bytes>>,
}

impl RaftSnapshotBuilder<Types> for MemoryMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        Err(io::Error::other("no snapshots here"))
    }
}

impl RaftStateMachine<Types> for MemoryMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = MemoryMachine;

    async fn applied_state(&mut self) -> io::Result<(Option<RaftLogId>, RaftStoredMembership)> {
        Ok(self.state.lock().unwrap().clone())
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            {
                let mut state = self.state.lock().unwrap();
                state.0 = Some(entry.log_id);
                if let EntryPayload::Membership(membership) = &entry.payload {
                    state.1 = RaftStoredMembership::new(Some(entry.log_id), membership.clone());
                }
            }
            if let EntryPayload::Normal(Commands(bytes)) = entry.payload {
                self.applied.send_modify(|applied| applied.push(bytes));
            }
            if let Some(responder) = responder {
                responder.send(Vec::new());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> MemoryMachine {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        _meta: &RaftSnapshotMeta,
        _snapshot: SnapshotData,
    ) -> io::Result<()> {
        Err(io::Error::other("no snapshots here"))
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        Ok(None)
    }
}
