//! What one attempt proved, taken by itself.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode, header};

use super::ask::{Ask, Repeat};
use super::error::Problem;
use super::pool::SendError;

/// A header that every answer of a node has: without it, a success is the word of something in between.
pub(super) const OF_A_NODE: &str = "quorate-served-by";

/// What one attempt proved of the change it asked for.
#[derive(Clone, Debug)]
pub(super) enum Attempt {
    /// It is done.
    Done(Response<Bytes>),
    /// This attempt did nothing, and the same request never will.
    Refused(Problem),
    /// This attempt did nothing and will do nothing; another one may.
    NotNow(NotNow),
    /// It may have been applied, or may still be.
    Doubtful {
        /// What happened.
        why: String,
        /// Where a node says one can see what became of it.
        check: Option<String>,
        /// How long the node asks to be left alone.
        rest: Option<Duration>,
    },
}

/// Why an attempt did nothing.
#[derive(Clone, Debug)]
pub(super) struct NotNow {
    /// For people.
    pub(super) why: String,
    /// What the node said, if one answered.
    pub(super) problem: Option<Problem>,
    /// How long the node asks to be left alone.
    pub(super) rest: Option<Duration>,
}

/// Judges the answer to `ask`, or the lack of one.
pub(super) fn judge(ask: &Ask, sent: Result<Response<Bytes>, SendError>) -> Attempt {
    let response = match sent {
        Ok(response) => response,
        Err(SendError::NotSent(why)) => return not_now(why, None, None),
        Err(SendError::NoAnswer(why)) => return doubtful(ask, why, None, None),
    };
    let status = response.status();
    let rest = retry_after(&response);
    if status.is_success() || status == StatusCode::NOT_MODIFIED {
        if response.headers().contains_key(OF_A_NODE) {
            return Attempt::Done(response);
        }
        return doubtful(ask, format!("HTTP {status}, but not of a node"), None, rest);
    }
    let Some(problem) = problem(&response) else {
        // Not from a node: something in between answered, and what it did with the request nobody knows.
        return doubtful(ask, format!("HTTP {status} and no problem"), None, rest);
    };
    match (&*problem.outcome, is_passing(&problem)) {
        ("not_applied", true) => not_now(problem.to_string(), Some(problem), rest),
        ("not_applied", false) => Attempt::Refused(problem),
        _ => doubtful(ask, problem.to_string(), problem.check, rest),
    }
}

/// Whether the reason passes by itself, so that asking again makes sense.
fn is_passing(problem: &Problem) -> bool {
    problem.retryable || problem.status == 421 || problem.status >= 500
}

fn problem(response: &Response<Bytes>) -> Option<Problem> {
    let mut problem: Problem = serde_json::from_slice(response.body()).ok()?;
    problem.status = response.status().as_u16();
    Some(problem)
}

fn retry_after(response: &Response<Bytes>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?;
    let seconds: u32 = value.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

fn not_now(why: String, problem: Option<Problem>, rest: Option<Duration>) -> Attempt {
    Attempt::NotNow(NotNow { why, problem, rest })
}

/// A write is in doubt; a read that was lost on the way changed nothing.
fn doubtful(ask: &Ask, why: String, check: Option<String>, rest: Option<Duration>) -> Attempt {
    match ask.repeat() {
        Repeat::Read => not_now(why, None, rest),
        Repeat::ById | Repeat::ByKey(_) | Repeat::Never => Attempt::Doubtful { why, check, rest },
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An answer of a node with this outcome.
    pub(in crate::client) fn refusal(
        status: u16,
        code: &str,
        outcome: &str,
        index: Option<&str>,
    ) -> Response<Bytes> {
        let body = serde_json::json!({
            "status": status, "code": code, "detail": "x", "outcome": outcome,
            "retryable": matches!(status, 408 | 429 | 500..), "index": index,
        });
        Response::builder()
            .status(status)
            .header("retry-after", "2")
            .body(body.to_string().into())
            .unwrap()
    }

    fn write() -> Ask {
        Ask::post("/v1/transfers", &(), Repeat::ById)
    }

    #[test]
    fn an_answer_is_judged_by_its_outcome() {
        let judged = |status, outcome| judge(&write(), Ok(refusal(status, "x", outcome, None)));
        assert!(matches!(judged(422, "not_applied"), Attempt::Refused(_)));
        for busy in [408, 421, 429, 500, 503, 504] {
            let Attempt::NotNow(why) = judged(busy, "not_applied") else {
                panic!("{busy}")
            };
            assert_eq!(why.rest, Some(Duration::from_secs(2)));
            assert_eq!(why.problem.unwrap().status, busy);
        }
        for doubtful in [408, 422, 500, 503, 504] {
            for outcome in ["unknown", "", "something new"] {
                let judged = judged(doubtful, outcome);
                assert!(matches!(judged, Attempt::Doubtful { .. }), "{doubtful}");
            }
        }
    }

    #[test]
    fn a_write_without_a_nodes_word_is_doubtful_and_a_read_is_not() {
        let lost = || Err(SendError::NoAnswer("cut".into()));
        let strange = || {
            let page = Bytes::from_static(b"<h1>Bad Gateway</h1>");
            Ok(Response::builder().status(502).body(page).unwrap())
        };
        let stranger = || {
            let page = Bytes::from_static(b"<h1>Welcome</h1>");
            Ok(Response::builder().status(200).body(page).unwrap())
        };
        for sent in [lost, strange, stranger] {
            assert!(matches!(judge(&write(), sent()), Attempt::Doubtful { .. }));
            let read = Ask::get("/v1/kv/a");
            assert!(matches!(judge(&read, sent()), Attempt::NotNow(_)));
        }
        let unsent = Err(SendError::NotSent("refused".into()));
        assert!(matches!(judge(&write(), unsent), Attempt::NotNow(_)));
    }
}
