//! The command line against live nodes: what it prints in each form, and what its exit codes say.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::nodes::{Nodes, run};

/// How a command ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    /// Standard output as JSON.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Standard output as JSON, line by line.
    fn lines(&self) -> Vec<Value> {
        let lines = self.out.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Runs a command on a thread of its own: nodes of this process answer it.
async fn quorate(endpoints: &str, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command
        .env("QUORATE_ENDPOINTS", endpoints)
        .env("QUORATE_LOG", "error")
        .args(args)
        .stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    Ran {
        code: output.status.code().expect("an exit code"),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// One node, the URL of its client listener, and a ledger with a bank and a wallet.
async fn prepared() -> (Nodes, String) {
    let nodes = Nodes::formed(1).await;
    let url = format!("http://{}", nodes.addresses[0]);
    for args in [
        &["ledger", "create", "usd", "--asset", "USD"][..],
        &["account", "create", "bank", "--ledger", "usd"],
        &[
            "account",
            "create",
            "users:alice",
            "--ledger",
            "usd",
            "--debits-must-not-exceed-credits",
        ],
    ] {
        let ran = quorate(&url, args).await;
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    (nodes, url)
}

/// A file for a command to read.
fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

/// A URL where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A URL where requests are heard and never answered.
async fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await });
        }
    });
    url
}

/// The URL of a made-up node that answers the first request so, and is without a leader from then on.
async fn fading(first: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let lost =
        json!({ "status": 503, "code": "no_leader", "outcome": "not_applied", "retryable": true });
    tokio::spawn(async move {
        let mut answers = [(200, first)].into_iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.ends_with(b"]}") {
                assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
            }
            let (status, body) = answers.next().unwrap_or((503, lost.clone()));
            let (body, head) = (body.to_string(), format!("HTTP/1.1 {status} x"));
            let length = body.len();
            let answer = format!(
                "{head}\r\nconnection: close\r\nquorate-served-by: 1\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[test]
fn a_batch_that_fails_after_others_is_not_told_as_not_applied() {
    run(async {
        let transfer = |id: &str| {
            json!({ "id": id, "debit_account": "a", "credit_account": "b", "amount": "1" })
                .to_string()
                + "\n"
        };
        let text: String = ["t1", "t2", "t3"].map(transfer).concat();
        let (_dir, path) = file("transfers.jsonl", &text);
        let first = json!({
            "summary": { "created": 1, "exists": 0, "refused": 1 },
            "results": [
                { "id": "t1", "result": "created" },
                { "id": "t2", "result": "refused", "code": "exceeds_credits", "detail": "too much" },
            ],
        });
        let batch = [
            "transfer",
            "batch",
            &path,
            "--batch",
            "2",
            "--timeout",
            "300ms",
        ];
        let ran = quorate(&fading(first.clone()).await, &batch).await;
        assert_eq!(ran.code, 10, "{ran:?}");
        assert!(
            ran.err.contains("transfers 3 to 3, after 2 that are done"),
            "{ran:?}"
        );
        assert!(ran.out.contains("exceeds_credits"), "{ran:?}");
        let json = [&batch[..], &["-o", "json"]].concat();
        let told = quorate(&fading(first).await, &json).await.json();
        assert_eq!(told["summary"]["created"], 1);
        assert_eq!(told["refused"][0]["id"], "t2");
    });
}

#[test]
fn what_finds_no_room_on_standard_output_is_no_success() {
    let full = std::fs::File::options().write(true).open("/dev/full");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let ran = command
        .arg("alerts")
        .stdout(full.unwrap())
        .output()
        .unwrap();
    let told = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(10), "{told}");
    assert!(told.contains("could not be printed"), "{told}");
}

#[test]
fn a_list_has_the_same_rows_in_every_form() {
    run(async {
        let (nodes, url) = prepared().await;
        let api = nodes.get(1, "/v1/accounts").await.json();
        let list = async |form: &str| quorate(&url, &["account", "list", "-o", form]).await;
        assert_eq!(list("json").await.json()["data"], api["data"]);
        assert_eq!(json!(list("jsonl").await.lines()), api["data"]);
        let csv = list("csv").await.out;
        let csv: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
        let column = csv[0].iter().position(|name| *name == "id").unwrap();
        assert!(csv[0].contains(&"balance.debits_posted"), "{csv:?}");
        assert_eq!((csv[1][column], csv[2][column]), ("bank", "users:alice"));
        let table = list("table").await.out;
        let mut lines = table.lines();
        assert!(lines.next().unwrap().starts_with("ID "), "{table}");
        assert!(lines.next().unwrap().starts_with("bank "), "{table}");
        // Page after page, as many as are wanted.
        let one = quorate(&url, &["account", "list", "--limit", "1", "-o", "json"]).await;
        assert_eq!(one.json()["data"].as_array().unwrap().len(), 1);
        assert_eq!(one.json()["has_more"], true);
        let none = ["account", "list", "--prefix", "x", "-o", "jsonl"];
        assert_eq!(quorate(&url, &none).await.out, "");
        nodes.end().await;
    });
}

#[test]
fn a_node_exports_what_it_applied_alike_running_and_stopped() {
    run(async {
        let (mut nodes, url) = prepared().await;
        let send = ["transfer", "send", "--id", "t1", "--debit", "bank"];
        let send = [&send[..], &["--credit", "users:alice", "--amount", "5"]].concat();
        for _ in 0..2 {
            assert_eq!(quorate(&url, &send).await.code, 0);
            let key = [("idempotency-key", "k1")];
            nodes.put(1, "/v1/kv/a", &key, "v").await;
        }
        let running = quorate(&url, &["log", "export"]).await;
        assert_eq!(running.code, 0, "{running:?}");
        let told = |line: &Value| (line["f"].clone(), line["op"].clone(), line["dup"].clone());
        let told: Vec<_> = running.lines().iter().skip(3).map(told).collect();
        let once = [
            (json!("transfer"), json!("t1"), Value::Null),
            (json!("put"), json!("k1"), Value::Null),
        ];
        let again = once.clone().map(|(f, op, _)| (f, op, json!(true)));
        assert_eq!(told, [once, again].concat());
        nodes.stop(1).await;
        let dir = nodes.data_dir(1).to_str().unwrap().to_owned();
        let stopped = quorate(&url, &["log", "export", "--data-dir", &dir]).await;
        assert_eq!(stopped.code, 0, "{stopped:?}");
        assert_eq!(running.out, stopped.out);
        let digest = |ran: &Ran| ran.err.rsplit_once("digest ").unwrap().1.to_owned();
        assert_eq!(digest(&running), digest(&stopped));
        let gone = quorate(&url, &["log", "export", "--timeout", "300ms"]).await;
        assert_eq!((gone.code, gone.out.as_str()), (6, ""), "{gone:?}");
        nodes.end().await;
    });
}

#[test]
fn the_answer_to_a_write_is_the_apis_own_json() {
    run(async {
        let (nodes, url) = prepared().await;
        let send = [
            "transfer",
            "send",
            "--id",
            "t1",
            "--debit",
            "bank",
            "--credit",
            "users:alice",
            "--amount",
            "1250",
            "--metadata",
            "order=77",
            "-o",
            "json",
        ];
        let first = quorate(&url, &send).await.json();
        assert_eq!(
            (&first["result"], &first["amount"]),
            (&json!("created"), &json!("1250"))
        );
        assert_eq!(first["metadata"]["order"], "77");
        assert_eq!(quorate(&url, &send).await.json()["result"], "exists");
        let shown = quorate(&url, &["transfer", "show", "t1"]).await;
        assert!(shown.out.contains("amount"), "{shown:?}");
        let listed = [
            "transfer",
            "list",
            "--account",
            "users:alice",
            "-o",
            "jsonl",
        ];
        assert_eq!(quorate(&url, &listed).await.lines()[0]["id"], "t1");
        let trial = quorate(&url, &["trial-balance", "usd", "-o", "csv"]).await;
        assert_eq!(trial.code, 0, "{trial:?}");
        assert_eq!(trial.out.lines().count(), 2, "{trial:?}");
        nodes.end().await;
    });
}

#[test]
fn exit_codes_tell_not_there_taken_refused_not_applied_and_unknown_apart() {
    run(async {
        let (nodes, url) = prepared().await;
        let (nobody, silent) = (nobody().await, silent().await);
        let poor = [
            "transfer",
            "send",
            "--debit",
            "users:alice",
            "--credit",
            "bank",
            "--amount",
            "1",
        ];
        let put = ["kv", "put", "a", "1", "--timeout", "300ms"];
        for (endpoint, args, code) in [
            (&url, &["account", "show", "nobody"][..], 3),
            (&url, &["kv", "get", "nothing"], 3),
            (&url, &["ledger", "create", "usd", "--asset", "EUR"], 4),
            (&url, &["kv", "cas", "nothing", "40.0", "1"], 4),
            (&url, &poor, 5),
            (&url, &["account", "create", "x", "--ledger", "none"], 5),
            (&url, &["ledger", "create", "x", "--asset", "no spaces"], 2),
            (
                &url,
                &["account", "create", "not an id", "--ledger", "usd"],
                2,
            ),
            (&nobody, &put, 6),
            (&nobody, &["status"], 6),
            (&silent, &put, 7),
            (&silent, &["kv", "get", "a", "--timeout", "300ms"], 6),
            (&url, &["status"], 0),
        ] {
            let ran = quorate(endpoint, args).await;
            assert_eq!(ran.code, code, "{args:?}: {ran:?}");
            assert_eq!(ran.err.is_empty(), code == 0, "{args:?}: {ran:?}");
        }
        let unknown = quorate(&silent, &put).await;
        assert!(
            unknown.err.contains("not known")
                && unknown.err.contains("key")
                && unknown.err.contains("key"),
            "{unknown:?}"
        );
        let unformed = Nodes::start(1).await;
        let lonely = format!("http://{}", unformed.addresses[0]);
        let status = quorate(&lonely, &["status", "-o", "json"]).await;
        assert_eq!(
            (status.code, &status.json()["cluster_id"]),
            (9, &Value::Null)
        );
        unformed.end().await;
        nodes.end().await;
    });
}

#[test]
fn a_key_is_compared_and_set_and_a_write_under_one_key_is_done_once() {
    run(async {
        let (nodes, url) = prepared().await;
        let json = async |args: &[&str]| {
            let ran = quorate(&url, &[args, &["-o", "json"]].concat()).await;
            assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
            ran.json()
        };
        let first = json(&["kv", "cas", "dir/key", "absent", "one"]).await;
        let tag = first["mod_index"].as_str().unwrap();
        let second = json(&["kv", "cas", "dir/key", tag, "two"]).await;
        assert_eq!(second["version"], "2");
        let stale = quorate(&url, &["kv", "cas", "dir/key", tag, "three"]).await;
        assert_eq!(stale.code, 4, "{stale:?}");
        let got = quorate(&url, &["kv", "get", "dir/key"]).await;
        assert_eq!(got.out, "two");
        assert_eq!(json(&["kv", "get", "dir/key"]).await["value"], "two");
        let once = ["kv", "put", "dir/key", "four", "--idempotency-key", "k1"];
        assert_eq!(json(&once).await["version"], "3");
        assert_eq!(json(&once).await["version"], "3");
        let listed = quorate(&url, &["kv", "list", "--prefix", "dir/", "-o", "jsonl"]).await;
        assert_eq!(listed.lines()[0]["value"], "four");
        assert_eq!(json(&["kv", "delete", "dir/key"]).await["deleted"], 1);
        nodes.end().await;
    });
}

#[test]
fn a_file_of_transfers_is_posted_once_however_often_it_is_sent() {
    run(async {
        let (nodes, url) = prepared().await;
        let head = "id,debit_account,credit_account,amount,metadata.note\n";
        let rows =
            "b1,bank,users:alice,5,\"x, y\"\nb2,bank,users:alice,6,\nb3,users:alice,bank,100,\n";
        let (_dir, csv) = file("all.csv", &format!("{head}{rows}"));
        let batch = ["transfer", "batch", &csv, "--batch", "2", "-o", "json"];
        let first = quorate(&url, &batch).await;
        assert_eq!(first.code, 5, "{first:?}");
        let summary = json!({ "batches": 2, "created": 2, "exists": 0, "refused": 1 });
        assert_eq!(first.json()["summary"], summary);
        assert_eq!(first.json()["refused"][0]["code"], "exceeds_credits");
        assert_eq!(quorate(&url, &batch).await.json()["summary"]["exists"], 2);
        let lines =
            r#"{"id":"b4","debit_account":"bank","credit_account":"users:alice","amount":"1"}"#;
        let (_dir, jsonl) = file("more.jsonl", lines);
        let import = quorate(&url, &["transfer", "import", &jsonl, "-o", "csv"]).await;
        assert_eq!(
            (import.code, &*import.out),
            (0, "code,detail,id,result\n,,b4,created\n")
        );
        let balance = quorate(&url, &["account", "show", "users:alice", "-o", "json"]).await;
        assert_eq!(balance.json()["balance"]["credits_posted"], "12");
        // Nothing of a file is sent if anything in it is wrong.
        let (_dir, wrong) = file(
            "wrong.csv",
            &format!("{head}b5,bank,users:alice,5,\nb6,bank\n"),
        );
        let refused = quorate(&url, &["transfer", "batch", &wrong]).await;
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.err.contains("line 3"), "{refused:?}");
        assert_eq!(quorate(&url, &["transfer", "show", "b5"]).await.code, 3);
        nodes.end().await;
    });
}

#[test]
fn an_endpoint_that_is_down_is_passed_over_and_a_curl_line_is_printed_on_request() {
    run(async {
        let (nodes, url) = prepared().await;
        let both = format!("{},{url}", nobody().await);
        let begun = std::time::Instant::now();
        let put = quorate(&both, &["-v", "kv", "put", "it's", "1"]).await;
        assert_eq!(put.code, 0, "{put:?}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(put.err.starts_with("curl --request PUT "), "{put:?}");
        assert!(put.err.contains("idempotency-key: "), "{put:?}");
        assert!(put.err.contains("/v1/kv/it%27s'"), "{put:?}");
        nodes.end().await;
    });
}

#[test]
fn shells_and_people_are_told_what_there_is() {
    run(async {
        let bash = quorate("", &["completions", "bash"]).await;
        assert_eq!(bash.code, 0, "{bash:?}");
        assert!(bash.out.contains("trial-balance"), "no command in it");
        let help = quorate("", &["--help"]).await;
        assert!(help.out.contains("certainly NOT applied"), "{help:?}");
        assert!(help.out.contains("outcome UNKNOWN"), "{help:?}");
    });
}
