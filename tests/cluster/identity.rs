//! Data directories that are not what they were: put back from a copy, run twice, swapped, or of another cluster. Each is refused
//! with the reason, and the cluster goes on.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::wait::wait_for;
use crate::write_until_done;

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp").success());
}

fn put(cluster: &Cluster, key: &str) -> u64 {
    write_until_done(cluster, "PUT", &format!("/v1/kv/{key}"), "1").index()
}

/// Waits until the log of node `id` holds `says`.
fn wait_says(cluster: &Cluster, id: u64, says: &str) {
    wait_for(&format!("node {id} to say {says:?}"), PATIENCE, || {
        cluster.log(id).contains(says).then_some(())
    });
}

/// Three nodes that have written something, led by another one than node 3.
fn followed() -> Cluster {
    let cluster = Cluster::formed(3);
    if cluster.wait_leader(&[1, 2, 3]) == 3 {
        let moved = cluster.ask(3, "POST", "/v1/cluster/leader/transfer", r#"{"to":1}"#);
        assert!(moved.expect("an answer").status < 300);
    }
    cluster.wait_leader(&[1, 2]);
    let index = put(&cluster, "before");
    cluster.wait_applied(index);
    cluster
}

/// Such nodes, and a copy of the directory of node 3, made while it was down.
fn with_copy() -> (Cluster, PathBuf) {
    let mut cluster = followed();
    cluster.kill(3);
    let kept = cluster.data_dir(9);
    copy(&cluster.data_dir(3), &kept);
    cluster.start(3);
    cluster.wait_ready(3);
    (cluster, kept)
}

/// Has node 3 acknowledge more, puts the directory `kept` in the place of its own and starts it: it must end, having said `says`,
/// and not start again, while the leader goes on.
fn put_back(cluster: &mut Cluster, kept: &Path, says: &str) {
    let index = put(cluster, "after");
    cluster.wait_applied(index);
    let leader = cluster.wait_leader(&[1, 2]);
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.data_dir(3)).expect("it had a directory");
    std::fs::rename(kept, cluster.data_dir(3)).expect("a rename");
    for says in [says, "was refused by its cluster"] {
        cluster.start(3);
        assert!(!cluster.wait_end(3).success());
        let log = cluster.log(3);
        assert!(
            log.contains(says) && log.contains("quorate node replace"),
            "{log}"
        );
    }
    put(cluster, "later");
    assert_eq!(cluster.wait_leader(&[1, 2]), leader);
    let log = cluster.log(leader);
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn a_directory_that_was_put_back_from_a_copy_is_refused_and_the_leader_lives_on() {
    let (mut cluster, kept) = with_copy();
    // Its starts tell, or else its log: whichever is seen first.
    put_back(&mut cluster, &kept, "was put back from an older copy");
}

#[test]
fn a_node_that_lacks_what_it_acknowledged_is_refused_and_the_leader_lives_on() {
    let mut cluster = followed();
    // The copy is as of the same start, so that only the log tells.
    cluster.pause(3);
    let kept = cluster.data_dir(9);
    copy(&cluster.data_dir(3), &kept);
    cluster.resume(3);
    put_back(&mut cluster, &kept, "which it had on its disk");
}

#[test]
fn of_two_processes_on_copies_of_one_directory_the_second_is_refused() {
    let (mut cluster, kept) = with_copy();
    cluster.start_as(3, 7, &kept);
    assert!(!cluster.wait_end(7).success());
    let log = cluster.log(7);
    assert!(
        log.contains("two processes say to be start 2 of node 3"),
        "{log}"
    );
    let index = put(&cluster, "after");
    cluster.wait_applied(index);
}

#[test]
fn directories_that_were_swapped_are_refused_before_anything_is_served() {
    let mut cluster = Cluster::formed(3);
    for id in [2, 3] {
        cluster.kill(id);
    }
    let aside = cluster.data_dir(9);
    let swaps = [(2, 9), (3, 2)];
    for (from, to) in swaps {
        std::fs::rename(cluster.data_dir(from), cluster.data_dir(to)).expect("a rename");
    }
    std::fs::rename(aside, cluster.data_dir(3)).expect("a rename");
    for (id, other) in [(2, 3), (3, 2)] {
        cluster.start(id);
        assert!(!cluster.wait_end(id).success());
        wait_says(
            &cluster,
            id,
            &format!("belongs to node {other}, not to node {id}"),
        );
    }
}

#[test]
fn nodes_at_swapped_addresses_refuse_what_is_meant_for_the_other_and_lose_nothing() {
    let mut cluster = followed();
    for id in [2, 3] {
        cluster.kill(id);
    }
    for (id, place) in [(2, 3), (3, 2)] {
        let dir = cluster.data_dir(id);
        cluster.start_as(id, place, &dir);
    }
    for (id, place) in [(2, 3), (3, 2)] {
        let says = format!("means node {place}, this is node {id}");
        wait_says(&cluster, place, &says);
    }
    for place in [2, 3] {
        cluster.kill(place);
    }
    for id in [2, 3] {
        cluster.start(id);
    }
    put(&cluster, "after");
    cluster.wait_all_ready();
    let answer = cluster
        .ask(2, "GET", "/v1/kv/before", "")
        .expect("an answer");
    assert_eq!(answer.status, 200);
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let mut cluster = Cluster::formed(3);
    let other = {
        let mut other = Cluster::formed(3);
        other.kill(3);
        let kept = cluster.data_dir(9);
        copy(&other.data_dir(3), &kept);
        kept
    };
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.data_dir(3)).expect("it had a directory");
    std::fs::rename(other, cluster.data_dir(3)).expect("a rename");
    let leader = cluster.wait_leader(&[1, 2]);
    cluster.start(3);
    wait_says(&cluster, leader, "belongs to another cluster");
    put(&cluster, "after");
}

#[test]
fn a_directory_that_was_wiped_is_refused_by_what_it_was() {
    let mut cluster = Cluster::formed(3);
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.data_dir(3)).expect("it had a directory");
    let leader = cluster.wait_leader(&[1, 2]);
    cluster.start(3);
    wait_says(&cluster, leader, "the node was wiped");
    wait_says(&cluster, leader, "quorate node replace");
    put(&cluster, "after");
}
