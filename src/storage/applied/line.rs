//! One command as a line of JSON.

use serde::Serialize;
use serde_json::{Value, json};

use crate::machine::command::ModIndex;
use crate::machine::{Expect, NewTransfer, Rejection};

/// A command that was applied, a transfer of a batch each by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Line {
    /// Log index of its entry.
    pub index: u64,
    /// Term in which the entry was proposed.
    pub term: u64,
    /// Its place in the log: entry and position in it, the tag that a key gets from it.
    pub at: String,
    /// The name under which it is done once: an idempotency key, or the id of a transfer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<String>,
    /// What was asked for: `put`, `delete`, `ledger`, `account`, `transfer`.
    pub f: &'static str,
    /// What it was asked of: a key, or the id of a ledger, an account or a transfer.
    pub key: String,
    /// The rest of what was asked for.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub value: Value,
    /// The condition of a key-value write: `absent`, `present`, or the tag the key must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
    /// Whether it was done. Absent where the journal does not say it: for a ledger or an account that was not made and had no
    /// idempotency key, and for a transfer posted before whose chain failed now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<bool>,
    /// Why not, as the API calls it, where the journal says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// It was recognised as done before and answered as then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dup: bool,
}

impl Line {
    /// With its outcome: done, or refused for a reason.
    pub(super) fn told(self, refused: Option<Rejection>) -> Line {
        Line {
            result: Some(refused.is_none()),
            code: refused.map(|rejection| rejection.code()),
            ..self
        }
    }
}

/// A value as JSON: text as it is; other bytes in hexadecimal.
pub(super) fn value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "hex": hex })
        }
    }
}

/// A condition as a line tells it.
pub(super) fn expect(expect: Expect) -> Option<String> {
    match expect {
        Expect::Any => None,
        Expect::Absent => Some("absent".to_owned()),
        Expect::Present => Some("present".to_owned()),
        Expect::At(at) => Some(at.to_string()),
    }
}

/// Whether a condition holds of a key that was last written at `current`, if it exists.
pub(super) fn holds(expect: Expect, current: Option<ModIndex>) -> bool {
    match expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::Present => current.is_some(),
        Expect::At(at) => current == Some(at),
    }
}

/// What a transfer asks for, its accounts by id.
pub(super) fn transfer(new: &NewTransfer<'_>, debit: &str, credit: &str) -> Value {
    let mut value = json!({
        "from": debit, "to": credit, "amount": new.amount.to_string(), "code": new.code,
    });
    if new.linked {
        value["linked"] = json!(true);
    }
    if !new.metadata.is_empty() {
        let metadata = serde_json::from_str(new.metadata);
        value["metadata"] = metadata.unwrap_or_else(|_| json!(new.metadata));
    }
    value
}
