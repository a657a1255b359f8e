//! What writers are told.

use std::time::{Duration, Instant};

use super::cluster::{Cluster, PATIENCE, eventually, fast, put, soon, until};
use crate::machine::Reply;
use crate::raft::start::Guards;
use crate::raft::{Options, Role, WriteError};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_applied_on_every_node_and_told_its_place() {
    let cluster = Cluster::formed().await;
    let written = cluster.put(1, "a", "1").await;
    assert!(matches!(written.reply, Reply::KvPut { .. }));
    assert_eq!(written.log_id.node, 1);
    assert_eq!(cluster.nodes[&1].get("a").as_deref(), Some("1"));
    cluster.converge().await;
    assert_eq!(cluster.nodes[&3].get("a").as_deref(), Some("1"));
    assert!(cluster.faults().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_wait_share_an_entry_and_each_gets_its_own_reply() {
    let options = Options {
        batch_in_flight: 1,
        ..fast()
    };
    let cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    let writes: Vec<_> = (0..200)
        .map(|number| put(cluster.client(1), &format!("k{number}"), "v", soon()))
        .collect();
    let mut entries = std::collections::BTreeSet::new();
    for write in writes {
        let written = write.await.unwrap();
        let Reply::KvPut { modified, .. } = written.reply else {
            panic!("{written:?}");
        };
        assert_eq!(
            (modified.index, modified.command),
            (written.log_id.index, written.command)
        );
        entries.insert(modified.index);
    }
    assert!(
        entries.len() < 100,
        "{} entries for 200 commands",
        entries.len()
    );
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_refuses_and_names_the_leader() {
    let cluster = Cluster::formed().await;
    eventually("node 2 knows the leader", || {
        cluster.client(2).status().leader.is_some()
    })
    .await;
    let refused = put(cluster.client(2), "a", "1", soon()).await.unwrap_err();
    let WriteError::NotLeader(Some((leader, member))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(leader, 1);
    assert!(member.is_reached_as(&super::net::member(1)), "{member:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_in_no_cluster_is_not_ready() {
    let cluster = Cluster::started(1, fast(), Guards::ALL).await;
    let refused = put(cluster.client(1), "a", "1", soon()).await.unwrap_err();
    assert!(matches!(refused, WriteError::NotReady(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_replaced_by_another_leader_has_an_unknown_outcome() {
    let cluster = Cluster::formed().await;
    cluster.net.cut(1, 2);
    cluster.net.cut(1, 3);
    let lost = tokio::spawn(put(cluster.client(1), "lost", "1", soon()));
    let leader = until("another leader", || {
        [2, 3].into_iter().find(|id| cluster.nodes[id].is_leader())
    })
    .await;
    // It refuses writes until a quorum answered it.
    while put(cluster.client(leader), "kept", "1", soon())
        .await
        .is_err()
    {}
    cluster.net.heal();
    let outcome = lost.await.unwrap().unwrap_err();
    assert!(matches!(outcome, WriteError::Unknown(_)), "{outcome:?}");
    eventually("node 1 follows", || cluster.nodes[&1].get("kept").is_some()).await;
    assert_eq!(cluster.nodes[&1].get("lost"), None);
    assert_eq!(cluster.client(1).status().role, Role::Follower);
}

/// Waits until node 1 has handed over everything it was asked for, of which some has no answer.
async fn all_handed_over(cluster: &Cluster) {
    let batcher = &cluster.client(1).node.batcher;
    eventually("everything is handed over", || {
        batcher.backlog().commands == 0 && batcher.pending() > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_expires_and_what_was_proposed_is_unknown() {
    let options = Options {
        batch_in_flight: 1,
        ..fast()
    };
    let cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    cluster.net.cut(1, 2);
    cluster.net.cut(1, 3);
    let deadline = Instant::now() + Duration::from_millis(200);
    let proposed = tokio::spawn(put(cluster.client(1), "proposed", "1", deadline));
    all_handed_over(&cluster).await;
    let waiting = put(cluster.client(1), "waiting", "1", deadline).await;
    assert!(matches!(waiting, Err(WriteError::Expired)), "{waiting:?}");
    let proposed = proposed.await.unwrap();
    assert!(
        matches!(proposed, Err(WriteError::Unknown(_))),
        "{proposed:?}"
    );
    cluster.net.heal();
    cluster.leader().await;
    cluster.converge().await;
    assert_eq!(
        cluster.nodes[&2].get("waiting"),
        None,
        "it was told: not applied"
    );
}

/// What was proposed before the quorum was gone has no answer and takes every place in flight; what comes later must not wait
/// behind it.
#[tokio::test(flavor = "multi_thread")]
async fn behind_what_has_no_answer_nothing_waits_for_its_deadline() {
    let options = Options {
        batch_in_flight: 1,
        ..fast()
    };
    let cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    cluster.net.cut(1, 2);
    cluster.net.cut(1, 3);
    let proposed = tokio::spawn(put(cluster.client(1), "proposed", "1", soon()));
    all_handed_over(&cluster).await;
    // It comes back as soon as openraft is asked, which knows that there is no quorum.
    let late = put(cluster.client(1), "late", "1", soon()).await;
    assert!(matches!(late, Err(WriteError::NotLeader(_))), "{late:?}");
    cluster.net.heal();
    let _either = proposed.await.unwrap();
    cluster.converge().await;
    assert_eq!(cluster.nodes[&2].get("late"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_names_its_limit() {
    let options = Options {
        queue_commands_max: 2,
        ..fast()
    };
    let cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    cluster.net.cut(1, 2);
    cluster.net.cut(1, 3);
    let _pending: Vec<_> = ["a", "b"]
        .map(|key| tokio::spawn(put(cluster.client(1), key, "1", soon())))
        .into();
    all_handed_over(&cluster).await;
    eventually("a third is refused", || {
        let refused = futures_util::FutureExt::now_or_never(put(cluster.client(1), "c", "1", soon()));
        matches!(refused, Some(Err(WriteError::Overloaded { limit })) if limit.contains("queue_commands_max is 2"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_larger_than_an_entry_is_refused() {
    let cluster = Cluster::formed().await;
    let metadata = "x".repeat(16 << 10);
    let transfers: Vec<_> = (0..300)
        .map(|_| crate::machine::NewTransfer {
            id: "t",
            debit: crate::machine::AccountRef::Id("a"),
            credit: crate::machine::AccountRef::Id("b"),
            amount: 1,
            code: 1,
            linked: false,
            metadata: &metadata,
        })
        .collect();
    let command = crate::machine::Command::Transfers(transfers);
    let refused = cluster.client(1).write(&command, soon()).await.unwrap_err();
    assert!(
        matches!(refused, WriteError::TooLarge { .. }),
        "{refused:?}"
    );
}

/// Without a quorum nothing that was proposed gets an answer, and those who asked have long been told that it is unknown.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_waits_for_no_answer_that_nobody_waits_for() {
    let cluster = Cluster::formed().await;
    cluster.net.cut(1, 2);
    cluster.net.cut(1, 3);
    let client = cluster.client(1);
    let deadline = Instant::now() + Duration::from_millis(200);
    let proposed = tokio::spawn(put(client, "proposed", "1", deadline));
    all_handed_over(&cluster).await;
    let proposed = proposed.await.unwrap();
    assert!(
        matches!(proposed, Err(WriteError::Unknown(_))),
        "{proposed:?}"
    );
    let an_hour = Instant::now() + Duration::from_secs(3600);
    let stopped = tokio::time::timeout(PATIENCE, client.shutdown(an_hour)).await;
    stopped.expect("it waited for the deadline").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_node_answers_what_it_took_and_refuses_the_rest() {
    let mut cluster = Cluster::formed().await;
    let client = cluster.client(1).clone();
    let taken: Vec<_> = (0..50)
        .map(|number| put(&client, &format!("k{number}"), "v", soon()))
        .collect();
    cluster.stop(1).await;
    for write in taken {
        write.await.unwrap();
    }
    let refused = put(&client, "late", "1", soon()).await.unwrap_err();
    assert!(matches!(refused, WriteError::NotReady(_)), "{refused:?}");
    drop(client);
    cluster.start(1).await;
    cluster.leader().await;
    cluster.converge().await;
    assert_eq!(cluster.nodes[&1].get("k49").as_deref(), Some("v"));
}
