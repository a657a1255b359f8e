//! From an operation to a request, and from an answer to what it says: the one place that knows how the API spells what
//! the history records.
//!
//! | operation | request |
//! |---|---|
//! | read, write, cas of register `r7` | `GET`, `PUT /v1/kv/r7`, with `If-Match` or `If-None-Match` |
//! | add to, read of set `s1` | `PUT /v1/kv/s1%2F12`, `GET /v1/kv?prefix=s1%2F` |
//! | transfer, read of the bank | `POST /v1/transfers`, `GET /v1/accounts?ledger=bank` |

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::http::{Reply, Request};
use crate::history::{Answer, Call, Level};

/// How long a node may try, by the request.
const TIMEOUT: &str = "timeout=3s";
/// The ledger of the bank.
pub(crate) const BANK: &str = "bank";

/// What is asked, with all that must be known to ask it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    /// What.
    pub(crate) call: Call,
    /// Of which register or set; nothing is the bank.
    pub(crate) key: Option<String>,
    /// Reads: how fresh.
    pub(crate) level: Option<Level>,
    /// Writes: the idempotency key or transfer id.
    pub(crate) op: Option<String>,
    /// Conditional writes of a register that is there: the tag that the expected value came with.
    pub(crate) tag: Option<String>,
    /// Reads: the index that must be seen. The API has no word for it: who asks looks at the index of the answer.
    pub(crate) min_index: Option<u64>,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// It happened, so.
    Done(Told),
    /// It certainly did not happen and will not.
    NotApplied(String),
    /// Unknown.
    Unknown(String),
    /// No correct node answers so.
    Absurd(String),
}

/// What an answer tells beside the answer itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    /// The answer.
    pub(crate) answer: Answer,
    /// Where it was applied, or the index that was read.
    pub(crate) index: Option<u64>,
    /// Reads: the level reached.
    pub(crate) reached: Option<Level>,
    /// Reads: the proven bound on the age, in nanoseconds.
    pub(crate) staleness: Option<u64>,
    /// The register's tag.
    pub(crate) tag: Option<String>,
}

/// Whether a key is that of a set.
pub(crate) fn is_set(key: &str) -> bool {
    key.starts_with('s')
}

/// The request that asks it.
pub(crate) fn request(asked: &Asked) -> Request {
    let key = asked.key.as_deref();
    match &asked.call {
        Call::Read => Request {
            method: "GET",
            path: read_path(key, asked.level.unwrap_or(Level::Leader)),
            ..Request::default()
        },
        Call::Transfer(transfer) => Request {
            method: "POST",
            path: format!("/v1/transfers?{TIMEOUT}"),
            body: json!({
                "id": asked.op, "debit_account": transfer.from, "credit_account": transfer.to,
                "amount": transfer.amount.to_string(), "code": 1,
            })
            .to_string(),
            ..Request::default()
        },
        Call::Write(value) => put(asked, key.unwrap_or_default(), *value),
        Call::Add(element) => {
            let path = format!("{}%2F{element}", key.unwrap_or_default());
            put(asked, &path, *element)
        }
        Call::Cas(old, new) => {
            let mut request = put(asked, key.unwrap_or_default(), *new);
            request.headers.push(match (old, &asked.tag) {
                (Some(_), Some(tag)) => ("if-match", tag.clone()),
                _ => ("if-none-match", "*".to_owned()),
            });
            request
        }
        Call::Txn(_) => unreachable!("there are no transactions in the API"),
    }
}

fn put(asked: &Asked, key: &str, value: i64) -> Request {
    Request {
        method: "PUT",
        path: format!("/v1/kv/{key}?{TIMEOUT}"),
        headers: vec![("idempotency-key", asked.op.clone().unwrap_or_default())],
        body: value.to_string(),
    }
}

fn read_path(key: Option<&str>, level: Level) -> String {
    let what = match key {
        None => format!("/v1/accounts?ledger={BANK}&limit=100&"),
        Some(key) if is_set(key) => format!("/v1/kv?prefix={key}%2F&limit=1000&"),
        Some(key) => format!("/v1/kv/{key}?"),
    };
    format!("{what}consistency={level}&{TIMEOUT}")
}

/// What the answer to it says.
pub(crate) fn said(asked: &Asked, reply: &Reply) -> Said {
    let code = reply.field("code");
    let answer = match (&asked.call, reply.status) {
        (Call::Read, 200) => read(asked, reply),
        (Call::Read, 404) if code == "key_not_found" => Some(Answer::Register(None)),
        (Call::Write(_) | Call::Add(_), 200 | 201) => Some(Answer::Done),
        (Call::Cas(..) | Call::Transfer(_), 200 | 201) => Some(Answer::Applied(true)),
        (Call::Cas(..), 412) if code == "precondition_failed" => Some(Answer::Applied(false)),
        (Call::Transfer(_), 422) if code == "exceeds_credits" => Some(Answer::Applied(false)),
        (_, 200..=299) => None,
        (_, 429 | 408 | 500..=599) => {
            let what = format!("{} {code}", reply.status);
            return match reply.field("outcome").as_str() {
                "not_applied" => Said::NotApplied(what),
                _ => Said::Unknown(what),
            };
        }
        _ => None,
    };
    let Some(answer) = answer else {
        return Said::Absurd(format!(
            "{asked:?} was answered {} {}",
            reply.status,
            reply.text()
        ));
    };
    Said::Done(Told {
        answer,
        // A problem has it in its body.
        index: reply
            .number("quorate-index")
            .or_else(|| reply.field("index").parse().ok()),
        reached: reply.header("consistency-effective").and_then(level),
        staleness: reply.header("quorate-staleness").and_then(nanos),
        tag: reply.header("etag").map(str::to_owned),
    })
}

fn read(asked: &Asked, reply: &Reply) -> Option<Answer> {
    let Some(key) = asked.key.as_deref() else {
        return balances(&reply.json()).map(Answer::Balances);
    };
    if !is_set(key) {
        let text = std::str::from_utf8(&reply.body).ok()?;
        return Some(Answer::Register(Some(text.parse().ok()?)));
    }
    let page = reply.json();
    // A set that fills more than a page would not be read at one index.
    if page["has_more"] != json!(false) {
        return None;
    }
    let elements = page["data"].as_array()?.iter();
    let element = |row: &Value| row["value"].as_str()?.parse().ok();
    elements
        .map(element)
        .collect::<Option<_>>()
        .map(Answer::Elements)
}

fn balances(page: &Value) -> Option<BTreeMap<String, i64>> {
    let account = |row: &Value| {
        let balance = row["balance"]["balance"].as_str()?.parse().ok()?;
        Some((row["id"].as_str()?.to_owned(), balance))
    };
    page["data"].as_array()?.iter().map(account).collect()
}

fn level(name: &str) -> Option<Level> {
    Level::ALL.into_iter().find(|level| level.name() == name)
}

fn nanos(text: &str) -> Option<u64> {
    let millis: u64 = text.strip_suffix("ms")?.parse().ok()?;
    Some(millis * 1_000_000)
}
