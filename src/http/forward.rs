//! Requests that only the leader can serve go there: one hop, and never twice if twice could do harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response as HttpResponse, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::Full;

use super::answer::INDEX;
use super::call::{Call, FORWARDED_HEADER, TIMEOUT_HEADER};
use super::edge::{Edge, REQUEST_ID, SERVED_BY};
use super::error::{ApiError, Code, Outcome, Problem};
use crate::client::{Content, Pool, SendError, authority};
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
    /// The outcome is the weakest over all attempts: once one may have been applied, only a success or a refusal that the replicated
    /// state remembers settles it, because an attempt that was merely refused says nothing about the one before.
    pub(super) async fn serve(&self, edge: &Edge, call: &Arc<Call>) -> Result<Response, ApiError> {
        let mut doubt: Option<String> = None;
        let mut refused = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE * attempt).await;
            }
            let leader = match edge.route(call).await {
                Err(ApiError::NotLeader(leader)) => leader,
                Err(ApiError::Problem(problem)) => return Err(settle(call, *problem, doubt).into()),
                Ok(response) => return Ok(response),
            };
            if call.is_forwarded() {
                let detail = "the request was forwarded here, and this node does not lead";
                return Err(ApiError::new(Code::NoLeader, detail));
            }
            let Some(leader) = leader else {
                let detail = "no leader is known here that a majority answers";
                return Err(settle(call, Problem::new(Code::NoLeader, detail), doubt).into());
            };
            match self.send(call, &leader).await {
                Ok(response) => match doubt {
                    Some(doubt) if !settles(call, &response) => return Err(unknown(doubt).into()),
                    _ => return Ok(response),
                },
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
        Err(settle(call, Problem::new(Code::NoLeader, detail), doubt).into())
    }

    async fn send(&self, call: &Call, leader: &(u64, Member)) -> Result<Response, SendError> {
        let address = authority(&leader.1.client_url).map_err(SendError::NotSent)?;
        let deadline = deadline(call);
        let response = self
            .pool
            .begin(&address, request(call, deadline), deadline, call.is_safe())
            .await?;
        let (mut head, body) = response.into_parts();
        if !head.headers.contains_key(SERVED_BY) {
            let what = format!("HTTP {}, but not of a node", head.status);
            return Err(SendError::NoAnswer(what));
        }
        for name in HOP_HEADERS.iter().chain([&header::DATE]) {
            head.headers.remove(name);
        }
        let body = match body {
            Content::Whole(bytes) => Body::from(bytes),
            // An export may be larger than memory, and take longer than a request may.
            Content::Stream(body) => Body::new(body),
        };
        Ok(Response::from_parts(head, body))
    }
}

/// The weakest outcome of all attempts.
fn settle(call: &Call, problem: Problem, doubt: Option<String>) -> Problem {
    let Some(doubt) = doubt else {
        return problem;
    };
    let is_fact = problem.extra.contains_key("index");
    if problem.outcome == Outcome::Unknown || is_proof(call, problem.code.status(), is_fact) {
        return problem;
    }
    unknown(doubt)
}

fn unknown(doubt: String) -> Problem {
    Problem::new(Code::CommitTimeout, doubt)
}

/// Whether the leader's answer after a doubtful attempt says what became of that.
fn settles<B>(call: &Call, response: &HttpResponse<B>) -> bool {
    let is_fact = response.headers().contains_key(INDEX);
    response.status().is_success() || is_proof(call, response.status(), is_fact)
}

/// Whether a refusal proves that an earlier attempt was not applied and, arriving late, will not be: if the state gave it, at a log
/// index, and remembers it. The word of a node alone does not, nor does a refusal that will not be there any more.
fn is_proof(call: &Call, status: StatusCode, is_fact: bool) -> bool {
    let is_final = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
    is_final && is_fact && call.stays_refused()
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

    fn asked(method: Method, target: &str, key: Option<&str>) -> Call {
        let key = key.map(|key| ("idempotency-key", key));
        call(method, target, key.as_slice(), "{}")
    }

    #[test]
    fn once_in_doubt_only_a_refusal_that_is_remembered_settles_it() {
        let doubt = || Some("node 1 was asked".to_owned());
        for (target, key, remembers) in [
            ("/v1/transfers", None, true),
            ("/v1/accounts", Some("k"), true),
            // The ledger it lacks may be there when the first attempt arrives.
            ("/v1/accounts", None, false),
            ("/v1/transfers/batch", None, false),
            ("/v1/cluster/members/4/promote", None, false),
        ] {
            let call = asked(Method::POST, target, key);
            for code in Code::ALL {
                let refused = code.status().is_client_error() && code.status() != 429;
                let fact = Problem::new(*code, "x").at(7);
                let settled = settle(&call, fact, doubt());
                let proof = refused && remembers;
                assert_eq!(settled.outcome == Outcome::NotApplied, proof, "{code:?}");
                // Not the word of a node alone, such as that another change is in progress, or of one with other limits.
                let word = settle(&call, Problem::new(*code, "x"), doubt());
                assert_eq!(word.outcome, Outcome::Unknown, "{code:?}");
                let certain = settle(&call, Problem::new(*code, "x"), None);
                assert_eq!(certain.code, *code);
            }
        }
    }

    #[test]
    fn once_in_doubt_a_leaders_answer_counts_only_if_it_proves_something() {
        let answer = |status: u16, index: bool| {
            let answer = HttpResponse::builder().status(status);
            let answer = match index {
                true => answer.header(INDEX, "7"),
                false => answer,
            };
            answer.body(Bytes::new()).unwrap()
        };
        let account = asked(Method::POST, "/v1/accounts", None);
        let transfer = asked(Method::POST, "/v1/transfers", None);
        assert!(settles(&account, &answer(201, true)));
        assert!(!settles(&account, &answer(422, true)));
        assert!(settles(&transfer, &answer(422, true)));
        for status in [400, 409, 413, 422, 429, 503] {
            assert!(!settles(&transfer, &answer(status, false)), "{status}");
        }
        assert!(!settles(&transfer, &answer(429, true)));
    }

    #[test]
    fn a_move_of_the_leadership_is_not_repeated() {
        let post = |target| asked(Method::POST, target, None);
        assert!(!post("/v1/cluster/leader/transfer").is_retry_safe());
        assert!(!post("/v1/cluster/leader/transfer?timeout=2s").is_retry_safe());
        assert!(post("/v1/cluster/members/4/promote").is_retry_safe());
        assert!(post("/v1/accounts").is_retry_safe());
    }
}
