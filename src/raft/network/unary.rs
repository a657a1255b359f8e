//! Calls with one answer each, over one keep-alive HTTP/1.1 connection.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::connect::{Connect, Lane};
use crate::raft::peer::Call;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection: nothing was sent.
    #[error("cannot connect to {0}")]
    Connect(String),
    /// The connection broke; whether the call was acted on is not known.
    #[error("connection lost: {0}")]
    Lost(String),
    /// Sent, and not answered in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The peer answered that it will not.
    #[error("refused: {0}")]
    Refused(String),
}

/// A task that ends when its owner goes away.
#[derive(Debug)]
pub(super) struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Full<Bytes>>,
    /// Moves the bytes of the connection.
    _driver: Owned,
}

impl Connection {
    /// Connects to `addr`.
    pub(super) async fn open<C: Connect>(
        connect: &C,
        addr: &str,
        lane: Lane,
    ) -> Result<Connection, CallError> {
        let failed = |error: &dyn std::fmt::Display| CallError::Connect(format!("{addr}: {error}"));
        let io = connect.connect(addr, lane).await.map_err(|e| failed(&e))?;
        let handshake = http1::handshake(TokioIo::new(io)).await;
        let (sender, driver) = handshake.map_err(|e| failed(&e))?;
        // A failure of the driver is the failure of the request that waits on it.
        let driver = tokio::spawn(async move {
            let _ = driver.with_upgrades().await;
        });
        Ok(Connection {
            sender,
            _driver: Owned(driver),
        })
    }
}

/// A connection that is opened when it is needed.
#[derive(Debug, Default)]
pub(super) struct Unary {
    kept: Option<Connection>,
}

impl Unary {
    /// Sends `body` as `call` to `addr` and waits for the answer until `limit`, connecting included. A call that is dropped
    /// while it waits closes the connection: a late answer must not be taken for that of the next call.
    pub(super) async fn call<C: Connect>(
        &mut self,
        connect: &C,
        addr: &str,
        call: Call,
        body: Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let deadline = tokio::time::Instant::now() + limit;
        if let Some(kept) = self.kept.take().filter(|kept| !kept.sender.is_closed()) {
            // A kept connection that the peer has closed meanwhile fails at once. All calls may be repeated: the core
            // answers the same to the second as to the first.
            match self
                .exchange(kept, addr, call, body.clone(), deadline)
                .await
            {
                Err(CallError::Lost(_)) => {}
                Err(CallError::Timeout(_)) => return Err(CallError::Timeout(limit)),
                answered => return answered,
            }
        }
        let opening = Connection::open(connect, addr, Lane::Unary);
        let opened = match tokio::time::timeout_at(deadline, opening).await {
            Ok(opened) => opened?,
            Err(_) => return Err(CallError::Connect(format!("{addr}: no answer in time"))),
        };
        match self.exchange(opened, addr, call, body, deadline).await {
            Err(CallError::Timeout(_)) => Err(CallError::Timeout(limit)),
            answered => answered,
        }
    }

    async fn exchange(
        &mut self,
        mut connection: Connection,
        addr: &str,
        call: Call,
        body: Bytes,
        deadline: tokio::time::Instant,
    ) -> Result<Bytes, CallError> {
        let request = Request::post(call.path())
            .header(HOST, addr)
            .body(Full::new(body))
            .map_err(|error| CallError::Connect(format!("{addr}: {error}")))?;
        let exchange = async {
            let lost = |error: hyper::Error| CallError::Lost(error.to_string());
            connection.sender.ready().await.map_err(lost)?;
            let response = connection
                .sender
                .send_request(request)
                .await
                .map_err(lost)?;
            let status = response.status();
            let body = read_body(response, call.answer_len_max()).await?;
            Ok::<_, CallError>((status, body))
        };
        let limit = deadline.saturating_duration_since(tokio::time::Instant::now());
        let (status, body) = match timeout(limit, exchange).await {
            Ok(answered) => answered?,
            Err(_) => return Err(CallError::Timeout(limit)),
        };
        self.kept = Some(connection);
        match status {
            StatusCode::OK => Ok(body),
            status => Err(refusal(status, &body)),
        }
    }
}

/// The body of `response`, if it is not larger than any answer is.
pub(super) async fn read_body(
    response: Response<hyper::body::Incoming>,
    len_max: usize,
) -> Result<Bytes, CallError> {
    let body = Limited::new(response.into_body(), len_max);
    match body.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(CallError::Lost(error.to_string())),
    }
}

/// What a status other than the one hoped for says.
pub(super) fn refusal(status: StatusCode, body: &[u8]) -> CallError {
    let reason = String::from_utf8_lossy(&body[..body.len().min(512)]);
    match reason.trim() {
        "" => CallError::Refused(format!("status {status}")),
        reason => CallError::Refused(reason.to_owned()),
    }
}
