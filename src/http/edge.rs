//! Around every handler: the body is read, the request gets an id, the answer its common headers, an error its body; and a
//! request that only the leader can serve goes there.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::Router;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;
use serde_json::{Value, json};
use tower::Service;

use super::admission::Admission;
use super::answer::INDEX;
use super::call::{Call, Input};
use super::error::{ApiError, Code, Frame, Problem, check_routed};
use super::forward::Forwarder;
use super::limits::Memory;
use super::listener::Remote;
use super::listener::{Phase, Refused};
use super::{App, Served, Shared, audit, body, routes};
use crate::raft::{Role, Standing};

/// Answers from this size on, in bytes, are counted until they are sent.
const HELD_LEN_MIN: usize = 64 << 10;
/// Longest request id taken over from a client, in bytes.
const REQUEST_ID_LEN_MAX: usize = 128;

/// Header of the node that answers.
pub(super) const NODE: HeaderName = HeaderName::from_static("quorate-node");
const ROLE: HeaderName = HeaderName::from_static("quorate-role");
/// Header of the node whose word an answer is.
pub(super) const SERVED_BY: HeaderName = HeaderName::from_static("quorate-served-by");
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
    app: Shared,
    router: Router,
    forwarder: Arc<Forwarder>,
    ids: Arc<RequestIds>,
    bodies: Arc<Memory>,
    admission: Admission,
}

impl Edge {
    /// The API over `app`.
    pub fn new(app: App) -> Edge {
        let routes = routes();
        let meter = routes.meter();
        let app = Arc::new(Served {
            app,
            meter,
            peers: Default::default(),
        });
        Edge {
            router: routes.into_router().with_state(app.clone()),
            forwarder: Arc::default(),
            ids: Arc::new(RequestIds::new()),
            bodies: Memory::new(app.limits.bodies_bytes_max),
            admission: Admission::new(app.limits.clone(), app.raft.clone()),
            app,
        }
    }

    /// Measures for ever how late the threads are that this runs on; they should be the ones that call [`Edge::answer`].
    pub async fn measure_lag(&self) -> Infallible {
        self.admission.measure_lag().await
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
            limits: self.app.limits.clone(),
            remote: head.extensions.get::<Remote>().map(|remote| remote.0),
            endpoint: OnceLock::new(),
        };
        let _in_flight = self.app.meter.begin();
        let limits = &self.app.limits;
        let bound = limits.body(call.uri.path());
        if let Err(refused) = self
            .admission
            .by_head(&call, bound, body.size_hint().lower())
        {
            // Who waits for leave to send a body has not sent it.
            if !call.headers.contains_key(header::EXPECT) {
                body::discard(body, limits).await;
            }
            return self.finish(&call, Err(refused));
        }
        let mut share = self.bodies.share();
        match body::read(body, bound, limits, &mut share).await {
            Ok(body) => {
                call.body = body;
                let place = self.admission.place(&call);
                let call = Arc::new(call);
                let response = match place {
                    Ok(_held) if audit::may_be_act(&call) => return self.act(&call).await,
                    Ok(_held) => self.forwarder.serve(self, &call).await,
                    Err(refused) => Err(refused),
                };
                drop(share);
                let response = response.and_then(|response| self.hold(&call, response));
                self.finish(&call, response)
            }
            Err(error) => self.finish(&call, Err(error)),
        }
    }

    /// Has an act on the cluster done and noted, in a task of its own: a client that goes away must not keep it from being noted.
    async fn act(&self, call: &Arc<Call>) -> Response {
        let (edge, call) = (self.clone(), call.clone());
        let acting = tokio::spawn(async move {
            let response = edge.forwarder.serve(&edge, &call).await;
            let response = edge.finish(&call, response);
            audit::note(&edge.app.raft, &call, response).await
        });
        acting.await.expect("an act does not panic")
    }

    /// Counts a large answer until it is sent: who asks for pages and does not take them must not fill the memory. What became
    /// of a write is told in any case.
    fn hold(&self, call: &Call, response: Response) -> Result<Response, ApiError> {
        let exact = response.body().size_hint().exact();
        let Some(len) = exact.and_then(|len| usize::try_from(len).ok()) else {
            return Ok(response);
        };
        if len < HELD_LEN_MIN || !call.is_safe() {
            return Ok(response);
        }
        let mut share = self.bodies.share();
        if !share.grow(len) {
            return Err(body::no_memory(&self.app.limits));
        }
        Ok(response.map(|body| match body.collect().now_or_never() {
            Some(Ok(bytes)) => Body::from(share.hold(bytes.to_bytes())),
            Some(Err(_)) | None => {
                unreachable!("the length of an answer is known once it is in memory")
            }
        }))
    }

    /// The bytes of an answer to what the listener refuses.
    pub fn refuse(&self, refused: Refused) -> Bytes {
        // Nothing of the request is known, not even whether it asks for a change.
        let call = Call {
            request_id: self.ids.of(&HeaderMap::new()),
            method: Method::GET,
            uri: Uri::from_static("/"),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            received: Instant::now(),
            limits: self.app.limits.clone(),
            remote: None,
            endpoint: OnceLock::new(),
        };
        let mut response = self.finish(&call, Err(refusal(refused).into()));
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        wire_bytes(response)
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

    /// Renders what is an error and adds the common headers.
    fn finish(&self, call: &Call, response: Result<Response, ApiError>) -> Response {
        let standing = self.app.raft.standing();
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
            // Here, where every refusal comes by, whoever made it. What the leader refused, the leader counts.
            if problem.code == Code::Overloaded {
                let setting = problem.extra.get("setting").and_then(Value::as_str);
                self.app.meter.overloaded(setting);
            }
            problem.render(&Frame {
                instance: call.uri.path(),
                request_id: &call.request_id,
                safe: call.is_safe(),
                retry_safe: call.is_retry_safe(),
                raft: raft_json(&standing, self.app.raft.view().index()),
            })
        });
        let took = call.received.elapsed();
        let endpoint = call.endpoint.get().map(AsRef::as_ref);
        self.app.meter.count(endpoint, response.status(), took);
        let applied = self.app.raft.view().index();
        let headers = response.headers_mut();
        add_standing(headers, &standing, applied);
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

/// Why the listener refuses.
pub(super) fn refusal(refused: Refused) -> Problem {
    let overloaded = |detail: String, setting: &str, limit: usize| {
        let problem = Problem::new(Code::Overloaded, detail);
        problem.with("limit", limit).with("setting", setting)
    };
    match refused {
        Refused::Connections(max) => {
            let detail = format!("there are as many connections as connections_max allows, {max}");
            overloaded(detail, "connections_max", max)
        }
        Refused::Address(address, max) => {
            let detail = format!(
                "{address} has as many connections as connections_per_address_max allows, {max}"
            );
            overloaded(detail, "connections_per_address_max", max)
        }
        Refused::Head(status) => match status {
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                let detail =
                    "the head has more bytes than head_bytes_max or more headers than headers_max";
                Problem::new(Code::HeadTooLarge, detail)
            }
            StatusCode::URI_TOO_LONG => {
                let detail = "path and query have more bytes than uri_bytes_max";
                Problem::new(Code::UriTooLong, detail)
            }
            _ => Problem::new(
                Code::MalformedRequest,
                "the head of the request is not HTTP/1.1",
            ),
        },
    }
}

/// A whole answer as it is sent.
pub(super) fn wire_bytes(response: Response) -> Bytes {
    let (head, body) = response.into_parts();
    let body = body.collect().now_or_never();
    let body = body
        .expect("a problem is in memory")
        .map(http_body_util::Collected::to_bytes);
    let body = body.unwrap_or_default();
    let mut bytes = BytesMut::new();
    let mut put = |piece: &[u8]| bytes.extend_from_slice(piece);
    put(b"HTTP/1.1 ");
    put(head.status.as_str().as_bytes());
    put(b" ");
    put(head
        .status
        .canonical_reason()
        .unwrap_or_default()
        .as_bytes());
    put(b"\r\n");
    for (name, value) in &head.headers {
        put(name.as_str().as_bytes());
        put(b": ");
        put(value.as_bytes());
        put(b"\r\n");
    }
    put(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    put(&body);
    bytes.freeze()
}

fn raft_json(standing: &Standing, applied: u64) -> Value {
    json!({
        "node": standing.node,
        "leader": standing.leader.as_ref().map(|(id, _)| id),
        "term": standing.term.to_string(),
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
fn add_standing(headers: &mut HeaderMap, standing: &Standing, applied: u64) {
    headers.insert(NODE, standing.node.into());
    headers.insert(ROLE, HeaderValue::from_static(role_name(standing.role)));
    if headers.contains_key(SERVED_BY) {
        return;
    }
    headers.insert(SERVED_BY, standing.node.into());
    if let Some((id, url)) = &standing.leader {
        headers.insert(LEADER, (*id).into());
        if let Ok(url) = HeaderValue::from_str(url) {
            headers.insert(LEADER_URL, url);
        }
    }
    headers.insert(TERM, standing.term.into());
    // A write's own index is applied here, whatever the view says a moment later.
    let own = headers
        .get(INDEX)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let applied = own.unwrap_or(0).max(applied);
    headers.insert(APPLIED, applied.into());
    headers.insert(
        COMMITTED,
        standing.committed_index.unwrap_or(0).max(applied).into(),
    );
}

/// Makes ids of requests: a random start for each process, then a count.
#[derive(Debug)]
pub(super) struct RequestIds {
    process: String,
    count: AtomicU64,
}

impl RequestIds {
    /// Another start.
    pub(super) fn new() -> RequestIds {
        let random = uuid::Uuid::new_v4().simple().to_string();
        RequestIds {
            process: random[..12].to_owned(),
            count: AtomicU64::new(0),
        }
    }

    /// The client's id if it is short and printable, else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> String {
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
    use super::*;

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
