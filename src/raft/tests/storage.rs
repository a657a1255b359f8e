//! Openraft's contracts with our stores.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream;
use openraft::async_runtime::WatchReceiver;
use openraft::entry::RaftEntry as _;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, RaftLogReader, StorageError, StorageHelper};

use super::cluster::{PATIENCE, log_options, state_options};
use super::disk::SlowDisk;
use super::net::{self, TestNet};
use crate::machine::{Command, Expect, entry};
use crate::raft::digests::Marks;
use crate::raft::flush_gate::FlushGate;
use crate::raft::log_store::LogStore;
use crate::raft::snapshots::Snapshots;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{Commands, Raft, RaftEntry, RaftLogId, RaftVote, Types};
use crate::raft::{config, convert};
use crate::storage::LogId;
use crate::storage::log::Log;
use crate::storage::state::State;

pub(super) const UUID: &str = "00000000-0000-4000-8000-000000000001";

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<Types>> {
        let root = tempfile::tempdir().unwrap();
        let log = Log::start(SlowDisk::default(), UUID, log_options()).unwrap();
        let state = State::open(&root.path().join("state"), state_options()).unwrap();
        // The suite applies entries that no log holds.
        let machine = machine(state, FlushGate::off(), root.path());
        Ok((root, LogStore::without_state(log), machine))
    }
}

pub(super) fn machine(state: State, gate: FlushGate, root: &Path) -> StateMachine {
    let applied = state.applied().log_id;
    let snapshots = Snapshots::open(root.join("snapshots"), None, applied).unwrap();
    StateMachine::new(state, gate, snapshots, Marks::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_keep_openrafts_contracts() {
    Suite::test_all(Builder).await.unwrap();
}

pub(super) fn id(term: u64, index: u64) -> LogId {
    LogId {
        term,
        node: 1,
        index,
    }
}

pub(super) fn blank(term: u64, index: u64) -> RaftEntry {
    RaftEntry::new_blank(convert::raft_log_id(id(term, index)))
}

fn put(term: u64, index: u64, key: &str) -> RaftEntry {
    let command = Command::KvPut {
        key,
        value: b"1",
        expect: Expect::Any,
    };
    let bytes = entry::assemble(&[command], index);
    RaftEntry::new_normal(
        convert::raft_log_id(id(term, index)),
        Commands(bytes.into()),
    )
}

/// What a crash left: the log holds T1-4 and, from another leader, uncommitted entries up to T1-8 on the disk. A new leader's
/// T2-5 replaced them in memory, is committed through others, and is given to apply. The state is flushed; the log is not.
/// Gives how far the state was, and whether the node starts again.
async fn apply_before_the_log_is_flushed(with_gate: bool) -> (Option<LogId>, Result<(), String>) {
    let root = tempfile::tempdir().unwrap();
    let disk = SlowDisk::default();
    let log = Log::start(disk.clone(), UUID, log_options()).unwrap();
    let state = State::open(&root.path().join("state"), state_options()).unwrap();
    let mut store = LogStore::new(log.clone(), state.clone());
    let gate = match with_gate {
        true => FlushGate::of(&log),
        false => FlushGate::off(),
    };
    let mut machine = machine(state.clone(), gate, root.path());
    store
        .save_vote(&RaftVote::new_committed(1, 1))
        .await
        .unwrap();
    store
        .blocking_append((0..9).map(|index| blank(1, index)))
        .await
        .unwrap();
    let committed = (0..5).map(|index| Ok((blank(1, index), None)));
    machine.apply(stream::iter(committed)).await.unwrap();

    let _hung = disk.hang();
    store
        .truncate_after(Some(convert::raft_log_id(id(1, 4))))
        .await
        .unwrap();
    store
        .append([put(2, 5, "a")], IOFlushed::noop())
        .await
        .unwrap();
    let replaced = stream::iter([Ok((put(2, 5, "a"), None))]);
    let applying = tokio::time::timeout(Duration::from_millis(100), machine.apply(replaced));
    assert_eq!(
        applying.await.is_err(),
        with_gate,
        "the gate holds apply back"
    );
    let applied = state.applied().log_id;
    state.flush().unwrap();

    drop((store, machine, state));
    let disk = disk.after_power_cut();
    drop(log);
    let log = Log::start(disk, UUID, log_options()).unwrap();
    let state = reopen(&root.path().join("state")).await;
    let mut store = LogStore::new(log.clone(), state.clone());
    let mut machine = machine_on(&log, state, root.path());
    let started = StorageHelper::new(&mut store, &mut machine)
        .with_id(1)
        .get_initial_state()
        .await;
    (
        applied,
        started.map(|_| ()).map_err(|error| error.to_string()),
    )
}

pub(super) fn machine_on(log: &Log, state: State, root: &Path) -> StateMachine {
    machine(state, FlushGate::of(log), root)
}

pub(super) async fn reopen(dir: &Path) -> State {
    super::cluster::until("the state is free", || {
        State::open(dir, state_options()).ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_applied_before_the_local_log_has_it_and_the_node_starts_again() {
    let (applied, started) = apply_before_the_log_is_flushed(true).await;
    assert_eq!(applied, Some(id(1, 4)));
    started.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_that_gate_a_node_cannot_start_again() {
    let (applied, started) = apply_before_the_log_is_flushed(false).await;
    assert_eq!(applied, Some(id(2, 5)));
    let error = started.expect_err("the test no longer shows what the gate prevents");
    assert!(error.contains("corrupted"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_compares_whole_log_ids_while_a_tail_is_replaced() {
    let disk = SlowDisk::default();
    let log = Log::start(disk.clone(), UUID, log_options()).unwrap();
    let mut store = LogStore::without_state(log.clone());
    store
        .blocking_append((0..9).map(|index| blank(1, index)))
        .await
        .unwrap();
    let gate = FlushGate::of(&log);
    assert!(gate.covers(id(1, 8)) && !gate.covers(id(1, 9)));
    let hung = disk.hang();
    // Before the truncation is known, the flushed id has the higher index and the older term.
    assert!(!gate.covers(id(2, 5)));
    store
        .truncate_after(Some(convert::raft_log_id(id(1, 4))))
        .await
        .unwrap();
    assert!(
        gate.covers(id(1, 4)) && !gate.covers(id(1, 5)),
        "truncation lowers it at once"
    );
    store
        .append([blank(2, 5)], IOFlushed::noop())
        .await
        .unwrap();
    assert!(!gate.covers(id(2, 5)));
    drop(hung);
    let mut waiting = gate.clone();
    tokio::time::timeout(PATIENCE, waiting.wait(id(2, 5)))
        .await
        .unwrap()
        .unwrap();
    // What was replaced is not there, though its id is older.
    assert!(gate.covers(id(2, 5)) && !gate.covers(id(1, 8)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_fails_ends_the_wait_at_the_gate() {
    let disk = SlowDisk::default();
    let log = Log::start(disk.clone(), UUID, log_options()).unwrap();
    let mut store = LogStore::without_state(log.clone());
    let hung = disk.hang();
    store
        .append([blank(1, 0)], IOFlushed::noop())
        .await
        .unwrap();
    let mut gate = FlushGate::of(&log);
    let waiting = tokio::spawn(async move { gate.wait(id(1, 0)).await });
    disk.model.fail_at(disk.model.operations());
    drop(hung);
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    let error = waited.unwrap().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "injected disk error");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_done_when_it_is_on_the_disk() {
    let disk = SlowDisk::default();
    let log = Log::start(disk.clone(), UUID, log_options()).unwrap();
    let mut store = LogStore::without_state(log.clone());
    let hung = disk.hang();
    let mut appending = Box::pin(store.blocking_append([blank(1, 0)]));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut appending);
    assert!(early.await.is_err(), "done while the disk hangs");
    assert_eq!(*log.flushed().borrow(), None);
    drop(hung);
    let done = tokio::time::timeout(PATIENCE, appending).await;
    done.unwrap().unwrap();
    assert_eq!(*log.flushed().borrow(), Some(id(1, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_is_saved_when_it_is_on_the_disk() {
    let disk = SlowDisk::default();
    let log = Log::start(disk.clone(), UUID, log_options()).unwrap();
    let mut store = LogStore::without_state(log);
    let hung = disk.hang();
    let vote = RaftVote::new(2, 1);
    let mut saving = Box::pin(store.save_vote(&vote));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut saving);
    assert!(early.await.is_err(), "saved while the disk hangs");
    drop(hung);
    let saved = tokio::time::timeout(PATIENCE, saving).await;
    saved.unwrap().unwrap();
    assert_eq!(store.read_vote().await.unwrap(), Some(vote));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_not_purged_beyond_the_durable_state() {
    let root = tempfile::tempdir().unwrap();
    let log = Log::start(SlowDisk::default(), UUID, log_options()).unwrap();
    let state = State::open(&root.path().join("state"), state_options()).unwrap();
    let mut store = LogStore::new(log.clone(), state.clone());
    let mut machine = machine_on(&log, state.clone(), root.path());
    store
        .blocking_append((0..9).map(|index| blank(1, index)))
        .await
        .unwrap();
    let committed = (0..5).map(|index| Ok((blank(1, index), None)));
    machine.apply(stream::iter(committed)).await.unwrap();
    store
        .purge(convert::raft_log_id(id(1, 5)))
        .await
        .unwrap_err();
    assert_eq!(log.state().purged, None);
    store.purge(convert::raft_log_id(id(1, 4))).await.unwrap();
    assert_eq!(log.state().purged, Some(id(1, 4)));
    assert!(
        state.durable() >= Some(id(1, 4)),
        "purging made it durable first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_for_a_peer_is_bounded_by_bytes_and_never_empty() {
    let log = Log::start(SlowDisk::default(), UUID, log_options()).unwrap();
    let mut store = LogStore::without_state(log);
    let big = |index| {
        let bytes = vec![0; 1 << 20];
        RaftEntry::new_normal(convert::raft_log_id(id(1, index)), Commands(bytes.into()))
    };
    store.blocking_append((0..6).map(big)).await.unwrap();
    assert_eq!(store.limited_get_log_entries(0, 6).await.unwrap().len(), 2);
    assert_eq!(store.try_get_log_entries(0..6).await.unwrap().len(), 6);
}

/// A log that tells openraft of its flushes when the test says so, and of those it chooses.
#[derive(Clone)]
struct Forgetful {
    store: LogStore,
    held: Arc<Mutex<Vec<IOFlushed<Types>>>>,
}

impl RaftLogReader<Types> for Forgetful {
    async fn try_get_log_entries<R>(&mut self, range: R) -> io::Result<Vec<RaftEntry>>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.store.try_get_log_entries(range).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        self.store.read_vote().await
    }
}

impl RaftLogStorage<Types> for Forgetful {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        self.store.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.store.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        self.store.save_vote(vote).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.store.blocking_append(entries).await?;
        self.held.lock().unwrap().push(callback);
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<RaftLogId>) -> io::Result<()> {
        self.store.truncate_after(last).await
    }

    async fn purge(&mut self, upto: RaftLogId) -> io::Result<()> {
        self.store.purge(upto).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_completion_covers_older_ones_that_were_dropped() {
    let root = tempfile::tempdir().unwrap();
    let log = Log::start(SlowDisk::default(), UUID, log_options()).unwrap();
    let state = State::open(&root.path().join("state"), state_options()).unwrap();
    let held = Arc::new(Mutex::new(Vec::new()));
    let store = Forgetful {
        store: LogStore::new(log.clone(), state.clone()),
        held: held.clone(),
    };
    let machine = machine_on(&log, state, root.path());
    let config = Arc::new(config::build(&super::cluster::fast()).unwrap());
    let network = TestNet::default().of(1);
    let raft = Raft::new(1, config, network, store, machine).await.unwrap();
    // Forming writes two entries; both are needed to go on.
    let members = [(1, net::member(1))];
    let forming = tokio::spawn({
        let raft = raft.clone();
        async move {
            raft.initialize(std::collections::BTreeMap::from(members))
                .await
        }
    });
    super::cluster::eventually("this node leads", || {
        held.lock()
            .unwrap()
            .drain(..)
            .for_each(|flushed| flushed.io_completed(Ok(())));
        raft.metrics().borrow_watched().current_leader == Some(1)
    })
    .await;
    forming.await.unwrap().unwrap();
    let mut writes = Vec::new();
    for number in 0..9 {
        let key = format!("k{number}");
        let command = Command::KvPut {
            key: &key,
            value: b"1",
            expect: Expect::Any,
        };
        let commands = Commands(entry::assemble(&[command], 1).into());
        let raft = raft.clone();
        writes.push(tokio::spawn(
            async move { raft.client_write(commands).await },
        ));
        super::cluster::eventually("it is appended", || {
            held.lock().unwrap().len() == number + 1
        })
        .await;
    }
    let newest = held.lock().unwrap().drain(..).next_back().unwrap();
    newest.io_completed(Ok(()));
    for write in writes {
        let answer = tokio::time::timeout(PATIENCE, write).await;
        answer
            .expect("the newest completion covers it")
            .unwrap()
            .unwrap();
    }
    raft.shutdown().await.unwrap();
}
