//! Log time, what it forgets, and what makes it stand still.

use std::time::Duration;

use super::cluster::{Cluster, eventually, fast, soon};
use crate::machine::once::{RETENTION_NS, fingerprint};
use crate::machine::{Command, Expect, Once, Reply};
use crate::raft::start::Guards;
use crate::raft::{Client, Options, Written};

const DAY: Duration = Duration::from_nanos(RETENTION_NS);

/// Looks often whether something is due.
fn ticking() -> Options {
    Options {
        tick: Duration::from_millis(10),
        ..fast()
    }
}

/// Writes `value` to a key of the store, under the idempotency key `key`.
async fn put_once(client: &Client, key: &str, value: &str) -> Written {
    let put = Command::KvPut {
        key: "a",
        value: value.as_bytes(),
        expect: Expect::Any,
    };
    let once = Command::Once(Once {
        key,
        fingerprint: fingerprint("test", &put),
        command: Box::new(put),
    });
    client.write(&once, soon()).await.unwrap()
}

fn holds(client: &Client, key: &str) -> bool {
    client.view().answer(key).unwrap().value.is_some()
}

fn last_index(cluster: &Cluster) -> Option<u64> {
    cluster.client(1).status().last_log_index
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_sent_again_is_done_once_through_failing_leaders_and_power_cuts() {
    let mut cluster = Cluster::formed().await;
    let first = put_once(cluster.client(1), "k", "1").await;
    assert!(!first.replayed);
    cluster.put(1, "a", "2").await;
    cluster.crash(1).await;
    let leader = cluster.leader().await;
    let again = put_once(cluster.client(leader), "k", "1").await;
    assert!(again.replayed);
    assert_eq!((again.index, &again.reply), (first.index, &first.reply));
    for id in [2, 3] {
        cluster.crash(id).await;
    }
    for id in 1..=3 {
        cluster.start(id).await;
    }
    let leader = cluster.leader().await;
    let again = put_once(cluster.client(leader), "k", "1").await;
    assert!(again.replayed);
    assert_eq!((again.index, &again.reply), (first.index, &first.reply));
    let other = put_once(cluster.client(leader), "k", "3").await;
    assert!(matches!(other.reply, Reply::Rejected(_)), "{other:?}");
    assert_eq!(cluster.nodes[&leader].get("a").as_deref(), Some("2"));
    cluster.converge().await;
    assert!(cluster.faults().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_is_a_year_ahead_forgets_nothing_and_counts_it() {
    let cluster = Cluster::formed_with(3, ticking(), Guards::ALL).await;
    put_once(cluster.client(1), "k", "1").await;
    let before = cluster.nodes[&1].state().applied().time_ns;
    assert_eq!(cluster.client(1).status().clock_disputes, 0);
    cluster.set_ahead(1, DAY * 365);
    for value in ["2", "3"] {
        cluster.put(1, "b", value).await;
    }
    let applied = cluster.nodes[&1].state().applied();
    assert!(applied.time_ns > before + 2, "log time goes on");
    assert!(applied.time_ns < before + RETENTION_NS, "by the others'");
    assert_eq!(cluster.client(1).status().clock_disputes, 2);
    assert!(put_once(cluster.client(1), "k", "1").await.replayed);
    // Under a leader whose clock is right, time goes on; that one of the three is wrong does not matter.
    cluster.client(1).hand_over(soon()).await.unwrap();
    let leader = cluster.leader().await;
    assert_ne!(leader, 1);
    cluster.put(leader, "b", "4").await;
    let applied = cluster.nodes[&leader].state().applied();
    assert!(applied.time_ns > before + 3);
    assert!(applied.time_ns < before + RETENTION_NS);
    assert_eq!(cluster.client(leader).status().clock_disputes, 0);
    assert!(holds(cluster.client(leader), "k"));
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_used_under_a_leader_whose_clock_was_wrong_from_the_start_is_kept() {
    let cluster = Cluster::started(3, ticking(), Guards::ALL).await;
    cluster.set_ahead(1, DAY * 365);
    let formed = cluster.client(1).initialize(cluster.members()).await;
    formed.unwrap();
    let leader = cluster.leader().await;
    if leader != 1 {
        let raft = cluster.nodes[&leader].raft();
        raft.trigger().transfer_leader(1).await.unwrap();
    }
    eventually("node 1 leads", || cluster.nodes[&1].is_leader()).await;
    // Until it has heard of the clocks of both others nobody is outvoted.
    while cluster.nodes[&1].state().applied().time_ns < RETENTION_NS {
        cluster.put(1, "b", "1").await;
    }
    put_once(cluster.client(1), "k", "1").await;
    cluster.client(1).hand_over(soon()).await.unwrap();
    let leader = cluster.leader().await;
    assert_ne!(leader, 1);
    cluster.put(leader, "b", "2").await;
    assert!(put_once(cluster.client(leader), "k", "1").await.replayed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_leader_writes_only_when_something_is_due() {
    let cluster = Cluster::formed_with(3, ticking(), Guards::ALL).await;
    // Ten times as long as the leader needs to look: with nothing that could expire, time is worth no entry.
    let idle = last_index(&cluster);
    for id in 1..=3 {
        cluster.set_ahead(id, DAY / 2);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(last_index(&cluster), idle);
    // Stamped with the time before or after, as soon as the leader has heard of a majority's clocks: not due either way.
    put_once(cluster.client(1), "k", "1").await;
    let idle = last_index(&cluster);
    // Nor while nothing is due.
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(last_index(&cluster), idle);
    for id in 1..=3 {
        cluster.set_ahead(id, DAY * 2 + Duration::from_secs(1));
    }
    for id in 1..=3 {
        eventually("the key is forgotten", || !holds(cluster.client(id), "k")).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ticked = last_index(&cluster);
    assert_eq!(ticked, idle.map(|index| index + 1), "one tick did it");
    assert!(!put_once(cluster.client(1), "k", "1").await.replayed);
    cluster.converge().await;
    assert!(cluster.faults().is_empty());
}
