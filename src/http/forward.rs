//! Requests that only the leader can serve go there: one hop, and never twice if twice could do harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response as HttpResponse, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::Full;

use super::call::{Call, FORWARDED_HEADER, TIMEOUT_HEADER};
use super::edge::{Edge, REQUEST_ID};
use super::error::{ApiError, Code, Outcome, Problem, is_verdict};
use crate::client::{Pool, SendError, authority};
use crate::raft::Member;

/// Most attempts for one request: enough for a leader that stops and the one after it.
const ATTEMPTS: u32 = 3;
/// Pause before another attempt.
const PAUSE: Duration = Duration::from_millis(50);
/// What a forwarding node keeps of the time that is left, so that the leader's verdict arrives before the deadline.
const RESERVE: Duration = Duration::from_millis(20);

/// Headers that belong to one connection, and those set anew for each.
const HOP_HEADERS: [HeaderName; 8] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::HOST,
    header::CONTENT_LENGTH,
    header::EXPECT,
];

/// Serves requests here or at the leader.
#[derive(Debug, Default)]
pub(super) struct Forwarder {
    pool: Pool,
}

impl Forwarder {
    /// Has the request served by this node's handler, or by the leader if that says so.
    ///
    /// The outcome is the weakest over all attempts: once one may have been applied, only a verdict of the replicated state
    /// settles it, because an attempt that was merely refused says nothing about the one before.
    pub(super) async fn serve(&self, edge: &Edge, call: &Arc<Call>) -> Result<Response, ApiError> {
        let mut doubt: Option<String> = None;
        let mut refused = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE * attempt).await;
            }
            let leader = match edge.route(call).await {
                Err(ApiError::NotLeader(leader)) => leader,
                Err(ApiError::Problem(problem)) => return Err(settle(*problem, doubt).into()),
                Ok(response) => return Ok(response),
            };
            if call.is_forwarded() {
                let detail = "the request was forwarded here, and this node does not lead";
                return Err(ApiError::new(Code::NoLeader, detail));
            }
            let Some(leader) = leader else {
                let detail = "no leader is known here that a majority answers";
                return Err(settle(Problem::new(Code::NoLeader, detail), doubt).into());
            };
            match self.send(call, &leader).await {
                Ok(response) if doubt.is_some() && !is_verdict(response.status()) => {
                    return Err(settle(Problem::new(Code::NoLeader, ""), doubt).into());
                }
                Ok(response) => return Ok(response.map(Body::from)),
                Err(SendError::NotSent(why)) => refused = Some(why),
                // A read that was lost on the way changed nothing.
                Err(SendError::NoAnswer(why)) if call.is_safe() => refused = Some(why),
                Err(SendError::NoAnswer(why)) => {
                    doubt = Some(format!("node {} was asked: {why}", leader.0));
                    if !call.is_retry_safe() {
                        break;
                    }
                }
            }
            if deadline(call) <= Instant::now() + PAUSE * (attempt + 1) {
                break;
            }
        }
        let detail = format!(
            "the leader cannot be reached: {}",
            refused.unwrap_or_default()
        );
        Err(settle(Problem::new(Code::NoLeader, detail), doubt).into())
    }

    async fn send(
        &self,
        call: &Call,
        leader: &(u64, Member),
    ) -> Result<HttpResponse<Bytes>, SendError> {
        let address = authority(&leader.1.client_url).map_err(SendError::NotSent)?;
        let deadline = deadline(call);
        let response = self
            .pool
            .send(&address, request(call, deadline), deadline)
            .await?;
        let (mut head, body) = response.into_parts();
        for name in HOP_HEADERS.iter().chain([&header::DATE]) {
            head.headers.remove(name);
        }
        Ok(HttpResponse::from_parts(head, body))
    }
}

/// The weakest outcome of all attempts.
fn settle(problem: Problem, doubt: Option<String>) -> Problem {
    let Some(doubt) = doubt else {
        return problem;
    };
    if problem.outcome == Outcome::Unknown || is_verdict(problem.code.status()) {
        return problem;
    }
    Problem::new(Code::CommitTimeout, doubt)
}

/// Deadline of a request; its handler refuses what is wrong with the rest of its parameters.
pub(super) fn deadline(call: &Call) -> Instant {
    call.deadline(&mut call.params(&["timeout"]))
}

fn request(call: &Call, deadline: Instant) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = call.method.clone();
    let target = call
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    *request.uri_mut() = target
        .parse()
        .expect("it was the target of a request before");
    *request.headers_mut() = call.headers.clone();
    let headers = request.headers_mut();
    for name in &HOP_HEADERS {
        headers.remove(name);
    }
    let left = deadline
        .saturating_duration_since(Instant::now())
        .saturating_sub(RESERVE);
    let left = format!("{}ms", left.as_millis().max(1));
    headers.insert(
        HeaderName::from_static(TIMEOUT_HEADER),
        HeaderValue::from_str(&left).expect("digits and letters are visible ASCII"),
    );
    headers.insert(
        HeaderName::from_static(FORWARDED_HEADER),
        HeaderValue::from_static("1"),
    );
    let id = HeaderValue::from_str(&call.request_id).expect("checked or made as visible ASCII");
    headers.insert(REQUEST_ID, id);
    request
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::super::call::tests::call;
    use super::*;

    #[test]
    fn a_forwarded_request_keeps_its_content_and_says_how_long_is_left() {
        let headers = [
            ("connection", "keep-alive"),
            ("host", "elsewhere"),
            ("if-match", "\"4.0\""),
            ("quorate-timeout", "40s"),
        ];
        let call = call(Method::PUT, "/v1/kv/a%2Fb?timeout=2s", &headers, "value");
        let sent = request(&call, deadline(&call));
        assert_eq!(sent.uri(), "/v1/kv/a%2Fb?timeout=2s");
        assert_eq!(sent.headers()["if-match"], "\"4.0\"");
        assert_eq!(sent.headers()[FORWARDED_HEADER], "1");
        assert!(!sent.headers().contains_key("connection"));
        assert!(!sent.headers().contains_key("host"));
        let left = sent.headers()[TIMEOUT_HEADER].to_str().unwrap();
        let left = super::super::parse_duration(left).unwrap();
        assert!(
            left > Duration::from_secs(1) && left < Duration::from_secs(2),
            "{left:?}"
        );
    }

    #[test]
    fn once_in_doubt_only_a_verdict_of_the_state_settles_it() {
        let doubt = || Some("node 1 was asked".to_owned());
        for code in Code::ALL {
            let settled = settle(Problem::new(*code, "x"), doubt());
            let busy = matches!(code.status().as_u16(), 408 | 429);
            let verdict = code.status().is_client_error() && !busy;
            assert_eq!(settled.outcome == Outcome::NotApplied, verdict, "{code:?}");
            let certain = settle(Problem::new(*code, "x"), None);
            assert_eq!(certain.code, *code);
        }
    }
}
