//! Calls against made-up nodes that do with each request what a script says.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::ask::Key;
use super::attempt::OF_A_NODE;
use super::kv::Put;
use super::transfers::NewTransfer;
use super::{Client, Error, Level, Options};

/// What a made-up node does with a request.
#[derive(Clone)]
enum Act {
    /// Answers with this status, headers and body.
    Answer(u16, String, &'static str),
    /// Closes the connection without a word.
    HangUp,
    /// Says nothing.
    Silence,
}

fn answer(status: u16, body: &'static str) -> Act {
    Act::Answer(status, format!("{OF_A_NODE}: 1\r\n"), body)
}

fn busy() -> Act {
    answer(
        503,
        r#"{"status":503,"code":"no_leader","outcome":"not_applied","retryable":true}"#,
    )
}

fn stored() -> Act {
    answer(201, r#"{"mod_index":"40.0","version":"1"}"#)
}

/// A made-up node.
struct Node {
    url: String,
    /// The heads of the requests that came.
    heard: Arc<Mutex<Vec<String>>>,
}

impl Node {
    /// One that acts as listed, one request a connection, and repeats the last act for ever.
    async fn start(acts: Vec<Act>) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut seen = Vec::new();
                while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                    assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
                }
                let turn = {
                    let mut heard = hears.lock().unwrap();
                    heard.push(String::from_utf8_lossy(&seen).to_lowercase());
                    heard.len() - 1
                };
                match &acts[turn.min(acts.len() - 1)] {
                    Act::HangUp => {}
                    Act::Silence => kept.push(stream),
                    Act::Answer(status, headers, body) => {
                        let length = body.len();
                        let text = format!(
                            "HTTP/1.1 {status} x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
                        );
                        stream.write_all(text.as_bytes()).await.unwrap();
                    }
                }
            }
        });
        Node { url, heard }
    }

    fn count(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// The values of a header in the requests that came.
    fn header(&self, name: &str) -> Vec<Option<String>> {
        let heard = self.heard.lock().unwrap();
        let find = |head: &String| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let (_, value) = lines.find(|(known, _)| *known == name)?;
            Some(value.to_owned())
        };
        heard.iter().map(find).collect()
    }
}

/// A URL where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn client(endpoints: &[&str]) -> Client {
    let options = Options {
        timeout: Duration::from_millis(1500),
        attempt: Duration::from_millis(300),
        pause_first: Duration::from_millis(2),
        pause_max: Duration::from_millis(10),
        ..Options::default()
    };
    Client::new(endpoints, options).unwrap()
}

fn transfer() -> NewTransfer {
    NewTransfer {
        id: "t".to_owned(),
        debit_account: "a".to_owned(),
        credit_account: "b".to_owned(),
        amount: 1,
        code: 0,
        linked: false,
        metadata: Default::default(),
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_passed_over() {
    let good = Node::start(vec![stored()]).await;
    let client = client(&[&nobody().await, &good.url]);
    assert_eq!(client.put(&Put::new("a", "v")).await.unwrap().attempts, 2);
    assert_eq!(client.put(&Put::new("a", "v")).await.unwrap().attempts, 1);
    assert_eq!(good.count(), 2);
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_applied() {
    let told = client(&[&nobody().await]).put(&Put::new("a", "v")).await;
    assert!(matches!(told, Err(Error::Unavailable(_))), "{told:?}");
}

#[tokio::test]
async fn all_attempts_of_a_write_carry_one_key_and_two_writes_carry_two() {
    let node = Node::start(vec![busy(), Act::HangUp, stored()]).await;
    let client = client(&[&node.url]);
    client.put(&Put::new("a", "v")).await.unwrap();
    client.put(&Put::new("a", "v")).await.unwrap();
    let keys = node.header("idempotency-key");
    assert_eq!(keys.len(), 4);
    assert!(keys[0].is_some());
    assert!(keys[..3].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_ne!(keys[3], keys[0]);
}

#[tokio::test]
async fn without_keys_a_write_in_doubt_is_not_sent_again() {
    let node = Node::start(vec![busy(), Act::HangUp, stored()]).await;
    let client = client(&[&node.url]);
    let keyless = client.with(Options {
        keys: false,
        ..client.options()
    });
    let told = keyless.put(&Put::new("a", "v")).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
    assert_eq!(node.header("idempotency-key"), [None, None]);
}

#[tokio::test]
async fn once_in_doubt_busy_nodes_do_not_make_it_certain() {
    let node = Node::start(vec![Act::HangUp, busy()]).await;
    let told = client(&[&node.url]).transfer(&transfer()).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
    let node = Node::start(vec![busy()]).await;
    let told = client(&[&node.url]).transfer(&transfer()).await;
    assert!(matches!(told, Err(Error::Unavailable(_))), "{told:?}");
    assert!(node.count() > 1);
}

#[tokio::test]
async fn a_success_that_cannot_be_read_is_no_proof() {
    let node = Node::start(vec![answer(201, "<html>")]).await;
    let told = client(&[&node.url]).put(&Put::new("a", "v")).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
}

#[tokio::test]
async fn a_success_of_something_in_between_is_no_proof() {
    let page = Act::Answer(200, String::new(), "{}");
    let node = Node::start(vec![page.clone()]).await;
    let told = client(&[&node.url]).put(&Put::new("a", "v")).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
    let told = client(&[&node.url]).get("a").await;
    assert!(matches!(told, Err(Error::Unavailable(_))), "{told:?}");
    // Sent again, it finds a node.
    let node = Node::start(vec![page, stored()]).await;
    let told = client(&[&node.url]).put(&Put::new("a", "v")).await;
    assert_eq!(told.unwrap().attempts, 2);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let refused = answer(
        422,
        r#"{"status":422,"code":"exceeds_credits","outcome":"not_applied","index":"7"}"#,
    );
    let node = Node::start(vec![refused]).await;
    let told = client(&[&node.url]).transfer(&transfer()).await;
    assert!(matches!(told, Err(Error::Rejection(_))), "{told:?}");
    assert_eq!(node.count(), 1);
}

#[tokio::test]
async fn a_full_store_of_keys_is_asked_once_without_one() {
    let full = answer(
        429,
        r#"{"status":429,"code":"idempotency_keys_full","outcome":"not_applied","retryable":true}"#,
    );
    let node = Node::start(vec![full.clone(), stored()]).await;
    client(&[&node.url]).put(&Put::new("a", "v")).await.unwrap();
    let keys = node.header("idempotency-key");
    assert!(keys[0].is_some() && keys[1].is_none(), "{keys:?}");
    // Not if the key is the caller's: under it, it may have been done before.
    let node = Node::start(vec![full.clone()]).await;
    let given = Put {
        idempotency_key: Key::Given("mine".to_owned()),
        ..Put::new("a", "v")
    };
    let told = client(&[&node.url]).put(&given).await;
    assert!(matches!(told, Err(Error::Unavailable(_))), "{told:?}");
    let keys = node.header("idempotency-key");
    assert!(
        keys.iter().all(|key| key.as_deref() == Some("mine")),
        "{keys:?}"
    );
    // And that one is not repeated.
    let node = Node::start(vec![full, Act::HangUp, stored()]).await;
    let told = client(&[&node.url]).put(&Put::new("a", "v")).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
    assert_eq!(node.count(), 2);
}

#[tokio::test]
async fn the_leader_that_an_answer_names_is_asked_from_then_on() {
    let leader = Node::start(vec![stored()]).await;
    let named = format!("{OF_A_NODE}: 1\r\nquorate-leader-url: {}\r\n", leader.url);
    let body = r#"{"mod_index":"40.0","version":"1"}"#;
    let other = Node::start(vec![Act::Answer(201, named, body)]).await;
    let client = client(&[&other.url]);
    for _ in 0..2 {
        client.put(&Put::new("a", "v")).await.unwrap();
    }
    // The leader named nobody, so it is forgotten; a read that any node can do never goes there.
    assert_eq!((other.count(), leader.count()), (1, 1));
    let _ = client.at(Level::Follower).get("a").await;
    assert_eq!(leader.count(), 1);
}

#[tokio::test]
async fn a_silent_node_costs_one_attempt_and_not_the_whole_call() {
    let silent = Node::start(vec![Act::Silence]).await;
    let good = Node::start(vec![stored()]).await;
    let begun = Instant::now();
    let written = client(&[&silent.url, &good.url])
        .put(&Put::new("a", "v"))
        .await;
    assert_eq!(written.unwrap().attempts, 2);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let told = client(&[&silent.url]).put(&Put::new("a", "v")).await;
    assert!(matches!(told, Err(Error::Unknown(_))), "{told:?}");
}

#[tokio::test]
async fn a_node_that_asks_for_rest_gets_it_as_long_as_another_is_there() {
    let body = r#"{"status":503,"code":"no_leader","outcome":"not_applied","retryable":true}"#;
    let tired = Act::Answer(503, "retry-after: 60\r\n".to_owned(), body);
    let tired = Node::start(vec![tired, stored()]).await;
    let good = Node::start(vec![busy(), busy(), stored()]).await;
    let both = client(&[&tired.url, &good.url]);
    both.put(&Put::new("a", "v")).await.unwrap();
    assert_eq!((tired.count(), good.count()), (1, 3));
    // Alone, it is not asked before its time, and the call does not wait in vain either.
    let told = client(&[&tired.url]).put(&Put::new("a", "v")).await;
    assert!(told.is_ok(), "another client knows nothing of it: {told:?}");
}

#[tokio::test]
async fn too_much_load_is_not_carried_to_another_node() {
    let body = r#"{"status":429,"code":"overloaded","outcome":"not_applied","retryable":true}"#;
    let full = Act::Answer(429, "retry-after: 1\r\n".to_owned(), body);
    let full = Node::start(vec![full]).await;
    let other = Node::start(vec![stored()]).await;
    let begun = Instant::now();
    let client = client(&[&full.url, &other.url]);
    client.put(&Put::new("a", "v")).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn the_deadline_is_passed_on_and_shrinks() {
    let node = Node::start(vec![Act::Silence, Act::Silence, stored()]).await;
    client(&[&node.url]).put(&Put::new("a", "v")).await.unwrap();
    let told: Vec<u64> = node
        .header("quorate-timeout")
        .into_iter()
        .map(|text| text.unwrap().trim_end_matches("ms").parse().unwrap())
        .collect();
    // A third attempt has what is left; each asks for a little less than it waits.
    assert!((200..300).contains(&told[0]), "{told:?}");
    assert!((500..600).contains(&told[1]), "{told:?}");
    assert!(told[2] < 600, "{told:?}");
}

#[tokio::test]
async fn what_is_not_there_is_an_answer_to_a_read() {
    let absent = answer(
        404,
        r#"{"status":404,"code":"account_not_found","outcome":"not_applied","index":"7"}"#,
    );
    let node = Node::start(vec![absent, answer(200, "[]")]).await;
    let client = client(&[&node.url]);
    assert!(client.account("a").await.unwrap().is_none());
    let told = client.account("a").await;
    assert!(matches!(told, Err(Error::Protocol(_))), "{told:?}");
}
