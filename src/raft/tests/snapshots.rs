//! Snapshots of nodes that run: the log stays short, and who is too far behind for it gets the state.

use std::time::Duration;

use super::cluster::{Cluster, TestNode, eventually, fast, put_by_any, until};
use crate::raft::start::Guards;
use crate::raft::stats::SnapshotStats;
use crate::raft::{Client, Options, SnapshotOptions};

const MIB: u64 = 1 << 20;

/// What one write adds to the log, about.
const VALUE: usize = 64 << 10;

/// A snapshot every two segments, and no tail beside.
fn short_log() -> Options {
    Options {
        snapshots: SnapshotOptions {
            log_bytes: 2 * MIB,
            log_keep_bytes: 0,
            rate: 0,
            stall: Duration::from_secs(5),
            ..SnapshotOptions::default()
        },
        ..fast()
    }
}

async fn cluster() -> Cluster {
    Cluster::formed_with(3, short_log(), Guards::ALL).await
}

impl TestNode {
    fn snapshots(&self) -> SnapshotStats {
        self.client.node.snapshots.stats()
    }

    fn purged(&self) -> u64 {
        let purged = self.client.node.log.state().purged;
        purged.map_or(0, |purged| purged.index)
    }

    fn log_bytes(&self) -> u64 {
        self.client.node.log.disk_bytes()
    }
}

/// Writes `count` large values under keys that begin with `name`.
async fn fill(clients: &[Client], name: &str, count: usize) {
    let value = "v".repeat(VALUE);
    for number in 0..count {
        put_by_any(clients, &format!("{name}-{number}"), &value).await;
    }
}

/// Stops node 3 and writes until the others have purged what it would need.
async fn leave_node_3_behind(cluster: &mut Cluster) {
    cluster.stop(3).await;
    let last = cluster.client(1).status().last_log_index.unwrap();
    fill(&cluster.clients(), "missed", 160).await;
    eventually("what node 3 lacks is purged on both others", || {
        [1, 2].iter().all(|id| cluster.nodes[id].purged() > last)
    })
    .await;
}

/// Bytes of snapshots that nodes 1 and 2 sent.
fn sent_bytes(cluster: &Cluster) -> u64 {
    let sent = |id| cluster.nodes[&id].snapshots().sent_bytes;
    sent(1) + sent(2)
}

async fn wait_installed(cluster: &Cluster) {
    eventually("node 3 has installed a snapshot", || {
        cluster.nodes[&3].snapshots().counters.installed > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_too_far_behind_catches_up_by_snapshot_while_writes_go_on() {
    let mut cluster = cluster().await;
    leave_node_3_behind(&mut cluster).await;
    cluster.start(3).await;
    let writing = tokio::spawn({
        let clients = cluster.clients();
        async move { fill(&clients, "during", 100).await }
    });
    wait_installed(&cluster).await;
    writing.await.unwrap();
    cluster.converge().await;
    assert_eq!(cluster.faults(), [""; 0]);
    let (one, three) = (&cluster.nodes[&1], &cluster.nodes[&3]);
    for key in ["missed-0", "missed-159", "during-99"] {
        assert!(
            three.get(key).is_some() && three.get(key) == one.get(key),
            "{key}"
        );
    }
    assert!(three.purged() > 0, "its log begins after the snapshot");
    assert!(sent_bytes(&cluster) > 0 && three.snapshots().received_bytes > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_every_node_stays_short_though_one_is_away() {
    let mut cluster = cluster().await;
    leave_node_3_behind(&mut cluster).await;
    let mut rounds = 0;
    let made = |id| cluster.nodes[&id].snapshots().counters.made;
    while made(1) < 3 || made(2) < 3 {
        fill(&cluster.clients(), &format!("more-{rounds}"), 40).await;
        rounds += 1;
        assert!(rounds < 50, "snapshots are not made any more");
    }
    for id in [1, 2] {
        let node = &cluster.nodes[&id];
        // A bound of two segments, one being written, one prepared, and what was written while a snapshot was made.
        eventually("the log is short", || node.log_bytes() <= 6 * MIB).await;
        let (purged, held) = (node.purged(), node.snapshots().index.unwrap());
        assert!(purged <= held, "purged beyond the snapshot");
        assert!(
            node.state().durable().unwrap().index >= purged,
            "purged beyond what is flushed"
        );
    }
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_again_and_again_goes_on_where_it_was() {
    let mut cluster = cluster().await;
    leave_node_3_behind(&mut cluster).await;
    let whole = cluster.nodes[&1].snapshots().bytes;
    assert!(whole > 4 * MIB, "{whole}");
    // No connection carries half of it, so it arrives only if each goes on where the one before was.
    cluster.net.break_after(Some(2 << 20));
    cluster.start(3).await;
    wait_installed(&cluster).await;
    cluster.converge().await;
    let broken = cluster.net.failures();
    assert!(broken.len() >= 2, "{broken:?}");
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_changed_on_the_way_is_refused_by_file_and_the_old_state_stays() {
    let mut cluster = cluster().await;
    leave_node_3_behind(&mut cluster).await;
    cluster.net.flip_at(3 << 20);
    cluster.start(3).await;
    let refusal = until("it is refused", || {
        let failures = cluster.net.failures();
        failures
            .into_iter()
            .find(|why| why.contains("the manifest says"))
    })
    .await;
    assert!(
        refusal.starts_with("refused: file ") && refusal.contains("has hash"),
        "{refusal}"
    );
    // The next attempt gets what was sent without a change.
    wait_installed(&cluster).await;
    cluster.converge().await;
    assert_eq!(cluster.nodes[&3].snapshots().counters.installed, 1);
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_no_snapshot_and_no_more_of_one_until_it_has_room() {
    /// Too little to take anything, enough to start.
    const FULL: u64 = 300 * MIB;
    let mut options = short_log();
    options.snapshots.rate = 2 * MIB;
    let mut cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    leave_node_3_behind(&mut cluster).await;
    let refusals = |cluster: &Cluster| {
        let failures = cluster.net.failures().into_iter();
        failures
            .filter(|why| why.contains("the disk is full"))
            .count()
    };
    cluster.set_free(3, FULL);
    cluster.start(3).await;
    eventually("it is refused", || refusals(&cluster) > 0).await;
    assert_eq!(cluster.nodes[&3].snapshots().received_bytes, 0);
    cluster.set_free(3, 50_000 * MIB);
    eventually("some of it came", || {
        cluster.nodes[&3].snapshots().received_bytes > 0
    })
    .await;
    let before = refusals(&cluster);
    cluster.set_free(3, FULL);
    eventually("the rest is refused", || refusals(&cluster) > before).await;
    assert_eq!(cluster.nodes[&3].snapshots().counters.installed, 0);
    cluster.set_free(3, 50_000 * MIB);
    wait_installed(&cluster).await;
    cluster.converge().await;
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_ends_with_its_leader_and_the_next_leader_finishes_it() {
    let mut cluster = cluster().await;
    leave_node_3_behind(&mut cluster).await;
    // It does not get to its end under the first leader.
    cluster.net.break_after(Some(1 << 20));
    cluster.start(3).await;
    until("a transfer is under way", || cluster.net.failures().pop()).await;
    let first = cluster.leader().await;
    let second = 3 - first;
    let raft = cluster.nodes[&first].raft();
    raft.trigger().transfer_leader(second).await.unwrap();
    eventually("the other leads", || cluster.nodes[&second].is_leader()).await;
    cluster.net.break_after(None);
    wait_installed(&cluster).await;
    put_by_any(&cluster.clients(), "after", "1").await;
    cluster.converge().await;
    assert!(cluster.nodes[&second].snapshots().sent_bytes > 0);
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_whose_log_was_purged_start_again_after_a_power_cut() {
    let mut cluster = cluster().await;
    fill(&cluster.clients(), "k", 100).await;
    eventually("every node has purged", || {
        cluster.nodes.values().all(|node| node.purged() > 0)
    })
    .await;
    cluster.converge().await;
    let before = cluster.nodes[&1].state().applied();
    for id in [1, 2, 3] {
        cluster.crash(id).await;
    }
    for id in [1, 2, 3] {
        cluster.start(id).await;
    }
    put_by_any(&cluster.clients(), "after", "1").await;
    cluster.converge().await;
    for node in cluster.nodes.values() {
        assert!(node.state().applied().log_id > before.log_id);
        assert!(node.get("k-0").is_some() && node.get("k-99").is_some());
        assert!(
            node.snapshots().index.is_some(),
            "the snapshot outlives the process"
        );
    }
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_got_a_snapshot_starts_again_from_it() {
    let mut cluster = cluster().await;
    leave_node_3_behind(&mut cluster).await;
    cluster.start(3).await;
    wait_installed(&cluster).await;
    cluster.crash(3).await;
    put_by_any(&cluster.clients(), "meanwhile", "1").await;
    cluster.start(3).await;
    cluster.converge().await;
    assert!(cluster.nodes[&3].get("missed-0").is_some());
    assert_eq!(cluster.nodes[&3].get("meanwhile").as_deref(), Some("1"));
    assert_eq!(cluster.faults(), [""; 0]);
}
