//! One line of a history, as it is in the file.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The process number of the nemesis.
pub(crate) const NEMESIS: i64 = -1;

/// What a line says about its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A client begins an operation.
    Invoke,
    /// It happened, and its answer is known.
    Ok,
    /// It did not happen and never will.
    Fail,
    /// Unknown. On lines of the nemesis: something was done.
    Info,
}

/// The consistency of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// Confirmed by a quorum: linearizable.
    Leader,
    /// Within the leader's lease: linearizable while clocks keep their bound.
    Lease,
    /// What the asked node had applied: a committed prefix, possibly old.
    Follower,
}

impl Level {
    /// Every level, strongest first.
    pub(crate) const ALL: [Level; 3] = [Level::Leader, Level::Lease, Level::Follower];

    /// As it is in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Level::Leader => "leader",
            Level::Lease => "lease",
            Level::Follower => "follower",
        }
    }

    /// Whether reads at this level must be linearizable.
    pub(crate) fn is_linearizable(self) -> bool {
        self != Level::Follower
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One line. Fields that do not apply are absent; an absent `value` and `null` are the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    /// Line number from 0.
    pub(crate) index: u64,
    /// Nanoseconds since the start of the run.
    pub(crate) time: u64,
    /// Logical client, or [`NEMESIS`].
    pub(crate) process: i64,
    /// Begin or end, and how it ended.
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    /// What is done.
    pub(crate) f: String,
    /// What it is done to: a register's or a set's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// The argument or the answer.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) value: Value,
    /// Whether a conditional write was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<bool>,
    /// Asked for in an invoke, reached in an ok.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) level: Option<Level>,
    /// Which node answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<u64>,
    /// Idempotency key of a write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) op: Option<String>,
    /// The write was answered before and is sent once more, under the same idempotency key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) again: bool,
    /// Where a write was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_index: Option<u64>,
    /// The applied index that a read saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) applied: Option<u64>,
    /// The index that a read demanded to see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) min_index: Option<u64>,
    /// The age, in nanoseconds, that a read would accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_staleness: Option<u64>,
    /// The bound, in nanoseconds, that the node proved for its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) staleness: Option<u64>,
    /// Why it failed or is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

impl Event {
    /// An event with nothing but who does what; the recorder gives it its index and time.
    pub(crate) fn new(process: i64, kind: Kind, f: &str) -> Event {
        Event {
            index: 0,
            time: 0,
            process,
            kind,
            f: f.to_owned(),
            key: None,
            value: Value::Null,
            result: None,
            level: None,
            node: None,
            op: None,
            again: false,
            log_index: None,
            applied: None,
            min_index: None,
            max_staleness: None,
            staleness: None,
            error: None,
        }
    }
}
