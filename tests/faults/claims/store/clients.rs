//! The simulated clients: what they ask, of whom, and what becomes of it.

use crate::history::{Call, Event, Kind, Level, Micro, Transfer};

use super::Flaw;
use super::cluster::{Cluster, Due, MS, NODES, PATIENCE};
use super::state::ACCOUNTS;

/// Operations on a register before the clients go on to the next ones.
const ROTATION: i64 = 150;

/// How an operation will end for its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answered.
    Ok,
    /// Refused before anything was done.
    Fail,
    /// Given up.
    Info,
}

/// An operation under way.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    /// Who asks.
    pub(crate) client: u64,
    /// Which node is asked.
    pub(crate) node: u64,
    /// What is asked.
    pub(crate) call: Call,
    /// The line that began it.
    pub(crate) begun: Event,
    /// What its client will be told.
    pub(crate) fate: Fate,
    /// The line that ends it if it is answered.
    pub(crate) answer: Option<Event>,
}

impl Cluster {
    /// A client begins an operation, unless the time is over.
    pub(crate) fn begin(&mut self, client: u64) {
        if self.time() >= self.ends_at {
            return;
        }
        let node = client % NODES + 1;
        let (key, call) = self.choose();
        let level = (!call.is_write()).then(|| *self.random.pick(&Level::ALL));
        let id = self.take_off(client, node, key, call, level);
        self.route(id);
    }

    /// Writes the invoke.
    pub(crate) fn take_off(
        &mut self,
        client: u64,
        node: u64,
        key: Option<String>,
        call: Call,
        level: Option<Level>,
    ) -> u64 {
        let at = usize::try_from(client).expect("few clients");
        let mut begun = Event::new(self.processes[at], Kind::Invoke, call.name());
        begun.key = key;
        begun.value = call.value();
        begun.node = Some(node);
        let id = self.next_flight;
        self.next_flight += 1;
        begun.level = level;
        if call.is_write() {
            begun.op = Some(format!("o{id}"));
        } else {
            let is_session = level == Some(Level::Follower) && self.random.percent(40);
            begun.min_index = is_session
                .then(|| self.tokens[at])
                .filter(|token| *token > 0);
        }
        self.record(begun.clone());
        let flight = Flight {
            client,
            node,
            call,
            begun,
            fate: Fate::Ok,
            answer: None,
        };
        self.flights.insert(id, flight);
        id
    }

    /// Decides what becomes of an operation that was sent.
    fn route(&mut self, id: u64) {
        let Flight { node, begun, .. } = self.flights[&id].clone();
        let now = self.time();
        let fault = self.nodes[&node].fault;
        let is_local = begun.level == Some(Level::Follower);
        let latency = self.random.latency(if is_local { 0.8 } else { 3.0 });
        let waits = if is_local {
            0
        } else {
            self.leaderless_until.saturating_sub(now)
        };
        let start = now + waits;
        match fault {
            Some("kill") => return self.settle(id, Fate::Fail, None, now + latency),
            Some("partition") if is_local => {}
            None if waits < PATIENCE => {}
            _ => {
                let late = start.max(now + PATIENCE / 2) + latency;
                let effect = self.random.percent(40).then_some(late);
                return self.settle(id, Fate::Info, effect, now + PATIENCE);
            }
        }
        match self.random.below(100) {
            0 => {
                let effect = self.random.percent(60).then_some(start + latency);
                self.settle(id, Fate::Info, effect, now + PATIENCE);
            }
            1 | 2 => {
                let flaw = if begun.f == "txn" {
                    Flaw::AbortedAppend
                } else {
                    Flaw::FailApplied
                };
                let effect = self.errs(flaw, 90).then_some(start + latency / 2);
                self.settle(id, Fate::Fail, effect, start + latency);
            }
            _ => {
                let effect = start + latency * self.random.between(2, 9) / 10;
                self.settle(id, Fate::Ok, Some(effect), start + latency);
                let retried = begun.op.is_some() && self.random.percent(5);
                if retried || begun.op.is_some() && self.errs(Flaw::DoubledWrite, 30) {
                    let again = effect + self.random.latency(8.0);
                    self.at(again, Due::Retry(id));
                }
            }
        }
    }

    fn settle(&mut self, id: u64, fate: Fate, effect: Option<u64>, end: u64) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.fate = fate;
        }
        if let Some(effect) = effect {
            self.at(effect, Due::Effect(id));
        }
        self.at(end, Due::End(id));
    }

    /// An operation is over for its client, who thinks and goes on.
    pub(crate) fn end(&mut self, id: u64) {
        if self.held == Some(id) {
            self.flush();
        }
        let client = self.land(id);
        let think = self.random.between(0, 2 * self.options.think_ms + 1) * MS;
        self.at(self.time() + think, Due::Begin(client));
    }

    /// Writes the end.
    pub(crate) fn land(&mut self, id: u64) -> u64 {
        let Flight {
            client,
            begun,
            fate,
            answer,
            ..
        } = self.flights[&id].clone();
        let at = usize::try_from(client).expect("few clients");
        let told = |kind: Kind, error: Option<&str>| Event {
            kind,
            value: serde_json::Value::Null,
            error: error.map(str::to_owned),
            min_index: None,
            level: None,
            ..begun.clone()
        };
        match (fate, answer) {
            (Fate::Ok, Some(answer)) => {
                let shown = answer.log_index.or(answer.applied).unwrap_or_default();
                self.tokens[at] = self.tokens[at].max(shown);
                self.record(answer);
            }
            // Asked something that this node could not answer in time, and said so.
            (Fate::Ok | Fate::Fail, _) => self.record(told(Kind::Fail, Some("refused"))),
            (Fate::Info, _) => {
                self.record(told(Kind::Info, Some("timeout")));
                let highest = self.processes.iter().max().copied().unwrap_or_default();
                self.processes[at] = highest + 1;
            }
        }
        client
    }

    /// The next operation of a client: key and call.
    fn choose(&mut self) -> (Option<String>, Call) {
        let kinds = ["register", "register", "bank", "set", "append"];
        let kind = match self.options.workload.as_str() {
            "mixed" => *self.random.pick(&kinds),
            other => kinds
                .into_iter()
                .find(|kind| *kind == other)
                .unwrap_or("register"),
        };
        let dice = self.random.below(100);
        let value = self.next_value;
        self.next_value += 1;
        match kind {
            "bank" if dice < 40 => (None, Call::Read),
            "bank" => (None, self.transfer()),
            "set" if dice < 40 => (Some("set".to_owned()), Call::Read),
            "set" => (Some("set".to_owned()), Call::Add(value)),
            "append" => (None, self.transaction(value)),
            _ => {
                let width = i64::try_from(self.options.clients / 3 + 1).expect("few clients");
                let lane =
                    i64::try_from(self.random.below(u64::try_from(width).expect("positive")))
                        .expect("small");
                let key = format!("r{}", value / (ROTATION * width) * width + lane);
                let call = match dice {
                    0..40 => Call::Read,
                    40..70 => Call::Write(value),
                    _ => {
                        let known = self.random.percent(70);
                        let held = self.state.register(&key);
                        let older = || {
                            self.state
                                .registers
                                .get(&key)
                                .and_then(|held| held.first())
                                .copied()
                        };
                        Call::Cas(if known { held } else { older() }, value)
                    }
                };
                (Some(key), call)
            }
        }
    }

    fn transfer(&mut self) -> Call {
        let from = (*self.random.pick(&ACCOUNTS)).to_owned();
        let others: Vec<&str> = ACCOUNTS.into_iter().filter(|name| *name != from).collect();
        let to = (*self.random.pick(&others)).to_owned();
        let is_large = self.random.percent(15);
        let amount = self.random.between(1, if is_large { 40 } else { 6 });
        Call::Transfer(Transfer {
            from,
            to,
            amount: i64::try_from(amount).expect("small"),
        })
    }

    fn transaction(&mut self, value: i64) -> Call {
        let len = self.random.between(1, 4);
        let round = value / 400;
        let mut steps = Vec::new();
        for number in 0..len {
            let key = format!("l{round}-{}", self.random.below(3));
            let is_append = self.random.percent(50);
            // Elements are unique over all lists.
            steps.push(match (is_append, i64::try_from(number)) {
                (true, Ok(number)) => Micro::Append(key, value * 10 + number),
                _ => Micro::Read(key, None),
            });
        }
        Call::Txn(steps)
    }
}
