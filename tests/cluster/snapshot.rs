//! A log that stays short, and a node that was away for too long to catch up from it.

use std::path::Path;
use std::process::Command;

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::http::Connection;
use crate::support::wait::wait_for;
use crate::write_until_done;

/// Bytes of a value.
pub(crate) const VALUE: usize = 64 << 10;
/// How many are written while a node is away: several times what the log holds.
const WRITES: usize = 480;

/// What the log takes with [`SMALL`], in bytes: a fifth of what is written.
const LOG_MAX: u64 = 6 << 20;

/// Settings of a log that stays short.
pub(crate) const SMALL: &[&str] = &[
    "--log-segment-bytes",
    "1MiB",
    "--snapshot-log-bytes",
    "3MiB",
    "--log-keep-bytes",
    "1MiB",
];

/// Bytes of the files in `dir`.
fn bytes_in(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("a directory");
    // One may be deleted meanwhile.
    let sizes = files.filter_map(|file| file.ok()?.metadata().ok());
    sizes.map(|metadata| metadata.len()).sum()
}

/// What node `id` measures as `name`.
pub(crate) fn metric(cluster: &Cluster, id: u64, name: &str) -> Option<f64> {
    let answer = cluster.ask(id, "GET", "/metrics", "").ok()?;
    let text = answer.text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value?.parse().ok()
}

fn put(cluster: &Cluster, key: usize) -> u64 {
    let value = format!("{}{key}", " ".repeat(VALUE));
    write_until_done(cluster, "PUT", &format!("/v1/kv/key-{key}"), &value).index()
}

#[test]
fn a_node_that_was_away_for_several_logs_comes_back_by_snapshot_and_every_log_stays_short() {
    let mut cluster = Cluster::formed_with(3, SMALL);
    put(&cluster, 0);
    cluster.kill(3);
    let mut last = 0;
    for key in 1..=WRITES {
        last = put(&cluster, key);
    }
    // A segment to keep, one being written, one prepared, and the bound of what may come before a snapshot. How much more there
    // is while a snapshot is made depends on the machine.
    for id in [1, 2] {
        let dir = cluster.data_dir(id).join("log");
        wait_for("the log to be short", PATIENCE, || {
            (bytes_in(&dir) <= LOG_MAX).then_some(())
        });
    }

    cluster.start(3);
    cluster.wait_ready(3);
    last = last.max(put(&cluster, WRITES + 1));
    cluster.wait_applied(last);
    let installed = wait_for("node 3 to count its snapshot", PATIENCE, || {
        metric(&cluster, 3, "quorate_snapshots_installed_total")
    });
    assert!(installed >= 1.0, "it caught up from the log");
    for id in [1, 2] {
        let made = metric(&cluster, id, "quorate_snapshots_made_total");
        assert!(made > Some(1.0), "node {id}: {made:?}");
    }
    for key in [0, 1, WRITES / 2, WRITES + 1] {
        let path = format!("/v1/kv/key-{key}?consistency=follower");
        let answer = Connection::open(cluster.addr(3))
            .and_then(|mut connection| connection.request("GET", &path, b""));
        let answer = answer.expect("an answer");
        assert_eq!(answer.text().trim_start(), key.to_string());
    }
    for id in cluster.ids() {
        assert!(cluster.terminate(id).success());
        let binary = env!("CARGO_BIN_EXE_quorate");
        let verified = Command::new(binary)
            .arg("verify")
            .arg(cluster.data_dir(id))
            .output();
        let verified = verified.expect("it runs");
        assert!(
            verified.status.success(),
            "{}",
            String::from_utf8_lossy(&verified.stderr)
        );
    }
}
