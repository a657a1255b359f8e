//! What happened in a run: the history of the clients, what was done to the cluster, and what the nodes say they applied.
//!
//! # History, format 1
//!
//! JSON lines, one event a line. Line order is the order of events: one writer ([`recorder::Recorder`]) takes its
//! monotonic clock and writes the line under one lock, so an event before another in the file happened before it or at
//! the same time. Every comparison in real time is therefore a comparison of `index`; `time` is for people and plots.
//!
//! | field | meaning |
//! |---|---|
//! | `index` | line number from 0 |
//! | `time` | monotonic nanoseconds since the start of the run, never less than in the line before |
//! | `process` | logical client, one operation at a time; after `info` the number is never used again; -1 is the nemesis |
//! | `type` | `invoke`, then `ok` (the answer is known), `fail` (certainly did not happen) or `info` (unknown) |
//! | `f` | register: `read` `write` `cas`; bank: `transfer` `read`; set: `add` `read`; list-append: `txn` |
//! | `key`, `value` | invoke: the argument; ok: the answer; see [`operation::Call`] and [`operation::Answer`] |
//! | `result` | ok of `cas` and `transfer`: true applied, false refused by its condition, which is an answer, not a `fail` |
//! | `level` | reads: `leader`, `lease` or `follower`; asked for in the invoke, reached in the ok |
//! | `node` | which node answered |
//! | `op` | the idempotency key of a write, the same on every retry; one operation covers all retries |
//! | `again` | invoke and end: this write was answered before and is sent once more, which is no operation of its own, see [`History::again`] |
//! | `log_index` | ok of a write: where it was applied |
//! | `applied` | ok of a read: the applied index that it saw |
//! | `min_index`, `max_staleness` | invoke of a read: what it demanded; the second in nanoseconds |
//! | `staleness` | ok of a read: the bound that the node proved, in nanoseconds |
//! | `error` | text, on `fail` and `info` |
//!
//! Lines of the nemesis have `type` `info` and say in `f` what they are; see [`nemesis::Happening`].
//!
//! # Applied log, format 1
//!
//! What a node says it applied, JSON lines in the order of application: [`applied::Entry`].
//!
//! Files of both kinds are refused as a whole, with the line and the reason, if they break a rule of their format: a
//! checker never sees a history that could not have happened in one run.

pub(crate) mod event;

pub(crate) mod recorder;

pub(crate) mod read;

pub(crate) mod operation;

pub(crate) mod nemesis;

pub(crate) mod applied;

pub(crate) mod edn;

pub(crate) use event::{Event, Kind, Level};
pub(crate) use nemesis::{Happening, Membership, Window};
pub(crate) use operation::{Answer, Call, Micro, Operation, Outcome, Transfer};
pub(crate) use read::History;
