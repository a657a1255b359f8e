//! A small HTTP/1.1 client: keep-alive connections to a few addresses, and certainty about what was sent.
//!
//! What callers need to know of a failure is whether the other side may have seen the request: [`SendError`] says so. A
//! connection that turns out closed before a byte of the request was written is replaced without telling anyone.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};

/// Longest time to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections older than this since their last use are not used again: the other side closes idle ones, and a request that
/// crosses its closing would have an unknown outcome.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// Most idle connections kept for one address.
const IDLE_CONNECTIONS_MAX: usize = 64;
/// Longest answer read, in bytes: above the largest page and the results of the largest batch.
const ANSWER_LEN_MAX: usize = 32 << 20;

/// Why there is no answer, and so what may have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// Not a byte of the request left.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The other side may have acted on it.
    #[error("sent, no answer: {0}")]
    NoAnswer(String),
}

/// The body of an answer.
#[derive(Debug)]
pub enum Content {
    /// All of it.
    Whole(Bytes),
    /// What is still to come.
    Stream(Incoming),
}

/// Connections, kept between requests.
#[derive(Debug, Default)]
pub struct Pool {
    // Held for a push or a pop, never across an await.
    idle: Mutex<HashMap<String, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// `host:port` of a base URL such as `http://127.0.0.1:7001`. Plain HTTP only.
pub fn authority(base_url: &str) -> Result<String, String> {
    let uri: Uri = base_url
        .parse()
        .map_err(|error| format!("{base_url:?} is no URL: {error}"))?;
    let scheme = uri.scheme_str().unwrap_or("http");
    if scheme != "http" {
        return Err(format!(
            "{base_url:?}: only http:// is spoken, not {scheme}://"
        ));
    }
    match (uri.authority(), uri.path()) {
        (Some(authority), "" | "/") if authority.port().is_some() => Ok(authority.to_string()),
        (Some(authority), "" | "/") => Ok(format!("{}:80", authority.host())),
        _ => Err(format!("{base_url:?} is not of the form http://host:port")),
    }
}

impl Pool {
    /// Sends `request`, whose URI is a path and query, to `host:port` and reads the whole answer.
    pub async fn send(
        &self,
        address: &str,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Response<Bytes>, SendError> {
        let (head, body) = self
            .begin(address, request, deadline, false)
            .await?
            .into_parts();
        match body {
            Content::Whole(bytes) => Ok(Response::from_parts(head, bytes)),
            Content::Stream(_) => unreachable!("it was to be read whole"),
        }
    }

    /// The same, but if `streams`, an answer whose length nobody says is given as it comes: it may be longer than memory, and take
    /// longer than until `deadline`, by which it must have begun. Its connection is not kept.
    pub async fn begin(
        &self,
        address: &str,
        mut request: Request<Full<Bytes>>,
        deadline: Instant,
        streams: bool,
    ) -> Result<Response<Content>, SendError> {
        let host = header::HeaderValue::from_str(address)
            .map_err(|_| SendError::NotSent(format!("{address:?} is no address")))?;
        request.headers_mut().insert(header::HOST, host);
        loop {
            let (mut sender, fresh) = match self.take(address) {
                Some(sender) => (sender, false),
                None => (connect(address, deadline).await?, true),
            };
            let exchange = exchange(&mut sender, request, streams);
            match timeout_at(deadline.into(), exchange).await {
                Ok(Ok(response)) => {
                    if let Content::Whole(_) = response.body() {
                        self.put(address, sender);
                    }
                    return Ok(response);
                }
                Ok(Err(Failure::NoAnswer(why))) => return Err(SendError::NoAnswer(why)),
                // An idle connection was closed by the other side; a fresh one shows whether anyone is there.
                Ok(Err(Failure::NotSent(back, _))) if !fresh => request = *back,
                Ok(Err(Failure::NotSent(_, why))) => return Err(SendError::NotSent(why)),
                Err(_) => return Err(SendError::NoAnswer("no answer before the deadline".into())),
            }
        }
    }

    fn take(&self, address: &str) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().expect("no panic while held");
        let connections = idle.get_mut(address)?;
        // The newest first: the oldest are left to age out.
        while let Some(connection) = connections.pop() {
            if connection.since.elapsed() < IDLE_MAX && connection.sender.is_ready() {
                return Some(connection.sender);
            }
        }
        None
    }

    fn put(&self, address: &str, sender: SendRequest<Full<Bytes>>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().expect("no panic while held");
        if !idle.contains_key(address) {
            idle.insert(address.to_owned(), Vec::new());
        }
        let connections = idle.get_mut(address).expect("inserted above");
        connections.retain(|old| !old.sender.is_closed());
        if connections.len() < IDLE_CONNECTIONS_MAX {
            connections.push(Idle {
                sender,
                since: Instant::now(),
            });
        }
    }
}

async fn connect(address: &str, deadline: Instant) -> Result<SendRequest<Full<Bytes>>, SendError> {
    let failed = |why: String| SendError::NotSent(format!("{address}: {why}"));
    let left = deadline
        .saturating_duration_since(Instant::now())
        .min(CONNECT_TIMEOUT);
    let stream = timeout(left, TcpStream::connect(address))
        .await
        .map_err(|_| failed("no connection in time".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    stream
        .set_nodelay(true)
        .map_err(|error| failed(error.to_string()))?;
    let (sender, connection) = handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(error.to_string()))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a client connection ended");
        }
    });
    Ok(sender)
}

/// Sends `request` to `host:port` on a connection of its own, which ends with the answer's body; gives the answer as soon as it begins.
pub(super) async fn send_alone(
    address: &str,
    mut request: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<Response<Incoming>, SendError> {
    let host = header::HeaderValue::from_str(address)
        .map_err(|_| SendError::NotSent(format!("{address:?} is no address")))?;
    request.headers_mut().insert(header::HOST, host);
    let mut sender = connect(address, deadline).await?;
    let answer = timeout_at(deadline.into(), sender.send_request(request)).await;
    let answer = answer.map_err(|_| SendError::NoAnswer("no answer before the deadline".into()))?;
    answer.map_err(|error| SendError::NoAnswer(error.to_string()))
}

enum Failure {
    NotSent(Box<Request<Full<Bytes>>>, String),
    NoAnswer(String),
}

async fn exchange(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
    streams: bool,
) -> Result<Response<Content>, Failure> {
    let response = sender
        .try_send_request(request)
        .await
        .map_err(|mut failed| match failed.take_message() {
            Some(request) => Failure::NotSent(Box::new(request), failed.error().to_string()),
            None => Failure::NoAnswer(failed.error().to_string()),
        })?;
    let (head, body) = response.into_parts();
    if streams && body.size_hint().exact().is_none() {
        return Ok(Response::from_parts(head, Content::Stream(body)));
    }
    let body = Limited::new(body, ANSWER_LEN_MAX)
        .collect()
        .await
        .map_err(|error| Failure::NoAnswer(format!("the answer broke off: {error}")))?;
    let body = Content::Whole(body.to_bytes());
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn request() -> Request<Full<Bytes>> {
        Request::post("/v1/x")
            .body(Full::new(Bytes::from_static(b"{}")))
            .unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// Reads one request, which ends with `{}`.
    async fn read_request(stream: &mut TcpStream) {
        let mut seen = Vec::new();
        while !seen.ends_with(b"{}") {
            let mut buffer = [0; 1024];
            let n = stream.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "closed before a request");
            seen.extend_from_slice(&buffer[..n]);
        }
    }

    #[test]
    fn a_base_url_is_a_host_and_a_port() {
        assert_eq!(
            authority("http://127.0.0.1:7001").unwrap(),
            "127.0.0.1:7001"
        );
        assert_eq!(authority("http://a.example/").unwrap(), "a.example:80");
        assert_eq!(authority("127.0.0.1:7001").unwrap(), "127.0.0.1:7001");
        for bad in ["https://a:1", "http://a:1/x", "", "http://"] {
            assert!(authority(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn an_answer_without_a_length_is_passed_on_as_it_comes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (go_on, told) = tokio::sync::oneshot::channel::<()>();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            let begun = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n";
            stream.write_all(begun).await.unwrap();
            // It begins in time; the rest comes after the deadline.
            told.await.unwrap();
            stream.write_all(b"2\r\ncd\r\n0\r\n\r\n").await.unwrap();
        });
        let pool = Pool::default();
        let deadline = soon();
        let begun = pool.begin(&address, request(), deadline, true).await;
        let Content::Stream(mut body) = begun.unwrap().into_body() else {
            panic!("it was read whole")
        };
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "ab");
        go_on.send(()).unwrap();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "cd");
        assert!(
            pool.take(&address).is_none(),
            "a connection with a stream is kept"
        );
    }

    #[tokio::test]
    async fn a_refused_connection_is_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let failed = Pool::default()
            .send(&address, request(), soon())
            .await
            .unwrap_err();
        assert!(matches!(failed, SendError::NotSent(_)), "{failed}");
    }

    #[tokio::test]
    async fn a_connection_closed_after_the_request_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
        });
        let failed = Pool::default()
            .send(&address, request(), soon())
            .await
            .unwrap_err();
        assert!(matches!(failed, SendError::NoAnswer(_)), "{failed}");
    }

    #[tokio::test]
    async fn silence_until_the_deadline_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let deadline = Instant::now() + Duration::from_millis(50);
        let failed = Pool::default()
            .send(&address, request(), deadline)
            .await
            .unwrap_err();
        assert!(matches!(failed, SendError::NoAnswer(_)), "{failed}");
        drop(listener);
    }

    #[tokio::test]
    async fn an_idle_connection_that_was_closed_is_replaced() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                read_request(&mut stream).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        });
        let pool = Pool::default();
        for _ in 0..2 {
            let response = pool.send(&address, request(), soon()).await.unwrap();
            assert_eq!(response.body(), "ok");
        }
        server.await.unwrap();
    }
}
