use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// What a made-up node does with a request.
#[derive(Clone, Copy)]
enum Act {
    Answer(u16, &'static str),
    HangUp,
}

/// A node that acts as listed, one request a connection, and counts them.
async fn node(acts: &'static [Act]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut seen = Vec::new();
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
            }
            let turn = counted.fetch_add(1, Ordering::SeqCst);
            if let Act::Answer(status, body) = acts[turn.min(acts.len() - 1)] {
                let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
                let text = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        }
    });
    (url, count)
}

/// A URL where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn client(endpoints: &[String]) -> Client {
    Client::new(endpoints, Duration::from_millis(1500)).unwrap()
}

fn put() -> Ask {
    Ask::put("/v1/kv/a".to_owned(), Bytes::from_static(b"v"))
}

fn create() -> Ask {
    Ask::create("/v1/transfers", &Value::Null)
}

const BUSY: Act = Act::Answer(503, r#"{"code":"no_leader","outcome":"not_applied"}"#);
const DONE: Act = Act::Answer(200, "{}");

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_passed_over() {
    let (good, count) = node(&[DONE]).await;
    assert!(client(&[nobody().await, good]).ask(&put()).await.is_ok());
    assert_eq!(count.load(Ordering::SeqCst), 1);
    assert_eq!(
        client(&[nobody().await])
            .ask(&put())
            .await
            .unwrap_err()
            .code(),
        4
    );
}

#[tokio::test]
async fn a_busy_node_is_asked_again_even_for_what_must_not_happen_twice() {
    let (url, count) = node(&[BUSY, BUSY, DONE]).await;
    assert!(client(&[url]).ask(&put()).await.is_ok());
    assert_eq!(count.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_write_to_a_key_without_an_answer_is_unknown_and_not_sent_again() {
    let (url, count) = node(&[Act::HangUp, DONE]).await;
    assert_eq!(client(&[url]).ask(&put()).await.unwrap_err().code(), 3);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_create_without_an_answer_is_sent_again() {
    let (url, count) = node(&[Act::HangUp, DONE]).await;
    assert!(client(&[url]).ask(&create()).await.is_ok());
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn once_unknown_a_busy_answer_does_not_make_it_certain() {
    let (url, _) = node(&[Act::HangUp, BUSY]).await;
    assert_eq!(client(&[url]).ask(&create()).await.unwrap_err().code(), 3);
    let (url, _) = node(&[BUSY]).await;
    assert_eq!(client(&[url]).ask(&create()).await.unwrap_err().code(), 1);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let (url, count) = node(&[Act::Answer(
        422,
        r#"{"code":"exceeds_credits","outcome":"not_applied"}"#,
    )])
    .await;
    assert_eq!(client(&[url]).ask(&create()).await.unwrap_err().code(), 1);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}
