//! A simulated cluster with its clients and their history, and what it leaves in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quorate::raft::sim::{Io, Listener, Serve, Setup, TICK_NS, World};
use quorate::raft::{Options, ReadLevel, ScrubOptions};

use super::Played;
use super::clients::{Client, Planned};
use crate::claims::store::Files;
use crate::harness::applied;
use crate::history::nemesis::{Done, Step};
use crate::history::recorder::Recorder;
use crate::history::{Call, Event, Happening, Level};
use crate::promises::{self, Limits, Verdict};
use crate::random::Random;
use crate::run::{Expect, FinalState, Plan};

/// Names a file to write every event of a simulation to, for one seed.
const TRACE: &str = "QUORATE_SIM_TRACE";
/// How long a whole cluster may take to get on, in simulated milliseconds.
const HEALED_WITHIN_MS: u64 = 20_000;

/// See the module.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) random: Random,
    pub(crate) clients: Vec<Client>,
    /// Keys that were used.
    pub(crate) keys: BTreeSet<String>,
    /// The next value: none is written twice.
    pub(crate) next_value: i64,
    next_process: i64,
    next_step: u64,
    now_ns: Arc<AtomicU64>,
    recorder: Recorder<Vec<u8>>,
    led: Option<(u64, u64)>,
    seed: u64,
    answered: u64,
    by_lease: u64,
    on_leader: u64,
}

/// The listener of a node's peers, as axum takes it.
struct Door(Listener);

impl axum::serve::Listener for Door {
    type Io = Io;
    type Addr = ();

    async fn accept(&mut self) -> (Io, ()) {
        (self.0.accept().await, ())
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The same routes that answer peers in production.
fn serve() -> Serve {
    Arc::new(|peer, listener| {
        Box::pin(async move {
            let router = quorate::http::peer::router(peer);
            // It goes on until the node is no more.
            let _ = axum::serve(Door(listener), router).await;
        })
    })
}

/// The same code with shorter times.
pub(crate) fn options() -> Options {
    Options {
        heartbeat: Duration::from_millis(60),
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(1000),
        quorum_loss_probe: Duration::from_millis(2000),
        // It reads at a rate of the real clock, and a simulated state has no files.
        scrub: ScrubOptions {
            rate: 0,
            ..ScrubOptions::default()
        },
        ..Options::default()
    }
}

impl Stage {
    /// A formed cluster of as many nodes as there are `clocks`, and no clients.
    pub(crate) fn new(
        seed: u64,
        mut random: Random,
        clocks: Vec<(u64, i64)>,
    ) -> Result<Stage, String> {
        let setup = Setup {
            seed: random.next(),
            clocks,
            options: options(),
            trace: std::env::var_os(TRACE).map(Into::into),
        };
        let mut world = World::new(&setup, serve())?;
        world.form()?;
        let now_ns = Arc::new(AtomicU64::new(0));
        let clock = now_ns.clone();
        let mut stage = Stage {
            world,
            random,
            clients: Vec::new(),
            keys: BTreeSet::new(),
            next_value: 1,
            next_process: 0,
            next_step: 0,
            recorder: Recorder::with_clock(
                Vec::new(),
                Box::new(move || clock.load(Ordering::Relaxed)),
            ),
            now_ns,
            led: None,
            seed,
            answered: 0,
            by_lease: 0,
            on_leader: 0,
        };
        stage.say(&Happening::Phase("calm".to_owned()));
        Ok(stage)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.world.now_ms()
    }

    /// Writes an event down.
    pub(crate) fn record(&mut self, event: Event) {
        let is_answered = event.kind == crate::history::Kind::Ok;
        self.answered += u64::from(is_answered);
        self.by_lease += u64::from(is_answered && event.level == Some(Level::Lease));
        self.recorder.record(event).expect("memory can be written");
    }

    pub(crate) fn say(&mut self, happening: &Happening) {
        self.record(happening.event());
    }

    /// A number that no process had.
    pub(crate) fn process(&mut self) -> i64 {
        self.next_process += 1;
        self.next_process - 1
    }

    /// Writes down that a fault begins; the number of it.
    pub(crate) fn install(&mut self, fault: &str, nodes: &[u64]) -> u64 {
        self.next_step += 1;
        let id = self.next_step;
        let step = self.step(id, nodes);
        self.on_leader += u64::from(step.on_leader);
        self.say(&Happening::Install(fault.to_owned(), step));
        id
    }

    /// Writes down that it is over.
    pub(crate) fn healed(&mut self, fault: &str, id: u64, nodes: &[u64]) {
        self.say(&Happening::Heal(fault.to_owned(), self.step(id, nodes)));
    }

    fn step(&self, id: u64, nodes: &[u64]) -> Step {
        Step {
            id,
            nodes: nodes.to_vec(),
            on_leader: nodes.iter().any(|node| self.world.leads(*node)),
            outcome: Done::Installed,
            reason: None,
        }
    }

    /// A millisecond passes, and the clients do what they do.
    pub(crate) fn tick(&mut self) -> Result<(), String> {
        self.world.tick()?;
        self.now_ns
            .store(self.now_ms() * TICK_NS, Ordering::Relaxed);
        if self.world.leader() != self.led {
            self.led = self.world.leader();
            if let Some((node, term)) = self.led {
                self.say(&Happening::Leader { node, term });
            }
        }
        let mut clients = std::mem::take(&mut self.clients);
        clients.iter_mut().for_each(|client| client.look(self));
        self.clients = clients;
        Ok(())
    }

    /// So many milliseconds pass.
    pub(crate) fn pass(&mut self, ms: u64) -> Result<(), String> {
        (0..ms).try_for_each(|_| self.tick())
    }

    /// Ticks until `holds`; whether it came to that within `ms`.
    pub(crate) fn until(
        &mut self,
        ms: u64,
        holds: impl Fn(&Stage) -> bool,
    ) -> Result<bool, String> {
        for _ in 0..ms {
            if holds(self) {
                return Ok(true);
            }
            self.tick()?;
        }
        Ok(holds(self))
    }

    /// Cuts both ways between two nodes, or heals them.
    pub(crate) fn set_cut(&self, a: u64, b: u64, is_cut: bool) {
        self.world.set_cut(a, b, is_cut);
        self.world.set_cut(b, a, is_cut);
    }

    /// Makes everything whole.
    pub(crate) fn heal(&mut self) -> Result<(), String> {
        self.say(&Happening::Phase("heal".to_owned()));
        let ids = self.world.ids();
        for a in &ids {
            for b in ids.iter().filter(|b| *b != a) {
                self.world.set_cut(*a, *b, false);
                self.world.set_latency(*a, *b, (50, 900));
            }
        }
        for id in ids {
            if !self.world.is_up(id) {
                self.world.start(id)?;
            }
            self.world.set_slow_disk(id, false);
        }
        Ok(())
    }

    /// The end, once all is whole: clients stop, every key is written and read at every level, all nodes agree.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        self.clients.iter_mut().for_each(Client::stop);
        let late = || format!("no progress {HEALED_WITHIN_MS} ms after all was healed");
        if !self.until(HEALED_WITHIN_MS, |stage| {
            stage.clients.iter().all(Client::is_idle)
        })? {
            return Err(format!("{}: clients wait", late()));
        }
        self.clients.clear();
        self.say(&Happening::Phase("final".to_owned()));
        for key in self.keys.clone() {
            let value = self.next_value;
            self.next_value += 1;
            let calls = [(Call::Write(value), None)];
            let reads = Level::ALL.map(|level| (Call::Read, Some(level)));
            for (call, level) in calls.into_iter().chain(reads) {
                let planned = Planned::new(&key, call, level);
                self.at_last(&planned)
                    .map_err(|why| format!("{}: {why}", late()))?;
            }
        }
        let agree = |stage: &Stage| {
            let ids = stage.world.ids();
            let all: BTreeSet<_> = ids.iter().map(|id| stage.world.applied(*id)).collect();
            all.len() == 1
        };
        match self.until(HEALED_WITHIN_MS, agree)? {
            true => Ok(()),
            false => Err(format!("{}: nodes differ", late())),
        }
    }

    /// One operation, again and again by new clients until it is answered.
    fn at_last(&mut self, planned: &Planned) -> Result<(), String> {
        let until = self.now_ms() + HEALED_WITHIN_MS;
        while self.now_ms() < until {
            let mut planned = planned.clone();
            if let Call::Write(value) = &mut planned.call {
                *value = self.next_value;
                self.next_value += 1;
            }
            let node = self.world.leader().map_or(1, |(node, _)| node);
            let mut client = Client::new(self, Some(node), false);
            client.begin(self, planned);
            while !client.is_idle() {
                self.tick()?;
                client.look(self);
            }
            if client.was_answered() {
                return Ok(());
            }
        }
        Err(format!("{:?} was not answered", planned.call))
    }

    /// What is left, judged. `outcome` is how it went until then.
    pub(crate) fn played(self, outcome: Result<(), String>, is_set: bool) -> Played {
        let mut red: Vec<String> = outcome.err().into_iter().collect();
        let simulated_ms = self.now_ms();
        let trace = self.world.trace();
        let (mut logs, mut finals) = (BTreeMap::new(), Vec::new());
        let ids = self.world.ids();
        // What did not come to its end has nothing more to say than that.
        let ended = if red.is_empty() { &ids[..] } else { &[] };
        for id in ended {
            let (applied, digest) = self.world.applied(*id).unwrap_or_default();
            let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
            finals.push(FinalState {
                node: *id,
                applied,
                digest,
                first: 0,
                marks: Vec::new(),
            });
            let export = self.world.export(*id);
            match export.and_then(|text| applied::translate(&text).map_err(|e| format!("{e:#}"))) {
                Ok(text) => drop(logs.insert(*id, text)),
                Err(why) => red.push(format!("applied log of node {id}: {why}")),
            }
        }
        let history = self.recorder.finish().expect("memory can be written");
        let plan = Plan {
            format: 1,
            seed: self.seed,
            workload: "register".to_owned(),
            nodes: ids,
            expect: Expect::default(),
            ..Plan::default()
        };
        let files = Files {
            plan,
            history: String::from_utf8(history).expect("JSON is text"),
            logs,
            finals,
            output: BTreeMap::new(),
        };
        if red.is_empty() {
            red = judge(&files);
        }
        Played {
            files,
            red,
            answered: self.answered,
            by_lease: self.by_lease,
            on_leader: self.on_leader,
            simulated_ms,
            is_set,
            trace,
        }
    }
}

/// What the checkers have against it.
fn judge(files: &Files) -> Vec<String> {
    let judgements = promises::judge(&files.evidence(), &Limits::default());
    let told = judgements.into_iter().filter_map(|judgement| {
        let what = match judgement.verdict {
            Verdict::Valid { .. } => return None,
            Verdict::Violated { facts, .. } => facts
                .first()
                .map_or(String::new(), |fact| fact.what.clone()),
            Verdict::Unknown { reason } => format!("not decided: {reason}"),
        };
        Some(format!("{}: {what}", judgement.promise))
    });
    told.collect()
}

/// A level as consensus knows it.
pub(crate) fn asked(level: Level) -> ReadLevel {
    match level {
        Level::Leader => ReadLevel::Leader,
        Level::Lease => ReadLevel::Lease,
        Level::Follower => ReadLevel::Follower,
    }
}

/// A level as the history knows it.
pub(crate) fn reached(level: ReadLevel) -> Level {
    match level {
        ReadLevel::Leader => Level::Leader,
        ReadLevel::Lease => Level::Lease,
        ReadLevel::Follower => Level::Follower,
    }
}
