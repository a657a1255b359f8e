//! `Idempotency-Key`: a write that is done once, and what is held under a key.
//!
//! A key is 1 to 255 printable ASCII bytes and stands for one request: the same method and path with the same query, the
//! same conditions and a body that means the same. `timeout` and `consistency` do not count, nor do spaces in JSON. Sent
//! again, the write is not done again: status, body and `Quorate-Index` are those of the first answer, made again from what
//! the machine answered then, with `Idempotency-Replayed: true`. In a problem only `request_id` and `raft` differ: they speak
//! of the one who answers. Another request under the key is refused with `idempotency_key_reused`.
//!
//! Answers of the replicated state are held, successes and refusals alike; whatever failed before it was proposed is not,
//! and may be sent again under its key. How long is decided by [`crate::machine::once`].

use std::time::Instant;

use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::Object;

use super::Shared;
use super::answer::{Answer, Indexed, Text, created_status};
use super::blocking;
use super::call::{Call, Input, Params, READ_PARAMS};
use super::doc::{Operation, schema};
use super::error::{ApiError, Code, describe};
use super::problems::{Place, Problems};
use super::routes::Routes;
use super::time::rfc3339;
use crate::machine::once::{KEY_LEN_MAX, RETENTION_NS, fingerprint, is_key};
use crate::machine::{Command, Once, Rejection, Reply, TransferResult};
use crate::raft::StoredAnswer;

/// Header of the key.
const HEADER: &str = "Idempotency-Key";
const KEYS: &str = "/v1/idempotency/";

pub(super) fn routes() -> Routes {
    let about = Operation::new(
        "getIdempotencyKey",
        "idempotency",
        "What is held under an idempotency key",
        "Whether a write that was sent with it was done, and what came of it. Nothing is held of a write that failed before it \
         was proposed.",
    );
    Routes::new().get(
        "/v1/idempotency/{*key}",
        show,
        about
            .reads()
            .path("key", "The key, percent-encoded.", key_schema())
            .answers::<Indexed<Held>>(200, "What is held.")
            .fails(&[Code::IdempotencyKeyNotFound]),
    )
}

/// An idempotency key.
pub(super) fn key_schema() -> Object {
    schema::pattern("^[ -~]{1,255}$")
}

fn hex() -> Object {
    schema::pattern("^[0-9a-f]+$")
}

/// How a write is to be done.
#[derive(Debug)]
pub(super) struct Terms<'c> {
    /// Until when.
    pub(super) deadline: Instant,
    route: &'static str,
    key: Option<&'c str>,
}

impl Terms<'_> {
    /// `command`, to be done once if the request has a key.
    pub(super) fn once<'a>(&'a self, command: Command<'a>) -> Command<'a> {
        match self.key {
            None => command,
            Some(key) => Command::Once(Once {
                key,
                fingerprint: fingerprint(self.route, &command),
                command: Box::new(command),
            }),
        }
    }
}

impl Call {
    /// The terms of a write without other parameters. `route` is its method and path, as documented.
    pub(super) fn terms(&self, route: &'static str) -> Result<Terms<'_>, ApiError> {
        let mut params = self.params(&["timeout"]);
        let terms = self.terms_with(route, &mut params);
        params.problems.finish()?;
        Ok(terms)
    }

    /// The terms of a write with parameters; what is wrong is noted there.
    pub(super) fn terms_with(&self, route: &'static str, params: &mut Params<'_>) -> Terms<'_> {
        Terms {
            deadline: self.deadline(params),
            route,
            key: self.idempotency_key(&mut params.problems),
        }
    }

    /// Whether it has a key that is one.
    pub(super) fn has_idempotency_key(&self) -> bool {
        let mut problems = Problems::default();
        self.idempotency_key(&mut problems).is_some() && problems.finish().is_ok()
    }

    fn idempotency_key(&self, problems: &mut Problems) -> Option<&str> {
        if !self.headers.contains_key(HEADER) {
            return None;
        }
        let key = self.header(HEADER, problems)?;
        if !is_key(key.as_bytes()) {
            let detail = format!(
                "{HEADER} must be 1 to {KEY_LEN_MAX} printable ASCII bytes, this one has {}",
                key.len()
            );
            problems.add(Place::Header(HEADER), Code::InvalidValue, detail);
            return None;
        }
        Some(key)
    }
}

/// What is held under a key.
#[derive(Debug, Serialize, ToSchema)]
struct Held {
    #[schema(schema_with = key_schema)]
    key: String,
    /// Log index of the write.
    #[schema(schema_with = schema::digits)]
    written_index: Text<u64>,
    /// Its log time.
    #[schema(schema_with = schema::time)]
    written_at: String,
    /// Until then the key is certainly held, in log time.
    #[schema(schema_with = schema::time)]
    held_until: String,
    /// Of the request, in hexadecimal digits.
    #[schema(schema_with = hex)]
    fingerprint: String,
    /// What the machine answered.
    #[schema(value_type = Object)]
    result: Value,
}

async fn show(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let key = call.path_tail(KEYS)?.into_owned();
    let mut params = call.params(READ_PARAMS);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    if !is_key(key.as_bytes()) {
        let detail = format!("a key has 1 to {KEY_LEN_MAX} printable ASCII bytes");
        let place = Place::Parameter("key".to_owned());
        params.problems.add(place, Code::InvalidValue, detail);
    }
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let (view, wanted) = (app.raft.view(), key.clone());
    let found = blocking(move || view.answer(&wanted)).await?;
    let answer = found
        .value
        .ok_or_else(|| ApiError::absent(Code::IdempotencyKeyNotFound, &key, found.index))?;
    let held = held(key, &answer);
    Ok(Answer::at(found.index, held).read(found.index, level, &permit))
}

fn held(key: String, answer: &StoredAnswer) -> Held {
    let hex = answer.fingerprint.iter().map(|byte| format!("{byte:02x}"));
    Held {
        key,
        written_index: Text(answer.index),
        written_at: rfc3339(answer.time_ns),
        held_until: rfc3339(answer.time_ns.saturating_add(RETENTION_NS)),
        fingerprint: hex.collect(),
        result: result(&answer.reply),
    }
}

/// What the machine answered. The request is not held, only its fingerprint: whoever sent it has the rest.
fn result(reply: &Reply) -> Value {
    match reply {
        Reply::Rejected(rejection) => refusal(rejection),
        Reply::KvPut {
            modified, version, ..
        } => json!({
            "result": "put", "mod_index": modified.to_string(), "version": version.to_string(),
        }),
        Reply::KvDeleted { was } => json!({ "result": "deleted", "was": was.to_string() }),
        Reply::Ledger { existence, .. } | Reply::Account { existence, .. } => {
            json!({ "result": created_status(*existence).1 })
        }
        Reply::Transfers(results) => {
            let each: Vec<Value> = results.iter().map(transfer).collect();
            json!({ "result": "transfers", "transfers": each })
        }
        Reply::Replayed(before) => result(&before.reply),
    }
}

fn transfer(result: &TransferResult) -> Value {
    let (name, at) = match result {
        TransferResult::Created(at) => ("created", at),
        TransferResult::Exists(at) => ("exists", at),
        TransferResult::Refused(rejection) => return refusal(rejection),
    };
    json!({ "result": name, "created_index": at.index.to_string(), "seq": at.record })
}

fn refusal(rejection: &Rejection) -> Value {
    json!({ "result": "refused", "code": rejection.code(), "detail": describe(rejection) })
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::super::call::tests::call;
    use super::*;

    #[test]
    fn a_key_is_one_header_of_1_to_255_printable_bytes() {
        let of = |headers: &[(&str, &str)]| {
            let call = call(Method::POST, "/v1/ledgers", headers, "");
            let terms = call.terms("POST /v1/ledgers");
            assert_eq!(
                terms.is_ok_and(|terms| terms.key.is_some()),
                call.has_idempotency_key()
            );
            call.terms("POST /v1/ledgers")
                .map(|terms| terms.key.map(str::to_owned))
                .ok()
        };
        assert_eq!(of(&[]), Some(None));
        let (longest, longer) = ("k".repeat(KEY_LEN_MAX), "k".repeat(KEY_LEN_MAX + 1));
        for good in ["k", "a b~!\"", &longest] {
            assert_eq!(of(&[("idempotency-key", good)]), Some(Some(good.into())));
        }
        for bad in ["", "a\tb", "\u{fc}", &longer] {
            assert_eq!(of(&[("idempotency-key", bad)]), None, "{bad}");
        }
        let twice = [("idempotency-key", "a"), ("idempotency-key", "a")];
        assert_eq!(of(&twice), None);
    }

    #[test]
    fn a_write_under_a_key_may_be_sent_again() {
        let put = |headers: &[(&str, &str)]| call(Method::PUT, "/v1/kv/a", headers, "");
        assert!(!put(&[]).is_retry_safe());
        assert!(put(&[("idempotency-key", "k")]).is_retry_safe());
        assert!(!put(&[("idempotency-key", "")]).is_retry_safe());
    }
}
