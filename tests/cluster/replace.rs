//! Every node of a cluster is replaced in turn, while clients write: none of them notices more than a change of the leader.

use std::process::{Command, Output};

use quorate::client::{Client, Options};

use crate::snapshot::{SMALL, VALUE, metric};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::load::{Load, OnNotApplied};
use crate::support::wait::wait_for;
use crate::{assert_books_agree, open_books, write_until_done};

/// Clients at work.
const CLIENTS: usize = 4;
/// Transfers that are acknowledged between two replacements, at least.
const ACKS: u64 = 200;
/// Values written before, so that nobody who joins can catch up from the log alone.
const BALLAST: usize = 160;

/// Runs `quorate node` against the nodes that run, as a user would.
pub(crate) fn node(cluster: &Cluster, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for id in cluster.running() {
        command.arg("--endpoint");
        command.arg(format!("http://{}", cluster.addr(id)));
    }
    let output = command
        .args(["--timeout", "60s", "node"])
        .args(args)
        .output();
    output.expect("it runs")
}

fn replace(cluster: &mut Cluster, old: u64, new: u64) {
    cluster.join(new);
    let with = cluster.member(new);
    let replaced = node(cluster, &["replace", &old.to_string(), "--with", &with]);
    let said = String::from_utf8_lossy(&replaced.stdout);
    assert!(
        replaced.status.success() && said.contains("is removed for good"),
        "{said}{}",
        String::from_utf8_lossy(&replaced.stderr)
    );
}

fn more(load: &Load) {
    let before = load.acknowledged();
    wait_for("transfers to go on", PATIENCE, || {
        (load.acknowledged() >= before + ACKS).then_some(())
    });
}

#[test]
fn every_node_of_a_cluster_is_replaced_under_load_and_no_request_fails() {
    let mut cluster = Cluster::formed_with(3, SMALL);
    open_books(&cluster);
    for key in 0..BALLAST {
        write_until_done(
            &cluster,
            "PUT",
            &format!("/v1/kv/key-{key}"),
            &" ".repeat(VALUE),
        );
    }
    let everyone: Vec<_> = (1..=6).map(|id| cluster.addr(id)).collect();
    let load = Load::start(&everyone, CLIENTS, OnNotApplied::Retry);
    more(&load);

    // Node 1 loses its disk. Under its own id it stays outside; a new node takes its place.
    cluster.kill(1);
    std::fs::remove_dir_all(cluster.data_dir(1)).expect("it had a directory");
    cluster.start(1);
    let again = node(&cluster, &["add", &cluster.member(1)]);
    let refused = String::from_utf8_lossy(&again.stderr);
    assert!(
        refused.contains("a node id is never used twice"),
        "{refused}"
    );
    assert_eq!(again.status.code(), Some(4), "{refused}");
    cluster.kill(1);
    replace(&mut cluster, 1, 4);
    more(&load);

    // Nodes 2 and 3 go while they work, one of them as the leader. They stop by themselves.
    for (old, new) in [(2, 5), (3, 6)] {
        replace(&mut cluster, old, new);
        assert!(cluster.wait_end(old).success(), "node {old}");
        more(&load);
    }
    for id in [4, 5, 6] {
        let installed = metric(&cluster, id, "quorate_snapshots_installed_total");
        assert!(installed >= Some(1.0), "node {id} caught up from the log");
    }

    let book = load.finish();
    assert_eq!(book.abandoned, [""; 0]);
    assert_books_agree(&cluster, &book);
    let listed = node(&cluster, &["list", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let members = listed["members"].as_array().expect("members");
    let ids: Vec<_> = members.iter().map(|member| &member["id"]).collect();
    assert_eq!(ids, [4, 5, 6]);
    assert!(members.iter().all(|member| member["role"] == "voter"));
    assert_eq!(listed["next_node_id"], 7);
    library_calls(&cluster);
}

/// The library does the same as the command.
fn library_calls(cluster: &Cluster) {
    let urls: Vec<_> = cluster
        .running()
        .iter()
        .map(|id| cluster.addr(*id))
        .collect();
    let urls: Vec<_> = urls.iter().map(|addr| format!("http://{addr}")).collect();
    let client = Client::new(&urls, Options::default()).expect("addresses");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a thread");
    let demoted = runtime.block_on(client.demote_member(6, false));
    assert_eq!(demoted.expect("done").value.result, "changed");
    let terms = quorate::client::members::Terms::default();
    let promoted = runtime.block_on(client.promote_member(6, terms));
    assert_eq!(promoted.expect("done").value.result, "changed");
    let again = runtime.block_on(client.promote_member(6, terms));
    assert_eq!(again.expect("done").value.result, "unchanged");
}
