//! What was done to the cluster and seen of it, as lines of process -1.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Whether one that it is aimed at led at that moment: who was cut off, not whom it was cut from.
    #[serde(default)]
    pub(crate) on_leader: bool,
    /// What came of it.
    pub(crate) outcome: Done,
    /// Why it was skipped or is not known; of one in force, what exactly it is: `halves: n1 n2 | n3 n4 n5`.
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

/// Who belongs to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Membership {
    /// Members that vote.
    pub(crate) voters: BTreeSet<u64>,
    /// Members that do not.
    #[serde(default)]
    pub(crate) learners: BTreeSet<u64>,
    /// Members that may be either: a request to take their vote away, whose outcome nobody knows, may yet come true.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) either: BTreeSet<u64>,
}

impl Membership {
    /// These vote, and there is nobody else.
    pub(crate) fn of_voters(voters: impl IntoIterator<Item = u64>) -> Membership {
        Membership {
            voters: voters.into_iter().collect(),
            ..Membership::default()
        }
    }

    /// Everybody.
    pub(crate) fn all(&self) -> BTreeSet<u64> {
        &self.voters | &self.learners
    }

    /// Whether this is so if a node says `told`.
    pub(crate) fn fits(&self, told: &Membership) -> bool {
        let certain = &told.voters - &self.either;
        self.all() == told.all() && certain == &self.voters - &self.either
    }
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
    /// `serving`: this node is ready again after a fault on it was healed. Runs of old have no such lines.
    Serving {
        /// Who.
        node: u64,
    },
    /// `install`: a fault begins.
    Install(String, Step),
    /// `heal`: a fault ends.
    Heal(String, Step),
    /// `changed`: a change of the members was completed, as the operator was told.
    Changed(Membership),
    /// `members`: who belongs to the cluster at the end, as this node says.
    Members {
        /// Who says so.
        node: u64,
        /// What it says.
        members: Membership,
    },
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
    /// Whether one that it is aimed at led.
    pub(crate) on_leader: bool,
    /// Install, nanoseconds.
    pub(crate) start: u64,
    /// Heal, nanoseconds.
    pub(crate) end: u64,
    /// When its nodes were ready again or met by the next fault, nanoseconds; none if the run does not say.
    pub(crate) ready: Option<u64>,
    /// What exactly was done: the shape of a partition.
    pub(crate) shape: Option<String>,
    /// Whether it was healed at all.
    pub(crate) healed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Served {
    node: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    node: u64,
    members: Membership,
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
            Happening::Serving { node } => event("serving", json!({"node": node})),
            Happening::Install(fault, done) => step("install", fault, done),
            Happening::Heal(fault, done) => step("heal", fault, done),
            Happening::Changed(members) => event("changed", json!(members)),
            Happening::Members { node, members } => {
                event("members", json!({"node": node, "members": members}))
            }
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
            "serving" => {
                let Served { node } = Served::deserialize(&event.value).map_err(bad)?;
                Happening::Serving { node }
            }
            "install" => {
                Happening::Install(fault()?, Step::deserialize(&event.value).map_err(bad)?)
            }
            "heal" => Happening::Heal(fault()?, Step::deserialize(&event.value).map_err(bad)?),
            "changed" => Happening::Changed(Membership::deserialize(&event.value).map_err(bad)?),
            "members" => {
                let Told { node, members } = Told::deserialize(&event.value).map_err(bad)?;
                Happening::Members { node, members }
            }
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
    let tells_ready = |moment: &Moment| matches!(moment.what, Happening::Serving { .. });
    let mut starting = Starting {
        is_told: moments.iter().any(tells_ready),
        nodes: BTreeMap::new(),
    };
    for moment in moments {
        match &moment.what {
            Happening::Install(fault, step) if step.outcome != Done::Skipped => {
                if Process::under(fault) != Process::GoesOn {
                    starting.over(&step.nodes, moment.time, &mut windows);
                }
                open.insert((fault, step.id), windows.len());
                windows.push(Window {
                    fault: fault.clone(),
                    nodes: step.nodes.clone(),
                    on_leader: step.on_leader,
                    start: moment.time,
                    end,
                    ready: None,
                    shape: step
                        .reason
                        .clone()
                        .filter(|_| step.outcome == Done::Installed),
                    healed: false,
                });
            }
            Happening::Heal(fault, step) if step.outcome == Done::Installed => {
                if let Some(at) = open.remove(&(fault.as_str(), step.id)) {
                    let window: &mut Window = &mut windows[at];
                    (window.end, window.healed) = (moment.time, true);
                    starting.begin(at, window, end);
                }
            }
            Happening::Serving { node } => starting.over(&[*node], moment.time, &mut windows),
            // Who was removed is not awaited any more.
            Happening::Changed(members) => {
                starting.over_but(&members.all(), moment.time, &mut windows)
            }
            _ => {}
        }
    }
    windows
}

/// What a fault does to the process of each of its nodes. A node that was about to serve is awaited anew when anything but
/// [`Process::GoesOn`] is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    /// It ends, and is started again when the fault is over.
    Ends,
    /// It may end, and then is started again.
    MayEnd,
    /// It stands still.
    Stands,
    /// Nothing.
    GoesOn,
}

impl Process {
    /// Faults by name, with what they do to processes; all others do nothing to them.
    const TABLE: &[(&str, Process)] = &[
        ("kill", Process::Ends),
        ("power", Process::Ends),
        ("rates", Process::Ends),
        ("disk", Process::MayEnd),
        ("pause", Process::Stands),
    ];

    /// Under a fault of that class.
    pub(crate) fn under(fault: &str) -> Process {
        let row = Process::TABLE.iter().find(|(name, _)| *name == fault);
        row.map_or(Process::GoesOn, |(_, does)| *does)
    }
}

/// Healed windows whose nodes are not ready yet.
struct Starting {
    /// Whether the run says when a node is ready.
    is_told: bool,
    /// By window, the nodes that are still awaited.
    nodes: BTreeMap<usize, BTreeSet<u64>>,
}

impl Starting {
    /// Until something is heard of its nodes, a window lasts to `end`, the end of the run.
    fn begin(&mut self, at: usize, window: &mut Window, end: u64) {
        if self.is_told && !window.nodes.is_empty() {
            window.ready = Some(end);
            self.nodes
                .insert(at, window.nodes.iter().copied().collect());
        }
    }

    /// These nodes are ready, or met by another fault.
    fn over(&mut self, nodes: &[u64], time: u64, windows: &mut [Window]) {
        self.keep(|node| !nodes.contains(&node), time, windows);
    }

    /// There are only these nodes.
    fn over_but(&mut self, nodes: &BTreeSet<u64>, time: u64, windows: &mut [Window]) {
        self.keep(|node| nodes.contains(&node), time, windows);
    }

    fn keep(&mut self, is_awaited: impl Fn(u64) -> bool, time: u64, windows: &mut [Window]) {
        self.nodes.retain(|at, awaited| {
            awaited.retain(|node| is_awaited(*node));
            if awaited.is_empty() {
                windows[*at].ready = Some(time);
            }
            !awaited.is_empty()
        });
    }
}
