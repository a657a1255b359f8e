//! Histories in the forms that the checkers of the Jepsen family read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::event::{Event, Kind, Level, NEMESIS};
use super::read::History;

/// The whole history, one map a line, as Jepsen writes it. Fields of ours are kept under their own names. What was sent
/// again is left out: a checker that does not know of idempotency keys would take it for another write.
pub(crate) fn history(history: &History) -> String {
    let mut out = String::new();
    for event in history.events.iter().filter(|event| !event.again) {
        let mut map = head(event, event.kind);
        if let Some(key) = &event.key {
            let _ = write!(map, ", :key {}", Value::from(key.as_str()));
        }
        let _ = write!(map, ", :value {}", value(&event.f, &event.value));
        let numbers = [
            ("log-index", event.log_index),
            ("applied", event.applied),
            ("node", event.node),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                let _ = write!(map, ", :{name} {number}");
            }
        }
        if let Some(result) = event.result {
            let _ = write!(map, ", :result {result}");
        }
        if let Some(level) = event.level {
            let _ = write!(map, ", :level :{level}");
        }
        if let Some(error) = &event.error {
            let _ = write!(map, ", :error {}", Value::from(error.as_str()));
        }
        let _ = writeln!(out, "{{{map}}}");
    }
    out
}

/// Each register's history for Knossos with `(model/cas-register :absent)`: reads at levels that promise
/// linearizability, writes and cas.
///
/// Knossos takes a read of `nil` for "unknown", so absence is written as `:absent`. A refused cas becomes `:fail`,
/// which loses what it observed but is sound.
pub(crate) fn per_key(history: &History) -> BTreeMap<String, String> {
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    // By process, what its operation of that kind was asked; nothing while it does something else.
    let mut asked: BTreeMap<i64, String> = BTreeMap::new();
    for event in history
        .events
        .iter()
        .filter(|event| event.process != NEMESIS && !event.again)
    {
        let Some(key) = &event.key else { continue };
        if event.kind == Kind::Invoke {
            asked.remove(&event.process);
            let is_register = ["read", "write", "cas"].contains(&event.f.as_str());
            if is_register && event.level.is_none_or(Level::is_linearizable) {
                asked.insert(event.process, absent_in(&event.f, &event.value));
            }
        }
        let Some(argument) = asked
            .get(&event.process)
            .filter(|_| !event.value.is_object())
        else {
            continue;
        };
        let shown = match (&event.value, event.kind) {
            (Value::Null, Kind::Ok) if event.f == "read" => ":absent",
            (read, Kind::Ok) if event.f == "read" => &read.to_string(),
            _ => argument,
        };
        let refused = event.result == Some(false);
        let kind = if refused { Kind::Fail } else { event.kind };
        let out = keys.entry(key.clone()).or_default();
        let _ = writeln!(out, "{{{}, :value {shown}}}", head(event, kind));
    }
    keys
}

fn head(event: &Event, kind: Kind) -> String {
    let process = if event.process == NEMESIS {
        ":nemesis".to_owned()
    } else {
        event.process.to_string()
    };
    let kind = match kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    };
    format!(
        ":index {}, :time {}, :process {process}, :type :{kind}, :f :{}",
        event.index, event.time, event.f
    )
}

/// A cas from absent is `[:absent new]`.
fn absent_in(f: &str, argument: &Value) -> String {
    match argument.as_array().map(Vec::as_slice) {
        Some([Value::Null, new]) if f == "cas" => format!("[:absent {new}]"),
        _ => value(f, argument),
    }
}

/// JSON as EDN. The verbs of a transaction are keywords, and so are the fields of a map whose keys are fixed.
fn value(f: &str, json: &Value) -> String {
    match json {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => json.to_string(),
        Value::Array(items) if f == "txn" => {
            let steps: Vec<String> = items.iter().map(|item| value("step", item)).collect();
            format!("[{}]", steps.join(" "))
        }
        Value::Array(items) if f == "step" => {
            let verb = items.first().and_then(Value::as_str).unwrap_or_default();
            let rest: Vec<String> = items.iter().skip(1).map(|item| value("", item)).collect();
            format!("[:{verb} {}]", rest.join(" "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|item| value("", item)).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            // Account names are data and stay strings; everything else that is a map has fields.
            let is_data = f == "read";
            let field = |(name, item): (&String, &Value)| {
                let name = if is_data {
                    Value::from(name.as_str()).to_string()
                } else {
                    format!(":{name}")
                };
                let inner = if name == ":balances" { "read" } else { "" };
                format!("{name} {}", value(inner, item))
            };
            let fields: Vec<String> = fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}
