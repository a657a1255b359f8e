//! What readers are told.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, eventually, fast, put, soon, until};
use crate::raft::start::Guards;
use crate::raft::{LEASE_READ_FRACTION, Options, ReadError, ReadLevel};

#[tokio::test(flavor = "multi_thread")]
async fn each_level_is_served_as_what_it_is() {
    let cluster = Cluster::formed().await;
    cluster.put(1, "a", "1").await;
    for level in [ReadLevel::Leader, ReadLevel::Lease, ReadLevel::Follower] {
        let permit = cluster.client(1).read(level, soon()).await.unwrap();
        assert_eq!(permit.effective, level);
        assert_eq!(cluster.nodes[&1].get("a").as_deref(), Some("1"));
    }
    let permit = cluster
        .client(2)
        .read(ReadLevel::Follower, soon())
        .await
        .unwrap();
    assert_eq!(
        (permit.effective, permit.staleness),
        (ReadLevel::Follower, None)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_serves_no_linearizable_read() {
    let cluster = Cluster::formed().await;
    eventually("node 2 has recovered", || {
        cluster.client(2).status().recovered
    })
    .await;
    for level in [ReadLevel::Leader, ReadLevel::Lease] {
        let refused = cluster.client(2).read(level, soon()).await.unwrap_err();
        assert!(matches!(refused, ReadError::NotLeader(_)), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_read_becomes_a_leader_read_when_the_lease_is_old() {
    let cluster = Cluster::formed().await;
    cluster.net.cut(1, 2);
    cluster.net.cut(1, 3);
    let old = cluster.options.election_max.mul_f64(LEASE_READ_FRACTION);
    eventually("the acknowledgement is old", || {
        cluster
            .client(1)
            .status()
            .quorum_ack_age
            .is_some_and(|age| age > old)
    })
    .await;
    let client = cluster.client(1).clone();
    let read = tokio::spawn(async move { client.read(ReadLevel::Lease, soon()).await });
    // Healed within the lease: nobody else leads yet.
    cluster.net.heal();
    match read.await.unwrap() {
        Ok(permit) => assert_eq!(permit.effective, ReadLevel::Leader),
        // The machine was so slow that another node led first: refused is right as well.
        Err(error) => assert!(matches!(error, ReadError::NotLeader(_)), "{error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_read_waits_for_a_quorum_that_answers_after_it_came() {
    let options = Options {
        election_min: Duration::from_secs(10),
        election_max: Duration::from_secs(20),
        quorum_loss_probe: Duration::from_secs(40),
        ..fast()
    };
    let cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    cluster.net.cut(1, 2);
    cluster.net.cut(1, 3);
    // The lease is fresh, and that is not enough.
    let lease = cluster
        .client(1)
        .read(ReadLevel::Lease, soon())
        .await
        .unwrap();
    assert_eq!(lease.effective, ReadLevel::Lease);
    let deadline = Instant::now() + Duration::from_millis(200);
    let refused = cluster.client(1).read(ReadLevel::Leader, deadline).await;
    assert!(matches!(refused, Err(ReadError::Timeout)), "{refused:?}");
    cluster.net.heal();
    cluster
        .client(1)
        .read(ReadLevel::Leader, soon())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_until_what_was_committed_is_applied_here() {
    let options = Options {
        election_min: Duration::from_secs(10),
        election_max: Duration::from_secs(20),
        quorum_loss_probe: Duration::from_secs(40),
        flush_abort: Duration::from_secs(60),
        ..fast()
    };
    let cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    let hung = cluster.nodes[&1].disk.hang();
    let write = tokio::spawn(put(cluster.client(1), "a", "1", soon()));
    eventually("the others have applied it", || {
        [2, 3].iter().all(|id| cluster.nodes[id].get("a").is_some())
    })
    .await;
    // Committed, shown to readers elsewhere, and held back here until the disk has it.
    for level in [ReadLevel::Leader, ReadLevel::Lease] {
        let deadline = Instant::now() + Duration::from_millis(300);
        let refused = cluster.client(1).read(level, deadline).await;
        assert!(matches!(refused, Err(ReadError::Timeout)), "{refused:?}");
    }
    let reads = [ReadLevel::Leader, ReadLevel::Lease].map(|level| {
        let client = cluster.client(1).clone();
        tokio::spawn(async move { client.read(level, soon()).await })
    });
    drop(hung);
    for read in reads {
        read.await.unwrap().unwrap();
        assert_eq!(cluster.nodes[&1].get("a").as_deref(), Some("1"));
    }
    write.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_quorum_serves_nothing_linearizable() {
    let cluster = Cluster::formed().await;
    cluster.net.cut(1, 2);
    cluster.net.cut(1, 3);
    let lease = cluster.options.election_max;
    eventually("the lease is over", || {
        cluster
            .client(1)
            .status()
            .quorum_ack_age
            .is_none_or(|age| age > lease)
    })
    .await;
    for level in [ReadLevel::Leader, ReadLevel::Lease] {
        let deadline = Instant::now() + Duration::from_millis(100);
        let refused = cluster.client(1).read(level, deadline).await.unwrap_err();
        assert!(
            matches!(refused, ReadError::Timeout | ReadError::NotLeader(_)),
            "{refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_served_before_recovery() {
    let mut cluster = Cluster::formed().await;
    cluster.put(1, "a", "1").await;
    for id in [1, 2, 3] {
        cluster.stop(id).await;
    }
    // Alone it cannot know whether it has everything that was committed.
    cluster.start(1).await;
    for level in [ReadLevel::Leader, ReadLevel::Lease, ReadLevel::Follower] {
        let deadline = Instant::now() + Duration::from_millis(50);
        let refused = cluster.client(1).read(level, deadline).await.unwrap_err();
        assert!(matches!(refused, ReadError::NotReady(_)), "{refused:?}");
    }
    cluster.start(2).await;
    until("node 1 has recovered", || {
        cluster.client(1).status().recovered.then_some(())
    })
    .await;
    cluster
        .client(1)
        .read(ReadLevel::Follower, soon())
        .await
        .unwrap();
    assert_eq!(cluster.nodes[&1].get("a").as_deref(), Some("1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_share_their_checks() {
    let cluster = Cluster::formed_with(3, fast(), Guards::ALL).await;
    let reads: Vec<_> = (0..2000)
        .map(|_| {
            let client = cluster.client(1).clone();
            tokio::spawn(async move { client.read(ReadLevel::Leader, soon()).await })
        })
        .collect();
    for read in reads {
        assert_eq!(read.await.unwrap().unwrap().effective, ReadLevel::Leader);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_handed_over_serves_no_lease_read() {
    let cluster = Cluster::formed().await;
    cluster
        .client(1)
        .read(ReadLevel::Lease, soon())
        .await
        .unwrap();
    cluster.client(1).hand_over(soon()).await.unwrap();
    let leader = until("another leader", || {
        [2, 3].into_iter().find(|id| cluster.nodes[id].is_leader())
    })
    .await;
    let refused = cluster
        .client(1)
        .read(ReadLevel::Lease, soon())
        .await
        .unwrap_err();
    assert!(matches!(refused, ReadError::NotLeader(_)), "{refused:?}");
    assert_eq!(cluster.leader().await, leader);
    cluster.put(leader, "after", "1").await;
}
