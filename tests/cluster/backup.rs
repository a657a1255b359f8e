//! A backup taken while clients write makes a new cluster that has what the backup says, and nothing to do with the old one.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::replace::node;
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::load::{Load, OnNotApplied};
use crate::support::wait::wait_for;
use crate::{open_books, write_until_done};

/// Clients at work.
const CLIENTS: usize = 4;
/// Transfers that are acknowledged before the next step, at least.
const ACKS: u64 = 200;
/// Bytes of the values that make a backup too large for what a connection holds while nobody reads.
const BALLAST_LEN: usize = 512 << 10;
const BALLAST: usize = 40;

fn quorate(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(args).output().expect("it runs")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

#[track_caller]
fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in ASCII")
}

/// Takes a backup of node `id`, into `file`.
fn save(cluster: &Cluster, id: u64, file: &Path, more: &[&str]) -> Output {
    let endpoint = format!("http://{}", cluster.addr(id));
    let mut args = vec![
        "backup",
        "save",
        text(file),
        "-o",
        "json",
        "--endpoint",
        &endpoint,
    ];
    args.extend(more);
    quorate(&args)
}

fn verify(file: &Path) -> Output {
    quorate(&["backup", "verify", text(file), "-o", "json"])
}

fn restore(file: &Path, dir: &Path, member: &str) -> Output {
    quorate(&[
        "restore",
        text(file),
        "--data-dir",
        text(dir),
        "--member",
        member,
        "-o",
        "json",
    ])
}

fn more(load: &Load) {
    let before = load.acknowledged();
    wait_for("transfers to go on", PATIENCE, || {
        (load.acknowledged() >= before + ACKS).then_some(())
    });
}

/// What is in `dir`, names and contents.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(tree(&path)),
            false => drop(found.insert(path.clone(), fs::read(&path).expect("a file"))),
        }
    }
    found
}

fn view(cluster: &Cluster, id: u64) -> Option<Value> {
    let answer = cluster.ask(id, "GET", "/v1/cluster", "").ok()?;
    serde_json::from_str(&answer.text()).ok()
}

/// Sums of the ledger as node `id` has them, as the summary of a backup tells them.
fn trial(cluster: &Cluster, id: u64) -> (String, String) {
    let path = "/v1/ledgers/usd/trial-balance?consistency=follower";
    let trial = cluster.ask(id, "GET", path, "").expect("an answer").json();
    let text = |name: &str| trial["summed"][name].as_str().expect("digits").to_owned();
    (text("debits_posted"), text("credits_posted"))
}

fn told(backup: &Value) -> (String, String) {
    let usd = &backup["summary"]["ledgers"][0];
    let text = |name: &str| usd[name].as_str().expect("digits").to_owned();
    (text("debits_posted"), text("credits_posted"))
}

#[test]
fn a_backup_taken_under_load_becomes_a_new_cluster_that_has_what_it_says() {
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str| files.path().join(name);
    let mut cluster = Cluster::formed(3);
    open_books(&cluster);
    let load = Load::start(&cluster.addrs(), CLIENTS, OnNotApplied::Retry);
    more(&load);
    let leader = cluster.wait_leader(&[1, 2, 3]);
    let follower = if leader == 1 { 2 } else { 1 };
    let mut known = Vec::new();
    for (name, id, level) in [
        ("leader.tar", leader, "leader"),
        ("follower.tar", follower, "leader"),
        ("stale.tar", follower, "follower"),
    ] {
        let before = load.acknowledged();
        let saved = json(&save(&cluster, id, &file(name), &["-c", level]));
        let checked = json(&verify(&file(name)));
        assert_eq!(checked["ok"], true, "{checked}");
        for member in ["cluster_id", "epoch", "index", "digest", "summary"] {
            assert_eq!(checked[member], saved[member], "{member}");
        }
        assert_eq!(
            (&saved["epoch"], told(&saved).0),
            (&1.into(), told(&saved).1)
        );
        let held = saved["summary"]["transfers"].as_str().expect("digits");
        if level == "leader" {
            // What was acknowledged before it was asked for is in it, whoever is asked.
            assert!(
                held.parse::<u64>().expect("digits") >= before,
                "{held} of {before}"
            );
        }
        known.push(saved);
        more(&load);
    }
    let (backup, backup_file) = (&known[1], file("follower.tar"));

    // Nothing is put where something is.
    let again = save(&cluster, leader, &backup_file, &[]);
    assert_eq!(again.status.code(), Some(4), "{}", said(&again));
    cluster.kill(3);
    let before = tree(&cluster.data_dir(3));
    let refused = restore(&backup_file, &cluster.data_dir(3), &cluster.member(3));
    assert!(
        said(&refused).contains("empty or absent"),
        "{}",
        said(&refused)
    );
    assert_eq!(
        tree(&cluster.data_dir(3)),
        before,
        "nothing is changed there"
    );
    let foreign = file("foreign");
    fs::create_dir(&foreign).expect("a directory");
    fs::write(foreign.join("letter"), "dear").expect("a file");
    assert!(
        !restore(&backup_file, &foreign, &cluster.member(3))
            .status
            .success()
    );
    assert_eq!(tree(&foreign).len(), 1);

    let book = load.finish();
    let old = view(&cluster, leader).expect("a view")["cluster_id"].clone();
    for id in cluster.running() {
        cluster.kill(id);
    }

    // Its node is node 1 again, at the addresses at which the old nodes know one.
    let dir = file("restored");
    let made = json(&restore(&backup_file, &dir, &cluster.member(1)));
    assert_eq!((&made["epoch"], &made["node"]), (&2.into(), &1.into()));
    assert_ne!(made["cluster_id"], old);
    cluster.start_as(1, 1, &dir);
    cluster.wait_ready(1);
    let seen = view(&cluster, 1).expect("a view");
    assert_eq!(
        (&seen["cluster_id"], &seen["epoch"]),
        (&made["cluster_id"], &2.into())
    );
    assert_eq!(seen["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(trial(&cluster, 1), told(backup));

    // An old node comes back and means the cluster that it knew.
    cluster.start(3);
    for (id, says) in [(1, "belongs to another cluster"), (3, "refused")] {
        wait_for(&format!("node {id} to say {says:?}"), PATIENCE, || {
            cluster.log(id).contains(says).then_some(())
        });
    }
    cluster.kill(3);

    for id in [4, 5] {
        cluster.join(id);
        let added = node(&cluster, &["add", &cluster.member(id)]);
        assert!(added.status.success(), "{}", said(&added));
        let voted = node(&cluster, &["promote", &id.to_string()]);
        assert!(voted.status.success(), "{}", said(&voted));
    }
    for id in [1, 4, 5] {
        assert_eq!(trial(&cluster, id), told(backup), "node {id}");
        let shown = view(&cluster, id).expect("a view");
        assert_eq!(shown["epoch"], 2, "node {id}");
    }
    // What was done stays done, and what was not yet is done once.
    let moved: u64 = book.moved();
    for (id, amount) in &book.acked {
        let body = format!(
            r#"{{"id":"{id}","debit_account":"debit","credit_account":"credit","amount":"{amount}","code":1}}"#
        );
        write_until_done(&cluster, "POST", "/v1/transfers", &body);
    }
    assert_eq!(trial(&cluster, 1).0, moved.to_string());
    digests_match(&mut cluster, &dir, backup);
}

/// A second cluster of the same backup, which nobody wrote to: its digest, counts and sums are those of the manifest.
fn digests_match(cluster: &mut Cluster, dir: &Path, backup: &Value) {
    for id in cluster.running() {
        assert!(cluster.terminate(id).success());
    }
    let second = dir.with_extension("second");
    let file = dir.with_file_name("follower.tar");
    json(&restore(&file, &second, "9=127.0.0.1:1,http://127.0.0.1:2"));
    let checked = json(&quorate(&["verify", text(&second), "-o", "json"]));
    assert_eq!(
        (&checked["ok"], &checked["node"]),
        (&true.into(), &9.into())
    );
    assert_eq!(checked["state"]["digest"], backup["digest"]);
    let count = |value: &Value| {
        value
            .as_str()
            .expect("digits")
            .parse::<u64>()
            .expect("digits")
    };
    let summary = &backup["summary"];
    assert_eq!(
        count(&checked["state"]["transfers"]),
        count(&summary["transfers"]) + count(&summary["refused"])
    );
    assert_eq!(
        count(&checked["state"]["applied_index"]),
        count(&backup["index"]) + 1
    );
    let first = json(&quorate(&["verify", text(dir), "-o", "json"]));
    assert_ne!(
        first["cluster_id"], checked["cluster_id"],
        "each is a cluster of its own"
    );
}

#[test]
fn a_backup_that_does_not_come_to_its_end_leaves_no_file_and_no_checkpoint() {
    let files = tempfile::tempdir().expect("a directory");
    let mut cluster = Cluster::formed(1);
    for key in 0..BALLAST {
        let value = "x".repeat(BALLAST_LEN - key);
        write_until_done(&cluster, "PUT", &format!("/v1/kv/key-{key}"), &value);
    }
    let checkpoint = cluster.data_dir(1).join("snapshots/backup");

    // Somebody asks for one and does not read it: meanwhile there is no other.
    let mut idle = TcpStream::connect(cluster.addr(1)).expect("a connection");
    idle.write_all(b"GET /v1/backup HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("sent");
    let mut first = [0; 12];
    idle.read_exact(&mut first).expect("an answer begins");
    assert_eq!(&first, b"HTTP/1.1 200");
    assert!(checkpoint.exists());
    let second = cluster.ask(1, "GET", "/v1/backup", "").expect("an answer");
    assert_eq!(
        (second.status, second.field("code").as_str()),
        (429, "backup_in_progress")
    );
    assert!(second.header("retry-after").is_some());
    // It goes away: what it kept is given back.
    drop(idle);
    wait_for("the checkpoint to go", PATIENCE, || {
        (!checkpoint.exists()).then_some(())
    });

    // The node dies half way.
    let file = files.path().join("cut.tar");
    let mut idle = TcpStream::connect(cluster.addr(1)).expect("a connection");
    idle.write_all(b"GET /v1/backup HTTP/1.1\r\nhost: x\r\n\r\n")
        .expect("sent");
    idle.read_exact(&mut first).expect("an answer begins");
    cluster.kill(1);
    assert!(checkpoint.exists());
    cluster.start(1);
    cluster.wait_ready(1);
    assert!(!checkpoint.exists(), "a start clears it away");

    // And what a command had received of it is no file.
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let through = proxy.local_addr().expect("an address");
    let to = cluster.addr(1);
    let cutting = std::thread::spawn(move || cut_after(&proxy, to, 4 << 20));
    let saved = quorate(&[
        "backup",
        "save",
        text(&file),
        "--endpoint",
        &format!("http://{through}"),
    ]);
    cutting.join().expect("no panic");
    assert_eq!(saved.status.code(), Some(6), "{}", said(&saved));
    assert_eq!(tree(files.path()).len(), 0, "nothing is left of it");
    wait_for("the checkpoint to go", PATIENCE, || {
        (!checkpoint.exists()).then_some(())
    });

    // A file that was cut off, or changed, is told from a whole one.
    let saved = save(&cluster, 1, &file, &[]);
    json(&saved);
    let whole = fs::read(&file).expect("a file");
    fs::write(&file, &whole[..whole.len() - 1024]).expect("written");
    let cut = verify(&file);
    assert_eq!(cut.status.code(), Some(1), "{}", said(&cut));
    assert!(said(&cut).contains("not whole"), "{}", said(&cut));
    let dir = files.path().join("dir");
    let refused = restore(&file, &dir, "1=127.0.0.1:1,http://127.0.0.1:2");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(!dir.exists(), "nothing was made of it");
    assert_eq!(
        tree(files.path()).len(),
        1,
        "and nothing is left of the attempts"
    );
}

/// Hands one connection on to `to`, and ends it after so many bytes of the answer.
fn cut_after(proxy: &std::net::TcpListener, to: std::net::SocketAddr, most: u64) {
    let (mut client, _) = proxy.accept().expect("a connection");
    let mut server = TcpStream::connect(to).expect("a connection");
    let mut head = [0; 4096];
    let len = client.read(&mut head).expect("a request");
    server.write_all(&head[..len]).expect("sent");
    std::io::copy(&mut server.take(most), &mut client).expect("handed on");
}
