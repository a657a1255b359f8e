//! What was done to the cluster and seen of it, as lines of process -1.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::event::{Event, Kind, NEMESIS};

/// How an attempt to install or heal a fault ended. A fault that ends in no other way is a failure of the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Done {
    /// It is in force (install) or over (heal).
    Installed,
    /// It was not possible here, for the reason given.
    Skipped,
    /// Nobody knows.
    Indeterminate,
}

/// An install or a heal of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    /// Ties a heal to its install.
    pub(crate) id: u64,
    /// The nodes it is done to.
    pub(crate) nodes: Vec<u64>,
    /// Whether one of them led at that moment.
    #[serde(default)]
    pub(crate) on_leader: bool,
    /// What came of it.
    pub(crate) outcome: Done,
    /// Why it was skipped or is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// The bank as it is opened: balances, and who may owe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accounts {
    /// Every account and what is in it before the first transfer.
    pub(crate) balances: BTreeMap<String, i64>,
    /// Accounts that may go below zero.
    #[serde(default)]
    pub(crate) overdraft: Vec<String>,
}

/// What a line of the nemesis says. In the file: `f`, with the fault's class in `key` and the rest in `value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    /// `phase`: the run enters a phase: `calm` (no faults), `faults`, `heal`, `final`.
    Phase(String),
    /// `accounts`: the bank is opened.
    Accounts(Accounts),
    /// `leader`: this node was seen to lead in this term.
    Leader {
        /// Who.
        node: u64,
        /// Since which election.
        term: u64,
    },
    /// `install`: a fault begins.
    Install(String, Step),
    /// `heal`: a fault ends.
    Heal(String, Step),
    /// `failure`: the harness itself failed; the run is red.
    Failure(String),
}

/// A line of the nemesis.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// Line from 0.
    pub(crate) index: u64,
    /// Nanoseconds since the start.
    pub(crate) time: u64,
    /// What it says.
    pub(crate) what: Happening,
}

/// A fault from its install to its heal, or to the end of the run.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Class of the fault.
    pub(crate) fault: String,
    /// The nodes it was done to.
    pub(crate) nodes: Vec<u64>,
    /// Whether one of them led.
    pub(crate) on_leader: bool,
    /// Install, nanoseconds.
    pub(crate) start: u64,
    /// Heal, nanoseconds.
    pub(crate) end: u64,
    /// Whether it was healed at all.
    pub(crate) healed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Led {
    node: u64,
    term: u64,
}

impl Happening {
    /// The event that says it; the recorder gives it index and time.
    pub(crate) fn event(&self) -> Event {
        let event = |f: &str, value: Value| Event {
            value,
            ..Event::new(NEMESIS, Kind::Info, f)
        };
        let step = |f: &str, fault: &str, step: &Step| Event {
            key: Some(fault.to_owned()),
            ..event(f, json!(step))
        };
        match self {
            Happening::Phase(name) => event("phase", json!(name)),
            Happening::Accounts(accounts) => event("accounts", json!(accounts)),
            Happening::Leader { node, term } => {
                event("leader", json!({"node": node, "term": term}))
            }
            Happening::Install(fault, done) => step("install", fault, done),
            Happening::Heal(fault, done) => step("heal", fault, done),
            Happening::Failure(what) => event("failure", json!(what)),
        }
    }

    fn parse(event: &Event) -> Result<Happening, String> {
        let f = event.f.as_str();
        let bad = |e: serde_json::Error| format!("value of {f}: {e}");
        let text = || {
            let text = event.value.as_str().map(str::to_owned);
            text.ok_or_else(|| format!("value of {f} is not a text"))
        };
        let fault = || {
            event
                .key
                .clone()
                .ok_or_else(|| format!("an {f} without a key, the fault's class"))
        };
        Ok(match f {
            "phase" => Happening::Phase(text()?),
            "accounts" => Happening::Accounts(Accounts::deserialize(&event.value).map_err(bad)?),
            "leader" => {
                let Led { node, term } = Led::deserialize(&event.value).map_err(bad)?;
                Happening::Leader { node, term }
            }
            "install" => {
                Happening::Install(fault()?, Step::deserialize(&event.value).map_err(bad)?)
            }
            "heal" => Happening::Heal(fault()?, Step::deserialize(&event.value).map_err(bad)?),
            "failure" => Happening::Failure(text()?),
            _ => return Err(format!("the nemesis does {f:?}, which nobody knows")),
        })
    }
}

impl Moment {
    /// From a line of process -1.
    pub(crate) fn parse(event: &Event) -> Result<Moment, String> {
        if event.kind != Kind::Info {
            return Err("a line of the nemesis must have type info".to_owned());
        }
        Ok(Moment {
            index: event.index,
            time: event.time,
            what: Happening::parse(event)?,
        })
    }
}

/// Pairs installs with heals. Skipped installs are no windows; ones that nobody knows of are.
pub(crate) fn windows(moments: &[Moment], end: u64) -> Vec<Window> {
    let mut windows = Vec::new();
    let mut open: BTreeMap<(&str, u64), usize> = BTreeMap::new();
    for moment in moments {
        match &moment.what {
            Happening::Install(fault, step) if step.outcome != Done::Skipped => {
                open.insert((fault, step.id), windows.len());
                windows.push(Window {
                    fault: fault.clone(),
                    nodes: step.nodes.clone(),
                    on_leader: step.on_leader,
                    start: moment.time,
                    end,
                    healed: false,
                });
            }
            Happening::Heal(fault, step) if step.outcome == Done::Installed => {
                if let Some(at) = open.remove(&(fault.as_str(), step.id)) {
                    let window: &mut Window = &mut windows[at];
                    (window.end, window.healed) = (moment.time, true);
                }
            }
            _ => {}
        }
    }
    windows
}
