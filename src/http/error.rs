//! Problems: every answer that is not a success, as `application/problem+json` (RFC 9457).
//!
//! A handler returns [`ApiError`]; the edge renders it, because only the edge knows the request id and what this node knows of
//! its cluster. Two promises hold for every problem: `code` is stable, and `outcome` says what the caller may assume about the
//! change that was asked for.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::answer::{Answer, INDEX, REPLAYED};
pub(super) use super::code::{Code, Outcome};
use super::problems::Invalid;
use super::time::rfc3339;
use crate::machine::{Fault, Rejection, Reply, TransferResult, once, reply::fields};
use crate::raft::{InitError, Member, MemberError, ReadError, TransferError, WriteError, Written};

/// A problem before it is rendered.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// The stable code.
    pub(super) code: Code,
    /// One sentence about this occurrence.
    pub(super) detail: String,
    /// What may be assumed.
    pub(super) outcome: Outcome,
    /// Members of this problem alone, such as `fields` or `current`.
    pub(super) extra: Map<String, Value>,
    /// Everything wrong with the request.
    pub(super) errors: Vec<Invalid>,
    /// Headers of this problem alone, such as `Allow`.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem with the outcome its code implies.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem {
            code,
            detail: detail.into(),
            outcome: code.outcome(),
            extra: Map::new(),
            errors: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// Adds a member.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Adds the log index at which it was so.
    pub(super) fn at(self, index: u64) -> Problem {
        self.with("index", index.to_string())
            .header(INDEX, index.into())
    }

    /// Adds a header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Problem {
        self.headers.push((name, value));
        self
    }

    /// The answer. `frame` is what only the edge knows.
    pub(super) fn render(&self, frame: &Frame<'_>) -> Response {
        let code = self.code;
        // A read changes nothing, whatever became of it.
        let outcome = if frame.safe {
            Outcome::NotApplied
        } else {
            self.outcome
        };
        let mut body = json!({
            "type": format!("/errors/{}", code.name()),
            "title": code.title(),
            "status": code.status().as_u16(),
            "code": code.name(),
            "detail": self.detail,
            "instance": frame.instance,
            "outcome": outcome.name(),
            "retryable": code.retryable() && (outcome == Outcome::NotApplied || frame.retry_safe),
            "request_id": frame.request_id,
            "raft": frame.raft,
        });
        let members = body.as_object_mut().expect("made as an object above");
        members.extend(self.extra.clone());
        if !self.errors.is_empty() {
            members.insert(
                "errors".to_owned(),
                self.errors.iter().map(Invalid::json).collect(),
            );
        }
        let mut response = (code.status(), body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.code.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        response
    }
}

/// What the edge adds to a problem.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    /// Path of the request.
    pub(super) instance: &'a str,
    /// Its id.
    pub(super) request_id: &'a str,
    /// The method asks for no change.
    pub(super) safe: bool,
    /// Asking again cannot do it twice.
    pub(super) retry_safe: bool,
    /// Node, leader, term, index as this node sees them.
    pub(super) raft: Value,
}

/// Why a handler has no answer of its own.
#[derive(Clone, Debug)]
pub(super) enum ApiError {
    /// Tell the client.
    Problem(Box<Problem>),
    /// The leader has to do it: the edge forwards the request, if a leader is known.
    NotLeader(Option<(u64, Member)>),
}

impl ApiError {
    /// A problem with the outcome its code implies.
    pub(super) fn new(code: Code, detail: impl Into<String>) -> ApiError {
        ApiError::Problem(Box::new(Problem::new(code, detail)))
    }

    /// What a path names is not there: a fact at log index `index`.
    pub(super) fn absent(code: Code, id: &str, index: u64) -> ApiError {
        let detail = format!("{id:?} does not exist");
        Problem::new(code, detail)
            .with("index", index.to_string())
            .into()
    }

    /// What was just created is not there: this node is broken.
    pub(super) fn lost(what: &str) -> ApiError {
        Fault::new(format!("a {what} that was just created cannot be read")).into()
    }

    /// A reply that is no success: a refusal, which is a fact of the log like any other.
    ///
    /// # Panics
    /// If it is the reply to another kind of command.
    pub(super) fn refused(written: &Written) -> ApiError {
        match written.reply {
            Reply::Rejected(rejection) => rejected(rejection, written),
            // A single transfer is a batch of one.
            Reply::Transfers(ref results) => match results[..] {
                [TransferResult::Refused(rejection)] => rejected(rejection, written),
                _ => panic!("a batch is no refusal: {results:?}"),
            },
            ref other => panic!("the machine answered another command: {other:?}"),
        }
    }

    /// On an unknown outcome, adds where the caller can see what became of it.
    pub(super) fn check(mut self, url: impl FnOnce() -> String) -> ApiError {
        if let ApiError::Problem(problem) = &mut self
            && problem.outcome == Outcome::Unknown
        {
            problem.extra.insert("check".to_owned(), url().into());
        }
        self
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> ApiError {
        ApiError::Problem(Box::new(problem))
    }
}

/// The response carries the error to the edge, which renders it; its own status and body are never seen by a client.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Turns what the router itself refused into problems.
pub(super) fn check_routed(
    method: &Method,
    path: &str,
    response: Response,
) -> Result<Response, ApiError> {
    match response.status() {
        StatusCode::NOT_FOUND => Err(ApiError::new(
            Code::NotFound,
            format!("there is nothing at {path}"),
        )),
        StatusCode::METHOD_NOT_ALLOWED => {
            let allow = allowed(response.headers().get(header::ALLOW));
            if method == Method::OPTIONS {
                let mut answer = StatusCode::NO_CONTENT.into_response();
                answer.headers_mut().insert(header::ALLOW, allow);
                return Ok(answer);
            }
            let detail = format!("{method} is not for {path}");
            Err(Problem::new(Code::MethodNotAllowed, detail)
                .header(header::ALLOW, allow)
                .into())
        }
        _ => Ok(response),
    }
}

/// The methods of a path: those the router found, and the question which there are.
fn allowed(found: Option<&HeaderValue>) -> HeaderValue {
    let found = found.and_then(|methods| methods.to_str().ok());
    let methods = found.map(|methods| format!("{methods},OPTIONS"));
    methods
        .and_then(|methods| HeaderValue::from_str(&methods).ok())
        .unwrap_or(HeaderValue::from_static("OPTIONS"))
}

/// Makes the answer of a probe say no.
pub(super) fn unhealthy(answer: Answer) -> Answer {
    answer.status(StatusCode::SERVICE_UNAVAILABLE)
}

/// What bounds the writes that wait for consensus, which says in words which of these was reached.
const QUEUE_SETTINGS: [&str; 3] = ["queue_commands_max", "queue_bytes_max", "queue_wait_max"];

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> ApiError {
        let detail = error.to_string();
        match error {
            WriteError::NotLeader(leader) => ApiError::NotLeader(leader),
            WriteError::Overloaded { limit } => {
                let problem = Problem::new(Code::Overloaded, detail);
                match QUEUE_SETTINGS.iter().find(|name| limit.contains(*name)) {
                    Some(setting) => problem.with("setting", *setting).into(),
                    // It would have waited longer than it had time.
                    None => problem.into(),
                }
            }
            WriteError::Expired => ApiError::new(Code::WriteTimeout, detail),
            WriteError::NotReady(_) => ApiError::new(Code::NotReady, detail),
            WriteError::TooLarge { len, max } => Problem::new(Code::BodyTooLarge, detail)
                .with("limit", max.to_string())
                .with("length", len.to_string())
                .into(),
            WriteError::NoRoom(_) => ApiError::new(Code::DiskFull, detail),
            WriteError::Unknown(_) => ApiError::new(Code::CommitTimeout, detail),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> ApiError {
        let detail = error.to_string();
        match error {
            ReadError::NotLeader(leader) => ApiError::NotLeader(leader),
            ReadError::Timeout => ApiError::new(Code::ReadTimeout, detail),
            ReadError::NotReady(_) => ApiError::new(Code::NotReady, detail),
        }
    }
}

impl From<InitError> for ApiError {
    fn from(error: InitError) -> ApiError {
        let code = match &error {
            InitError::AlreadyInitialized(_) => Code::AlreadyInitialized,
            InitError::PeerUnreachable(_) => Code::PeerUnreachable,
            InitError::PeerInOtherCluster(_) => Code::PeerInOtherCluster,
            InitError::Invalid(_) => Code::InvalidMembers,
            InitError::Failed(_) => Code::Internal,
        };
        ApiError::new(code, error.to_string())
    }
}

impl From<TransferError> for ApiError {
    fn from(error: TransferError) -> ApiError {
        let detail = error.to_string();
        let code = match error {
            TransferError::NotLeader(leader) => return ApiError::NotLeader(leader),
            TransferError::NoSuchMember(_) => Code::MemberNotFound,
            TransferError::NoVoter(_) => Code::NotAVoter,
            TransferError::NoHeir(_) => Code::NoHeir,
            TransferError::NotReady(_) => Code::NotReady,
            TransferError::Unknown(_) => Code::CommitTimeout,
        };
        ApiError::new(code, detail)
    }
}

impl From<MemberError> for ApiError {
    fn from(error: MemberError) -> ApiError {
        let detail = error.to_string();
        let code = match error {
            MemberError::NotLeader(leader) => return ApiError::NotLeader(leader),
            MemberError::NoSuchMember(_) => Code::MemberNotFound,
            MemberError::NoVoter(_) => Code::NotAVoter,
            MemberError::Exists(_) => Code::ExistsWithDifferentFields,
            MemberError::IdUsed(_) => Code::NodeIdUsed,
            MemberError::LastVoter(_) => Code::LastVoter,
            MemberError::InProgress(_) => Code::MembershipChangeInProgress,
            MemberError::NotCaughtUp(_) => Code::LearnerNotCaughtUp,
            MemberError::QuorumLost(_) => Code::QuorumWouldBeLost,
            MemberError::PeerUnreachable(_) => Code::PeerUnreachable,
            MemberError::PeerInOtherCluster(_) => Code::PeerInOtherCluster,
            MemberError::NoHeir(_) => Code::NoHeir,
            MemberError::NotReady(_) => Code::NotReady,
            MemberError::Unknown(_) => Code::CommitTimeout,
        };
        ApiError::new(code, detail)
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> ApiError {
        tracing::error!(%fault, "a read failed");
        // What failed is for the operator: the request id finds the line above in the log.
        ApiError::new(Code::Internal, "this node could not read its state")
    }
}

/// A refusal of a single command. In a batch a refusal is a result, not a problem.
impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Problem {
        let problem = Problem::new(code_of(&rejection), describe(&rejection));
        match rejection {
            Rejection::PreconditionFailed {
                current: Some(current),
            } => {
                let text = format!("{}.{}", current.index, current.command);
                let etag = HeaderValue::from_str(&format!("\"{text}\""))
                    .expect("digits, a dot and quotes are visible ASCII");
                problem.with("current", text).header(header::ETAG, etag)
            }
            Rejection::PreconditionFailed { current: None } => problem.with("current", Value::Null),
            Rejection::ExistsWithDifferentFields { fields: bits } => {
                problem.with("fields", fields::names(bits).collect::<Vec<_>>())
            }
            Rejection::ExceedsCredits { balance } | Rejection::ExceedsDebits { balance } => problem
                .with("debits_posted", balance.debits.to_string())
                .with("credits_posted", balance.credits.to_string()),
            Rejection::IdempotencyKeyReused { index, time_ns } => problem
                .with("first_used_index", index.to_string())
                .with("first_used_at", rfc3339(time_ns)),
            _ => problem,
        }
    }
}

/// A refusal that the machine gave with `written`.
fn rejected(rejection: Rejection, written: &Written) -> ApiError {
    let problem = Problem::from(rejection).at(written.index);
    let problem = match written.replayed {
        true => problem.header(REPLAYED, HeaderValue::from_static("true")),
        false => problem,
    };
    problem.into()
}

fn code_of(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::KeyNotFound => Code::KeyNotFound,
        Rejection::PreconditionFailed { .. } => Code::PreconditionFailed,
        Rejection::LedgerNotFound => Code::RefusedLedgerNotFound,
        Rejection::ExistsWithDifferentFields { .. } => Code::ExistsWithDifferentFields,
        Rejection::AmountMustNotBeZero => Code::AmountMustNotBeZero,
        Rejection::AccountsMustDiffer => Code::AccountsMustDiffer,
        Rejection::DebitAccountNotFound => Code::DebitAccountNotFound,
        Rejection::CreditAccountNotFound => Code::CreditAccountNotFound,
        Rejection::LedgerMismatch => Code::LedgerMismatch,
        Rejection::AmountOverflow => Code::AmountOverflow,
        Rejection::ExceedsCredits { .. } => Code::ExceedsCredits,
        Rejection::ExceedsDebits { .. } => Code::ExceedsDebits,
        Rejection::ChainOpen => Code::ChainOpen,
        Rejection::ChainFailed => Code::ChainFailed,
        Rejection::IdempotencyKeyReused { .. } => Code::IdempotencyKeyReused,
        Rejection::IdempotencyKeysFull => Code::IdempotencyKeysFull,
    }
}

/// A problem with a limit: how many items there are and how many there may be.
pub(super) fn too_many(what: &str, have: usize, max: usize, setting: &str) -> ApiError {
    Problem::new(
        Code::TooManyItems,
        format!("{have} {what}, {setting} is {max}"),
    )
    .with("limit", max)
    .with("setting", setting)
    .into()
}

/// One sentence about a refusal, for people.
pub(super) fn describe(rejection: &Rejection) -> String {
    match rejection {
        Rejection::PreconditionFailed { current: Some(at) } => {
            format!("the key was last written at {}.{}", at.index, at.command)
        }
        Rejection::PreconditionFailed { current: None } => "the key does not exist".to_owned(),
        Rejection::ExistsWithDifferentFields { fields: bits } => {
            let names: Vec<_> = fields::names(*bits).collect();
            format!("the id exists with another {}", names.join(", "))
        }
        Rejection::ExceedsCredits { balance } => format!(
            "the debit account has debits of {} and credits of {}: debits must not exceed credits",
            balance.debits, balance.credits
        ),
        Rejection::ExceedsDebits { balance } => format!(
            "the credit account has debits of {} and credits of {}: credits must not exceed debits",
            balance.debits, balance.credits
        ),
        Rejection::IdempotencyKeyReused { index, time_ns } => format!(
            "the key was first used at log index {index}, at {}, for another request; it is kept for at least {} hours",
            rfc3339(*time_ns),
            once::RETENTION_NS / 3_600_000_000_000
        ),
        Rejection::IdempotencyKeysFull => format!(
            "{} idempotency keys are held, and none has had its time yet; a write without a key is taken",
            once::KEYS_MAX
        ),
        _ => code_of(rejection).title().to_owned(),
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
