//! A client: one operation at a time, each written down before its first byte and after its last.
//!
//! A write keeps its name (idempotency key or transfer id) through all attempts, so one that is unknown may be sent again:
//! once an attempt is unknown, only an answer settles it. Some answered writes are sent once more later, to another node:
//! the cluster must give the same answer and do nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::api::{self, Asked, Said, Told};
use super::http::{Connection, Lost};
use super::workloads::{Planned, Workload};
use super::world::World;
use crate::history::event::Kind;
use crate::history::{Answer, Call, Event};
use crate::random::Random;

/// Longer than most faults: an unknown outcome costs the checkers more than waiting.
const PATIENCE: Duration = Duration::from_secs(8);
/// Attempts for one write.
const ATTEMPTS: u32 = 4;
/// Share of unknown writes that are tried again, in percent.
const RETRIED: u64 = 70;
/// How long a read that must see an index is asked for until it does.
const CATCHES_UP: Duration = Duration::from_secs(4);
/// The pause before it is asked for again.
const AGAIN: Duration = Duration::from_millis(10);

/// A client.
pub(crate) struct Client {
    world: Arc<World>,
    random: Random,
    process: i64,
    /// The node that it always asks, for as long as that is there; none for one that asks any.
    home: Option<u64>,
    connections: BTreeMap<u64, Connection>,
    /// Answered writes to be sent once more, with the node that answered, when they are due.
    again: Vec<(Instant, u64, Asked)>,
    /// It never writes: a write to a node that is cut off would keep it from seeing what that node still answers.
    only_reads: bool,
    /// Share of answered writes that are sent again, in percent.
    resent: u64,
    operations: u64,
    /// Where its last answered write was applied, and who answered it.
    wrote: Option<(u64, u64)>,
}

impl Client {
    /// A client; every second one always asks the same node, and of these every second only reads.
    pub(crate) fn new(world: Arc<World>, number: u64, seed: u64, resent: u64) -> Client {
        let nodes = world.roster.present();
        // Those that only read are spread over all nodes too.
        let place = (number / 4 + number / 2) % nodes.len() as u64;
        let home = nodes[usize::try_from(place).expect("few nodes")].0;
        Client {
            process: world.process(),
            random: Random::new(seed),
            home: number.is_multiple_of(2).then_some(home),
            only_reads: number.is_multiple_of(4),
            connections: BTreeMap::new(),
            again: Vec::new(),
            resent,
            operations: 0,
            wrote: None,
            world,
        }
    }

    /// Works until everybody is asked to stop.
    pub(crate) fn run(mut self, workload: &dyn Workload, think: Duration) {
        while !self.world.is_stopped() {
            self.send_again(false);
            let mut planned = workload.next(&self.world, &mut self.random);
            while self.only_reads && planned.call.is_write() {
                planned = workload.next(&self.world, &mut self.random);
            }
            self.perform(planned, None);
            let pause = self.random.latency(think.as_secs_f64() * 1e3);
            thread::sleep(Duration::from_nanos(pause).min(think * 4));
        }
        self.send_again(true);
    }

    /// One operation; its answer if it has one. Asks `node`, or whom this client asks.
    pub(crate) fn perform(&mut self, planned: Planned, node: Option<u64>) -> Option<Told> {
        let asked = self.asked(planned);
        // Its own writes are seen at once where they were answered: of interest is another node.
        let writer = self.wrote.filter(|_| asked.min_index.is_some());
        let node = node.or_else(|| writer.map(|(_, node)| self.another(node)));
        if let Some(key) = &asked.key {
            self.world.uses(key);
        }
        self.world.record(Event {
            level: asked.level,
            min_index: asked.min_index,
            op: asked.op.clone(),
            ..self.event(Kind::Invoke, &asked, asked.call.value())
        });
        let (node, said) = self.settle(&asked, node);
        match said {
            Said::Done(told) => {
                self.done(&asked, node, &told);
                Some(told)
            }
            Said::NotApplied(why) if asked.call.is_write() => {
                self.ended(Kind::Fail, &asked, node, why);
                None
            }
            Said::NotApplied(why) | Said::Unknown(why) => {
                self.ended(Kind::Info, &asked, node, why);
                self.process = self.world.process();
                None
            }
            Said::Absurd(why) => {
                self.ended(Kind::Info, &asked, node, why.clone());
                self.process = self.world.process();
                self.world.fail(why);
                None
            }
        }
    }

    fn asked(&mut self, planned: Planned) -> Asked {
        self.operations += 1;
        let op = format!("c{}-{}", self.process, self.operations);
        let wrote = self.wrote.filter(|_| planned.own);
        Asked {
            min_index: wrote.map(|(index, _)| index),
            op: planned.call.is_write().then_some(op),
            call: planned.call,
            key: planned.key,
            level: planned.level,
            tag: planned.tag,
        }
    }

    fn event(&self, kind: Kind, asked: &Asked, value: serde_json::Value) -> Event {
        Event {
            key: asked.key.clone(),
            value,
            ..Event::new(self.process, kind, asked.call.name())
        }
    }

    fn done(&mut self, asked: &Asked, node: u64, told: &Told) {
        self.world.record(self.ok(asked, node, told));
        if let Some(index) = told.index.filter(|_| asked.call.is_write()) {
            self.wrote = self.wrote.max(Some((index, node)));
        }
        if let Some(key) = asked.key.as_deref().filter(|key| !api::is_set(key)) {
            match (&asked.call, &told.answer) {
                (Call::Read, Answer::Register(value)) => {
                    self.world.saw(key, (*value, told.tag.clone()));
                }
                (Call::Write(value), _) | (Call::Cas(_, value), Answer::Applied(true)) => {
                    self.world.saw(key, (Some(*value), told.tag.clone()));
                }
                _ => {}
            }
        }
        if asked.call.is_write() && self.random.percent(self.resent) {
            let wait = Duration::from_millis(self.random.below(4_000));
            self.again
                .push((Instant::now() + wait, node, asked.clone()));
        }
    }

    fn ok(&self, asked: &Asked, node: u64, told: &Told) -> Event {
        let is_write = asked.call.is_write();
        let result = match told.answer {
            Answer::Applied(applied) => Some(applied),
            _ => None,
        };
        Event {
            result,
            level: told.reached,
            node: Some(node),
            log_index: told.index.filter(|_| is_write),
            applied: told.index.filter(|_| !is_write),
            staleness: told.staleness,
            ..self.event(Kind::Ok, asked, told.answer.value())
        }
    }

    fn ended(&self, kind: Kind, asked: &Asked, node: u64, why: String) {
        self.world.record(Event {
            node: Some(node),
            error: Some(why),
            ..self.event(kind, asked, serde_json::Value::Null)
        });
    }

    /// Asks until it is settled or given up.
    fn settle(&mut self, asked: &Asked, node: Option<u64>) -> (u64, Said) {
        let mut doubt: Option<String> = None;
        let mut node = node.unwrap_or_else(|| self.whom());
        if let Some(min) = asked.min_index {
            return (node, self.wait_seen(asked, node, min));
        }
        for attempt in 1.. {
            let said = self.attempt(asked, node);
            let settled = match said {
                Said::Done(_) | Said::Absurd(_) => return (node, said),
                Said::NotApplied(why) => match &doubt {
                    // The attempt before may still be on its way.
                    Some(doubt) => Said::Unknown(format!("{doubt}, then {why}")),
                    None => Said::NotApplied(why),
                },
                Said::Unknown(why) => {
                    doubt = Some(why.clone());
                    Said::Unknown(why)
                }
            };
            let again = asked.call.is_write() && attempt < ATTEMPTS && self.random.percent(RETRIED);
            if !again || self.world.is_stopped() {
                return (node, settled);
            }
            node = self.another(node);
        }
        unreachable!("attempts are counted")
    }

    /// Reads again until the answer is of that index or a later one.
    fn wait_seen(&mut self, asked: &Asked, node: u64, min: u64) -> Said {
        let start = Instant::now();
        loop {
            match self.attempt(asked, node) {
                Said::Done(told) if told.index.is_some_and(|index| index < min) => {}
                other => return other,
            }
            if start.elapsed() > CATCHES_UP || self.world.is_stopped() {
                let what = format!("not at {min} after {:?}", start.elapsed());
                return Said::NotApplied(what);
            }
            thread::sleep(AGAIN);
        }
    }

    fn attempt(&mut self, asked: &Asked, node: u64) -> Said {
        let connection = self.connections.entry(node).or_default();
        let request = api::request(asked);
        let addr = self.world.addr(node);
        // Now and then a client sends a write and goes away at once; it asks what became of it by sending it again.
        if asked.call.is_write() && self.random.percent(1) {
            connection.throw(addr, &request, PATIENCE);
            return Said::Unknown("the answer was not waited for".to_owned());
        }
        match connection.ask(addr, &request, PATIENCE) {
            Ok(reply) => api::said(asked, &reply),
            Err(Lost::NotSent(why)) => {
                // A node that is down refuses at once: no reason to ask it a thousand times a second.
                thread::sleep(Duration::from_millis(20));
                Said::NotApplied(why)
            }
            Err(Lost::Unknown(why)) => Said::Unknown(why),
        }
    }

    fn whom(&mut self) -> u64 {
        let present = self.world.roster.present();
        match &mut self.home {
            None => self.random.pick(&present).0,
            Some(home) => {
                if !self.world.roster.has(*home) {
                    *home = self.random.pick(&present).0;
                }
                *home
            }
        }
    }

    fn another(&mut self, node: u64) -> u64 {
        let others = self.world.roster.present().into_iter().map(|(id, _)| id);
        let others: Vec<u64> = others.filter(|id| *id != node).collect();
        *self.random.pick(&others)
    }

    /// Sends answered writes once more: those that are due, or all of them.
    fn send_again(&mut self, all: bool) {
        let now = Instant::now();
        let due = |(when, _, _): &(Instant, u64, Asked)| all || *when <= now;
        let (due, later) = std::mem::take(&mut self.again).into_iter().partition(due);
        self.again = later;
        let due: Vec<(Instant, u64, Asked)> = due;
        for (_, first, asked) in due {
            let node = self.another(first);
            self.world.record(Event {
                op: asked.op.clone(),
                again: true,
                ..self.event(Kind::Invoke, &asked, asked.call.value())
            });
            let said = self.attempt(&asked, node);
            let event = match said {
                Said::Done(told) => self.ok(&asked, node, &told),
                Said::NotApplied(why) => self.event_of_nothing(&asked, node, why),
                Said::Unknown(why) => self.event_of_nothing(&asked, node, why),
                Said::Absurd(why) => {
                    self.world.fail(format!("sent again: {why}"));
                    self.event_of_nothing(&asked, node, why)
                }
            };
            let is_info = event.kind == Kind::Info;
            self.world.record(Event {
                again: true,
                ..event
            });
            if is_info {
                self.process = self.world.process();
            }
        }
    }

    fn event_of_nothing(&self, asked: &Asked, node: u64, why: String) -> Event {
        Event {
            node: Some(node),
            error: Some(why),
            ..self.event(Kind::Info, asked, serde_json::Value::Null)
        }
    }
}
