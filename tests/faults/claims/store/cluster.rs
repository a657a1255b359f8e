//! The simulated cluster: time, the log, the nodes, and what is done to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::history::applied::Entry;
use crate::history::nemesis::{Accounts, Done, Step};
use crate::history::recorder::Recorder;
use crate::history::{Event, Happening};
use crate::random::Random;

use super::clients::Flight;
use super::state::{ACCOUNTS, OPENING, State};
use super::{Flaw, Options};

/// A millisecond, in nanoseconds.
pub(crate) const MS: u64 = 1_000_000;
/// A client gives up after this.
pub(crate) const PATIENCE: u64 = 900 * MS;
/// How many nodes there are, numbered from 1.
pub(crate) const NODES: u64 = 3;
/// Classes of faults, installed in turn.
pub(crate) const FAULTS: [&str; 3] = ["kill", "pause", "partition"];

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A client begins its next operation.
    Begin(u64),
    /// An operation takes effect.
    Effect(u64),
    /// It takes effect a second time, since it was sent twice.
    Retry(u64),
    /// Its answer arrives.
    End(u64),
    /// A node learns of what is committed.
    CatchUp(u64),
    /// A fault begins.
    Install(u64),
    /// It ends.
    Heal(u64),
    /// The run enters a phase.
    Phase(&'static str),
}

/// A node.
pub(crate) struct Node {
    /// How many entries of the log it has applied.
    pub(crate) seen: usize,
    /// The index that it says it has applied.
    pub(crate) applied: u64,
    /// When it last had everything.
    pub(crate) current_at: u64,
    /// What came of them.
    pub(crate) state: State,
    /// The fault that it is under.
    pub(crate) fault: Option<&'static str>,
    /// What it prints.
    pub(crate) output: String,
}

/// The whole.
pub(crate) struct Cluster {
    /// What is simulated.
    pub(crate) options: Options,
    /// The source of everything random.
    pub(crate) random: Random,
    /// The virtual time, shared with the recorder's clock.
    pub(crate) now: Arc<AtomicU64>,
    due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    next_due: u64,
    /// The history.
    pub(crate) recorder: Recorder<Vec<u8>>,
    /// Everything committed.
    pub(crate) log: Vec<Entry>,
    /// Index of the last entry, which may be one of a leader's own that is in no applied log.
    pub(crate) last_index: u64,
    /// Of the leader.
    pub(crate) term: u64,
    /// Who leads.
    pub(crate) leader: u64,
    /// Nobody leads before this time.
    pub(crate) leaderless_until: u64,
    /// What the log gives.
    pub(crate) state: State,
    /// By number.
    pub(crate) nodes: BTreeMap<u64, Node>,
    /// Every operation that ever began.
    pub(crate) flights: BTreeMap<u64, Flight>,
    /// Took effect and waits to be in one entry with the next.
    pub(crate) held: Option<u64>,
    /// Number of the next operation.
    pub(crate) next_flight: u64,
    /// By client, the process that it is now.
    pub(crate) processes: Vec<i64>,
    /// By client, the highest index that it was shown.
    pub(crate) tokens: Vec<u64>,
    /// The next value to be written: none is written twice.
    pub(crate) next_value: i64,
    /// When the clients stop.
    pub(crate) ends_at: u64,
    /// Nodes of each fault that is in force.
    pub(crate) struck: BTreeMap<u64, (u64, bool)>,
}

impl Cluster {
    /// All is well and nothing has happened.
    pub(crate) fn new(options: Options) -> Cluster {
        let now = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&now);
        let node = |node| {
            let output = format!("quorate: node {node} of {NODES} listens\n");
            let state = State::new();
            (
                node,
                Node {
                    seen: 0,
                    applied: 0,
                    current_at: 0,
                    state,
                    fault: None,
                    output,
                },
            )
        };
        Cluster {
            random: Random::new(options.seed),
            due: BinaryHeap::new(),
            next_due: 0,
            recorder: Recorder::with_clock(
                Vec::new(),
                Box::new(move || clock.load(Ordering::Relaxed)),
            ),
            log: Vec::new(),
            last_index: 1,
            term: 1,
            leader: 1,
            leaderless_until: 0,
            state: State::new(),
            nodes: (1..=NODES).map(node).collect(),
            flights: BTreeMap::new(),
            held: None,
            next_flight: 0,
            processes: (0..)
                .take(usize::try_from(options.clients).expect("few"))
                .collect(),
            tokens: vec![0; usize::try_from(options.clients).expect("few")],
            next_value: 1,
            ends_at: options.seconds * 1000 * MS,
            struck: BTreeMap::new(),
            now,
            options,
        }
    }

    /// Everything up to the final phase.
    pub(crate) fn run(&mut self) {
        let balances = ACCOUNTS
            .iter()
            .map(|name| ((*name).to_owned(), OPENING))
            .collect();
        let mut accounts = Accounts {
            balances,
            overdraft: vec![ACCOUNTS[0].to_owned()],
        };
        accounts.balances.insert(ACCOUNTS[0].to_owned(), 0);
        self.say(&Happening::Accounts(accounts));
        self.say(&Happening::Leader {
            node: self.leader,
            term: self.term,
        });
        self.say(&Happening::Phase("calm".to_owned()));
        for client in 0..self.options.clients {
            self.at((client + 1) * 7 * MS, Due::Begin(client));
        }
        for node in 1..=NODES {
            self.at(node * MS, Due::CatchUp(node));
        }
        self.plan_faults();
        while let Some(Reverse((time, _, due))) = self.due.pop() {
            self.now.store(time, Ordering::Relaxed);
            self.happen(due);
        }
    }

    fn plan_faults(&mut self) {
        let (start, end) = (self.ends_at / 6, self.ends_at * 5 / 6);
        self.at(start, Due::Phase("faults"));
        self.at(end, Due::Phase("heal"));
        if !self.options.has_faults || self.options.flaw == Some(Flaw::NoFaults) {
            return;
        }
        let each = (end - start) / 6;
        for number in 0..6 {
            let begin = start + number * each + self.random.between(0, each / 4);
            let heal = begin + self.random.between(each / 3, each * 2 / 3);
            self.at(begin, Due::Install(number));
            self.at(heal, Due::Heal(number));
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Begin(client) => self.begin(client),
            Due::Effect(flight) => self.take_effect(flight),
            Due::Retry(flight) => self.take_effect_again(flight),
            Due::End(flight) => self.end(flight),
            Due::CatchUp(node) => self.catch_up(node),
            Due::Install(number) => self.install(number),
            Due::Heal(number) => self.heal(number),
            Due::Phase(name) => self.say(&Happening::Phase(name.to_owned())),
        }
    }

    /// The virtual time.
    pub(crate) fn time(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Has something happen.
    pub(crate) fn at(&mut self, time: u64, due: Due) {
        self.due.push(Reverse((time, self.next_due, due)));
        self.next_due += 1;
    }

    /// Writes an event at the time that it is.
    pub(crate) fn record(&mut self, event: Event) {
        self.recorder.record(event).expect("memory can be written");
    }

    /// Writes a line of the nemesis.
    pub(crate) fn say(&mut self, happening: &Happening) {
        self.record(happening.event());
    }

    /// Whether the store does this wrong now; `percent` of the times if it does at all.
    pub(crate) fn errs(&mut self, flaw: Flaw, percent: u64) -> bool {
        self.options.flaw == Some(flaw) && self.random.percent(percent)
    }

    fn catch_up(&mut self, node: u64) {
        if self.nodes[&node].fault.is_none() {
            self.bring(node);
        }
        if self.time() < self.ends_at + 100 * MS {
            let pause = self.random.between(3, 12) * MS;
            self.at(self.time() + pause, Due::CatchUp(node));
        }
    }

    /// Lets a node apply what is committed.
    pub(crate) fn bring(&mut self, number: u64) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return;
        };
        if self.held.is_some() {
            return;
        }
        for entry in &self.log[node.seen..] {
            if !entry.dup {
                let call = crate::history::Call::parse(&entry.f, &entry.value)
                    .expect("the log keeps the format");
                node.state.apply(
                    entry.key.as_deref().unwrap_or_default(),
                    &call,
                    entry.result == true,
                );
            }
        }
        (node.seen, node.applied) = (self.log.len(), self.last_index);
        node.current_at = self.now.load(Ordering::Relaxed);
    }

    fn install(&mut self, number: u64) {
        let fault = FAULTS[usize::try_from(number).expect("few") % FAULTS.len()];
        let on_leader = !number.is_multiple_of(2);
        let target = if on_leader {
            self.leader
        } else {
            self.leader % NODES + 1
        };
        let time = self.time();
        self.struck.insert(number, (target, on_leader));
        if let Some(node) = self.nodes.get_mut(&target) {
            node.fault = Some(fault);
            node.output
                .push_str(&format!("{} ms: {fault}\n", time / MS));
        }
        self.say(&Happening::Install(
            fault.to_owned(),
            step(number, target, on_leader),
        ));
        if on_leader {
            let gap = self.random.between(500, 1300) * MS;
            self.leaderless_until = time + gap;
            self.leader = self.leader % NODES + 1;
            self.term += 1;
            // A leader's first entry is its own and in no applied log.
            self.flush();
            self.last_index += 1;
            let (node, term) = (self.leader, self.term);
            self.say(&Happening::Leader { node, term });
        }
    }

    fn heal(&mut self, number: u64) {
        let Some((target, on_leader)) = self.struck.remove(&number) else {
            return;
        };
        let fault = FAULTS[usize::try_from(number).expect("few") % FAULTS.len()];
        if let Some(node) = self.nodes.get_mut(&target) {
            node.fault = None;
            node.output.push_str("healed\n");
        }
        self.say(&Happening::Heal(
            fault.to_owned(),
            step(number, target, on_leader),
        ));
    }
}

fn step(id: u64, node: u64, on_leader: bool) -> Step {
    Step {
        id,
        nodes: vec![node],
        on_leader,
        outcome: Done::Installed,
        reason: None,
    }
}
