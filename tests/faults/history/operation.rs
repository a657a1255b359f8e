//! An operation: an invoke and its end, typed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::event::{Event, Level};

/// A move of money.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Transfer {
    /// The account that pays.
    pub(crate) from: String,
    /// The account that is paid.
    pub(crate) to: String,
    /// How much, in the smallest unit.
    pub(crate) amount: i64,
}

/// A step of a list-append transaction. In the file: `["append", key, value]`, `["r", key, null | list]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Micro {
    /// Puts an element, never used before under this key, at the end of a list.
    Append(String, i64),
    /// Reads a list; `None` in an invoke.
    Read(String, Option<Vec<i64>>),
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// A register, all accounts of the bank, or a set: the answer tells which.
    Read,
    /// Sets a register. Values are unique per key. In the file: the value.
    Write(i64),
    /// Sets a register if it holds the first value; `None` is "absent". In the file: `[old, new]`.
    Cas(Option<i64>, i64),
    /// Moves money if the payer has it. In the file: `{"from", "to", "amount"}`.
    Transfer(Transfer),
    /// Puts an element into a set, once. In the file: the element.
    Add(i64),
    /// Reads and appends as one. In the file: a list of micro operations.
    Txn(Vec<Micro>),
}

impl Call {
    /// As it is in `f`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Call::Read => "read",
            Call::Write(_) => "write",
            Call::Cas(..) => "cas",
            Call::Transfer(_) => "transfer",
            Call::Add(_) => "add",
            Call::Txn(_) => "txn",
        }
    }

    /// Whether it goes through the log. A transaction always does, even one that only reads.
    pub(crate) fn is_write(&self) -> bool {
        *self != Call::Read
    }

    /// From `f` and `value` of an invoke or of a line of an applied log.
    pub(crate) fn parse(f: &str, value: &Value) -> Result<Call, String> {
        match f {
            "read" if value.is_null() => Ok(Call::Read),
            "read" => Err("the invoke of a read has a value".to_owned()),
            "write" => Ok(Call::Write(integer(value)?)),
            "cas" => match value.as_array().map(Vec::as_slice) {
                Some([old, new]) => Ok(Call::Cas(register(old)?, integer(new)?)),
                _ => Err(format!("a cas takes [old, new], not {value}")),
            },
            "transfer" => Transfer::deserialize(value)
                .map(Call::Transfer)
                .map_err(|e| format!("a transfer takes from, to and amount: {e}")),
            "add" => Ok(Call::Add(integer(value)?)),
            "txn" => Ok(Call::Txn(parse_txn(value)?)),
            _ => Err(format!("unknown operation {f:?}")),
        }
    }

    /// The reverse of [`Call::parse`].
    pub(crate) fn value(&self) -> Value {
        match self {
            Call::Read => Value::Null,
            Call::Write(value) | Call::Add(value) => json!(value),
            Call::Cas(old, new) => json!([old, new]),
            Call::Transfer(transfer) => json!(transfer),
            Call::Txn(steps) => txn_value(steps),
        }
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A register's value; `None` is "absent", which is a value like others.
    Register(Option<i64>),
    /// Every account's balance.
    Balances(BTreeMap<String, i64>),
    /// A set's elements as they came, duplicates kept.
    Elements(Vec<i64>),
    /// A write without a condition was done.
    Done,
    /// A conditional write was applied, or refused by its condition.
    Applied(bool),
    /// A transaction, with what its reads saw.
    Txn(Vec<Micro>),
}

impl Answer {
    /// From `f`, `value` and `result` of an ok.
    pub(crate) fn parse(
        call: &Call,
        value: &Value,
        result: Option<bool>,
    ) -> Result<Answer, String> {
        match call {
            Call::Read => match value {
                Value::Object(_) => BTreeMap::deserialize(value)
                    .map(Answer::Balances)
                    .map_err(|e| format!("balances are whole numbers: {e}")),
                Value::Array(list) => list
                    .iter()
                    .map(integer)
                    .collect::<Result<_, _>>()
                    .map(Answer::Elements),
                _ => register(value).map(Answer::Register),
            },
            Call::Write(_) | Call::Add(_) => Ok(Answer::Done),
            Call::Cas(..) | Call::Transfer(_) => result
                .map(Answer::Applied)
                .ok_or_else(|| format!("an answered {} has no result", call.name())),
            Call::Txn(asked) => {
                let answered = parse_txn(value)?;
                check_answered(asked, &answered)?;
                Ok(Answer::Txn(answered))
            }
        }
    }

    /// The `value` of an ok.
    pub(crate) fn value(&self) -> Value {
        match self {
            Answer::Register(value) => json!(value),
            Answer::Balances(balances) => json!(balances),
            Answer::Elements(elements) => json!(elements),
            Answer::Done | Answer::Applied(_) => Value::Null,
            Answer::Txn(steps) => txn_value(steps),
        }
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It happened.
    Ok(Answer),
    /// It never happens.
    Fail,
    /// It may have happened, or may yet.
    Info,
}

impl Outcome {
    /// As it is in `type`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Outcome::Ok(_) => "ok",
            Outcome::Fail => "fail",
            Outcome::Info => "info",
        }
    }
}

/// A place in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Point {
    /// Line; the order of events.
    pub(crate) index: u64,
    /// Nanoseconds since the start.
    pub(crate) time: u64,
}

/// An invoke and its end.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// The client.
    pub(crate) process: i64,
    /// What it was done to.
    pub(crate) key: Option<String>,
    /// What was asked.
    pub(crate) call: Call,
    /// How it ended; an operation that the history ends in is [`Outcome::Info`].
    pub(crate) outcome: Outcome,
    /// The invoke.
    pub(crate) invoked: Point,
    /// The end, if the history has one.
    pub(crate) ended: Option<Point>,
    /// The level asked for.
    pub(crate) level: Option<Level>,
    /// The level reached.
    pub(crate) reached: Option<Level>,
    /// The node that answered.
    pub(crate) node: Option<u64>,
    /// The idempotency key.
    pub(crate) id: Option<String>,
    /// Where it was applied, by its answer.
    pub(crate) log_index: Option<u64>,
    /// The applied index that it saw, by its answer.
    pub(crate) applied: Option<u64>,
    /// The index it demanded to see.
    pub(crate) min_index: Option<u64>,
    /// The age it would accept, in nanoseconds.
    pub(crate) max_staleness: Option<u64>,
    /// The age that the node proved, in nanoseconds.
    pub(crate) staleness: Option<u64>,
}

impl Operation {
    /// An operation that has begun.
    pub(crate) fn begun(event: &Event) -> Result<Operation, String> {
        Ok(Operation {
            process: event.process,
            key: event.key.clone(),
            call: Call::parse(&event.f, &event.value)?,
            outcome: Outcome::Info,
            invoked: Point {
                index: event.index,
                time: event.time,
            },
            ended: None,
            level: event.level,
            reached: None,
            node: event.node,
            id: event.op.clone(),
            log_index: None,
            applied: None,
            min_index: event.min_index,
            max_staleness: event.max_staleness,
            staleness: None,
        })
    }

    /// The answer, if it is known.
    pub(crate) fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Fail | Outcome::Info => None,
        }
    }

    /// The line after which it was certainly over, if it is known to have happened.
    pub(crate) fn returned(&self) -> Option<u64> {
        self.answer().and(self.ended).map(|point| point.index)
    }

    /// Whether this was over before `other` began.
    pub(crate) fn precedes(&self, other: &Operation) -> bool {
        self.returned().is_some_and(|end| end < other.invoked.index)
    }

    /// How long it took, in nanoseconds, if it ended.
    pub(crate) fn latency(&self) -> Option<u64> {
        self.ended.map(|end| end.time - self.invoked.time)
    }

    /// Short and exact, for facts: `write of 7 to k [ok from n2 at 1.204 s, history index 12-15, log 9]`.
    pub(crate) fn told(&self) -> String {
        let key = self.key.as_deref().unwrap_or("all");
        let what = match (&self.call, self.answer()) {
            (Call::Read, Some(Answer::Register(value))) => {
                format!("read of {key} = {}", shown(*value))
            }
            (Call::Read, _) => format!("read of {key}"),
            (Call::Write(value), _) => format!("write of {value} to {key}"),
            (Call::Cas(old, new), answer) => {
                let refused = if answer == Some(&Answer::Applied(false)) {
                    ", refused"
                } else {
                    ""
                };
                format!("cas of {key} from {} to {new}{refused}", shown(*old))
            }
            (Call::Transfer(t), _) => {
                format!("transfer of {} from {} to {}", t.amount, t.from, t.to)
            }
            (Call::Add(element), _) => format!("add of {element} to {key}"),
            (Call::Txn(_), _) => "transaction".to_owned(),
        };
        let level = self
            .level
            .map(|level| format!("{level} "))
            .unwrap_or_default();
        let end = self
            .ended
            .map_or(String::from("?"), |end| end.index.to_string());
        let place = match (self.log_index, self.applied) {
            (Some(index), _) => format!(", log {index}"),
            (None, Some(index)) => format!(", applied {index}"),
            (None, None) => String::new(),
        };
        let outcome = self.outcome.name();
        let node = self.node.map(|node| format!(" from n{node}"));
        let time = self.ended.unwrap_or(self.invoked).time as f64 / 1e9;
        format!(
            "{level}{what} [{outcome}{} at {time:.3} s, history index {}-{end}{place}]",
            node.unwrap_or_default(),
            self.invoked.index
        )
    }
}

/// A register's value for people.
pub(crate) fn shown(value: Option<i64>) -> String {
    value.map_or_else(|| "absent".to_owned(), |value| value.to_string())
}

fn integer(value: &Value) -> Result<i64, String> {
    value
        .as_i64()
        .ok_or_else(|| format!("{value} is not a whole number"))
}

fn register(value: &Value) -> Result<Option<i64>, String> {
    if value.is_null() {
        Ok(None)
    } else {
        integer(value).map(Some)
    }
}

fn parse_txn(value: &Value) -> Result<Vec<Micro>, String> {
    let bad = || {
        format!("a txn is a list of [\"append\", key, value] and [\"r\", key, list], not {value}")
    };
    let steps = value.as_array().ok_or_else(bad)?;
    let step = |step: &Value| {
        let Some([f, key, argument]) = step.as_array().map(Vec::as_slice) else {
            return Err(bad());
        };
        let key = key.as_str().ok_or_else(bad)?.to_owned();
        match f.as_str() {
            Some("append") => Ok(Micro::Append(key, integer(argument)?)),
            Some("r") if argument.is_null() => Ok(Micro::Read(key, None)),
            Some("r") => {
                let list = argument.as_array().ok_or_else(bad)?;
                Ok(Micro::Read(
                    key,
                    Some(list.iter().map(integer).collect::<Result<_, _>>()?),
                ))
            }
            _ => Err(bad()),
        }
    };
    steps.iter().map(step).collect()
}

fn txn_value(steps: &[Micro]) -> Value {
    let step = |step: &Micro| match step {
        Micro::Append(key, value) => json!(["append", key, value]),
        Micro::Read(key, list) => json!(["r", key, list]),
    };
    steps.iter().map(step).collect()
}

fn check_answered(asked: &[Micro], answered: &[Micro]) -> Result<(), String> {
    let fits = |(asked, answered): (&Micro, &Micro)| match (asked, answered) {
        (Micro::Append(..), _) => asked == answered,
        (Micro::Read(key, _), Micro::Read(other, list)) => key == other && list.is_some(),
        (Micro::Read(..), Micro::Append(..)) => false,
    };
    if asked.len() == answered.len() && asked.iter().zip(answered).all(fits) {
        Ok(())
    } else {
        Err("the answered txn is not the one that was asked".to_owned())
    }
}
