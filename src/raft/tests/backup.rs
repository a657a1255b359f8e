//! Who gives a backup, of what, and what it leaves behind.

use std::io;

use super::cluster::{Cluster, eventually, fast, soon};
use crate::raft::start::Guards;
use crate::raft::{BackupError, ReadLevel, Room};
use crate::storage::backup;

/// Free bytes that are little by the marks that are set by default, and plenty.
const LOW: u64 = 1024 << 20;
const PLENTY: u64 = 50_000 << 20;

/// Why node `id` gives none.
async fn refusal(cluster: &Cluster, id: u64) -> BackupError {
    match cluster.client(id).backup().await {
        Ok(backup) => panic!("a backup of index {}", backup.index()),
        Err(why) => why,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_of_its_moment_and_there_is_one_at_a_time() {
    let cluster = Cluster::formed().await;
    cluster.converge().await;
    let made = cluster.client(2).backup().await.unwrap();
    let applied = cluster.nodes[&2].state().applied();
    assert_eq!(made.index(), applied.log_id.unwrap().index);
    assert!(matches!(refusal(&cluster, 2).await, BackupError::Busy));
    // Another node does not mind, and life goes on.
    drop(cluster.client(3).backup().await.unwrap());
    cluster.put(1, "later", "1").await;
    cluster.converge().await;
    let checkpoint = cluster.dir(2).join("snapshots/backup");
    assert!(checkpoint.exists());
    let (len, mut bytes) = (made.len(), Vec::new());
    made.write(&mut bytes).unwrap();
    assert!(!checkpoint.exists(), "it is given back");
    assert_eq!(bytes.len() as u64, len);
    let (manifest, summary) = backup::read(&bytes[..], |_| Ok(())).unwrap();
    assert_eq!((manifest.applied, manifest.epoch), (applied, 1));
    assert_eq!(
        Some(manifest.cluster),
        cluster.client(2).status().cluster_id
    );
    assert_eq!(summary.keys, 1);
    let next = cluster.client(2).backup().await.unwrap();
    drop(next);
    assert!(!checkpoint.exists(), "so it is if nobody takes it");
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_with_little_room_gives_none_and_gives_up_the_one_it_is_at() {
    let cluster = Cluster::formed_with(1, fast(), Guards::ALL).await;
    let space = cluster.client(1).node.space.clone();
    let made = cluster.client(1).backup().await.unwrap();
    cluster.set_free(1, LOW);
    eventually("it is noticed", || space.room() == Room::Low).await;
    let mut bytes = Vec::new();
    let cut = made.write(&mut bytes).unwrap_err();
    assert_eq!(cut.kind(), io::ErrorKind::StorageFull);
    assert!(backup::read(&bytes[..], |_| Ok(())).is_err());
    assert!(!cluster.dir(1).join("snapshots/backup").exists());
    let why = refusal(&cluster, 1).await;
    assert!(matches!(why, BackupError::NoRoom(_)), "{why}");
    cluster.set_free(1, PLENTY);
    eventually("there is room again", || space.room() == Room::Enough).await;
    cluster.client(1).backup().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_clears_away_what_a_crash_left_of_one() {
    let mut cluster = Cluster::formed_with(1, fast(), Guards::ALL).await;
    let made = cluster.client(1).backup().await.unwrap();
    let checkpoint = cluster.dir(1).join("snapshots/backup");
    let left = cluster.dir(1).join("left");
    std::fs::rename(&checkpoint, &left).unwrap();
    drop(made);
    cluster.crash(1).await;
    std::fs::rename(&left, &checkpoint).unwrap();
    cluster.start(1).await;
    assert!(!checkpoint.exists());
    let ready = cluster.client(1).read(ReadLevel::Follower, soon());
    ready.await.unwrap();
    cluster.client(1).backup().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_no_member_or_cannot_trust_its_state_gives_none() {
    let cluster = Cluster::started(1, fast(), Guards::ALL).await;
    let why = refusal(&cluster, 1).await;
    assert!(matches!(why, BackupError::NotReady(_)), "{why}");
    let formed = cluster.client(1).initialize(cluster.members()).await;
    formed.unwrap();
    let ready = cluster.client(1).read(ReadLevel::Leader, soon());
    ready.await.unwrap();
    drop(cluster.client(1).backup().await.unwrap());
    cluster.nodes[&1].state().condemn("as a test has it");
    let why = refusal(&cluster, 1).await;
    assert!(matches!(why, BackupError::NotReady(_)), "{why}");
}
