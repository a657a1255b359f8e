//! The clients of a simulated cluster: one operation at a time, each written down when it begins and when it ends.
//!
//! What a client sends takes its time to the node, and what it is told takes its time back. A write whose fate is unknown may
//! be sent again, under its name; then only an answer settles it.

use std::time::Duration;

use quorate::machine::{Expect, command::ModIndex};
use quorate::raft::sim::{Ask, Said, Slot};

use super::stage::{self, Stage};
use crate::history::event::Kind;
use crate::history::{Answer, Call, Event, Level};

/// How long a node may try, by its own clock.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long a client waits for it to say so.
const WAIT_MS: u64 = 2_500;
/// Attempts for one write.
const ATTEMPTS: u32 = 3;

/// An operation to come.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) key: String,
    pub(crate) call: Call,
    pub(crate) level: Option<Level>,
    /// The write that a compare-and-set expects.
    pub(crate) tag: Option<ModIndex>,
}

impl Planned {
    pub(crate) fn new(key: &str, call: Call, level: Option<Level>) -> Planned {
        Planned {
            key: key.to_owned(),
            call,
            level,
            tag: None,
        }
    }
}

/// Where an operation is.
enum At {
    Nowhere,
    /// On its way to the node, where it is due.
    Sent(u64),
    Asked(Slot),
    /// On its way back.
    Told(u64, Said),
}

/// A client.
pub(crate) struct Client {
    process: i64,
    /// The node that it always asks; none for one that looks for the leader.
    home: Option<u64>,
    /// Whether it goes on by itself.
    works: bool,
    only_reads: bool,
    /// The one key and level that it works with.
    only: Option<(&'static str, Level)>,
    next_ms: u64,
    operations: u64,
    planned: Option<Planned>,
    op: Option<String>,
    attempt: u32,
    doubt: Option<String>,
    node: u64,
    at: At,
    until_ms: u64,
    /// The last values seen of keys, for compare-and-set.
    seen: Option<(String, Option<i64>, Option<ModIndex>)>,
    was_answered: bool,
}

impl Client {
    /// A client that `works` by itself, or waits for [`Client::begin`].
    pub(crate) fn new(stage: &mut Stage, home: Option<u64>, works: bool) -> Client {
        Client {
            process: stage.process(),
            home,
            works,
            only_reads: false,
            only: None,
            next_ms: stage.now_ms() + stage.random.below(50),
            operations: 0,
            planned: None,
            op: None,
            attempt: 0,
            doubt: None,
            node: home.unwrap_or(1),
            at: At::Nowhere,
            until_ms: 0,
            seen: None,
            was_answered: false,
        }
    }

    /// One that never writes.
    pub(crate) fn reading(self) -> Client {
        Client {
            only_reads: true,
            ..self
        }
    }

    /// One that works with one key, reading at one level or else only writing, as quickly as it can.
    pub(crate) fn only(self, key: &'static str, level: Level) -> Client {
        Client {
            only: Some((key, level)),
            ..self
        }
    }

    /// It begins nothing more.
    pub(crate) fn stop(&mut self) {
        self.works = false;
    }

    /// Whether it waits for nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.planned.is_none()
    }

    /// Whether its last operation was answered.
    pub(crate) fn was_answered(&self) -> bool {
        self.was_answered
    }

    /// Begins an operation.
    pub(crate) fn begin(&mut self, stage: &mut Stage, planned: Planned) {
        self.operations += 1;
        let op = format!("c{}-{}", self.process, self.operations);
        self.op = planned.call.is_write().then_some(op);
        stage.keys.insert(planned.key.clone());
        let event = Event {
            level: planned.level,
            op: self.op.clone(),
            ..self.event(Kind::Invoke, &planned, planned.call.value())
        };
        stage.record(event);
        self.planned = Some(planned);
        (self.attempt, self.doubt) = (0, None);
        self.send(stage);
    }

    fn send(&mut self, stage: &mut Stage) {
        self.attempt += 1;
        if let Some(home) = self.home {
            self.node = home;
        }
        let now_ms = stage.now_ms();
        self.at = At::Sent(now_ms + stage.random.below(3));
        self.until_ms = now_ms + WAIT_MS;
    }

    /// One look at how far it is.
    pub(crate) fn look(&mut self, stage: &mut Stage) {
        let now_ms = stage.now_ms();
        match std::mem::replace(&mut self.at, At::Nowhere) {
            At::Nowhere => {
                if self.works && now_ms >= self.next_ms {
                    let planned = self.plan(stage);
                    self.begin(stage, planned);
                }
            }
            At::Sent(at) if now_ms < at => self.at = At::Sent(at),
            At::Sent(_) => self.ask(stage),
            At::Asked(slot) => {
                let said = slot.lock().expect("nobody panics holding it").take();
                match said {
                    // Now and then an answer is lost on its way.
                    Some(_) if stage.random.below(200) == 0 => self.at = At::Asked(slot),
                    Some(said) => self.at = At::Told(now_ms + stage.random.below(4), said),
                    None if now_ms < self.until_ms => self.at = At::Asked(slot),
                    None => self.told(stage, Said::Unknown("no answer in time".to_owned())),
                }
            }
            At::Told(at, said) if now_ms < at => self.at = At::Told(at, said),
            At::Told(_, said) => self.told(stage, said),
        }
    }

    fn ask(&mut self, stage: &mut Stage) {
        let Some(planned) = &self.planned else {
            return;
        };
        let ask = match (&planned.call, planned.level) {
            (Call::Read, level) => Ask::Read {
                level: stage::asked(level.unwrap_or(Level::Leader)),
                key: planned.key.clone(),
            },
            (Call::Write(value), _) => self.put(planned, *value, Expect::Any),
            (Call::Cas(_, value), _) => self.put(
                planned,
                *value,
                planned.tag.map_or(Expect::Absent, Expect::At),
            ),
            (other, _) => unreachable!("nobody plans {other:?}"),
        };
        match stage.world.ask(self.node, ask, PATIENCE) {
            Some(slot) => self.at = At::Asked(slot),
            None => {
                let said = Said::NotDone {
                    why: "connection refused".to_owned(),
                    leader: None,
                };
                self.at = At::Told(stage.now_ms() + 1, said);
            }
        }
    }

    fn put(&self, planned: &Planned, value: i64, expect: Expect) -> Ask {
        Ask::Put {
            op: self.op.clone().unwrap_or_default(),
            key: planned.key.clone(),
            value: value.to_string(),
            expect,
        }
    }

    fn told(&mut self, stage: &mut Stage, said: Said) {
        let Some(planned) = self.planned.clone() else {
            return;
        };
        let is_write = planned.call.is_write();
        let why = match said {
            Said::Value { .. } | Said::Put { .. } | Said::HandedOver => {
                let event = self.ok(&planned, said);
                stage.record(event);
                return self.end(stage, true);
            }
            Said::NotDone { why, leader } => {
                self.node = match leader {
                    Some(leader) => leader,
                    None => *stage.random.pick(&stage.world.ids()),
                };
                why
            }
            Said::Unknown(why) => {
                self.doubt.get_or_insert(why.clone());
                self.node = *stage.random.pick(&stage.world.ids());
                why
            }
        };
        if is_write && self.attempt < ATTEMPTS && stage.random.percent(60) {
            return self.send(stage);
        }
        // Once an attempt is unknown, it stays so.
        let is_open = self.doubt.is_some() || !is_write;
        let kind = if is_open { Kind::Info } else { Kind::Fail };
        let event = Event {
            node: Some(self.node),
            error: Some(why),
            ..self.event(kind, &planned, serde_json::Value::Null)
        };
        stage.record(event);
        if is_open {
            self.process = stage.process();
        }
        self.end(stage, false);
    }

    fn end(&mut self, stage: &mut Stage, was_answered: bool) {
        self.planned = None;
        self.at = At::Nowhere;
        self.was_answered = was_answered;
        let pause_ms = if self.only.is_some() { 2 } else { 60 };
        self.next_ms = stage.now_ms() + stage.random.between(1, pause_ms);
    }

    fn ok(&mut self, planned: &Planned, said: Said) -> Event {
        let event = Event {
            node: Some(self.node),
            ..self.event(Kind::Ok, planned, serde_json::Value::Null)
        };
        match said {
            Said::Value {
                applied,
                level,
                value,
            } => {
                let number = |text: &str| text.parse().expect("only numbers are written");
                let held = value.as_ref().map(|value| number(&value.text));
                self.seen = Some((planned.key.clone(), held, value.map(|value| value.tag)));
                Event {
                    level: Some(stage::reached(level)),
                    applied: Some(applied),
                    value: Answer::Register(held).value(),
                    ..event
                }
            }
            Said::Put { index, done } => {
                let written = match planned.call {
                    Call::Write(value) | Call::Cas(_, value) => Some(value),
                    _ => None,
                };
                if done.is_some() {
                    self.seen = Some((planned.key.clone(), written, done));
                }
                let is_cas = matches!(planned.call, Call::Cas(..));
                Event {
                    result: is_cas.then_some(done.is_some()),
                    log_index: Some(index),
                    ..event
                }
            }
            other => unreachable!("{other:?} ends no operation of a client"),
        }
    }

    fn event(&self, kind: Kind, planned: &Planned, value: serde_json::Value) -> Event {
        Event {
            key: Some(planned.key.clone()),
            value,
            ..Event::new(self.process, kind, planned.call.name())
        }
    }

    /// Reads at every level, writes, and compare-and-set of what was seen last; keys rotate.
    fn plan(&mut self, stage: &mut Stage) -> Planned {
        let value = stage.next_value;
        stage.next_value += 1;
        if let Some((key, level)) = self.only {
            return match self.only_reads {
                true => Planned::new(key, Call::Read, Some(level)),
                false => Planned::new(key, Call::Write(value), None),
            };
        }
        let lane = stage.random.below(3);
        let key = format!("r{}-{lane}", value / 200);
        let dice = stage.random.below(100);
        let seen = self.seen.clone().filter(|(of, ..)| *of == key);
        match (dice, seen) {
            (70.., Some((_, old, tag))) if !self.only_reads => Planned {
                tag,
                ..Planned::new(&key, Call::Cas(old, value), None)
            },
            (55.., _) if !self.only_reads => Planned::new(&key, Call::Write(value), None),
            _ => {
                let level = *stage.random.pick(&[
                    Level::Lease,
                    Level::Lease,
                    Level::Leader,
                    Level::Follower,
                ]);
                Planned::new(&key, Call::Read, Some(level))
            }
        }
    }
}
