//! A node that is made a cluster of its own, cut off at every step of it.

use std::sync::Arc;

use super::cluster::{Cluster, eventually, log_options, state_options};
use crate::raft::convert;
use crate::raft::members::next_id;
use crate::raft::recover::{Remains, finish, written};
use crate::raft::repair::last_membership;
use crate::storage::identity::DataDir;
use crate::storage::log::Log;
use crate::storage::log::model::ModelDisk;
use crate::storage::state::State;
use crate::storage::{Kind, LogEntry, LogId, Vote};

/// Three nodes of which the last two are gone; gives the log of the first one, which is stopped.
async fn left_alone() -> (Cluster, ModelDisk) {
    let mut cluster = Cluster::formed().await;
    cluster.put(1, "kept", "1").await;
    cluster.converge().await;
    for id in [1, 2, 3] {
        cluster.crash(id).await;
    }
    cluster.wipe(2);
    cluster.wipe(3);
    let disk = cluster.disk(1).model.clone();
    (cluster, disk)
}

/// Where the log of `disk` ends, and so its only voter then.
fn end(log: &Log) -> (Option<LogId>, Option<Vote>, Vec<u64>) {
    let held = log.state();
    let body = last_membership(log).unwrap().unwrap().body;
    let membership = convert::decode_membership(&body).unwrap();
    (held.last, held.vote, membership.voter_ids().collect())
}

/// The smallest id that a new node may have, by the last membership in `log`.
fn next(log: &Log) -> u64 {
    let body = last_membership(log).unwrap().unwrap().body;
    next_id(&convert::decode_membership(&body).unwrap())
}

#[tokio::test]
async fn a_recovery_that_is_cut_off_at_any_step_is_finished_by_the_next_start() {
    let (mut cluster, disk) = left_alone().await;
    let dir = DataDir::open(&cluster.dir(1), 1).unwrap();
    let before = dir.identity();
    let state = State::open(&dir.state_dir(), state_options()).unwrap();
    let open = |disk: &ModelDisk| Log::start(disk.clone(), &before.node_uuid, log_options());
    let log = open(&disk.after_kill()).unwrap();
    let last = log.state().last.unwrap();
    // Until the identity is written it is the old cluster, whole.
    finish(&before, &log, &state).await.unwrap();
    assert_eq!(log.state().last, Some(last));
    let at = LogId {
        term: last.term + 1,
        node: 1,
        index: last.index + 1,
    };
    let made = dir.recover(at).unwrap();
    let identity = dir.identity();
    assert_eq!(identity.cluster_id.as_ref(), Some(&made));
    let mut was_cut_off = 0;
    for step in 0.. {
        let cut = disk.after_kill();
        cut.stop_at(step);
        let is_done = match open(&cut) {
            Ok(log) => finish(&identity, &log, &state).await.is_ok(),
            Err(_) => false,
        };
        let uncertain = cut.uncertain();
        for left in [
            cut.after_kill(),
            cut.after_power_cut(&uncertain, &vec![0; uncertain.len()]),
        ] {
            let log = open(&left).unwrap();
            finish(&identity, &log, &state).await.unwrap();
            let (found, vote, voters) = end(&log);
            assert_eq!((found, voters), (Some(at), vec![1]), "step {step}");
            assert_eq!(vote.map(|vote| (vote.term, vote.node)), Some((at.term, 1)));
        }
        if is_done {
            break;
        }
        was_cut_off += 1;
    }
    assert!(
        was_cut_off > 2,
        "a vote and an entry are at least two steps"
    );
    drop((state, dir));
    // And a start alone does it, too.
    cluster.start(1).await;
    eventually("node 1 leads", || cluster.nodes[&1].is_leader()).await;
    cluster.put(1, "after", "2").await;
    let node = &cluster.nodes[&1];
    let kept = (node.get("kept"), node.get("after"));
    assert_eq!(kept, (Some("1".to_owned()), Some("2".to_owned())));
    assert_eq!(node.client.status().cluster_id, Some(made));
    let status = node.client.status();
    assert_eq!((status.next_id, status.epoch), (4, 2));
}

#[tokio::test]
async fn what_may_be_lost_and_what_is_unsure_is_named() {
    let (cluster, disk) = left_alone().await;
    let open = async |disk: &ModelDisk| {
        let dir = Arc::new(DataDir::open(&cluster.dir(1), 1).unwrap());
        let state = State::open(&dir.state_dir(), state_options()).unwrap();
        let uuid = dir.identity().node_uuid;
        let log = Log::start(disk.clone(), &uuid, log_options()).unwrap();
        (dir, log, state)
    };
    let (dir, log, state) = open(&disk).await;
    let last = log.state().last.unwrap();
    // An entry that a leader sent, and did not live to say whether it is committed.
    let unsure = LogEntry {
        id: LogId {
            index: last.index + 1,
            ..last
        },
        kind: Kind::Blank,
        body: bytes::Bytes::new(),
    };
    written(|done| log.append(vec![unsure.clone()], done))
        .await
        .unwrap();
    let remains = Remains::of(dir, log, state).await.unwrap();
    assert_eq!(remains.others.keys().copied().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(remains.last, unsure.id);
    assert!(remains.committed <= last.index, "{}", remains.committed);
    assert!(!remains.is_alone());
    let old = remains.cluster_id.clone();
    let made = remains.force_new_cluster().await.unwrap();
    assert_ne!(made, old);
    remains.close().await.unwrap();
    let (dir, log, state) = open(&disk.after_kill()).await;
    assert_eq!(next(&log), 4, "the ids of those left behind are used up");
    let again = Remains::of(dir, log, state).await.unwrap();
    assert!(again.is_alone() && again.others.is_empty());
    assert_eq!(
        (again.cluster_id.clone(), again.recovered_from.clone()),
        (made, Some(old))
    );
    again.close().await.unwrap();
}
