//! Clients that do not keep to the protocol or the API: each is told so or loses its connection, nothing changes, and
//! whoever is beside them is served.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::support::cluster::Cluster;
use crate::support::http::Connection;

/// Everything a client gets for `bytes`, until the node closes or says nothing more.
fn say(addr: SocketAddr, bytes: &[u8], then: Option<Shutdown>) -> String {
    let mut stream = TcpStream::connect(addr).expect("a connection");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a timeout");
    // The node may close before it has read everything.
    let _ = stream.write_all(bytes);
    if let Some(how) = then {
        let _ = stream.shutdown(how);
    }
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        heard.extend_from_slice(&buffer[..count]);
        if is_whole(&heard) {
            break;
        }
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// Whether an answer and its body are here.
fn is_whole(heard: &[u8]) -> bool {
    let text = String::from_utf8_lossy(heard);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}

/// Status and code of a problem; nothing for a closed connection.
#[track_caller]
fn problem(heard: &str) -> Option<(u16, String)> {
    if heard.is_empty() {
        return None;
    }
    let (head, body) = heard.split_once("\r\n\r\n").expect("a whole answer");
    let status = head[9..12].parse().expect("a status");
    let is_problem = head
        .to_ascii_lowercase()
        .contains("application/problem+json");
    assert!(is_problem, "{heard}");
    let body: Value = serde_json::from_str(body).expect("JSON");
    for member in ["title", "detail", "instance", "request_id"] {
        let text = body[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{member}: {body}");
    }
    assert_eq!(body["outcome"], "not_applied", "{body}");
    assert_eq!(body["status"], status);
    Some((status, body["code"].as_str().expect("a code").to_owned()))
}

/// A node, and what its log ended with before anything was tried.
struct Victim {
    cluster: Cluster,
    beside: Connection,
    before: Value,
}

impl Victim {
    fn new() -> Victim {
        let cluster = Cluster::formed_with(1, &["--head-timeout", "1s", "--body-grace", "1s"]);
        let mut beside = Connection::open(cluster.addr(1)).expect("a connection");
        let made = beside
            .request("PUT", "/v1/kv/beside", b"1")
            .expect("an answer");
        assert_eq!(made.status, 201);
        let before = last_index(&mut beside);
        Victim {
            cluster,
            beside,
            before,
        }
    }

    /// Says `bytes` and expects a problem, or no answer at all (`None`).
    #[track_caller]
    fn expect(&mut self, bytes: &[u8], then: Option<Shutdown>, expected: Option<(u16, &str)>) {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(90)]).into_owned();
        let heard = say(self.cluster.addr(1), bytes, then);
        let got = problem(&heard);
        let got = got.as_ref().map(|(status, code)| (*status, code.as_str()));
        assert_eq!(got, expected, "{shown:?} got {heard}");
        let answer = self.beside.request("GET", "/v1/kv/beside", b"");
        assert_eq!(answer.expect("an answer beside").status, 200, "{shown:?}");
        assert_eq!(
            last_index(&mut self.beside),
            self.before,
            "{shown:?} changed something"
        );
    }

    /// The same for a POST of `body` to the transfers.
    #[track_caller]
    fn post(&mut self, body: &[u8], expected: (u16, &str)) {
        let head = format!(
            "POST /v1/transfers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.expect(&[head.as_bytes(), body].concat(), None, Some(expected));
    }
}

fn last_index(beside: &mut Connection) -> Value {
    let answer = beside
        .request("GET", "/v1/cluster", b"")
        .expect("an answer");
    let index = answer.json()["last_log_index"].clone();
    assert!(index.is_string(), "{index}");
    index
}

#[test]
fn a_head_that_is_not_http_is_refused_in_plain_words() {
    let mut victim = Victim::new();
    let malformed = Some((400, "malformed_request"));
    for head in [
        &b"GARBAGE\r\n\r\n"[..],
        b"GET /v1/kv/beside\r\n\r\n",
        b"GET /v1/kv/beside HTTP/0.9\r\n\r\n",
        b"GET /v1/kv/beside HTTP/2.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03abcdefgh\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"GET /v1/kv/a\0b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /v1/kv/a HTTP/1.1\r\nhost: x\r\nx: a\0b\r\n\r\n",
        b"GET /v1/kv/a HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /v1/kv/a HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
        b"GET /v1/kv/a HTTP/1.1\r\n: a\r\n\r\n",
    ] {
        victim.expect(head, None, malformed);
    }
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    victim.expect(many.as_bytes(), None, Some((431, "head_too_large")));
    let long = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "b".repeat(1 << 20));
    victim.expect(long.as_bytes(), None, Some((431, "head_too_large")));
    let path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "b".repeat(10_000));
    victim.expect(path.as_bytes(), None, Some((414, "uri_too_long")));
    // Another protocol, or a head that never ends: cut off without a word.
    victim.expect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None, None);
    victim.expect(b"GET / HTTP/1.1\r\nhost:", None, None);
    victim.expect(b"GET / HTTP/1.1\r\nhost:", Some(Shutdown::Write), None);
}

#[test]
fn a_request_whose_length_is_in_doubt_is_refused() {
    let mut victim = Victim::new();
    let put = |headers: &str, rest: &str| {
        format!("PUT /v1/kv/smuggled HTTP/1.1\r\nhost: x\r\n{headers}\r\n{rest}").into_bytes()
    };
    let smuggled = "0\r\n\r\nPUT /v1/kv/inner HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
    // Two ways to say where it ends: the chunks count, as the standard has it, and nothing behind them is read.
    for both in [
        "content-length: 66\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 66\r\n",
    ] {
        let head = "POST /v1/transfers HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
        let mut stream = TcpStream::connect(victim.cluster.addr(1)).expect("a connection");
        let request = format!("{head}{both}\r\n{smuggled}");
        stream.write_all(request.as_bytes()).expect("written");
        let mut heard = String::new();
        stream
            .read_to_string(&mut heard)
            .expect("an answer, and the end");
        assert_eq!(heard.matches("HTTP/1.1 ").count(), 1, "{heard}");
        assert_eq!(problem(&heard), Some((400, "malformed_json".to_owned())));
    }
    let malformed = Some((400, "malformed_request"));
    for (headers, rest) in [
        ("content-length: 3\r\ncontent-length: 4\r\n", "abcd"),
        ("content-length: 3, 4\r\n", "abcd"),
        ("content-length: +3\r\n", "abc"),
        ("content-length: -1\r\n", "abc"),
        ("content-length: 0x3\r\n", "abc"),
        ("content-length: 99999999999999999999\r\n", "abc"),
        ("transfer-encoding: xchunked\r\n", smuggled),
        ("transfer-encoding: identity\r\n", smuggled),
        ("transfer-encoding: chunked, identity\r\n", smuggled),
        ("transfer-encoding: chunked\r\n", "FFFFFFFFFFFFFFFFF\r\nabc"),
        ("transfer-encoding: chunked\r\n", "-1\r\nabc"),
        ("transfer-encoding: chunked\r\n", "xyz\r\nabc"),
    ] {
        victim.expect(&put(headers, rest), None, malformed);
    }
    // Of a chunk that is announced as huge only what comes counts.
    let huge = put("transfer-encoding: chunked\r\n", "7FFFFFFFFFFFFFFF\r\nabc");
    victim.expect(&huge, None, Some((408, "request_timeout")));
    let short = put("content-length: 10\r\n", "abc");
    victim.expect(&short, None, Some((408, "request_timeout")));
    // Whoever closes its side before the body is whole is gone; told or not, nothing is applied.
    let heard = say(victim.cluster.addr(1), &short, Some(Shutdown::Write));
    assert!(problem(&heard).is_none_or(|(status, _)| status == 400));
    let announced = put(
        "content-length: 1099511627776\r\nexpect: 100-continue\r\n",
        "",
    );
    victim.expect(&announced, None, Some((413, "body_too_large")));
    let inner = victim.beside.request("GET", "/v1/kv/inner", b"");
    assert_eq!(inner.expect("an answer").status, 404);
}

#[test]
fn a_body_that_is_not_the_apis_json_is_refused_and_named() {
    let mut victim = Victim::new();
    let deep = |open: &str, count| open.repeat(count).into_bytes();
    for (body, expected) in [
        (&b""[..], (400, "malformed_json")),
        (b"\xff\xfe{}", (400, "malformed_json")),
        (b"\xef\xbb\xbf{}", (400, "malformed_json")),
        (b"{\"id\":\"\xc3\x28\"}", (400, "malformed_json")),
        (b"{\"id\":\"a\0b\"}", (400, "malformed_json")),
        (b"{\"id\":\"\\ud800\"}", (400, "malformed_json")),
        (b"{} {}", (400, "malformed_json")),
        (b"{\"id\":1e999}", (400, "malformed_json")),
        (&deep("[", 100_000), (400, "malformed_json")),
        (&deep("{\"a\":", 100_000), (400, "malformed_json")),
        (b"null", (400, "invalid_value")),
        (b"\"text\"", (400, "invalid_value")),
    ] {
        victim.post(body, expected);
    }
    let transfer = |field: &str, value: &str| {
        let fields = [
            ("id", "\"t1\""),
            ("debit_account", "\"a\""),
            ("credit_account", "\"b\""),
            ("amount", "\"1\""),
        ];
        let pairs = fields.map(|(name, own)| match name == field {
            true => format!("\"{name}\":{value}"),
            false => format!("\"{name}\":{own}"),
        });
        format!("{{{}}}", pairs.join(",")).into_bytes()
    };
    for (field, value, code) in [
        ("id", "\"\\u0000\"", "invalid_value"),
        ("id", "7", "invalid_value"),
        ("id", "[\"t1\"]", "invalid_value"),
        ("id", "\"a\",\"id\":\"b\"", "duplicate_field"),
        ("amount", "\"-1\"", "invalid_value"),
        ("amount", "-1", "invalid_value"),
        ("amount", "1.5", "invalid_value"),
        ("amount", "true", "invalid_value"),
        ("amount", "null", "invalid_value"),
        (
            "amount",
            "\"340282366920938463463374607431768211456\"",
            "invalid_value",
        ),
        ("amount", "\"1\",\"amount\":\"2\"", "duplicate_field"),
        ("amount", "\"1\",\"amonut\":\"2\"", "unknown_field"),
    ] {
        victim.post(&transfer(field, value), (400, code));
    }
}

#[test]
fn requests_sent_in_one_go_are_answered_in_order() {
    let victim = Victim::new();
    let mut stream = TcpStream::connect(victim.cluster.addr(1)).expect("a connection");
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).expect("a timeout");
    let count = 50;
    let requests: String = (0..count)
        .map(|place| {
            let last = if place + 1 == count {
                "connection: close\r\n"
            } else {
                ""
            };
            format!("GET /v1/kv/beside HTTP/1.1\r\nhost: x\r\nx-request-id: r{place}\r\n{last}\r\n")
        })
        .collect();
    stream.write_all(requests.as_bytes()).expect("written");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("answers");
    let ids: Vec<&str> = heard
        .lines()
        .filter_map(|line| line.strip_prefix("x-request-id: "))
        .collect();
    let expected: Vec<String> = (0..count).map(|place| format!("r{place}")).collect();
    assert_eq!(ids, expected);
    // Garbage behind a good request spoils only itself.
    let mixed = b"GET /v1/kv/beside HTTP/1.1\r\nhost: x\r\n\r\nGARBAGE\r\n\r\n";
    let mut stream = TcpStream::connect(victim.cluster.addr(1)).expect("a connection");
    stream.set_read_timeout(patience).expect("a timeout");
    stream.write_all(mixed).expect("written");
    let mut heard = String::new();
    stream.read_to_string(&mut heard).expect("answers");
    assert!(heard.starts_with("HTTP/1.1 200 OK\r\n"), "{heard}");
    assert!(
        heard.contains("malformed_request") || heard.contains("HTTP/1.1 400"),
        "{heard}"
    );
}
