//! Writes under an idempotency key.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::nodes::{Answer, Nodes, run};

/// Method, path, headers and body of a write, and the status of its answer.
type Write = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    String,
    u16,
);

const JSON: (&str, &str) = ("content-type", "application/json");

/// Every kind of write, each under a key of its own (its position), done and refused.
fn writes() -> Vec<Write> {
    let account = |id: &str| json!({ "id": id, "ledger": "usd", "code": 1 }).to_string();
    let wallet = json!({ "id": "wallet", "ledger": "usd", "code": 2,
        "limits": { "debits_must_not_exceed_credits": true } });
    let transfer = |id: &str, debit: &str, amount: &str| json!({ "id": id, "debit_account": debit, "credit_account": "bank", "amount": amount, "code": 1 });
    let back = json!({ "id": "t1", "debit_account": "bank", "credit_account": "wallet", "amount": "70",
        "code": 1, "metadata": { "k": "v" } });
    let batch = json!({ "transfers": [transfer("b1", "wallet", "10"), transfer("b2", "wallet", "1000"),
        transfer("b1", "wallet", "10"), transfer("b3", "nobody", "1")] });
    let ledger = json!({ "id": "usd", "asset": "USD", "scale": 2 }).to_string();
    vec![
        ("POST", "/v1/ledgers", &[JSON], ledger.clone(), 201),
        ("POST", "/v1/accounts", &[JSON], account("bank"), 201),
        ("POST", "/v1/accounts", &[JSON], wallet.to_string(), 201),
        ("POST", "/v1/transfers", &[JSON], back.to_string(), 201),
        ("POST", "/v1/transfers", &[JSON], back.to_string(), 200),
        ("POST", "/v1/ledgers", &[JSON], ledger, 200),
        ("POST", "/v1/accounts", &[JSON], account("bank"), 200),
        ("POST", "/v1/accounts", &[JSON], account("wallet"), 409),
        (
            "POST",
            "/v1/transfers",
            &[JSON],
            transfer("t2", "wallet", "71").to_string(),
            422,
        ),
        (
            "POST",
            "/v1/transfers/batch",
            &[JSON],
            batch.to_string(),
            207,
        ),
        ("PUT", "/v1/kv/a", &[], "1".into(), 201),
        ("PUT", "/v1/kv/a", &[], "2".into(), 200),
        (
            "PUT",
            "/v1/kv/a",
            &[("if-none-match", "*")],
            "3".into(),
            412,
        ),
        ("DELETE", "/v1/kv/a", &[], String::new(), 200),
        ("DELETE", "/v1/kv/a", &[], String::new(), 404),
    ]
}

async fn send(nodes: &Nodes, id: u64, key: &str, write: &Write) -> Answer {
    let (method, target, headers, body, _) = write;
    let headers = [headers, &[("idempotency-key", key)][..]].concat();
    nodes.ask(id, method, target, &headers, body.clone()).await
}

/// What of an answer speaks of the write: in a problem, who answers stands beside it.
fn spoken(answer: &Answer) -> (u16, Vec<(String, String)>, Value, Vec<u8>) {
    let about = [
        "content-type",
        "quorate-index",
        "etag",
        "kv-version",
        "location",
    ];
    let headers = about.map(|name| (name.to_owned(), answer.header(name).to_owned()));
    let (mut json, mut bytes) = (answer.json(), answer.body.to_vec());
    if answer.header("content-type") == "application/problem+json" {
        let members = json.as_object_mut().unwrap();
        assert!(members.remove("request_id").is_some() && members.remove("raft").is_some());
        bytes.clear();
    }
    (answer.status, headers.into(), json, bytes)
}

#[test]
fn a_write_sent_again_gets_the_same_answer_from_any_node_and_after_the_leader_is_gone() {
    run(async {
        let mut nodes = Nodes::formed(3).await;
        let leader = nodes.leader().await;
        let writes = writes();
        let mut first = Vec::new();
        for (key, write) in writes.iter().enumerate() {
            let answer = send(&nodes, 1 + key as u64 % 3, &format!("key {key}"), write).await;
            assert_eq!(answer.status, write.4, "{write:?}: {answer:?}");
            assert_eq!(answer.header("idempotency-replayed"), "");
            first.push(spoken(&answer));
        }
        let balance = nodes.get(1, "/v1/accounts/wallet").await.json()["balance"].clone();
        for round in 0..2 {
            for (key, write) in writes.iter().enumerate() {
                let mut ids = (1..=3).cycle().skip(key).take(3);
                let id = ids.find(|id| round == 0 || *id != leader).unwrap();
                let again = send(&nodes, id, &format!("key {key}"), write).await;
                assert_eq!(spoken(&again), first[key], "round {round}: {write:?}");
                assert_eq!(again.header("idempotency-replayed"), "true");
            }
            if round == 0 {
                nodes.stop(leader).await;
                assert_ne!(nodes.leader().await, leader);
            }
        }
        let id = leader % 3 + 1;
        let now = nodes.get(id, "/v1/accounts/wallet").await.json();
        assert_eq!(now["balance"], balance, "nothing was done twice");
        nodes.end().await;
    });
}

#[test]
fn a_key_stands_for_one_request_however_it_is_written() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let key = ("idempotency-key", "k");
        let first = nodes.put(1, "/v1/kv/a/b?timeout=9s", &[key], "v").await;
        assert_eq!(first.status, 201);
        let same = nodes.put(1, "/v1/kv/a%2Fb", &[key], "v").await;
        assert_eq!(spoken(&same), spoken(&first));
        for (target, headers, body) in [
            ("/v1/kv/a/b", &[key][..], "w"),
            ("/v1/kv/a/c", &[key], "v"),
            ("/v1/kv/a/b", &[key, ("if-match", "*")], "v"),
        ] {
            let other = nodes.put(1, target, headers, body).await;
            assert_eq!(other.problem(), (422, "idempotency_key_reused".to_owned()));
            let problem = other.json();
            assert_eq!(problem["first_used_index"], first.header("quorate-index"));
            assert!(problem["first_used_at"].as_str().unwrap().ends_with('Z'));
            assert_eq!(other.header("idempotency-replayed"), "");
        }
        // A body that means the same is the same; one and a batch of one are not.
        let ledger = r#"{"id":"usd","asset":"USD","scale":2}"#;
        let spaced = r#" { "scale" : 2, "asset": "\u0055SD", "id": "usd" } "#;
        let json = [JSON, ("idempotency-key", "l")];
        let first = nodes.ask(1, "POST", "/v1/ledgers", &json, ledger).await;
        let again = nodes.ask(1, "POST", "/v1/ledgers", &json, spaced).await;
        assert_eq!((first.status, again.status), (201, 201));
        assert_eq!(again.body, first.body);
        let one = json!({ "id": "t", "debit_account": "x", "credit_account": "y", "amount": "1", "code": 1 });
        let json = [JSON, ("idempotency-key", "t")];
        let single = nodes
            .ask(1, "POST", "/v1/transfers", &json, one.to_string())
            .await;
        assert_eq!(single.problem().1, "debit_account_not_found");
        let batch = json!({ "transfers": [one] }).to_string();
        let batch = nodes
            .ask(1, "POST", "/v1/transfers/batch", &json, batch)
            .await;
        assert_eq!(batch.problem().1, "idempotency_key_reused");
        nodes.end().await;
    });
}

#[test]
fn what_was_refused_before_it_was_proposed_leaves_the_key_free() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let headers = [JSON, ("idempotency-key", "k")];
        let bad = nodes.ask(1, "POST", "/v1/ledgers", &headers, "{").await;
        assert_eq!(bad.status, 400);
        let free = nodes.get(1, "/v1/idempotency/k").await;
        assert_eq!(free.problem(), (404, "idempotency_key_not_found".into()));
        let ledger = r#"{"id":"usd","asset":"USD","scale":2}"#;
        let good = nodes.ask(1, "POST", "/v1/ledgers", &headers, ledger).await;
        assert_eq!(good.status, 201);
        for bad in ["", &"k".repeat(256)] {
            let put = nodes
                .put(1, "/v1/kv/a", &[("idempotency-key", bad)], "v")
                .await;
            assert_eq!(put.problem().0, 400, "{bad}");
            assert_eq!(put.json()["errors"][0]["header"], "Idempotency-Key");
        }
        assert_eq!(nodes.get(1, "/v1/kv/a").await.status, 404);
        nodes.end().await;
    });
}

#[test]
fn what_is_held_under_a_key_can_be_read() {
    run(async {
        let nodes = Nodes::formed(3).await;
        let key = [("idempotency-key", "my key/1")];
        let put = nodes.put(1, "/v1/kv/a", &key, "v").await;
        let target = "/v1/idempotency/my%20key%2F1";
        for level in ["leader", "lease"] {
            let held = nodes.get(2, &format!("{target}?consistency={level}")).await;
            assert_eq!(held.status, 200, "{held:?}");
            assert_eq!(held.header("consistency-requested"), level);
            let json = held.json();
            assert_eq!(json["key"], "my key/1");
            assert_eq!(json["written_index"], put.header("quorate-index"));
            assert_eq!(json["result"]["mod_index"], put.json()["mod_index"]);
            let day = |name: &str| json[name].as_str().unwrap()[8..10].to_owned();
            assert_ne!(day("written_at"), day("held_until"));
        }
        let refused = nodes
            .put(
                1,
                "/v1/kv/a",
                &[("idempotency-key", "no"), ("if-none-match", "*")],
                "v",
            )
            .await;
        let read = || async {
            let held = nodes
                .get(3, "/v1/idempotency/no?consistency=follower")
                .await;
            held.status == 200 && held.json()["result"]["code"] == refused.problem().1
        };
        nodes.wait_for(read).await;
        let none = nodes.get(1, "/v1/idempotency/other").await;
        assert_eq!(none.problem(), (404, "idempotency_key_not_found".into()));
        assert_eq!(nodes.get(1, "/v1/idempotency/%09").await.status, 400);
        nodes.end().await;
    });
}

#[test]
fn of_many_sent_at_once_one_is_done() {
    run(async {
        let nodes = Nodes::formed(3).await;
        let key = [("idempotency-key", "k")];
        let sent = (0..30).map(|n| nodes.put(1 + n % 3, "/v1/kv/a", &key, "v"));
        let answers = futures_util::future::join_all(sent).await;
        let bodies: BTreeSet<_> = answers.iter().map(|answer| answer.body.clone()).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        assert!(answers.iter().all(|answer| answer.status == 201));
        let fresh = |answer: &&Answer| answer.header("idempotency-replayed").is_empty();
        assert_eq!(answers.iter().filter(fresh).count(), 1);
        assert_eq!(nodes.get(1, "/v1/kv/a").await.header("kv-version"), "1");
        nodes.end().await;
    });
}
