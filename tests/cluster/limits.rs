//! Every limit of a request, just within and just beyond: what is refused is told the name of the limit.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::http::{Answer, Connection};

const KIB: usize = 1 << 10;

/// Checks an answer: success if `setting` is empty, else a refusal with this status that names it.
#[track_caller]
fn check(answer: &Answer, status: u16, setting: &str) {
    if setting.is_empty() {
        assert!(answer.status < 300, "{}", answer.text());
        return;
    }
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(answer.text().contains(setting), "{}", answer.text());
}

/// `value` at a limit less one, the limit, and one more: the last refused in its name.
fn around(limit: usize, setting: &'static str) -> [(usize, &'static str); 3] {
    [(limit - 1, ""), (limit, ""), (limit + 1, setting)]
}

fn cluster() -> (Cluster, Connection) {
    let flags = [
        "--body-bytes-max",
        "4KiB",
        "--batch-body-bytes-max",
        "8KiB",
        "--batch-transfers-max",
        "3",
        "--value-bytes-max",
        "2KiB",
        "--uri-bytes-max",
        "4KiB",
        "--head-bytes-max",
        "8KiB",
        "--headers-max",
        "20",
        "--timeout-max",
        "10s",
        "--queue-bytes-max",
        "1MiB",
    ];
    let cluster = Cluster::formed_with(1, &flags);
    let mut connection = Connection::open(cluster.addr(1)).expect("a connection");
    for (path, body) in [
        (
            "/v1/ledgers",
            json!({ "id": "usd", "asset": "USD", "scale": 2 }),
        ),
        ("/v1/accounts", json!({ "id": "a", "ledger": "usd" })),
        ("/v1/accounts", json!({ "id": "b", "ledger": "usd" })),
    ] {
        let made = connection.request("POST", path, body.to_string().as_bytes());
        assert_eq!(made.expect("an answer").status, 201);
    }
    (cluster, connection)
}

fn transfer(id: &str) -> serde_json::Value {
    json!({ "id": id, "debit_account": "a", "credit_account": "b", "amount": "1" })
}

#[test]
fn sizes_of_bodies_are_held_to_the_byte() {
    let (_cluster, mut connection) = cluster();
    let mut ask = |method: &str, path: &str, body: &[u8]| {
        let answer = connection.request(method, path, body);
        answer.expect("an answer on the same connection")
    };
    for (length, setting) in around(4 * KIB, "body_bytes_max") {
        let mut body = transfer(&format!("t{length}")).to_string().into_bytes();
        body.resize(length, b' ');
        check(&ask("POST", "/v1/transfers", &body), 413, setting);
    }
    for (length, setting) in around(8 * KIB, "batch_body_bytes_max") {
        let batch = json!({ "transfers": [transfer(&format!("b{length}"))] });
        let mut body = batch.to_string().into_bytes();
        body.resize(length, b' ');
        check(&ask("POST", "/v1/transfers/batch", &body), 413, setting);
    }
    for (count, setting) in around(3, "batch_transfers_max") {
        let transfers: Vec<_> = (0..count)
            .map(|i| transfer(&format!("c{count}-{i}")))
            .collect();
        let body = json!({ "transfers": transfers }).to_string();
        check(
            &ask("POST", "/v1/transfers/batch", body.as_bytes()),
            413,
            setting,
        );
    }
    for (length, setting) in around(2 * KIB, "value_bytes_max") {
        check(&ask("PUT", "/v1/kv/value", &vec![0; length]), 413, setting);
    }
}

#[test]
fn sizes_of_names_are_held_to_the_byte() {
    let (_cluster, mut connection) = cluster();
    let mut ask = |method: &str, path: &str, body: &[u8]| {
        let answer = connection.request(method, path, body);
        answer.expect("an answer on the same connection")
    };
    for (length, named) in around(1024, "1 to 1024 bytes") {
        let path = format!("/v1/kv/{}", "k".repeat(length));
        check(&ask("PUT", &path, b"1"), 400, named);
    }
    for (length, named) in around(128, "/id") {
        let body = transfer(&"i".repeat(length)).to_string();
        check(&ask("POST", "/v1/transfers", body.as_bytes()), 400, named);
    }
    for (length, setting) in around(4 * KIB, "uri_bytes_max") {
        let path = "/v1/kv?prefix=";
        let path = format!("{path}{}", "p".repeat(length - path.len()));
        check(&ask("GET", &path, b""), 414, setting);
    }
    for (millis, setting) in around(10_000, "timeout_max") {
        let path = format!("/v1/kv/value?timeout={millis}ms");
        check(&ask("PUT", &path, b"1"), 400, setting);
    }
    for (depth, code) in [
        (126, "invalid_value"),
        (127, "invalid_value"),
        (128, "malformed_json"),
    ] {
        let body = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let answer = ask("POST", "/v1/transfers", body.as_bytes());
        assert_eq!(answer.field("code"), code, "{depth}: {}", answer.text());
    }
}

#[test]
fn sizes_of_heads_are_held() {
    let (cluster, _) = cluster();
    let ask = |head: &str| {
        let mut stream = TcpStream::connect(cluster.addr(1)).expect("a connection");
        let patience = Some(Duration::from_secs(20));
        stream.set_read_timeout(patience).expect("a timeout");
        stream.write_all(head.as_bytes()).expect("written");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
    for (count, setting) in around(20, "headers_max") {
        let others = "a: b\r\n".repeat(count - 1);
        let answer = ask(&format!(
            "GET /livez HTTP/1.1\r\nconnection: close\r\n{others}\r\n"
        ));
        let refused = answer.starts_with("HTTP/1.1 431 ") && answer.contains("headers_max");
        assert_eq!(refused, !setting.is_empty(), "{count}: {answer}");
    }
    for (length, setting) in around(8 * KIB, "head_bytes_max") {
        let start = "GET /livez HTTP/1.1\r\nconnection: close\r\na: ";
        let filler = "b".repeat(length - start.len() - 4);
        let answer = ask(&format!("{start}{filler}\r\n\r\n"));
        let refused = answer.starts_with("HTTP/1.1 431 ") && answer.contains("head_bytes_max");
        assert_eq!(refused, !setting.is_empty(), "{length}: {answer}");
    }
}

#[test]
fn writes_under_way_are_held_to_their_number() {
    let flags = [
        "--writes-max",
        "2",
        "--heartbeat",
        "500ms",
        "--election-min",
        "6s",
        "--election-max",
        "12s",
    ];
    let mut cluster = Cluster::formed_with(3, &flags);
    let leader = cluster.wait_leader(&[1, 2, 3]);
    // Without the others nothing is committed: what is taken in stays under way.
    for id in [1, 2, 3].into_iter().filter(|id| *id != leader) {
        cluster.pause(id);
    }
    // Of three at once one is too many, and is told so while the other two wait.
    let (answered, answers) = std::sync::mpsc::channel();
    for _ in 0..3 {
        let mut connection = Connection::open(cluster.addr(leader)).expect("a connection");
        let answered = answered.clone();
        std::thread::spawn(move || {
            let sent = connection.send("PUT", "/v1/kv/a?timeout=5s", b"1");
            let answer = sent.and_then(|()| connection.receive());
            // Who would hear it may have given up.
            let _ = answered.send(answer);
        });
    }
    let next = || answers.recv_timeout(PATIENCE).expect("an answer in time");
    let refused = next().expect("an answer");
    check(&refused, 429, "writes_max");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Reads of any state and probes are no writes.
    let read = cluster.ask(leader, "GET", "/v1/kv/a?consistency=follower", "");
    assert_eq!(read.expect("an answer").status, 404);
    for answer in [next(), next()] {
        let answer = answer.expect("an answer");
        assert_ne!(answer.status, 429, "{}", answer.text());
    }
}
