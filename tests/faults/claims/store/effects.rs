//! What an operation does in the simulated store, rightly or with a flaw.

use serde_json::{Value, json};

use crate::history::applied::Entry;
use crate::history::{Call, Event, Kind, Level};

use super::Flaw;
use super::clients::{Fate, Flight};
use super::cluster::Cluster;
use super::state::State;

impl Cluster {
    /// An operation takes effect: a write is put into the log, a read sees its state.
    pub(crate) fn take_effect(&mut self, id: u64) {
        let flight = self.flights[&id].clone();
        if !flight.call.is_write() {
            let answer = self.see(&flight);
            self.answer(id, answer);
            return;
        }
        if self.held.is_none() && flight.fate == Fate::Ok && self.random.percent(25) {
            self.held = Some(id);
            return;
        }
        if matches!(flight.call, Call::Write(_)) && self.errs(Flaw::LostWrite, 10) {
            self.flush();
            let answer = Event {
                log_index: Some(self.last_index),
                ..ok(&flight)
            };
            return self.answer(id, Some(answer));
        }
        if matches!(flight.call, Call::Write(_))
            && self.errs(Flaw::OrderAgainstTime, 80)
            && self.slip_in(id, &flight)
        {
            return;
        }
        let together = self.held.take().into_iter().chain([id]);
        self.append(together.collect());
    }

    /// Puts what waits into the log.
    pub(crate) fn flush(&mut self) {
        if let Some(held) = self.held.take() {
            self.append(vec![held]);
        }
    }

    /// One entry with these writes.
    fn append(&mut self, ids: Vec<u64>) {
        self.last_index += 1;
        for id in ids {
            let flight = self.flights[&id].clone();
            self.append_one(id, &flight);
            if matches!(flight.call, Call::Transfer(_)) && self.errs(Flaw::DoubledTransfer, 20) {
                self.append_one(id, &flight);
            }
        }
    }

    fn append_one(&mut self, id: u64, flight: &Flight) {
        let is_wild = match flight.call {
            Call::Cas(..) => self.errs(Flaw::WildCas, 80),
            Call::Transfer(_) => self.errs(Flaw::Overdrawn, 80),
            Call::Txn(_) => self.errs(Flaw::AppendInTheMiddle, 50),
            Call::Read | Call::Write(_) | Call::Add(_) => false,
        };
        let key = flight.begun.key.as_deref().unwrap_or_default();
        let mut result = self.state.apply(key, &flight.call, is_wild);
        if matches!(flight.call, Call::Txn(_)) && self.errs(Flaw::FracturedTransaction, 40) {
            fracture(&mut result);
        }
        self.log
            .push(entry(flight, self.last_index, self.term, &result, false));
        let answer = with_result(ok(flight), &flight.call, &result);
        self.answer(
            id,
            Some(Event {
                log_index: Some(self.last_index),
                ..answer
            }),
        );
    }

    /// A write that was sent twice arrives for the second time.
    pub(crate) fn take_effect_again(&mut self, id: u64) {
        self.flush();
        let flight = self.flights[&id].clone();
        let Some(original) = self
            .log
            .iter()
            .find(|entry| Some(&entry.op) == flight.begun.op.as_ref())
        else {
            return;
        };
        let mut result = original.result.clone();
        let is_forgotten =
            matches!(flight.call, Call::Write(_)) && self.errs(Flaw::DoubledWrite, 100);
        if let Some(answered) = result
            .as_bool()
            .filter(|_| self.options.flaw == Some(Flaw::ForgetfulRetry))
        {
            result = Value::Bool(!answered);
        }
        self.last_index += 1;
        if is_forgotten {
            let key = flight.begun.key.as_deref().unwrap_or_default();
            result = self.state.apply(key, &flight.call, false);
        }
        self.log.push(entry(
            &flight,
            self.last_index,
            self.term,
            &result,
            !is_forgotten,
        ));
    }

    /// Puts a write before the last one of the same register, under the same index, if that is over already.
    fn slip_in(&mut self, id: u64, flight: &Flight) -> bool {
        self.flush();
        let Some(last) = self
            .log
            .last()
            .filter(|last| last.key == flight.begun.key && last.f == "write")
        else {
            return false;
        };
        let (index, term, key) = (
            last.index,
            last.term,
            flight.begun.key.clone().unwrap_or_default(),
        );
        let entry = entry(flight, index, term, &Value::Null, false);
        self.log.insert(self.log.len() - 1, entry);
        let current = self
            .nodes
            .values_mut()
            .filter(|node| node.seen + 1 == self.log.len());
        let nodes = current.map(|node| {
            node.seen += 1;
            &mut node.state
        });
        for state in nodes.chain([&mut self.state]) {
            if let (Some(held), Call::Write(value)) = (state.registers.get_mut(&key), &flight.call)
            {
                held.insert(held.len() - 1, *value);
            }
        }
        self.answer(
            id,
            Some(Event {
                log_index: Some(index),
                ..ok(flight)
            }),
        );
        true
    }

    fn answer(&mut self, id: u64, answer: Option<Event>) {
        if let Some(flight) = self.flights.get_mut(&id) {
            flight.answer = answer;
        }
    }

    /// What a read sees; nothing if it demands what its node does not have.
    pub(crate) fn see(&mut self, flight: &Flight) -> Option<Event> {
        let level = flight.begun.level?;
        let mut answer = match level {
            Level::Follower => self.see_at_node(flight)?,
            Level::Leader => self.see_at_leader(flight, Flaw::StaleLeaderRead),
            Level::Lease => self.see_at_leader(flight, Flaw::StaleLeaseRead),
        };
        let is_upgraded = level == Level::Lease && self.random.percent(15);
        answer.level = Some(if is_upgraded { Level::Leader } else { level });
        Some(answer)
    }

    fn see_at_leader(&mut self, flight: &Flight, stale: Flaw) -> Event {
        self.flush();
        let mut answer = Event {
            value: self.value(flight, &self.state),
            applied: Some(self.last_index),
            ..ok(flight)
        };
        answer.node = Some(self.leader);
        let (is_stale, is_lie) = (self.errs(stale, 30), self.errs(Flaw::LyingRead, 30));
        if is_stale || is_lie {
            let seen = self.log.len().saturating_sub(6);
            answer.value = self.value(flight, &self.replay(seen));
            if is_stale {
                answer.applied = Some(seen.checked_sub(1).map_or(0, |last| self.log[last].index));
                answer.value = self.value(flight, &self.replay_to(answer.applied));
            }
        }
        self.spoil(flight, &mut answer.value);
        answer
    }

    fn see_at_node(&mut self, flight: &Flight) -> Option<Event> {
        let node = &self.nodes[&flight.node];
        let (seen, applied, current_at) = (node.seen, node.applied, node.current_at);
        let mut answer = Event {
            value: self.value(flight, &node.state),
            applied: Some(applied),
            ..ok(flight)
        };
        answer.staleness = Some(self.time() - current_at + 1);
        let is_short = flight.begun.min_index.is_some_and(|min| min > applied);
        if is_short && !self.errs(Flaw::TokenIgnored, 100) {
            return None;
        }
        if self.errs(Flaw::GoesBack, 30) {
            let earlier = seen
                .saturating_sub(10)
                .checked_sub(1)
                .map_or(0, |last| self.log[last].index);
            answer.applied = Some(earlier);
            answer.value = self.value(flight, &self.replay_to(answer.applied));
            answer.staleness = None;
        }
        if self.errs(Flaw::BoundTooTight, 100) {
            answer.staleness = Some(1);
        }
        if self.errs(Flaw::AppliedTooHigh, 60) {
            answer.applied = Some(self.last_index + 2);
            answer.staleness = None;
        }
        if seen > 2
            && self.errs(Flaw::ReorderedPrefix, 60)
            && self.log[seen - 1].index > self.log[seen - 2].index
        {
            let mut state = self.replay(seen - 2);
            apply(&mut state, &self.log[seen - 1]);
            answer.value = self.value(flight, &state);
            answer.applied = Some(self.log[seen - 2].index);
            answer.staleness = None;
        }
        Some(answer)
    }

    /// What a read of this kind shows of a state.
    fn value(&self, flight: &Flight, state: &State) -> Value {
        match flight.begun.key.as_deref() {
            None => state.balances(),
            Some("set") => json!(state.sets.get("set").cloned().unwrap_or_default()),
            Some(key) => json!(state.register(key)),
        }
    }

    /// Does to a right answer what a flaw would.
    fn spoil(&mut self, flight: &Flight, value: &mut Value) {
        if flight.begun.key.is_none() && self.errs(Flaw::FracturedBank, 30) {
            let old = self.replay(self.log.len().saturating_sub(8)).balances();
            let changed = |name: &&String| old[name.as_str()] != value[name.as_str()];
            let name = old
                .as_object()
                .and_then(|all| all.keys().find(changed))
                .cloned();
            if let Some(name) = name {
                value[&name] = old[&name].clone();
            }
        }
        if flight.begun.key.is_none()
            && self.errs(Flaw::MissingAccount, 20)
            && let Some(balances) = value.as_object_mut()
        {
            balances.remove("dan");
        }
        if value.is_i64() && self.errs(Flaw::InventedValue, 10) {
            *value = json!(-7);
        }
        let Some(elements) = value.as_array_mut().filter(|elements| elements.len() > 5) else {
            return;
        };
        if self.errs(Flaw::ForgottenElement, 20) {
            elements.remove(1);
        }
        if self.errs(Flaw::DoubledElement, 20) {
            elements.push(elements[0].clone());
        }
        if self.errs(Flaw::PhantomElement, 20) {
            elements.push(json!(-7));
        }
    }

    /// The state after the first `seen` entries.
    fn replay(&self, seen: usize) -> State {
        let mut state = State::new();
        for entry in &self.log[..seen] {
            apply(&mut state, entry);
        }
        state
    }

    fn replay_to(&self, applied: Option<u64>) -> State {
        let applied = applied.unwrap_or_default();
        self.replay(self.log.partition_point(|entry| entry.index <= applied))
    }
}

fn apply(state: &mut State, entry: &Entry) {
    if !entry.dup {
        let call = Call::parse(&entry.f, &entry.value).expect("the log keeps the format");
        state.apply(
            entry.key.as_deref().unwrap_or_default(),
            &call,
            entry.result == true,
        );
    }
}

/// Takes the last element from the first list that has several.
fn fracture(result: &mut Value) {
    let steps = result.as_array_mut().into_iter().flatten();
    let mut lists = steps.filter_map(|step| step.get_mut(2)?.as_array_mut());
    if let Some(list) = lists.find(|list| list.len() > 1) {
        list.pop();
    }
}

/// An ok without an answer yet.
fn ok(flight: &Flight) -> Event {
    let keep = &flight.begun;
    Event {
        key: keep.key.clone(),
        node: Some(flight.node),
        op: keep.op.clone(),
        ..Event::new(keep.process, Kind::Ok, &keep.f)
    }
}

fn with_result(answer: Event, call: &Call, result: &Value) -> Event {
    match call {
        Call::Txn(_) => Event {
            value: result.clone(),
            ..answer
        },
        _ => Event {
            result: result.as_bool(),
            ..answer
        },
    }
}

fn entry(flight: &Flight, index: u64, term: u64, result: &Value, dup: bool) -> Entry {
    Entry {
        index,
        term,
        op: flight.begun.op.clone().unwrap_or_default(),
        f: flight.call.name().to_owned(),
        key: flight.begun.key.clone(),
        value: flight.call.value(),
        result: result.clone(),
        dup,
    }
}
