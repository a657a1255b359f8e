//! What earlier versions wrote can be read for ever: a data directory of each is kept (`tests/formats`), and a node that starts on a
//! copy of it has all that was answered then.
//!
//! `QUORATE_RENEW=1` makes one more, of the version that runs, called as the environment variable `QUORATE_FORMATS` says. Those that
//! are there are never made anew: that would only prove that a version can read what it writes itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::snapshot::metric;
use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::http::{Answer, Connection};
use crate::support::wait::wait_for;
use crate::write_until_done;

/// Small files, and a snapshot soon.
const TINY: &[&str] = &["--log-segment-bytes", "16KiB", "--snapshot-every", "1s"];

/// What is asked of the directory; the answers are kept beside it.
const QUESTIONS: [&str; 9] = [
    "/v1/ledgers",
    "/v1/ledgers/usd/trial-balance",
    "/v1/accounts/bank",
    "/v1/accounts/alice",
    "/v1/transfers/t1",
    "/v1/transfers/refused",
    "/v1/transfers?account=alice",
    "/v1/kv/kept",
    "/v1/kv/deleted",
];

/// What a backup is called beside the directory that it is of.
const BACKUP: &str = "backup.tar";

/// Where the directories are kept.
fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

/// Every file and folder below `from`, but for locks and for what RocksDB tells people.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else if !["lock", "LOCK", "LOG"].contains(&&*entry.file_name().to_string_lossy()) {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// A write under an idempotency key. It is not asked for later: a key is kept for a day of log time.
fn once(cluster: &Cluster, key: &str, path: &str) -> Answer {
    wait_for("a write under a key", PATIENCE, || {
        let mut connection = Connection::open(cluster.addr(1)).ok()?;
        let answer = connection.once(key, "PUT", path, b"value").ok()?;
        (answer.status < 429).then_some(answer)
    })
}

/// What a command prints about a path; it must succeed.
fn quorate(args: &[&str], path: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = command.args(args).arg(path).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {told}{errors}");
    told
}

/// What `quorate verify` finds in a directory.
fn verified(dir: &Path) -> Value {
    serde_json::from_str(&quorate(&["verify", "--output", "json"], dir)).expect("JSON")
}

/// What the node answers to each question. Of the headers, the version of a key.
fn answers(cluster: &Cluster) -> Value {
    let asked = QUESTIONS.map(|path| {
        let answer = cluster.ask(1, "GET", path, "").expect("an answer");
        // What is about the request, and what grows with the log, is not about what is stored.
        let mut body = answer.json();
        if let Some(body) = body.as_object_mut() {
            for volatile in ["request_id", "raft", "index"] {
                body.remove(volatile);
            }
        }
        let etag = answer.header("etag");
        json!({ "path": path, "status": answer.status, "etag": etag, "body": body, "text": answer.text().starts_with("value") })
    });
    json!(asked)
}

/// Fills a new cluster, has it make a snapshot, goes on, and is killed: so the directory has a log to be applied, too.
fn make(name: &str) {
    let mut cluster = Cluster::formed_with(1, TINY);
    let post =
        |path: &str, body: Value| write_until_done(&cluster, "POST", path, &body.to_string());
    post(
        "/v1/ledgers",
        json!({ "id": "usd", "asset": "USD", "scale": 2 }),
    );
    post(
        "/v1/accounts",
        json!({ "id": "bank", "ledger": "usd", "code": 1 }),
    );
    let limits = json!({ "debits_must_not_exceed_credits": true });
    post(
        "/v1/accounts",
        json!({ "id": "alice", "ledger": "usd", "code": 2, "limits": limits }),
    );
    let transfer = |id: &str, debit: &str, credit: &str, amount: &str| json!({ "id": id, "debit_account": debit, "credit_account": credit, "amount": amount, "code": 1 });
    for n in 1..=20 {
        post(
            "/v1/transfers",
            transfer(&format!("t{n}"), "bank", "alice", "1250"),
        );
    }
    let refused = transfer(
        "refused",
        "alice",
        "bank",
        "340282366920938463463374607431768211455",
    );
    let answer = cluster
        .ask(1, "POST", "/v1/transfers", &refused.to_string())
        .expect("an answer");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(once(&cluster, "key-1", "/v1/kv/deleted").status, 201);
    wait_for("a snapshot", PATIENCE, || {
        metric(&cluster, 1, "quorate_snapshot_index").filter(|index| *index > 25.0)
    });
    write_until_done(&cluster, "DELETE", "/v1/kv/deleted", "");
    assert_eq!(once(&cluster, "key-2", "/v1/kv/kept").status, 201);
    let post =
        |path: &str, body: Value| write_until_done(&cluster, "POST", path, &body.to_string());
    post(
        "/v1/transfers/batch",
        json!({ "transfers": [transfer("b1", "alice", "bank", "1"), transfer("b2", "bank", "alice", "2")] }),
    );
    let answers = answers(&cluster);
    let to = kept().join(name);
    assert!(!to.exists(), "{} is kept for ever", to.display());
    fs::create_dir_all(&to).expect("a directory");
    let endpoint = format!("http://{}", cluster.addr(1));
    let backup = to.join(BACKUP);
    quorate(&["backup", "save", "--endpoint", &endpoint], &backup);
    cluster.kill(1);
    copy(&cluster.data_dir(1), &to.join("node"));
    cluster.start(1);
    cluster.wait_ready(1);
    assert!(cluster.terminate(1).success());
    let state = verified(&cluster.data_dir(1))["state"].clone();
    let expected =
        json!({ "answers": answers, "transfers": state["transfers"], "keys": state["keys"] });
    let text = serde_json::to_string_pretty(&expected).expect("JSON");
    fs::write(to.join("expected.json"), text + "\n").expect("written");
}

/// Starts a node on a copy of what an earlier version wrote.
fn check(dir: &Path) {
    let backup = dir.join(BACKUP);
    // The first versions made none.
    if backup.exists() {
        quorate(&["backup", "verify"], &backup);
    }
    let expected = fs::read_to_string(dir.join("expected.json")).expect("what to expect");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    let mut cluster = Cluster::unformed(0);
    let own = cluster.data_dir(1);
    copy(&dir.join("node"), &own);
    verified(&own);
    cluster.join(1);
    cluster.wait_ready(1);
    assert_eq!(answers(&cluster), expected["answers"], "{}", dir.display());
    let exists = json!({ "id": "t1", "debit_account": "bank", "credit_account": "alice", "amount": "1250", "code": 1 });
    let exists = write_until_done(&cluster, "POST", "/v1/transfers", &exists.to_string());
    assert_eq!(exists.field("result"), "exists");
    assert!(cluster.terminate(1).success());
    let state = verified(&own)["state"].clone();
    for count in ["transfers", "keys"] {
        assert_eq!(state[count], expected[count], "{}: {count}", dir.display());
    }
}

#[test]
fn what_an_earlier_version_wrote_can_be_read() {
    if std::env::var_os("QUORATE_RENEW").is_some() {
        let name =
            std::env::var("QUORATE_FORMATS").expect("QUORATE_FORMATS names the new directory");
        make(&name);
    }
    let kept = fs::read_dir(kept()).expect("tests/formats");
    let dirs: Vec<PathBuf> = kept.map(|entry| entry.expect("an entry").path()).collect();
    assert!(!dirs.is_empty(), "nothing is kept");
    dirs.iter().for_each(|dir| check(dir));
}
