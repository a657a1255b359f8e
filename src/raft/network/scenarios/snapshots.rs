//! Snapshots: whose are taken, and what does not wait behind them.

use super::*;
use crate::raft::snapshots::{Snapshots, meta_of};
use crate::raft::types::RaftSnapshot;
use crate::storage::snapshot::{FileEntry, Manifest};
use crate::storage::state::Applied;

/// A snapshot that says it is of `cluster` and ends at `last`; of its one file there is nothing.
pub(super) fn said_to_be(cluster: &str, last: Option<LogId>) -> RaftSnapshot {
    let tmp = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(tmp.path().join("snapshots"), None, None).unwrap();
    let manifest = Manifest {
        cluster: Some(cluster.to_owned()),
        applied: Applied {
            log_id: last,
            ..Applied::default()
        },
        files: vec![FileEntry {
            name: "000001.sst".to_owned(),
            size: 1 << 20,
            hash: [1; 32],
        }],
    };
    RaftSnapshot {
        meta: meta_of(&manifest.applied).unwrap(),
        snapshot: snapshots.hold(snapshots.new_path(), manifest, false),
    }
}

/// Why `link` cannot send `snapshot` under the vote of node 1 in term 1.
pub(super) async fn snapshot_error<C: Connect>(
    link: &mut Link<C>,
    snapshot: RaftSnapshot,
) -> String {
    let never = std::future::pending();
    let sending = link.full_snapshot(leader_vote(1, 1), snapshot, never, ttl());
    timeout(SOON, sending)
        .await
        .unwrap()
        .unwrap_err()
        .to_string()
}

pub(crate) async fn a_snapshot_of_who_is_not_meant_is_refused_with_the_reason(serve: Serve) {
    let node = follower(2, serve).await;
    let last = Some(log_id(1, 1, 9));
    let cases = [
        (Stranger::new(1, OTHER_CLUSTER), 2, "another cluster"),
        (Stranger::new(1, CLUSTER), 9, "means node 9, this is node 2"),
        (Stranger::new(2, CLUSTER), 2, "another node has its id"),
        (Stranger::new(7, CLUSTER), 2, "under the vote of node 1"),
    ];
    for (stranger, target, reason) in &cases {
        let mut link = node.link_to(*target, stranger, Lane::Snapshot);
        let error = snapshot_error(&mut link, said_to_be(CLUSTER, last)).await;
        assert!(error.contains(reason), "{error}");
    }
    let leader = Stranger::new(1, CLUSTER);
    for (snapshot, reason) in [
        (
            said_to_be(OTHER_CLUSTER, last),
            "the snapshot is of another cluster",
        ),
        (said_to_be(CLUSTER, None), "holds nothing"),
        (
            said_to_be(CLUSTER, Some(log_id(2, 1, 9))),
            "beyond the sender's term",
        ),
        (
            said_to_be(CLUSTER, Some(log_id(1, 2, 9))),
            "beyond the sender's term",
        ),
        // Its files are looked for only when they are asked for.
        (said_to_be(CLUSTER, last), "000001.sst here"),
    ] {
        let mut link = node.link_to(2, &leader, Lane::Snapshot);
        let error = snapshot_error(&mut link, snapshot).await;
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(node.last_index(), None);
}

pub(crate) async fn a_snapshot_of_a_leader_that_was_replaced_is_answered_with_the_vote_of_now(
    serve: Serve,
) {
    let node = follower(2, serve).await;
    let newer = Stranger::new(3, CLUSTER);
    let mut link = node.link_to(2, &newer, Lane::Unary);
    let mut beat = append(0, 0, 0);
    beat.vote = leader_vote(4, 3);
    link.append_entries(beat, ttl()).await.unwrap();
    let mut link = node.link_to(2, &Stranger::new(1, CLUSTER), Lane::Snapshot);
    let snapshot = said_to_be(CLUSTER, Some(log_id(1, 1, 9)));
    let never = std::future::pending();
    let answer = link.full_snapshot(leader_vote(1, 1), snapshot, never, ttl());
    assert_eq!(answer.await.unwrap().vote, leader_vote(4, 3));
}

pub(crate) async fn heartbeats_pass_a_snapshot_that_is_stuck_and_its_end_can_be_asked_for(
    serve: Serve,
) {
    let node = follower(2, serve).await;
    let (leader, faults) = (Stranger::new(1, CLUSTER), Faulty::default());
    faults.set(&node.addr, Lane::Snapshot, Fault::HangIn);
    let mut sending = node.link_from(&leader, Lane::Snapshot, faults.clone());
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let cancel = async {
        stopped.await.unwrap();
        openraft::errors::ReplicationClosed::new("the test says so")
    };
    let snapshot = said_to_be(CLUSTER, Some(log_id(1, 1, 9)));
    let stuck = tokio::spawn(async move {
        let option = RPCOption::new(SOON * 10);
        let sent = sending.full_snapshot(leader_vote(1, 1), snapshot, cancel, option);
        sent.await.unwrap_err().to_string()
    });
    let mut link = node.link_from(&leader, Lane::Unary, faults);
    for _ in 0..20 {
        link.append_entries(append(0, 0, 0), ttl()).await.unwrap();
    }
    assert!(!stuck.is_finished());
    stop.send(()).unwrap();
    let ended = timeout(SOON, stuck).await.unwrap().unwrap();
    assert!(ended.contains("the test says so"), "{ended}");
}
