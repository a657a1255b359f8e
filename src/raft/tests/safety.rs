//! What could lose or hide an acknowledged write, with the guard against it and without.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, TestNode, eventually, fast, put, soon, until};
use crate::raft::start::Guards;
use crate::raft::{Options, ReadError, ReadLevel};

/// Node 1 leads, writes `b` which its own disk never gets, and loses its power; it is back at once. Then `c` is written
/// through whoever leads. Gives what the three nodes hold for `b` and `c`.
async fn restart_a_leader_that_lost_its_tail(guards: Guards) -> Vec<[Option<String>; 2]> {
    let mut cluster = Cluster::formed_with(3, fast(), guards).await;
    let _hung = cluster.nodes[&1].disk.hang();
    let lost = tokio::spawn(put(cluster.client(1), "b", "1", soon()));
    eventually("the others have committed and applied it", || {
        [2, 3].iter().all(|id| cluster.nodes[id].get("b").is_some())
    })
    .await;
    cluster.crash(1).await;
    assert!(
        lost.await.unwrap().is_err(),
        "a leader answers what its own disk has"
    );
    cluster.start(1).await;
    until_written(&cluster, "c").await;
    eventually("all nodes applied as much", || {
        let index = |node: &TestNode| node.state().applied().log_id.map(|id| id.index);
        let mut indexes = cluster.nodes.values().map(index);
        let first = indexes.next().unwrap();
        indexes.all(|other| other == first)
    })
    .await;
    let held = |node: &TestNode| [node.get("b"), node.get("c")];
    cluster.nodes.values().map(held).collect()
}

async fn until_written(cluster: &Cluster, key: &str) {
    loop {
        for node in cluster.nodes.values() {
            let deadline = Instant::now() + Duration::from_millis(500);
            if put(&node.client, key, "1", deadline).await.is_ok() {
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_lost_its_tail_does_not_reuse_a_log_id() {
    let held = restart_a_leader_that_lost_its_tail(Guards::ALL).await;
    let all = [Some("1".to_owned()), Some("1".to_owned())];
    assert!(held.iter().all(|node| *node == all), "{held:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_that_guard_replicas_diverge() {
    let guards = Guards {
        no_leader_restore: false,
        ..Guards::ALL
    };
    let held = restart_a_leader_that_lost_its_tail(guards).await;
    assert_ne!(
        held[0], held[1],
        "the test no longer shows what the guard prevents"
    );
}

/// Times long enough that a restart fits into a lease.
fn long_lease() -> Options {
    Options {
        election_min: Duration::from_millis(2500),
        election_max: Duration::from_millis(5000),
        quorum_loss_probe: Duration::from_millis(10_000),
        ..fast()
    }
}

/// Node 1 leads with node 3's acknowledgements; node 2 has heard nothing for longer than the lease. Then node 3 loses node
/// 1 too, restarts, and node 2 stands for election.
async fn restart_a_voter_inside_the_lease(guards: Guards) -> Cluster {
    let mut cluster = Cluster::formed_with(3, long_lease(), guards).await;
    cluster.nodes[&2].raft().runtime_config().elect(false);
    cluster.net.cut(1, 2);
    let lease = cluster.options.election_max;
    eventually("node 2's promise is over", || {
        cluster
            .client(2)
            .status()
            .last_contact
            .is_some_and(|age| age > lease)
    })
    .await;
    cluster.net.cut(1, 3);
    cluster.crash(3).await;
    cluster.start(3).await;
    cluster.nodes[&2]
        .raft()
        .trigger()
        .elect(false)
        .await
        .unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_voter_keeps_the_promise_it_forgot() {
    let cluster = restart_a_voter_inside_the_lease(Guards::ALL).await;
    let (old, voter) = (cluster.client(1).clone(), &cluster.nodes[&3]);
    assert!(voter.context.gate.check().is_err());
    // For as long as the old leader serves lease reads, nobody else leads.
    while let Ok(permit) = old.read(ReadLevel::Lease, Instant::now()).await {
        assert_eq!(permit.effective, ReadLevel::Lease);
        assert!(!cluster.nodes[&2].is_leader(), "two nodes serve reads");
        tokio::task::yield_now().await;
    }
    // And in the end the cluster goes on.
    cluster.nodes[&2].raft().runtime_config().elect(true);
    let leader = until("a new leader", || {
        [2, 3].into_iter().find(|id| cluster.nodes[id].is_leader())
    })
    .await;
    while put(cluster.client(leader), "new", "1", soon())
        .await
        .is_err()
    {}
    let deadline = Instant::now() + Duration::from_millis(100);
    let stale = old.read(ReadLevel::Lease, deadline).await.unwrap_err();
    assert!(
        matches!(stale, ReadError::Timeout | ReadError::NotLeader(_)),
        "{stale:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_vote_gate_a_lease_read_is_stale() {
    let guards = Guards {
        vote_gate: false,
        ..Guards::ALL
    };
    // On a machine so busy that the lease is over by then, again.
    for _ in 0..5 {
        let cluster = restart_a_voter_inside_the_lease(guards).await;
        eventually("node 2 leads", || cluster.nodes[&2].is_leader()).await;
        while put(cluster.client(2), "new", "1", soon()).await.is_err() {}
        let deadline = Instant::now() + Duration::from_millis(100);
        let permit = cluster.client(1).read(ReadLevel::Lease, deadline).await;
        if permit.is_ok_and(|permit| permit.effective == ReadLevel::Lease) {
            assert_eq!(cluster.nodes[&1].get("new"), None);
            return;
        }
    }
    panic!("the test no longer shows what the guard prevents");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_node_follows_its_leader() {
    let mut cluster = Cluster::formed_with(3, long_lease(), Guards::ALL).await;
    // Before it has heard of a leader it has promised nothing, and its gate would be open.
    cluster.converge().await;
    cluster.crash(3).await;
    cluster.put(1, "a", "1").await;
    cluster.start(3).await;
    eventually("node 3 has it", || cluster.nodes[&3].get("a").is_some()).await;
    assert!(
        cluster.nodes[&3].context.gate.check().is_err(),
        "it had no vote meanwhile"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_node_does_not_stand_for_election() {
    let mut cluster = Cluster::formed_with(3, long_lease(), Guards::ALL).await;
    cluster.nodes[&2].raft().runtime_config().elect(false);
    cluster.converge().await;
    cluster.crash(3).await;
    cluster.crash(1).await;
    let lease = cluster.options.election_max;
    eventually("node 2 would vote for anybody", || {
        let contact = cluster.client(2).status().last_contact;
        contact.is_some_and(|age| age > lease)
    })
    .await;
    cluster.start(3).await;
    let restarted = &cluster.nodes[&3];
    eventually("the gate opens", || {
        let gate = restarted.context.gate.check();
        assert!(gate.is_ok() || !restarted.is_leader(), "{gate:?}");
        gate.is_ok()
    })
    .await;
    eventually("it leads", || restarted.is_leader()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_alone_shows_what_it_knew_to_be_committed() {
    let mut cluster = Cluster::formed().await;
    cluster.put(1, "a", "1").await;
    cluster.converge().await;
    // What comes after it takes along to the disk that it is committed.
    cluster.put(1, "b", "1").await;
    cluster.converge().await;
    for id in [1, 2, 3] {
        cluster.crash(id).await;
    }
    cluster.start(3).await;
    let alone = &cluster.nodes[&3];
    eventually("it is applied again", || alone.get("a").is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_cluster_that_lost_power_keeps_what_was_acknowledged() {
    let mut cluster = Cluster::formed().await;
    for number in 0..20 {
        cluster.put(1, &format!("k{number}"), "1").await;
    }
    for id in [1, 2, 3] {
        cluster.crash(id).await;
    }
    for id in [1, 2, 3] {
        cluster.start(id).await;
    }
    let leader = cluster.leader().await;
    cluster
        .client(leader)
        .read(ReadLevel::Leader, soon())
        .await
        .unwrap();
    for number in 0..20 {
        assert!(cluster.nodes[&leader].get(&format!("k{number}")).is_some());
    }
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_needs_purged_entries_gets_a_snapshot() {
    let mut cluster = Cluster::formed().await;
    cluster.stop(3).await;
    for number in 0..10 {
        cluster.put(1, &format!("k{number}"), "1").await;
    }
    let raft = cluster.nodes[&1].raft();
    let applied = cluster.nodes[&1].state().applied().log_id.unwrap();
    let node = cluster.client(1).node.clone();
    node.snapshots.make(&node.state).unwrap();
    let log = &node.log;
    eventually("the log is purged", || {
        // Purging waits for the snapshot and for streams to the other nodes.
        let _ = futures_util::FutureExt::now_or_never(raft.trigger().purge_log(applied.index));
        log.state().purged >= Some(applied)
    })
    .await;
    assert!(cluster.nodes[&1].state().durable() >= Some(applied));
    cluster.put(1, "after", "1").await;
    cluster.start(3).await;
    cluster.converge().await;
    assert_eq!(cluster.nodes[&3].get("k9").as_deref(), Some("1"));
    assert!(cluster.client(3).node.log.state().purged.is_some());
    // And it starts again from what it installed.
    cluster.crash(3).await;
    cluster.start(3).await;
    cluster.converge().await;
    assert!(cluster.faults().is_empty());
}
