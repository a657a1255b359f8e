//! Around every handler: the body is read, the request gets an id, the answer its common headers, an error its body; and a
//! request that only the leader can serve goes there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use axum::response::Response;
use axum::routing::Router;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use serde_json::{Value, json};
use tower::Service;

use super::answer::INDEX;
use super::call::{Call, Input};
use super::error::{ApiError, Code, Frame, Problem, check_routed};
use super::forward::Forwarder;
use super::listener::Phase;
use super::{App, body_len_max, router};
use crate::raft::{Role, Status};

/// Longest wait for the body of a request.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Most that is read and dropped of a body that is too large, in bytes (16 MiB).
const DISCARD_LEN_MAX: usize = 16 << 20;
/// Longest request id taken over from a client, in bytes.
const REQUEST_ID_LEN_MAX: usize = 128;

const NODE: HeaderName = HeaderName::from_static("quorate-node");
const ROLE: HeaderName = HeaderName::from_static("quorate-role");
const SERVED_BY: HeaderName = HeaderName::from_static("quorate-served-by");
const LEADER: HeaderName = HeaderName::from_static("quorate-leader");
const LEADER_URL: HeaderName = HeaderName::from_static("quorate-leader-url");
const TERM: HeaderName = HeaderName::from_static("quorate-term");
const APPLIED: HeaderName = HeaderName::from_static("quorate-applied-index");
const COMMITTED: HeaderName = HeaderName::from_static("quorate-commit-index");
/// Header of the id of a request.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The client API as one service; clones share it.
#[derive(Clone)]
pub struct Edge {
    app: Arc<App>,
    router: Router,
    forwarder: Arc<Forwarder>,
    ids: Arc<RequestIds>,
}

impl Edge {
    /// The API over `app`.
    pub fn new(app: App) -> Edge {
        let app = Arc::new(app);
        Edge {
            router: router(app.clone()),
            app,
            forwarder: Arc::default(),
            ids: Arc::new(RequestIds::new()),
        }
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        let received = Instant::now();
        let (head, body) = request.into_parts();
        let mut call = Call {
            request_id: self.ids.of(&head.headers),
            method: head.method,
            uri: head.uri,
            headers: head.headers,
            body: Bytes::new(),
            received,
        };
        let response = match read_body(body, body_len_max(call.uri.path())).await {
            Ok(body) => {
                call.body = body;
                let call = Arc::new(call);
                let response = self.forwarder.serve(self, &call).await;
                return self.finish(&call, response);
            }
            Err(error) => error,
        };
        self.finish(&call, Err(response))
    }

    /// Has this node's handler answer.
    pub(super) async fn route(&self, call: &Arc<Call>) -> Result<Response, ApiError> {
        let mut request = Request::new(Body::empty());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.uri.clone();
        request.extensions_mut().insert(Input(call.clone()));
        let mut router = self.router.clone();
        let mut response = match router.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        if let Some(error) = response.extensions_mut().remove::<ApiError>() {
            return Err(error);
        }
        check_routed(&call.method, call.uri.path(), response)
    }

    /// This node's view of the cluster.
    pub(super) fn status(&self) -> Status {
        self.app.raft.status()
    }

    /// Renders what is an error and adds the common headers.
    fn finish(&self, call: &Call, response: Result<Response, ApiError>) -> Response {
        let status = self.status();
        let stopping = self.app.phase();
        let mut response = response.unwrap_or_else(|error| {
            let mut problem = match error {
                ApiError::Problem(problem) => *problem,
                // The forwarder turns these into problems; kept total so that no error is ever silent.
                ApiError::NotLeader(_) => Problem::new(Code::NoLeader, "this node does not lead"),
            };
            if problem.code == Code::NotReady && stopping > Phase::Serving {
                problem.code = Code::ShuttingDown;
            }
            problem.render(&Frame {
                instance: call.uri.path(),
                request_id: &call.request_id,
                safe: call.is_safe(),
                retry_safe: call.is_retry_safe(),
                raft: raft_json(&status, self.app.raft.view().index()),
            })
        });
        let applied = self.app.raft.view().index();
        let headers = response.headers_mut();
        add_status(headers, &status, applied);
        headers.insert(
            REQUEST_ID,
            HeaderValue::from_str(&call.request_id).expect("checked or made as visible ASCII"),
        );
        if stopping >= Phase::Closing {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn raft_json(status: &Status, applied: u64) -> Value {
    json!({
        "node": status.node,
        "leader": status.leader.as_ref().map(|(id, _)| id),
        "term": status.term.to_string(),
        "index": applied.to_string(),
    })
}

/// The name of a role in answers.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}

/// Who answers, and what it knows. An answer that came from the leader keeps the leader's word on the rest.
fn add_status(headers: &mut HeaderMap, status: &Status, applied: u64) {
    headers.insert(NODE, status.node.into());
    headers.insert(ROLE, HeaderValue::from_static(role_name(status.role)));
    if headers.contains_key(SERVED_BY) {
        return;
    }
    headers.insert(SERVED_BY, status.node.into());
    if let Some((id, member)) = &status.leader {
        headers.insert(LEADER, (*id).into());
        if let Ok(url) = HeaderValue::from_str(&member.client_url) {
            headers.insert(LEADER_URL, url);
        }
    }
    headers.insert(TERM, status.term.into());
    // A write's own index is applied here, whatever the view says a moment later.
    let own = headers
        .get(INDEX)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let applied = own.unwrap_or(0).max(applied);
    headers.insert(APPLIED, applied.into());
    headers.insert(
        COMMITTED,
        status.committed_index.unwrap_or(0).max(applied).into(),
    );
}

/// Reads a whole body of at most `limit` bytes; one that comes in a single piece is not copied.
async fn read_body<B>(body: B, limit: usize) -> Result<Bytes, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        let mut body = std::pin::pin!(body);
        let _ = tokio::time::timeout(BODY_TIMEOUT, discard(body.as_mut())).await;
        return Err(body_too_large(announced, limit));
    }
    let announced = usize::try_from(announced).expect("checked against a usize above");
    tokio::time::timeout(BODY_TIMEOUT, collect(body, announced, limit))
        .await
        .unwrap_or_else(|_| {
            let detail = format!(
                "the body did not arrive within {} s",
                BODY_TIMEOUT.as_secs()
            );
            Err(ApiError::new(Code::RequestTimeout, detail))
        })
}

async fn collect<B>(body: B, announced: usize, limit: usize) -> Result<Bytes, ApiError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let mut body = std::pin::pin!(body);
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::new(
                Code::MalformedRequest,
                format!("the body broke off: {error}"),
            )
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let have = first.len() + all.len() + data.len();
        if have > limit {
            discard(body.as_mut()).await;
            return Err(body_too_large(have as u64, limit));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        if all.is_empty() {
            all.reserve(announced.max(have));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Reads and drops what is left of a body that is too large, within reason: a client that is still writing when its
/// connection is closed sees a reset, and never the answer that names the limit.
async fn discard<B>(mut body: std::pin::Pin<&mut B>)
where
    B: HttpBody<Data = Bytes>,
{
    let mut dropped = 0;
    while dropped < DISCARD_LEN_MAX {
        match body.frame().await {
            Some(Ok(frame)) => dropped += frame.data_ref().map_or(0, Bytes::len),
            Some(Err(_)) | None => return,
        }
    }
}

fn body_too_large(have: u64, limit: usize) -> ApiError {
    Problem::new(
        Code::BodyTooLarge,
        format!("the body has {have} bytes or more, {limit} are allowed"),
    )
    .with("limit", limit)
    .into()
}

/// Makes ids of requests: a random start for each process, then a count.
#[derive(Debug)]
struct RequestIds {
    process: String,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> RequestIds {
        let random = uuid::Uuid::new_v4().simple().to_string();
        RequestIds {
            process: random[..12].to_owned(),
            count: AtomicU64::new(0),
        }
    }

    /// The client's id if it is short and printable, else a new one.
    fn of(&self, headers: &HeaderMap) -> String {
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        match given {
            Some(id) if is_request_id(id) => id.to_owned(),
            _ => {
                // Relaxed: only uniqueness matters.
                let count = self.count.fetch_add(1, Ordering::Relaxed);
                format!("{}-{count:x}", self.process)
            }
        }
    }
}

fn is_request_id(id: &str) -> bool {
    (1..=REQUEST_ID_LEN_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    fn pieces(
        pieces: &'static [&'static str],
    ) -> impl HttpBody<Data = Bytes, Error = std::convert::Infallible> {
        let frames = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))));
        StreamBody::new(futures_util::stream::iter(frames))
    }

    fn code(result: Result<Bytes, ApiError>) -> Code {
        match result {
            Err(ApiError::Problem(problem)) => problem.code,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_body_is_read_whole_or_refused() {
        assert_eq!(read_body(Full::new(Bytes::new()), 4).await.unwrap(), "");
        assert_eq!(
            read_body(pieces(&["ab", "c", "d"]), 4).await.unwrap(),
            "abcd"
        );
        assert_eq!(
            code(read_body(pieces(&["ab", "c", "de"]), 4).await),
            Code::BodyTooLarge
        );
        let announced = Full::new(Bytes::from_static(b"abcde"));
        assert_eq!(code(read_body(announced, 4).await), Code::BodyTooLarge);
    }

    #[test]
    fn a_request_id_is_taken_over_if_it_is_harmless() {
        let ids = RequestIds::new();
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_static("mine-1"));
        assert_eq!(ids.of(&headers), "mine-1");
        for bad in ["", "a b", &"x".repeat(REQUEST_ID_LEN_MAX + 1)] {
            headers.insert(REQUEST_ID, HeaderValue::from_str(bad).unwrap());
            let made = ids.of(&headers);
            assert_ne!(made, bad);
            assert_ne!(made, ids.of(&headers));
        }
    }
}
