//! A node that starts: it lives, it is not ready, and it says what it waits for.
//!
//! Most starts are a matter of moments, so a request that comes in the first of them just waits. Some take long: a disk without room,
//! or a state that has to come from a peer. Whoever watches this node must not take it for dead then, because another start would wait
//! for the same.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Body as HttpBody;
use serde_json::json;
use tokio::sync::{SetOnce, watch};
use tokio::time::{Instant, timeout_at};

use super::edge::{Edge, NODE, REQUEST_ID, RequestIds, refusal, wire_bytes};
use super::error::{Code, Frame, Problem};
use super::listener::Refused;
use super::{Limits, body, probes};

/// How long after its start a node lets requests wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers clients from the moment a node listens: for itself at first, then by the [`Edge`] of the node.
pub struct Front {
    edge: SetOnce<Edge>,
    node: u64,
    /// What the start waits for.
    stage: watch::Receiver<&'static str>,
    since: Instant,
    limits: Arc<Limits>,
    ids: RequestIds,
}

impl Front {
    /// For node `node`, whose start tells by `stage` what it waits for.
    pub fn new(node: u64, stage: watch::Receiver<&'static str>, limits: Arc<Limits>) -> Front {
        Front {
            edge: SetOnce::new(),
            node,
            stage,
            since: Instant::now(),
            limits,
            ids: RequestIds::new(),
        }
    }

    /// Has `edge` answer from now on: the node has started. Once.
    pub fn open(&self, edge: Edge) {
        assert!(self.edge.set(edge).is_ok(), "a node starts once");
    }

    /// As of [`Edge::measure_lag`], once there is an edge.
    pub async fn measure_lag(&self) -> Infallible {
        self.edge.wait().await.measure_lag().await
    }

    /// Answers one request.
    pub async fn answer<B>(&self, request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes>,
        B::Error: std::fmt::Display,
    {
        if let Some(edge) = self.edge.get() {
            return edge.answer(request).await;
        }
        if let Some(answer) = self.probe(&request) {
            return self.mark(answer, &self.ids.of(request.headers()));
        }
        match timeout_at(self.since + PATIENCE, self.edge.wait()).await {
            Ok(edge) => edge.answer(request).await,
            Err(_) => {
                let (head, body) = request.into_parts();
                body::discard(body, &self.limits).await;
                let is_safe = [Method::GET, Method::HEAD].contains(&head.method);
                let detail = format!("this node is starting: {}", *self.stage.borrow());
                let problem = Problem::new(Code::NotReady, detail);
                self.refused(&problem, &head.headers, (head.uri.path(), is_safe))
            }
        }
    }

    /// The bytes of an answer to what the listener refuses.
    pub fn refuse(&self, refused: Refused) -> Bytes {
        match self.edge.get() {
            Some(edge) => edge.refuse(refused),
            None => wire_bytes(self.refused(&refusal(refused), &HeaderMap::new(), ("/", true))),
        }
    }

    /// The answer to a probe, if it is one.
    fn probe(&self, request: &Request<impl HttpBody>) -> Option<Response> {
        let is_probe = [Method::GET, Method::HEAD].contains(request.method());
        let answer = match request.uri().path() {
            "/livez" if is_probe => probes::lines(&[("core", None)]),
            "/readyz" if is_probe => {
                let waits = self.stage.borrow().to_string();
                probes::lines(&[("core", None), ("started", Some(waits))])
            }
            _ => return None,
        };
        Some(answer.into_response())
    }

    fn refused(
        &self,
        problem: &Problem,
        headers: &HeaderMap,
        (path, safe): (&str, bool),
    ) -> Response {
        let id = self.ids.of(headers);
        let answer = problem.render(&Frame {
            instance: path,
            request_id: &id,
            safe,
            // Nothing was done, so it may be sent again whatever it is.
            retry_safe: true,
            raft: json!({"node": self.node, "leader": null, "term": "0", "index": "0"}),
        });
        self.mark(answer, &id)
    }

    fn mark(&self, mut answer: Response, id: &str) -> Response {
        let headers = answer.headers_mut();
        headers.insert(NODE, self.node.into());
        headers.insert(
            REQUEST_ID,
            HeaderValue::from_str(id).expect("checked or made as visible ASCII"),
        );
        answer
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::FutureExt;
    use http_body_util::BodyExt;
    use tokio::time::timeout;

    use super::*;

    async fn ask(front: &Front, method: Method, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path);
        let answer = front.answer(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.headers()[NODE], "7");
        assert!(answer.headers().contains_key(REQUEST_ID));
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_node_that_starts_lives_and_says_what_it_waits_for() {
        let (stage, follow) = watch::channel("it waits for a disk");
        let mut front = Front::new(7, follow, Arc::default());
        assert_eq!(
            ask(&front, Method::GET, "/livez").await,
            (200, "[+]core ok\n".to_owned())
        );
        let lines = "[+]core ok\n[-]started it waits for a disk\n".to_owned();
        assert_eq!(ask(&front, Method::GET, "/readyz").await, (503, lines));
        let asked = ask(&front, Method::POST, "/v1/transfers").now_or_never();
        assert!(asked.is_none(), "it may have started in a moment");
        stage.send_replace("it waits for a peer");
        front.since -= PATIENCE * 2;
        let asked = timeout(PATIENCE / 2, ask(&front, Method::POST, "/v1/transfers"));
        let (status, text) = asked.await.expect("nobody waits any more");
        assert_eq!(status, 503, "{text}");
        let problem: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(problem["code"], "not_ready");
        assert_eq!(problem["outcome"], "not_applied");
        assert_eq!(problem["retryable"], true);
        assert_eq!(
            problem["detail"],
            "this node is starting: it waits for a peer"
        );
    }
}
