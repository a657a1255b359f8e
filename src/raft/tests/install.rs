//! Making and installing snapshots, and what a crash amid that leaves.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, stream};
use openraft::StorageHelper;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};

use super::cluster::{eventually, log_options, state_options};
use super::disk::SlowDisk;
use super::storage::{UUID, blank, id, machine, machine_on, reopen};
use crate::raft::convert;
use crate::raft::digests::Marks;
use crate::raft::flush_gate::FlushGate;
use crate::raft::log_store::LogStore;
use crate::raft::snapshots::Snapshots;
use crate::raft::start;
use crate::raft::state_machine::StateMachine;
use crate::raft::types::{RaftSnapshot, RaftVote};
use crate::storage::log::Log;
use crate::storage::snapshot;
use crate::storage::state::State;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_installed_only_if_it_is_what_was_said_and_counts_as_applied_and_flushed() {
    let root = tempfile::tempdir().unwrap();
    let state = State::open(&root.path().join("sender"), state_options()).unwrap();
    let mut sender = machine(state, FlushGate::off(), &root.path().join("a"));
    let committed = (0..5).map(|index| Ok((blank(1, index), None)));
    sender.apply(stream::iter(committed)).await.unwrap();
    let built = sender
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    let log = Log::start(SlowDisk::default(), UUID, log_options()).unwrap();
    let state = State::open(&root.path().join("state"), state_options()).unwrap();
    let gate = FlushGate::of(&log);
    let mut receiver = machine(state, gate.clone(), &root.path().join("b"));
    let applied = receiver.watch_applied();

    let mut said = built.meta.clone();
    said.last_log_id = Some(convert::raft_log_id(id(1, 5)));
    let refused = receiver.install_snapshot(&said, built.snapshot.clone());
    let refused = refused.await.unwrap_err().to_string();
    assert!(refused.contains("was said to end at"), "{refused}");
    assert!(receiver.get_current_snapshot().await.unwrap().is_none());

    let installed = receiver.install_snapshot(&built.meta, built.snapshot);
    installed.await.unwrap();
    assert_eq!(*applied.borrow(), Some(id(1, 4)), "readers wait for it");
    assert!(gate.covers(id(1, 4)) && !gate.covers(id(1, 5)));
    let current = receiver.get_current_snapshot().await.unwrap();
    assert_eq!(current.unwrap().meta, built.meta);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_says_what_it_holds_though_entries_are_applied_meanwhile() {
    let root = tempfile::tempdir().unwrap();
    let state = State::open(&root.path().join("state"), state_options()).unwrap();
    let mut machine = machine(state, FlushGate::off(), root.path());
    let applying = tokio::spawn({
        let mut machine = machine.clone();
        async move {
            for index in 0.. {
                let one = stream::iter([Ok((blank(1, index), None))]);
                machine.apply(one).await.unwrap();
            }
        }
    });
    let mut last = None;
    for _ in 0..20 {
        let built = machine
            .get_snapshot_builder()
            .await
            .build_snapshot()
            .await
            .unwrap();
        let held = State::inspect_checkpoint(&snapshot::state_dir(&built.snapshot.path)).unwrap();
        let held = held.applied.log_id.map(convert::raft_log_id);
        assert_eq!(built.meta.last_log_id, held);
        assert!(held >= last);
        last = held;
    }
    assert!(last.is_some(), "nothing was applied meanwhile");
    applying.abort();
}

/// The core is dropped amid an installation, which goes on to its end where it may block.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_amid_an_installation_leaves_the_snapshot_that_the_next_start_needs() {
    let root = tempfile::tempdir().unwrap();
    let made = snapshot_of_another(root.path()).await;
    let state = State::open(&root.path().join("state"), state_options()).unwrap();
    let dir = root.path().join("snapshots");
    let snapshots = Snapshots::open(dir.clone(), None, None).unwrap();
    let path = snapshots.new_path();
    std::fs::rename(&made.snapshot.path, &path).unwrap();
    let received = snapshots.hold(path, made.snapshot.manifest.clone(), true);
    let held = Arc::downgrade(&received);
    let (off, marks) = (FlushGate::off(), Marks::default());
    let mut machine = StateMachine::new(state.clone(), off, snapshots, marks);
    // Begun, and let go of.
    let begun = machine.install_snapshot(&made.meta, received);
    let done = begun.now_or_never();
    assert!(done.is_none(), "it was done at once: {done:?}");
    drop(machine);
    eventually("the installation ends", || held.strong_count() == 0).await;
    let applied = state.applied().log_id;
    assert_eq!(applied, Some(id(2, 5)));
    let after = Snapshots::open(dir, None, applied).unwrap();
    assert_eq!(after.last(), applied);
}

/// A snapshot up to T2-5, made elsewhere.
pub(super) async fn snapshot_of_another(root: &Path) -> RaftSnapshot {
    let state = State::open(&root.join("other/state"), state_options()).unwrap();
    let mut other = machine(state, FlushGate::off(), &root.join("other"));
    let old = (0..4).map(|index| Ok((blank(1, index), None)));
    let new = (4..6).map(|index| Ok((blank(2, index), None)));
    other.apply(stream::iter(old.chain(new))).await.unwrap();
    let built = other.get_snapshot_builder().await.build_snapshot().await;
    built.unwrap()
}

/// A node with T1-0 to T1-8 in its log, of which four are applied. The rest is cut off for a snapshot up to T2-5; the disk hangs
/// meanwhile, and the power goes when the snapshot is installed, or would be. Whether it was, and whether the node starts again.
#[tokio::test(flavor = "multi_thread")]
async fn an_installation_waits_until_what_was_cut_off_for_it_is_gone_from_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let snapshot = snapshot_of_another(root.path()).await;
    let disk = SlowDisk::default();
    let log = Log::start(disk.clone(), UUID, log_options()).unwrap();
    let state = State::open(&root.path().join("state"), state_options()).unwrap();
    let mut store = LogStore::new(log.clone(), state.clone());
    let mut machine = machine_on(&log, state.clone(), root.path());
    let vote = RaftVote::new_committed(1, 1);
    store.save_vote(&vote).await.unwrap();
    let entries = (0..9).map(|index| blank(1, index));
    store.blocking_append(entries).await.unwrap();
    let committed = (0..4).map(|index| Ok((blank(1, index), None)));
    machine.apply(stream::iter(committed)).await.unwrap();
    state.flush().unwrap();

    let _hung = disk.hang();
    let cut = convert::raft_log_id(id(1, 3));
    store.truncate_after(Some(cut)).await.unwrap();
    let installing = machine.install_snapshot(&snapshot.meta, snapshot.snapshot);
    let installing = tokio::time::timeout(Duration::from_millis(300), installing);
    assert!(
        installing.await.is_err(),
        "installed beside entries that a crash brings back"
    );

    drop((store, machine, state));
    let disk = disk.after_power_cut();
    drop(log);
    let log = Log::start(disk, UUID, log_options()).unwrap();
    let state = reopen(&root.path().join("state")).await;
    assert_eq!(
        state.applied().log_id,
        Some(id(1, 3)),
        "the old state stays"
    );
    let mut store = LogStore::new(log.clone(), state.clone());
    let mut machine = machine_on(&log, state, root.path());
    let mut helper = StorageHelper::new(&mut store, &mut machine).with_id(1);
    helper.get_initial_state().await.unwrap();
}

/// As a crash between installation and purge leaves it, where the log ends before the snapshot, in a later term: a leader that
/// never had a majority wrote T3-4, and the one after it goes on from T2-5.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_before_the_installed_snapshot_is_purged_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let snapshot = snapshot_of_another(root.path()).await;
    let log = Log::start(SlowDisk::default(), UUID, log_options()).unwrap();
    let state = State::open(&root.path().join("state"), state_options()).unwrap();
    let mut store = LogStore::new(log.clone(), state.clone());
    let vote = RaftVote::new_committed(3, 1);
    store.save_vote(&vote).await.unwrap();
    let entries = (0..4).map(|index| blank(1, index)).chain([blank(3, 4)]);
    store.blocking_append(entries).await.unwrap();
    state
        .install(&snapshot::state_dir(&snapshot.snapshot.path))
        .unwrap();

    start::forget_what_the_state_is_past(&log, &state);
    assert_eq!(log.state().last, Some(id(2, 5)));
    assert_eq!(log.state().purged, Some(id(2, 5)));
    let mut machine = machine_on(&log, state.clone(), root.path());
    let mut helper = StorageHelper::new(&mut store, &mut machine).with_id(1);
    helper.get_initial_state().await.unwrap();
    // A log that goes on beyond the state is left alone.
    store.blocking_append([blank(3, 6)]).await.unwrap();
    start::forget_what_the_state_is_past(&log, &state);
    assert_eq!(log.state().last, Some(id(3, 6)));
}
