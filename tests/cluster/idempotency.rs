//! Writes under idempotency keys, sent again to those that are left, and to processes that know only what is on their disks.

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::http::{Answer, Connection};
use crate::support::wait::wait_for;

/// Transfers in the batch, every third of them refused.
const BATCH: usize = 300;

/// Writes of every kind, done and refused, each under the key of its position.
fn writes() -> Vec<(&'static str, &'static str, String)> {
    let account = |id: &str| json!({ "id": id, "ledger": "usd", "code": 1 }).to_string();
    let transfer = |id: String, debit: &str| json!({ "id": id, "debit_account": debit, "credit_account": "b", "amount": "1", "code": 1 });
    let batch: Vec<Value> = (0..BATCH)
        .map(|n| transfer(format!("t{n}"), if n % 3 == 0 { "nobody" } else { "a" }))
        .collect();
    let ledger = json!({ "id": "usd", "asset": "USD", "scale": 2 }).to_string();
    vec![
        ("POST", "/v1/ledgers", ledger.clone()),
        ("POST", "/v1/accounts", account("a")),
        ("POST", "/v1/accounts", account("b")),
        (
            "POST",
            "/v1/transfers",
            transfer("s".into(), "a").to_string(),
        ),
        (
            "POST",
            "/v1/transfers",
            transfer("n".into(), "nobody").to_string(),
        ),
        (
            "POST",
            "/v1/transfers/batch",
            json!({ "transfers": batch }).to_string(),
        ),
        ("POST", "/v1/ledgers", ledger),
        ("PUT", "/v1/kv/k", "value".into()),
        ("DELETE", "/v1/kv/k", String::new()),
        ("DELETE", "/v1/kv/k", String::new()),
    ]
}

/// Sends every write under its key, through the running nodes in turn, until each has its verdict.
fn send_all(cluster: &Cluster) -> Vec<Answer> {
    let answer = |(key, (method, path, body)): (usize, &(&str, &str, String))| {
        wait_for(&format!("{method} {path}"), PATIENCE, || {
            cluster.running().into_iter().find_map(|id| {
                let mut connection = Connection::open(cluster.addr(id)).ok()?;
                let key = format!("key-{key}");
                let answer = connection.once(&key, method, path, body.as_bytes()).ok()?;
                (answer.status < 429).then_some(answer)
            })
        })
    };
    writes().iter().enumerate().map(answer).collect()
}

/// Status, index and body of an answer; of a problem without what speaks of the one who answers.
fn spoken(answer: &Answer) -> (u16, u64, String) {
    let text = match answer.header("content-type") {
        Some("application/problem+json") => {
            let mut json = answer.json();
            let members = json.as_object_mut().expect("a problem is an object");
            members.remove("request_id").expect("a problem has one");
            members.remove("raft").expect("a problem has it");
            json.to_string()
        }
        _ => answer.text(),
    };
    (answer.status, answer.index(), text)
}

fn assert_replayed(cluster: &Cluster, first: &[(u16, u64, String)], when: &str) {
    for (again, first) in send_all(cluster).iter().zip(first) {
        assert_eq!(spoken(again), *first, "{when}");
        assert_eq!(again.header("idempotency-replayed"), Some("true"), "{when}");
    }
}

#[test]
fn the_first_answer_comes_back_byte_for_byte_after_a_kill_and_after_all_were_killed() {
    let mut cluster = Cluster::formed(3);
    let first: Vec<_> = send_all(&cluster).iter().map(spoken).collect();
    let statuses: Vec<u16> = first.iter().map(|(status, _, _)| *status).collect();
    assert_eq!(statuses, [201, 201, 201, 201, 422, 207, 200, 201, 200, 404]);
    assert_replayed(&cluster, &first, "at once");
    let leader = cluster.wait_leader(&cluster.ids());
    cluster.kill(leader);
    assert_replayed(&cluster, &first, "after the leader was killed");
    for id in cluster.running() {
        cluster.kill(id);
    }
    for id in cluster.ids() {
        cluster.start(id);
    }
    cluster.wait_all_ready();
    assert_replayed(&cluster, &first, "after all were killed");
}
