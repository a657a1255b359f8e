//! What the clients do, one file a workload. To add one, write its file and add its line to [`ALL`].

pub(crate) mod bank;

pub(crate) mod idle;

pub(crate) mod ledger;

pub(crate) mod register;

pub(crate) mod session;

pub(crate) mod set;

use std::time::Duration;

use super::world::World;
use crate::history::{Call, Level};
use crate::random::Random;

/// An operation to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Planned {
    /// What.
    pub(crate) call: Call,
    /// Of which register or set; nothing is the bank.
    pub(crate) key: Option<String>,
    /// Reads: how fresh.
    pub(crate) level: Option<Level>,
    /// Conditional writes: the tag of the value expected.
    pub(crate) tag: Option<String>,
    /// Reads: whether everything that this client wrote must be seen, on whichever node.
    pub(crate) own: bool,
}

impl Planned {
    /// A read.
    pub(crate) fn read(key: Option<String>, level: Level) -> Planned {
        Planned {
            call: Call::Read,
            key,
            level: Some(level),
            tag: None,
            own: false,
        }
    }

    /// A write without a condition.
    pub(crate) fn write(key: Option<String>, call: Call) -> Planned {
        Planned {
            call,
            key,
            level: None,
            tag: None,
            own: false,
        }
    }
}

/// What clients do.
pub(crate) trait Workload: Sync {
    /// A word.
    fn name(&self) -> &'static str;
    /// A sentence.
    fn says(&self) -> &'static str;
    /// Whether the bank must be opened before.
    fn needs_bank(&self) -> bool {
        false
    }
    /// Share of answered writes that are sent again, in percent.
    fn resent(&self) -> u64 {
        3
    }
    /// The pause of a client between two operations, in the mean.
    fn think(&self) -> Duration {
        Duration::from_millis(25)
    }
    /// Kinds of operation that must have been answered for a run to count.
    fn expects(&self) -> Vec<String>;
    /// Promises that must have found something to check.
    fn promises(&self) -> &'static [&'static str];
    /// The next operation of a client.
    fn next(&self, world: &World, random: &mut Random) -> Planned;
}

/// Every workload.
pub(crate) const ALL: &[&dyn Workload] = &[
    &register::Register,
    &bank::Bank,
    &ledger::Ledger,
    &set::Set,
    &session::Session,
    &idle::Idle,
];

/// The workload of that name.
pub(crate) fn named(name: &str) -> Option<&'static dyn Workload> {
    ALL.iter().copied().find(|workload| workload.name() == name)
}

/// Any level.
pub(crate) fn any_level(random: &mut Random) -> Level {
    *random.pick(&Level::ALL)
}

/// Reads at every level, as kinds of operation.
pub(crate) fn reads_at_every_level() -> Vec<String> {
    let kinds = Level::ALL.iter().map(|level| format!("read/{level}"));
    kinds.collect()
}
