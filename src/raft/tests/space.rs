//! Disks that fill up: what is refused meanwhile, who leads, and that all goes on when there is room again.

use super::cluster::{Cluster, eventually, fast, put, put_by_any, soon};
use crate::machine::{Command, Expect};
use crate::raft::start::Guards;
use crate::raft::{Options, Room, SnapshotOptions, WriteError};

const MIB: u64 = 1 << 20;
/// Free bytes that are little, and as good as none, by the marks that are set by default.
const LOW: u64 = 1024 * MIB;
const FULL: u64 = 100 * MIB;
const PLENTY: u64 = 50_000 * MIB;

impl Cluster {
    async fn wait_room(&self, id: u64, room: Room) {
        eventually("its disk is looked at", || {
            self.nodes[&id].client.node.space.room() == room
        })
        .await;
    }

    /// Why node `id` has no room for a value.
    async fn no_room(&self, id: u64) -> Option<String> {
        match put(self.client(id), "k", "v", soon()).await {
            Err(WriteError::NoRoom(why)) => Some(why),
            Ok(_) => None,
            Err(other) => panic!("{other}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_with_little_room_takes_deletes_only_until_it_has_more() {
    let cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    cluster.put(leader, "k", "v").await;
    cluster.set_free(leader, LOW);
    cluster.wait_room(leader, Room::Low).await;
    let before = cluster.client(leader).status().last_log_index;
    let why = cluster.no_room(leader).await.unwrap();
    assert!(why.contains("disk_low_bytes"), "{why}");
    assert_eq!(cluster.client(leader).status().last_log_index, before);
    let delete = Command::KvDelete {
        key: "k",
        expect: Expect::Any,
    };
    let deleted = cluster.client(leader).write(&delete, soon()).await;
    deleted.unwrap();
    assert_eq!(cluster.nodes[&leader].get("k"), None);
    cluster.set_free(leader, PLENTY);
    cluster.wait_room(leader, Room::Enough).await;
    cluster.put(leader, "k", "v").await;
    cluster.converge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_disk_is_full_hands_over_to_who_has_room() {
    let cluster = Cluster::formed().await;
    let first = cluster.leader().await;
    let other = first % 3 + 1;
    cluster.set_free(first, FULL);
    cluster.set_free(other, FULL);
    let third = 6 - first - other;
    eventually("the third leads", || cluster.nodes[&third].is_leader()).await;
    // Two of three have no room: whoever leads takes nothing.
    eventually("it has heard of both", || {
        let space = &cluster.nodes[&third].client.node.space;
        space.is_full(first) && space.is_full(other)
    })
    .await;
    let why = cluster.no_room(third).await.unwrap();
    assert!(why.contains("no majority"), "{why}");
    cluster.set_free(other, PLENTY);
    eventually("it has heard of room", || {
        !cluster.nodes[&third].client.node.space.is_full(other)
    })
    .await;
    put_by_any(&cluster.clients(), "after", "1").await;
    cluster.set_free(first, PLENTY);
    cluster.converge().await;
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_little_room_the_log_keeps_no_tail() {
    let options = Options {
        snapshots: SnapshotOptions {
            log_bytes: 8 * MIB,
            log_keep_bytes: 1 << 40,
            ..SnapshotOptions::default()
        },
        ..fast()
    };
    let cluster = Cluster::formed_with(3, options, Guards::ALL).await;
    let value = "v".repeat(64 << 10);
    for number in 0..100 {
        put_by_any(&cluster.clients(), &format!("k{number}"), &value).await;
    }
    let purged = |id: u64| cluster.nodes[&id].client.node.log.state().purged;
    assert_eq!([1, 2, 3].map(purged), [None; 3]);
    for id in [1, 2, 3] {
        cluster.set_free(id, LOW);
    }
    eventually("every log was purged", || {
        [1, 2, 3].iter().all(|id| purged(*id).is_some())
    })
    .await;
    assert_eq!(cluster.faults(), [""; 0]);
}
