//! Two of three nodes are gone for good: the third goes on as a new cluster, which takes new nodes and none of the old.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use crate::replace::node;
use crate::snapshot::{SMALL, VALUE, metric};
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::load::{Load, OnNotApplied};
use crate::support::wait::wait_for;
use crate::{assert_books_agree, open_books, write_until_done};

/// Clients at work.
const CLIENTS: usize = 4;
/// Transfers that are acknowledged before the majority is lost, at least.
const ACKS: u64 = 300;
/// Values written before, so that the log is short and its beginning is in a snapshot.
const BALLAST: usize = 80;

fn quorate(args: &[&str], dir: PathBuf) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = command.args(args).arg(dir).output();
    output.expect("it runs")
}

fn recover(cluster: &Cluster, id: u64, confirm: Option<&str>) -> Output {
    let mut args = vec!["recover", "--force-new-cluster"];
    args.extend(confirm.map(|_| "--confirm"));
    args.extend(confirm);
    quorate(&args, cluster.data_dir(id))
}

fn view(cluster: &Cluster, id: u64) -> Option<Value> {
    let answer = cluster.ask(id, "GET", "/v1/cluster", "").ok()?;
    serde_json::from_str(&answer.text()).ok()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

/// Says what would be lost, and does nothing until the right cluster is named; then does it once.
fn recovered(cluster: &Cluster, old: &str) {
    let told = recover(cluster, 1, None);
    assert_eq!(told.status.code(), Some(2), "{}", said(&told));
    for says in ["node 2", "node 3", "LOST: every write", "--confirm"] {
        assert!(said(&told).contains(says), "{}", said(&told));
    }
    let other = "0".repeat(32);
    let wrong = recover(cluster, 1, Some(&other));
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    let verified = succeeds(&quorate(&["verify"], cluster.data_dir(1)));
    assert!(verified.contains(old), "nothing was to be done: {verified}");
    let first = succeeds(&recover(cluster, 1, Some(old)));
    let again = succeeds(&recover(cluster, 1, Some(old)));
    assert_eq!(first.lines().next(), again.lines().next());
    assert!(!first.contains(old), "{first}");
    // Without naming it there is nothing left to do.
    let alone = recover(cluster, 1, None);
    assert!(said(&alone).contains("the only vote"), "{}", said(&alone));
}

#[test]
fn a_node_that_is_left_alone_goes_on_as_a_new_cluster_with_all_it_held() {
    let mut cluster = Cluster::formed_with(3, SMALL);
    open_books(&cluster);
    for key in 0..BALLAST {
        let path = format!("/v1/kv/key-{key}");
        write_until_done(&cluster, "PUT", &path, &" ".repeat(VALUE));
    }
    let load = Load::start(&cluster.addrs(), CLIENTS, OnNotApplied::Retry);
    wait_for("transfers", PATIENCE, || {
        (load.acknowledged() >= ACKS).then_some(())
    });
    let mut book = load.finish();
    cluster.wait_applied(book.last_index);
    let old = view(&cluster, 1).expect("a view")["cluster_id"].clone();
    let old = old.as_str().expect("an id").to_owned();
    for id in [1, 2, 3] {
        cluster.kill(id);
    }
    std::fs::remove_dir_all(cluster.data_dir(2)).expect("it had a directory");
    recovered(&cluster, &old);

    cluster.start(1);
    cluster.wait_ready(1);
    let alone = view(&cluster, 1).expect("a view");
    assert_ne!(alone["cluster_id"], *old);
    assert_eq!(alone["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(alone["epoch"], 2, "it is the second cluster");
    assert_books_agree(&cluster, &book);

    // One of the old nodes comes back after all, and still means the cluster that it knew.
    cluster.start(3);
    for (id, says) in [(1, "belongs to another cluster"), (3, "refused")] {
        wait_for(&format!("node {id} to say {says:?}"), PATIENCE, || {
            cluster.log(id).contains(says).then_some(())
        });
    }
    let back = node(&cluster, &["add", &cluster.member(3)]);
    assert!(
        said(&back).contains("those below 4 are used up"),
        "{}",
        said(&back)
    );
    cluster.kill(3);

    for id in [4, 5] {
        cluster.join(id);
        succeeds(&node(&cluster, &["add", &cluster.member(id)]));
        succeeds(&node(&cluster, &["promote", &id.to_string()]));
    }
    for id in [4, 5] {
        let installed = metric(&cluster, id, "quorate_snapshots_installed_total");
        assert!(installed >= Some(1.0), "node {id} caught up from the log");
    }
    for number in 0..50 {
        let id = format!("after-{number}");
        let body = format!(
            r#"{{"id":"{id}","debit_account":"debit","credit_account":"credit","amount":"2","code":1}}"#
        );
        let done = write_until_done(&cluster, "POST", "/v1/transfers", &body);
        book.acked.insert(id, 2);
        book.last_index = done.index();
    }
    assert_books_agree(&cluster, &book);
    for id in [1, 4, 5] {
        assert!(cluster.terminate(id).success());
        succeeds(&quorate(&["verify"], cluster.data_dir(id)));
        succeeds(&quorate(
            &["log", "export", "--data-dir"],
            cluster.data_dir(id),
        ));
    }
}
