//! Disks that hang or fail, and late completions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::sync::mpsc::UnboundedReceiver;

use super::cluster::{Cluster, PATIENCE, eventually, fast, put, soon, until};
use crate::raft::start::Guards;
use crate::raft::watchdog::{self, Faults};
use crate::raft::{Options, ReadError, ReadLevel, WriteError};
use crate::storage::Vote;
use crate::storage::log::Log;

/// Long times before a hung disk is acted upon.
fn patient() -> Options {
    Options {
        election_min: Duration::from_secs(10),
        election_max: Duration::from_secs(20),
        quorum_loss_probe: Duration::from_secs(40),
        flush_abort: Duration::from_secs(60),
        ..fast()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_completions_hold_back_answers_and_nothing_else() {
    let cluster = Cluster::formed_with(3, patient(), Guards::ALL).await;
    let term = cluster.client(1).status().term;
    let hung = cluster.nodes[&1].disk.hang();
    let writes: Vec<_> = (0..50)
        .map(|number| tokio::spawn(put(cluster.client(1), &format!("k{number}"), "1", soon())))
        .collect();
    eventually("the others have applied some", || {
        [2, 3]
            .iter()
            .all(|id| cluster.nodes[id].get("k0").is_some())
    })
    .await;
    // The core does not wait for the disk: heartbeats are acknowledged all the while.
    let mut acknowledged = 0;
    let mut before = Duration::MAX;
    eventually("ten heartbeats are acknowledged", || {
        let age = cluster.client(1).status().quorum_ack_age.unwrap();
        acknowledged += u32::from(age < before);
        before = age;
        acknowledged > 10
    })
    .await;
    assert!(
        writes.iter().all(|write| !write.is_finished()),
        "answered before it was on the disk"
    );
    assert_eq!(
        cluster.nodes[&1].get("k0"),
        None,
        "applied before it was on the disk"
    );
    drop(hung);
    for write in writes {
        write.await.unwrap().unwrap();
    }
    assert_eq!(
        cluster.client(1).status().term,
        term,
        "nobody stood for election"
    );
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_before_a_majority_has_it_on_the_disk() {
    let cluster = Cluster::formed_with(3, patient(), Guards::ALL).await;
    cluster.converge().await;
    let hung = [2, 3].map(|id| cluster.nodes[&id].disk.hang());
    let deadline = Instant::now() + Duration::from_millis(500);
    let outcome = put(cluster.client(1), "a", "1", deadline).await;
    assert!(
        matches!(outcome, Err(WriteError::Unknown(_))),
        "{outcome:?}"
    );
    eventually("the others have it in memory", || {
        let index = |id| cluster.client(id).status().last_log_index;
        index(2) == index(1) && index(3) == index(1)
    })
    .await;
    assert_eq!(cluster.nodes[&1].get("a"), None);
    drop(hung);
    eventually("it is applied", || cluster.nodes[&1].get("a").is_some()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_more_is_proposed_while_too_much_waits_for_the_disk() {
    let options = Options {
        unflushed_bytes_max: 1000,
        ..patient()
    };
    let cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    let hung = cluster.nodes[&1].disk.hang();
    let large = "x".repeat(2000);
    let proposed = tokio::spawn(put(cluster.client(1), "large", &large, soon()));
    let node = &cluster.client(1).node;
    eventually("the log holds more than allowed", || {
        node.log.unflushed_bytes() > 1000
    })
    .await;
    let deadline = Instant::now() + Duration::from_millis(300);
    let waiting = put(cluster.client(1), "waiting", "1", deadline).await;
    assert!(matches!(waiting, Err(WriteError::Expired)), "{waiting:?}");
    let later = tokio::spawn(put(cluster.client(1), "later", "1", soon()));
    drop(hung);
    proposed.await.unwrap().unwrap();
    later.await.unwrap().unwrap();
    assert_eq!(cluster.nodes[&1].get("waiting"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_disk_hangs_does_not_stop_the_others() {
    let cluster = Cluster::formed_with(3, patient(), Guards::ALL).await;
    let hung = cluster.nodes[&3].disk.hang();
    for number in 0..20 {
        cluster.put(1, &format!("k{number}"), "1").await;
    }
    assert_eq!(cluster.nodes[&3].get("k19"), None);
    drop(hung);
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_hangs_refuses_writes_and_hands_over() {
    let cluster = Cluster::formed().await;
    let hung = cluster.nodes[&1].disk.hang();
    let stuck = tokio::spawn(put(cluster.client(1), "stuck", "1", soon()));
    let leader = until("another leader", || {
        [2, 3].into_iter().find(|id| cluster.nodes[id].is_leader())
    })
    .await;
    let node = &cluster.client(1).node;
    let refused = node
        .batcher
        .enter(vec![0; 64], soon())
        .map(drop)
        .unwrap_err();
    assert!(matches!(refused, WriteError::NotReady(_)), "{refused:?}");
    while put(cluster.client(leader), "on", "1", soon())
        .await
        .is_err()
    {}
    drop(hung);
    // It was committed by the others before the disk answered: told so, or told that it is not known.
    match stuck.await.unwrap() {
        Ok(_) | Err(WriteError::Unknown(_)) => {}
        Err(other) => panic!("{other:?}"),
    }
    cluster.converge().await;
    assert!(cluster.faults().is_empty());
    eventually("it takes writes again", || {
        node.batcher.enter(vec![0; 64], soon()).is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_for_too_long_stops_the_node() {
    let options = Options {
        flush_abort: Duration::from_millis(700),
        ..fast()
    };
    let cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    let hung = cluster.nodes[&2].disk.hang();
    cluster.put(1, "a", "1").await;
    eventually("node 2 gives up", || {
        !cluster.nodes[&2].faults.lock().unwrap().is_empty()
    })
    .await;
    let fault = cluster.client(2).status().fault.unwrap();
    assert!(fault.contains("has not finished a write"), "{fault}");
    let refused = put(cluster.client(2), "b", "1", soon()).await;
    assert!(
        matches!(refused, Err(WriteError::NotReady(_))),
        "{refused:?}"
    );
    let refused = cluster.client(2).read(ReadLevel::Follower, soon()).await;
    assert!(
        matches!(refused, Err(ReadError::NotReady(_))),
        "{refused:?}"
    );
    drop(hung);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_stops_the_node_at_once() {
    let cluster = Cluster::formed().await;
    let model = &cluster.nodes[&1].disk.model;
    model.fail_at(model.operations());
    let outcome = put(cluster.client(1), "a", "1", soon()).await;
    assert!(
        matches!(outcome, Err(WriteError::Unknown(_))),
        "{outcome:?}"
    );
    eventually("the fault is reported", || {
        !cluster.nodes[&1].faults.lock().unwrap().is_empty()
    })
    .await;
    assert!(cluster.client(1).status().fault.is_some());
    assert_eq!(cluster.nodes[&1].faults.lock().unwrap().len(), 1, "once");
    let leader = until("another leader", || {
        [2, 3].into_iter().find(|id| cluster.nodes[id].is_leader())
    })
    .await;
    while put(cluster.client(leader), "b", "1", soon()).await.is_err() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_fails_while_consensus_waits_for_nothing_stops_the_node() {
    let cluster = Cluster::formed().await;
    cluster.converge().await;
    let node = &cluster.nodes[&3];
    let log = &node.client.node.log;
    let vote = log.state().vote.unwrap();
    node.disk.model.fail_at(node.disk.model.operations());
    // A write that the core does not know of: nobody tells it.
    log.save_vote(vote, Box::new(drop));
    eventually("the fault is reported", || {
        !node.faults.lock().unwrap().is_empty()
    })
    .await;
    let fault = node.client.status().fault.unwrap();
    assert!(fault.starts_with("the log failed"), "{fault}");
}

async fn told_soon(told: &mut UnboundedReceiver<String>) -> String {
    let told = tokio::time::timeout(PATIENCE, told.recv()).await;
    told.expect("nobody was told").unwrap()
}

#[tokio::test]
async fn a_task_that_panics_or_ends_is_a_fault_unless_the_node_stops() {
    let (send, mut told) = tokio::sync::mpsc::unbounded_channel();
    let new = || {
        let send = send.clone();
        Faults::new(Arc::new(move |what| send.send(what.to_owned()).unwrap()))
    };
    let faults = new();
    faults.supervise("panicking", async { panic!("on purpose") });
    let what = told_soon(&mut told).await;
    assert!(what.contains("the panicking task failed"), "{what}");
    assert_eq!(faults.get(), Some(what));
    faults.report("and another");
    let faults = new();
    faults.supervise("ending", async {});
    let what = told_soon(&mut told).await;
    assert_eq!(
        what, "the ending task failed: it ended",
        "only the first counts"
    );

    let faults = new();
    let (held, ended) = tokio::sync::oneshot::channel::<()>();
    faults.supervise("waiting", async move {
        let _held = held;
        std::future::pending().await
    });
    faults.stop();
    let ended = tokio::time::timeout(PATIENCE, ended).await;
    ended.expect("it ends").unwrap_err();
    assert_eq!(faults.get(), None);
    assert!(told.try_recv().is_err());
}

#[tokio::test]
async fn a_log_that_ends_is_no_fault_of_a_node_that_stops_on_purpose() {
    let disk = super::disk::SlowDisk::default();
    let log = Log::start(disk.clone(), "a node", super::cluster::log_options()).unwrap();
    disk.model.fail_at(disk.model.operations());
    let (send, failed) = tokio::sync::oneshot::channel();
    log.save_vote(
        Vote::default(),
        Box::new(|result| send.send(result).unwrap()),
    );
    failed.await.unwrap().unwrap_err();
    for stops in [true, false] {
        let faults = Faults::new(Arc::new(|_| {}));
        if stops {
            faults.stop();
        }
        let watched = watchdog::watch_log(log.clone(), faults.clone()).now_or_never();
        assert_eq!((watched.is_none(), faults.get().is_none()), (stops, stops));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_ends_by_itself_stops_the_node() {
    let cluster = Cluster::formed().await;
    let node = &cluster.nodes[&3];
    node.raft().shutdown().await.unwrap();
    eventually("the fault is reported", || {
        !node.faults.lock().unwrap().is_empty()
    })
    .await;
    let fault = node.client.status().fault.unwrap();
    assert!(fault.contains("consensus"), "{fault}");
}

#[test]
fn a_core_that_is_gone_without_a_word_is_a_fault() {
    let ending = tokio::runtime::Runtime::new().unwrap();
    let cluster = ending.block_on(Cluster::started(1, fast(), Guards::ALL));
    let raft = cluster.nodes[&1].raft().clone();
    // Its tasks end where they stand, as one that panics does.
    ending.shutdown_timeout(PATIENCE);
    let faults = Faults::new(Arc::new(|_| {}));
    let watching = watchdog::watch_core(raft, faults.clone());
    let watching = async { tokio::time::timeout(PATIENCE, watching).await };
    let watched = tokio::runtime::Runtime::new().unwrap().block_on(watching);
    watched.expect("it notices");
    let fault = faults.get().unwrap();
    assert!(fault.contains("core of consensus is gone"), "{fault}");
}
