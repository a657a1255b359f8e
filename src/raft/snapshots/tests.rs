//! Which snapshots stay, over a restart and while they are read.

use std::collections::BTreeSet;

use super::*;
use crate::storage::state::{Options, State};
use crate::storage::{Kind, LogEntry};

fn apply(state: &State, index: u64) -> Option<LogId> {
    let id = LogId {
        term: 1,
        node: 1,
        index,
    };
    let entry = LogEntry {
        id,
        kind: Kind::Blank,
        body: bytes::Bytes::new(),
    };
    state.apply(&[entry]).unwrap();
    Some(id)
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn open(root: &Path, applied: Option<LogId>) -> Snapshots {
    Snapshots::open(root.join("snapshots"), None, applied).unwrap()
}

#[test]
fn the_current_snapshot_is_found_again_and_what_a_crash_left_goes() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("snapshots");
    let state = State::open(&root.path().join("state"), Options::default()).unwrap();
    apply(&state, 0);
    let snapshots = open(root.path(), None);
    assert!(snapshots.current().is_none());
    snapshots.make(&state).unwrap();
    let last = apply(&state, 1);
    let made = snapshots.make(&state).unwrap();
    assert_eq!(
        names(&dir),
        BTreeSet::from(["0000000001".to_owned()]),
        "one was replaced"
    );
    drop((snapshots, made));

    // One that was not finished, one that does not fit its manifest, and something else; what is staged stays.
    snapshot::make(
        |at| state.checkpoint(at),
        &dir.join("0000000002"),
        None,
        None,
    )
    .unwrap();
    fs::remove_file(dir.join("0000000002/manifest")).unwrap();
    snapshot::make(
        |at| state.checkpoint(at),
        &dir.join("0000000003"),
        None,
        None,
    )
    .unwrap();
    fs::remove_file(dir.join("0000000003/state/CURRENT")).unwrap();
    fs::create_dir(dir.join("junk")).unwrap();
    fs::create_dir(dir.join(INCOMING)).unwrap();
    fs::write(dir.join(INCOMING).join("staged"), "x").unwrap();
    let snapshots = open(root.path(), last);
    assert_eq!(snapshots.last(), last);
    let left = ["0000000001", INCOMING].map(str::to_owned);
    assert_eq!(names(&dir), BTreeSet::from(left));
    assert!(snapshots.incoming().join("staged").exists());
    let next = snapshots.new_path();
    assert!(
        next.ends_with("0000000004"),
        "{}: no number is used twice",
        next.display()
    );
}

#[test]
fn a_snapshot_that_arrived_and_was_not_installed_is_not_taken_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let state = State::open(&root.path().join("state"), Options::default()).unwrap();
    let before = apply(&state, 0);
    let after = apply(&state, 1);
    let dir = root.path().join("snapshots");
    fs::create_dir(&dir).unwrap();
    snapshot::make(
        |at| state.checkpoint(at),
        &dir.join("0000000000"),
        None,
        None,
    )
    .unwrap();
    assert_eq!(open(root.path(), after).last(), after);
    assert_eq!(open(root.path(), before).last(), None);
    assert_eq!(names(&dir), BTreeSet::new());
}

#[test]
fn a_snapshot_of_the_cluster_that_a_node_was_in_before_is_not_offered_to_others() {
    const CLUSTER: &str = "0123456789abcdef0123456789abcdef";
    let root = tempfile::tempdir().unwrap();
    let node = Arc::new(DataDir::open(&root.path().join("node"), 1).unwrap());
    node.set_cluster_id(CLUSTER, false).unwrap();
    let state = State::open(&node.state_dir(), Options::default()).unwrap();
    let at = apply(&state, 0);
    let open = || Snapshots::open(node.snapshots_dir(), Some(node.clone()), at).unwrap();
    open().make(&state).unwrap();
    assert_eq!(open().last(), at);
    node.recover(at.unwrap()).unwrap();
    assert_eq!(open().last(), None);
    open().make(&state).unwrap();
    assert_eq!(open().last(), at);
}

#[test]
fn a_snapshot_that_is_being_sent_is_deleted_only_then() {
    let root = tempfile::tempdir().unwrap();
    let state = State::open(&root.path().join("state"), Options::default()).unwrap();
    apply(&state, 0);
    let snapshots = open(root.path(), None);
    let sent = snapshots.make(&state).unwrap();
    apply(&state, 1);
    let current = snapshots.make(&state).unwrap();
    snapshot::verify(&sent.snapshot.path, &sent.snapshot.manifest).unwrap();
    let path = sent.snapshot.path.clone();
    drop(sent);
    assert!(!path.exists());
    assert!(current.snapshot.path.exists());
}

#[test]
fn an_older_snapshot_does_not_take_the_place_of_a_newer_one() {
    let root = tempfile::tempdir().unwrap();
    let state = State::open(&root.path().join("state"), Options::default()).unwrap();
    let snapshots = open(root.path(), None);
    apply(&state, 0);
    let older = snapshots.make(&state).unwrap();
    let last = apply(&state, 1);
    snapshots.make(&state).unwrap();
    snapshots.installed(older);
    assert_eq!(snapshots.last(), last);
}

#[tokio::test]
async fn the_log_after_a_snapshot_is_kept_while_it_is_sent_and_for_a_moment_after() {
    let transfers = Transfers::default();
    assert_eq!(transfers.needs_after(), None);
    let (far, near) = (transfers.send(2, 50, 100), transfers.send(3, 70, 100));
    assert_eq!(transfers.needs_after(), Some(50));
    far.lacks(80);
    far.sent(30);
    assert_eq!(transfers.sending()[0].done, 50);
    drop(far);
    let needed = transfers.needs_after();
    assert_eq!(needed, Some(70), "one that failed needs nothing");
    near.delivered();
    assert_eq!(transfers.sending(), []);
    assert_eq!(
        transfers.needs_after(),
        Some(70),
        "replication has to go on from there"
    );
}

#[tokio::test]
async fn a_newer_transfer_takes_over_from_an_older_one() {
    let transfers = Transfers::default();
    let first = transfers.receive(1, 50, 100).await;
    assert!(!first.give_way.is_cancelled());
    let second = transfers.receive(2, 60, 100);
    let mut second = std::pin::pin!(second);
    assert!(
        futures_util::poll!(second.as_mut()).is_pending(),
        "one at a time"
    );
    assert!(first.give_way.is_cancelled());
    first.had(30);
    assert_eq!(transfers.receiving().unwrap().done, 30);
    drop(first);
    let second = second.await;
    assert!(!second.give_way.is_cancelled());
    assert_eq!(transfers.receiving().unwrap().peer, 2);
    drop(second);
    assert_eq!(transfers.receiving(), None);
}

#[tokio::test]
async fn what_is_staged_goes_only_once_no_transfer_has_come_in_for_a_while() {
    let root = tempfile::tempdir().unwrap();
    let snapshots = open(root.path(), None);
    let staged = snapshots.incoming().join("staged");
    fs::create_dir(snapshots.incoming()).unwrap();
    fs::write(&staged, "x").unwrap();
    let (long, none) = (Duration::from_secs(60), Duration::ZERO);
    snapshots.clear_abandoned(long).await.unwrap();
    assert!(staged.exists(), "a start tells nothing of when it came");
    let receiving = snapshots.transfers().receive(2, 9, 100).await;
    snapshots.clear_abandoned(none).await.unwrap();
    assert!(staged.exists(), "it comes in now");
    drop(receiving);
    snapshots.clear_abandoned(long).await.unwrap();
    assert!(staged.exists(), "the next one may go on from there");
    snapshots.clear_abandoned(none).await.unwrap();
    assert!(!snapshots.incoming().exists());
    snapshots.clear_abandoned(none).await.unwrap();
}
