//! A state that cannot be trusted is set aside, and the node gets it back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream;
use openraft::storage::{RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};

use super::cluster::{
    Cluster, PATIENCE, eventually, fast, log_options, put_by_any, soon, state_options, until,
};
use super::disk::SlowDisk;
use super::install::snapshot_of_another;
use super::storage::{UUID, blank, id, machine};
use crate::raft::digests::ALONE;
use crate::raft::flush_gate::FlushGate;
use crate::raft::log_store::LogStore;
use crate::raft::repair::Opening;
use crate::raft::scrub::Scrubber;
use crate::raft::start::Guards;
use crate::raft::{
    MemberChange, Options, ReadError, ReadLevel, ScrubOptions, ScrubStats, SnapshotOptions,
};
use crate::storage::identity::DataDir;
use crate::storage::log::Log;
use crate::storage::snapshot;
use crate::storage::state::State;

/// A snapshot every two segments, and no tail beside.
fn short_log() -> Options {
    Options {
        snapshots: SnapshotOptions {
            log_bytes: 2 << 20,
            log_keep_bytes: 0,
            rate: 0,
            stall: Duration::from_secs(5),
            ..SnapshotOptions::default()
        },
        ..fast()
    }
}

/// Three nodes whose logs are purged, node 3 stopped.
async fn node_3_stopped() -> Cluster {
    let mut cluster = Cluster::formed_with(3, short_log(), Guards::ALL).await;
    let value = "v".repeat(64 << 10);
    for number in 0..100 {
        put_by_any(&cluster.clients(), &format!("k-{number}"), &value).await;
    }
    eventually("every log is purged", || {
        let mut nodes = cluster.nodes.values();
        nodes.all(|node| node.client.node.log.state().purged.is_some())
    })
    .await;
    cluster.converge().await;
    cluster.stop(3).await;
    cluster
}

/// The database in a state's directory.
fn database(state: &Path) -> PathBuf {
    let mut databases = fs::read_dir(state)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let found = databases.find(|path| path.join("CURRENT").exists());
    found.expect("a state has a database")
}

/// The files in `dir` whose names end so.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().ends_with(ending))
        .collect()
}

fn flip_in_the_middle(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Changes a bit in every `step` bytes: some of the blocks may be in memory, where nothing is wrong with them. A table that was
/// merged into others meanwhile is left out.
fn flip_each(path: &Path, step: usize) {
    let mut bytes = match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        read => read.unwrap(),
    };
    for byte in bytes.iter_mut().skip(step / 2).step_by(step) {
        *byte ^= 1;
    }
    fs::write(path, bytes).unwrap();
}

/// Writes once more and checks that node 3 has everything, as the others do.
async fn check_back(cluster: &Cluster) {
    put_by_any(&cluster.clients(), "after", "1").await;
    cluster.converge().await;
    let three = &cluster.nodes[&3];
    for key in ["first", "k-0", "k-99", "after"] {
        assert_eq!(three.get(key), cluster.nodes[&1].get(key), "{key}");
    }
    let same = three.state().dump().unwrap() == cluster.nodes[&1].state().dump().unwrap();
    assert!(same, "they hold different rows");
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_comes_back_from_the_nodes_own_snapshot_and_its_log() {
    let mut cluster = node_3_stopped().await;
    let dir = cluster.dir(3);
    fs::remove_file(database(&dir.join("state")).join("CURRENT")).unwrap();
    // Nobody else is needed.
    cluster.net.cut(3, 1);
    cluster.net.cut(3, 2);
    cluster.start(3).await;
    let read = cluster.client(3).read(ReadLevel::Follower, Instant::now());
    assert!(
        matches!(read.await, Err(ReadError::NotReady(_))),
        "it may be older than what this node has shown"
    );
    assert!(dir.join("state.damaged-1/DAMAGED").exists());
    cluster.net.heal();
    check_back(&cluster).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_whose_snapshots_are_damaged_too_comes_back_from_a_peer() {
    let mut cluster = node_3_stopped().await;
    let dir = cluster.dir(3);
    // Files that a snapshot and the state share are damaged in both.
    fs::remove_file(database(&dir.join("state")).join("CURRENT")).unwrap();
    for path in fs::read_dir(dir.join("snapshots")).unwrap() {
        let held = snapshot::state_dir(&path.unwrap().path());
        files(&held, ".sst")
            .iter()
            .for_each(|file| flip_in_the_middle(file));
    }
    cluster.start(3).await;
    let own = cluster.nodes[&3].client.node.snapshots.current().unwrap();
    assert_eq!(
        own.snapshot.manifest.cluster,
        cluster.nodes[&1].context.dir.identity().cluster_id
    );
    check_back(&cluster).await;
    assert!(dir.join("state.damaged-1").exists());
    assert!(!dir.join("state.damaged-2").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_meanwhile_does_not_ask_for_a_state_for_ever() {
    let cluster = node_3_stopped().await;
    let gone = MemberChange::Remove {
        id: 3,
        force: false,
    };
    let deadline = soon();
    'removing: loop {
        for client in cluster.clients() {
            match client.change_members(gone.clone(), deadline).await {
                Ok(_) => break 'removing,
                Err(why) => assert!(Instant::now() < deadline, "{why}"),
            }
        }
    }
    let dir = cluster.dir(3);
    fs::remove_dir_all(dir.join("state")).unwrap();
    for path in fs::read_dir(dir.join("snapshots")).unwrap() {
        snapshot::empty(&path.unwrap().path()).unwrap();
    }
    let dir = Arc::new(DataDir::open(&dir, 3).unwrap());
    let uuid = dir.identity().node_uuid;
    let disk = cluster.disk(3).clone();
    let opening = Opening {
        dir,
        log: Log::start(disk, &uuid, log_options()).unwrap(),
        state: state_options(),
        options: short_log(),
        call: cluster.net.unary(3),
        is_alone: false,
    };
    let opened = tokio::time::timeout(PATIENCE, opening.open()).await;
    let refused = opened.expect("it asks on and on").map(drop).unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("node 3 was removed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_deleted_with_its_snapshots_files_comes_back_from_a_peer() {
    let mut cluster = node_3_stopped().await;
    let dir = cluster.dir(3);
    fs::remove_dir_all(dir.join("state")).unwrap();
    for path in fs::read_dir(dir.join("snapshots")).unwrap() {
        let held = snapshot::state_dir(&path.unwrap().path());
        fs::remove_dir_all(held).unwrap();
    }
    cluster.start(3).await;
    check_back(&cluster).await;
    assert!(
        !dir.join("state.damaged-1").exists(),
        "there was nothing to keep"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_read_finds_damaged_stops_the_node_and_the_next_start_repairs_it() {
    let mut cluster = node_3_stopped().await;
    let dir = cluster.dir(3);
    cluster.start(3).await;
    // What was read at the start is not read then.
    for table in files(&database(&dir.join("state")), ".sst") {
        flip_in_the_middle(&table);
    }
    let state = cluster.nodes[&3].state().clone();
    let reading = tokio::task::spawn_blocking(move || state.dump().map(drop));
    let fault = reading.await.unwrap().unwrap_err();
    assert!(
        fault.is_damage && fault.what.contains("orruption"),
        "{fault}"
    );
    let told = until("the node stops", || cluster.faults().pop()).await;
    assert!(told.contains("sets this state aside"), "{told}");
    assert!(dir.join("state/DAMAGED").exists());
    cluster.crash(3).await;
    cluster.start(3).await;
    assert!(dir.join("state.damaged-1").exists());
    check_back(&cluster).await;
}

/// Reads what node 3 has on its disk through, at once.
async fn scrub(cluster: &Cluster) -> ScrubStats {
    let node = &cluster.nodes[&3].client.node;
    let scrubber = Scrubber {
        log: node.log.clone(),
        state: Arc::new(node.state.clone()),
        snapshots: node.snapshots.clone(),
        options: ScrubOptions {
            rate: u64::MAX,
            ..ScrubOptions::default()
        },
        faults: node.faults.clone(),
        counters: node.scrubbed.clone(),
    };
    let counters = scrubber.counters.clone();
    tokio::task::spawn_blocking(move || scrubber.round())
        .await
        .unwrap();
    counters.read()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_reads_everything_and_finds_a_cold_damaged_table_for_the_next_start_to_repair() {
    let mut cluster = node_3_stopped().await;
    cluster.start(3).await;
    check_back(&cluster).await;
    let whole = scrub(&cluster).await;
    assert_eq!((whole.rounds, whole.findings), (1, 0));
    assert!(whole.state_bytes > 6 << 20, "{whole:?}");
    let dir = cluster.dir(3);
    for table in files(&database(&dir.join("state")), ".sst") {
        flip_each(&table, 64 << 10);
    }
    assert_eq!(scrub(&cluster).await.findings, 1);
    let told = until("the node stops", || cluster.faults().pop()).await;
    assert!(told.contains("sets this state aside"), "{told}");
    cluster.crash(3).await;
    cluster.start(3).await;
    assert!(dir.join("state.damaged-1").exists());
    check_back(&cluster).await;
    assert_eq!(scrub(&cluster).await.rounds, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_alone_is_damaged_is_made_anew() {
    let mut cluster = node_3_stopped().await;
    cluster.start(3).await;
    check_back(&cluster).await;
    let held = cluster.nodes[&3].client.node.snapshots.current().unwrap();
    // Of its own in the snapshot, unlike the tables.
    let list = files(&snapshot::state_dir(&held.snapshot.path), "CURRENT");
    flip_in_the_middle(&list[0]);
    drop(held);
    let mended = scrub(&cluster).await;
    assert_eq!((mended.rounds, mended.findings), (1, 1));
    let whole = scrub(&cluster).await;
    assert_eq!((whole.rounds, whole.findings), (2, 1));
    assert_eq!(cluster.faults(), [""; 0]);
}

/// What opens the state of a node with `log`, which reaches nobody.
fn opening(root: &Path, log: Log) -> Opening {
    Opening {
        dir: Arc::new(DataDir::open(&root.join("node"), 1).unwrap()),
        log,
        state: state_options(),
        options: fast(),
        call: Arc::new(|_, _, _| Box::pin(async { Err("nobody is there".to_owned()) })),
        is_alone: false,
    }
}

/// A log of T1-0 to T1-8.
async fn nine_entries() -> Log {
    let log = Log::start(SlowDisk::default(), UUID, log_options()).unwrap();
    let mut store = LogStore::without_state(log.clone());
    let entries = (0..9).map(|index| blank(1, index));
    store.blocking_append(entries).await.unwrap();
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_contradicts_a_snapshot_is_cut_off_the_log() {
    let root = tempfile::tempdir().unwrap();
    let other = snapshot_of_another(root.path()).await;
    let log = nine_entries().await;
    let opening = opening(root.path(), log.clone());
    let manifest = &other.snapshot.manifest;
    assert_eq!(opening.make_way(manifest).await.unwrap(), id(2, 5));
    assert_eq!(
        log.state().last,
        Some(id(1, 4)),
        "what may be committed stays"
    );
    assert_eq!(opening.make_way(manifest).await.unwrap(), id(2, 5));
    assert_eq!(log.state().last, Some(id(1, 4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_does_not_fit_the_log_is_not_used() {
    let root = tempfile::tempdir().unwrap();
    let other = snapshot_of_another(root.path()).await;
    let held = snapshot::state_dir(&other.snapshot.path);
    let opening = opening(root.path(), nine_entries().await);
    let dir = opening.dir.state_dir();
    // It ends at T2-5, where the log has T1-5.
    State::open(&dir, state_options())
        .unwrap()
        .install(&held)
        .unwrap();
    let state = opening.open().await.unwrap();
    assert_eq!(
        state.applied().log_id,
        None,
        "the log has everything since its first entry"
    );
    let why = fs::read_to_string(root.path().join("node/state.damaged-1/DAMAGED")).unwrap();
    assert!(why.contains("made of another log"), "{why}");
}

/// The start that sets such a state aside ends before it has another one, and so does the one after it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_state_that_is_not_that_of_a_majority_left_is_used_by_no_later_start() {
    let root = tempfile::tempdir().unwrap();
    let log = nine_entries().await;
    log.purge(id(1, 5));
    let opening = opening(root.path(), log);
    let dir = opening.dir.state_dir();
    let state = State::open(&dir, state_options()).unwrap();
    let mut machine = machine(state.clone(), FlushGate::off(), &root.path().join("node"));
    let committed = (0..8).map(|index| Ok((blank(1, index), None)));
    machine.apply(stream::iter(committed)).await.unwrap();
    let mut builder = machine.get_snapshot_builder().await;
    builder.build_snapshot().await.unwrap();
    assert_eq!(opening.own_snapshots().unwrap().len(), 1);
    state.condemn(&format!("{ALONE}: it has another digest at index 7"));
    drop((builder, machine, state));
    for start in ["the first", "the next"] {
        // No membership is in log or snapshot, so there is nobody to ask.
        let refused = opening.open().await.map(|state| state.applied().log_id);
        let refused = refused.unwrap_err().to_string();
        assert!(
            refused.contains("so is every snapshot"),
            "{start}: {refused}"
        );
    }
    assert!(root.path().join("node/state.damaged-1").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_ends_before_the_state_is_refused_unless_a_snapshot_says_why() {
    let root = tempfile::tempdir().unwrap();
    let other = snapshot_of_another(root.path()).await;
    let held = snapshot::state_dir(&other.snapshot.path);
    let log = Log::start(SlowDisk::default(), UUID, log_options()).unwrap();
    let mut store = LogStore::without_state(log.clone());
    store.blocking_append([blank(1, 0)]).await.unwrap();
    let opening = opening(root.path(), log);
    State::open(&opening.dir.state_dir(), state_options())
        .unwrap()
        .install(&held)
        .unwrap();
    let refused = opening.open().await.unwrap_err().to_string();
    assert!(refused.contains("quorate node replace"), "{refused}");
    let snapshots = opening.dir.snapshots_dir();
    fs::create_dir_all(&snapshots).unwrap();
    fs::rename(&other.snapshot.path, snapshots.join("0000000001")).unwrap();
    let state = opening.open().await.unwrap();
    assert_eq!(state.applied().log_id, Some(id(2, 5)));
}
