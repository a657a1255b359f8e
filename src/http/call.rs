//! A request as handlers see it: head, body read whole, and its query, of which nothing is ever ignored.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Uri, header};
use bytes::Bytes;

use super::error::{ApiError, Code};
use super::limits::Limits;
use super::metrics::Endpoint;
use super::problems::{Place, Problems};
use crate::machine::id;
use crate::raft::ReadLevel;

/// Header form of `timeout`; the shorter of both counts, so that a forwarding node can pass on what is left.
pub(super) const TIMEOUT_HEADER: &str = "quorate-timeout";
/// Header form of `consistency`; the parameter wins.
pub(super) const CONSISTENCY_HEADER: &str = "quorate-consistency";
/// Set to `1` by a node that forwards: the receiver answers or fails, and never forwards again.
pub(super) const FORWARDED_HEADER: &str = "quorate-forwarded";

/// Parameters of every read.
pub(super) const READ_PARAMS: &[&str] = &["consistency", "timeout"];

/// Values of `consistency`, aliases included.
pub(super) const LEVELS: &[&str] = &[
    "leader",
    "linearizable",
    "lease",
    "follower",
    "follower-stale",
    "stale",
];

/// A request, its body in memory. Shared by the edge, which may forward it, and the handler.
#[derive(Debug)]
pub(super) struct Call {
    /// Method.
    pub(super) method: Method,
    /// Path and query, as they came.
    pub(super) uri: Uri,
    /// Headers.
    pub(super) headers: HeaderMap,
    /// The whole body.
    pub(super) body: Bytes,
    /// Id in logs and answers: the client's, or made here.
    pub(super) request_id: String,
    /// When its head had been read.
    pub(super) received: Instant,
    /// What bounds it.
    pub(super) limits: Arc<Limits>,
    /// The other end of its connection.
    pub(super) remote: Option<SocketAddr>,
    /// What counts it, once the router has found its endpoint.
    pub(super) endpoint: OnceLock<Arc<Endpoint>>,
}

impl Call {
    /// It asks for no change.
    pub(super) fn is_safe(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// It is refused while there is too much to do: writes are. Who looks after the cluster is not.
    pub(super) fn is_shed(&self) -> bool {
        !self.is_safe() && !self.is_of_cluster()
    }

    /// It is about the cluster, not about what is in it.
    pub(super) fn is_of_cluster(&self) -> bool {
        self.uri.path().starts_with("/v1/cluster")
    }

    /// Asking twice has the effect of asking once: reads, creates, which carry an id that is unique for ever, and what comes with
    /// an idempotency key, and changes of the cluster but moves of the leadership. Another write to a key is not: sent again, it may
    /// undo what another client wrote in between.
    pub(super) fn is_retry_safe(&self) -> bool {
        self.is_safe()
            || self.has_idempotency_key()
            || (self.method == Method::POST || self.is_of_cluster()) && !self.is_move()
    }

    /// It moves the leadership: by the time of a second attempt, another move may have been asked for.
    fn is_move(&self) -> bool {
        self.uri.path() == "/v1/cluster/leader/transfer"
    }

    /// The state remembers its refusal: asked again, it is refused again, whatever changed meanwhile.
    pub(super) fn stays_refused(&self) -> bool {
        let single = self.method == Method::POST && self.uri.path() == "/v1/transfers";
        single || self.has_idempotency_key()
    }

    /// Another node forwarded it.
    pub(super) fn is_forwarded(&self) -> bool {
        self.headers
            .get(FORWARDED_HEADER)
            .is_some_and(|value| value == "1")
    }

    /// The query, refusing whatever is not in `allowed`.
    pub(super) fn params(&self, allowed: &[&str]) -> Params<'_> {
        Params::parse(self.uri.query().unwrap_or(""), allowed)
    }

    /// Deadline: `timeout` of the query or the header, whichever is shorter.
    pub(super) fn deadline(&self, params: &mut Params<'_>) -> Instant {
        let mut timeout = None;
        if let Some(text) = params.get("timeout") {
            let place = Place::Parameter("timeout".to_owned());
            timeout = self.checked_timeout(&text, place, &mut params.problems);
        }
        if let Some(text) = self.header(TIMEOUT_HEADER, &mut params.problems) {
            let place = Place::Header("Quorate-Timeout");
            let given = self.checked_timeout(text, place, &mut params.problems);
            timeout = timeout.into_iter().chain(given).min();
        }
        self.received + timeout.unwrap_or(self.limits.timeout_default)
    }

    fn checked_timeout(
        &self,
        text: &str,
        place: Place,
        problems: &mut Problems,
    ) -> Option<Duration> {
        let max = self.limits.timeout_max;
        let parsed = parse_duration(text);
        let detail = match parsed {
            Some(timeout) if !timeout.is_zero() && timeout <= max => return parsed,
            Some(timeout) if timeout > max => {
                format!(
                    "{text:?} is longer than timeout_max, {} ms",
                    max.as_millis()
                )
            }
            _ => format!("{text:?} is not a duration above zero, such as 500ms or 5s"),
        };
        problems.add(place, Code::InvalidValue, detail);
        None
    }

    /// Read level: `consistency` of the query, else of the header, else `leader`. A header that makes no sense is a problem even
    /// where the parameter wins.
    pub(super) fn level(&self, params: &mut Params<'_>) -> ReadLevel {
        let mut level = None;
        if let Some(text) = params.get("consistency") {
            let place = Place::Parameter("consistency".to_owned());
            level = checked_level(&text, place, &mut params.problems);
        }
        if let Some(text) = self.header(CONSISTENCY_HEADER, &mut params.problems) {
            let place = Place::Header("Quorate-Consistency");
            level = level.or(checked_level(text, place, &mut params.problems));
        }
        level.unwrap_or(ReadLevel::Leader)
    }

    /// Refuses a body that is not declared as JSON. A missing declaration is refused too: browsers let any page send such a
    /// request without asking.
    pub(super) fn expect_json(&self) -> Result<(), ApiError> {
        let declared = self
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let essence = declared
            .and_then(|text| text.split(';').next())
            .map(str::trim);
        if essence.is_some_and(|text| text.eq_ignore_ascii_case("application/json")) {
            return Ok(());
        }
        let detail = match declared {
            Some(text) => format!("Content-Type is {text:?}, not \"application/json\""),
            None => "Content-Type is missing: send \"application/json\"".to_owned(),
        };
        Err(ApiError::new(Code::UnsupportedMediaType, detail))
    }

    /// What stands in the path after `prefix`, decoded.
    pub(super) fn path_tail(&self, prefix: &str) -> Result<Cow<'_, str>, ApiError> {
        let raw = self.uri.path().strip_prefix(prefix).unwrap_or("");
        decode(raw, Plus::Literal)
            .map_err(|detail| ApiError::new(Code::InvalidValue, format!("the path {detail}")))
    }

    /// The id in the path after `prefix`, up to the next slash, checked against the grammar of ids.
    pub(super) fn path_id(&self, prefix: &str) -> Result<Cow<'_, str>, ApiError> {
        let raw = self.uri.path().strip_prefix(prefix).unwrap_or("");
        let raw = raw.split('/').next().unwrap_or("");
        let mut problems = Problems::default();
        let place = Place::Parameter("id".to_owned());
        match decode(raw, Plus::Literal) {
            Ok(text) if id::is_valid(&text) => return Ok(text),
            Ok(text) => problems.add(place, Code::InvalidValue, format!("{text:?} is not an id")),
            Err(detail) => problems.add(place, Code::InvalidValue, format!("the id {detail}")),
        }
        problems.finish()?;
        unreachable!("a problem was added above")
    }

    /// The one value of a header; given twice or not ASCII, it is a problem.
    pub(super) fn header(&self, name: &'static str, problems: &mut Problems) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        if values.next().is_some() {
            problems.add(
                Place::Header(name),
                Code::InvalidValue,
                format!("{name} is given twice"),
            );
        }
        let text = value.to_str().ok();
        if text.is_none() {
            problems.add(
                Place::Header(name),
                Code::InvalidValue,
                format!("{name} is not ASCII"),
            );
        }
        text
    }
}

/// The handler's end of a [`Call`]; the edge puts it into the request.
#[derive(Clone, Debug)]
pub(super) struct Input(pub(super) Arc<Call>);

impl<S: Sync> FromRequestParts<S> for Input {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Input, ApiError> {
        Ok(parts
            .extensions
            .get::<Input>()
            .expect("the edge puts it into every request")
            .clone())
    }
}

/// The parameters of a query, decoded; nothing unknown, nothing twice.
#[derive(Debug)]
pub(super) struct Params<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// What is wrong so far; readers add to it, the handler finishes it.
    pub(super) problems: Problems,
}

impl<'a> Params<'a> {
    fn parse(query: &'a str, allowed: &[&str]) -> Params<'a> {
        let mut params = Params {
            pairs: Vec::new(),
            problems: Problems::default(),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = match (decode(name, Plus::Space), decode(value, Plus::Space)) {
                (Ok(name), Ok(value)) => (name, value),
                (Err(detail), _) | (_, Err(detail)) => {
                    let place = Place::Parameter(name.to_owned());
                    let detail = format!("the parameter {detail}");
                    params.problems.add(place, Code::InvalidValue, detail);
                    continue;
                }
            };
            let place = || Place::Parameter(name.clone().into_owned());
            if !allowed.contains(&name.as_ref()) {
                let detail = match allowed {
                    [] => format!("no parameter {name:?}: this path takes none"),
                    _ => format!("no parameter {name:?}; there are {}", allowed.join(", ")),
                };
                params.problems.add(place(), Code::UnknownParameter, detail);
            } else if params.pairs.iter().any(|(known, _)| *known == name) {
                let detail = format!("{name:?} is given twice");
                params
                    .problems
                    .add(place(), Code::DuplicateParameter, detail);
            } else {
                params.pairs.push((name, value));
            }
        }
        params
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<Cow<'a, str>> {
        self.pairs
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    }

    /// A choice among `values`, if given; another is a problem with `code`.
    pub(super) fn choice<T>(
        &mut self,
        name: &str,
        code: Code,
        values: &'static [&'static str],
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.get(name)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            let place = Place::Parameter(name.to_owned());
            let detail = format!("{text:?} is none of {}", values.join(", "));
            self.problems.add_allowed(place, code, detail, values);
        }
        parsed
    }

    /// A number up to 2^32 - 1, if given.
    pub(super) fn number(&mut self, name: &str) -> Option<u32> {
        let text = self.get(name)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let parsed = text.parse().ok().filter(|_| digits);
        if parsed.is_none() {
            let detail = format!("{text:?} is not a number from 0 to {}", u32::MAX);
            let place = Place::Parameter(name.to_owned());
            self.problems.add(place, Code::InvalidValue, detail);
        }
        parsed
    }

    /// A log index, if given.
    pub(super) fn index(&mut self, name: &str) -> Option<u64> {
        let text = self.get(name)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let parsed = text.parse().ok().filter(|_| digits);
        if parsed.is_none() {
            let detail = format!("{text:?} is not a log index");
            let place = Place::Parameter(name.to_owned());
            self.problems.add(place, Code::InvalidValue, detail);
        }
        parsed
    }

    /// An id, if given; one that cannot be an id is a problem.
    pub(super) fn id(&mut self, name: &str) -> Option<Cow<'a, str>> {
        let text = self.get(name)?;
        if !id::is_valid(&text) {
            let place = Place::Parameter(name.to_owned());
            self.problems
                .add(place, Code::InvalidValue, format!("{text:?} is not an id"));
        }
        Some(text)
    }
}

/// Whether `+` stands for a space: in queries it does, in paths not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Space,
    Literal,
}

/// Undoes percent-encoding. `Err` completes the sentence "the ... ".
fn decode(raw: &str, plus: Plus) -> Result<Cow<'_, str>, String> {
    if !raw
        .bytes()
        .any(|b| b == b'%' || (b == b'+' && plus == Plus::Space))
    {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'%' => {
                let digit = |at: usize| tail.get(at).and_then(|b| char::from(*b).to_digit(16));
                let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                    return Err("has a % without two hex digits after it".to_owned());
                };
                out.push(u8::try_from(high * 16 + low).expect("two hex digits make a byte"));
                rest = &tail[2..];
            }
            b'+' if plus == Plus::Space => out.push(b' '),
            other => out.push(*other),
        }
    }
    String::from_utf8(out)
        .map(Cow::Owned)
        .map_err(|_| "is not UTF-8 once decoded".to_owned())
}

fn checked_level(text: &str, place: Place, problems: &mut Problems) -> Option<ReadLevel> {
    let level = parse_level(text);
    if level.is_none() {
        let detail = format!("no consistency level is called {text:?}");
        problems.add_allowed(place, Code::InvalidValue, detail, LEVELS);
    }
    level
}

fn parse_level(text: &str) -> Option<ReadLevel> {
    match text {
        "leader" | "linearizable" => Some(ReadLevel::Leader),
        "lease" => Some(ReadLevel::Lease),
        "follower" | "follower-stale" | "stale" => Some(ReadLevel::Follower),
        _ => None,
    }
}

/// The name of a level in answers: never an alias.
pub(super) fn level_name(level: ReadLevel) -> &'static str {
    match level {
        ReadLevel::Leader => "leader",
        ReadLevel::Lease => "lease",
        ReadLevel::Follower => "follower",
    }
}

/// A duration such as `500ms`, `5s`, `2m`, `1h`: digits and a unit, nothing else.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
#[path = "call_tests.rs"]
pub(super) mod tests;
