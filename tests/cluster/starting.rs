//! Nodes that start or stop while something never ends.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::http::Connection;
use crate::support::wait::wait_for;

/// What `/readyz` of node 1 says, once it says `line`.
fn ready_says(cluster: &Cluster, line: &str) -> String {
    wait_for(line, PATIENCE, || {
        let answer = cluster.ask(1, "GET", "/readyz", "").ok()?;
        let text = answer.text();
        (answer.status == 503 && text.contains(line)).then_some(text)
    })
}

#[test]
fn a_node_whose_start_hangs_lives_says_so_and_can_be_stopped() {
    let mut cluster = Cluster::unformed(1);
    ready_says(&cluster, "[-]member");
    assert!(cluster.terminate(1).success());
    // Reading it waits for ever, as on a disk that does not answer.
    let current = cluster.data_dir(1).join("state/CURRENT");
    std::fs::remove_file(&current).expect("it was made");
    let made = Command::new("mkfifo").arg(&current).status();
    assert!(made.expect("mkfifo").success());
    cluster.start(1);
    let text = ready_says(&cluster, "[-]started it opens its state");
    assert!(text.starts_with("[+]core ok\n"), "{text}");
    let alive = cluster.ask(1, "GET", "/livez", "").expect("an answer");
    assert_eq!(alive.status, 200);
    let refused = cluster.ask(1, "PUT", "/v1/kv/a", "1").expect("an answer");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.json()["code"], "not_ready");
    assert!(!cluster.terminate(1).success(), "it never started");
}

#[test]
fn a_second_signal_ends_a_node_that_waits_for_its_clients() {
    let mut cluster = Cluster::formed_with(1, &["--stop-polite", "10m"]);
    let _idle = Connection::open(cluster.addr(1)).expect("a connection");
    cluster.signal(1, "TERM");
    // It takes no more connections, and waits for the one there is.
    wait_for("the listener to close", PATIENCE, || {
        Connection::open(cluster.addr(1)).err()
    });
    let killed = cluster.terminate(1);
    assert_eq!(killed.signal(), Some(9), "{killed:?}");
}
