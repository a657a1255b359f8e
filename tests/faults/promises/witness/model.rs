//! What the commands mean, written down once more without a look at the state machine.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::history::nemesis::Accounts;
use crate::history::{Answer, Call, Micro, Operation, Transfer};

/// Registers, a bank, sets and lists, as simple as they can be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    registers: BTreeMap<String, i64>,
    balances: BTreeMap<String, i64>,
    overdraft: BTreeSet<String>,
    sets: BTreeMap<String, BTreeSet<i64>>,
    lists: BTreeMap<String, Vec<i64>>,
}

impl Model {
    /// With a bank that has been opened.
    pub(crate) fn new(accounts: &Accounts) -> Model {
        Model {
            balances: accounts.balances.clone(),
            overdraft: accounts.overdraft.iter().cloned().collect(),
            ..Model::default()
        }
    }

    /// Carries a write out; gives its result as the applied log has it.
    pub(crate) fn apply(&mut self, key: Option<&str>, call: &Call) -> Value {
        let key = key.unwrap_or_default();
        match call {
            Call::Read => Value::Null,
            Call::Write(value) => {
                self.registers.insert(key.to_owned(), *value);
                Value::Null
            }
            Call::Cas(old, new) => {
                let matches = self.registers.get(key) == old.as_ref();
                if matches {
                    self.registers.insert(key.to_owned(), *new);
                }
                json!(matches)
            }
            Call::Transfer(transfer) => json!(self.transfer(transfer)),
            Call::Add(element) => {
                self.sets
                    .entry(key.to_owned())
                    .or_default()
                    .insert(*element);
                Value::Null
            }
            Call::Txn(steps) => {
                Answer::Txn(steps.iter().map(|step| self.step(step)).collect()).value()
            }
        }
    }

    /// Moves money if both accounts are there and the payer has it or may owe.
    fn transfer(&mut self, transfer: &Transfer) -> bool {
        let Transfer { from, to, amount } = transfer;
        let (Some(has), true) = (self.balances.get(from), self.balances.contains_key(to)) else {
            return false;
        };
        let may_pay = self.overdraft.contains(from) || has >= amount;
        if *amount <= 0 || from == to || !may_pay {
            return false;
        }
        for (account, change) in [(from, -amount), (to, *amount)] {
            if let Some(balance) = self.balances.get_mut(account) {
                *balance += change;
            }
        }
        true
    }

    fn step(&mut self, step: &Micro) -> Micro {
        match step {
            Micro::Append(key, value) => {
                self.lists.entry(key.clone()).or_default().push(*value);
                step.clone()
            }
            Micro::Read(key, _) => Micro::Read(
                key.clone(),
                Some(self.lists.get(key).cloned().unwrap_or_default()),
            ),
        }
    }

    /// Why this state does not give the answer that a read was given; nothing if it does.
    pub(crate) fn contradicts(&self, read: &Operation) -> Option<String> {
        let key = read.key.as_deref().unwrap_or_default();
        match read.answer()? {
            Answer::Register(value) => {
                let held = self.registers.get(key).copied();
                (held != *value)
                    .then(|| format!("{key} = {}", crate::history::operation::shown(held)))
            }
            Answer::Balances(seen) => {
                let odd = |(name, held): &(&String, &i64)| seen.get(*name) != Some(*held);
                let missing = self
                    .balances
                    .iter()
                    .find(odd)
                    .map(|(name, held)| format!("{name} = {held}"));
                missing.or_else(|| {
                    (seen.len() != self.balances.len()).then(|| "fewer accounts".to_owned())
                })
            }
            Answer::Elements(seen) => {
                let nothing = BTreeSet::new();
                let held = self.sets.get(key).unwrap_or(&nothing);
                let seen_once: BTreeSet<i64> = seen.iter().copied().collect();
                let odd = held.symmetric_difference(&seen_once).next();
                match odd {
                    Some(element) if held.contains(element) => {
                        Some(format!("{element} is in the set"))
                    }
                    Some(element) => Some(format!("{element} is not in the set")),
                    None => (seen.len() != held.len()).then(|| "each element once".to_owned()),
                }
            }
            Answer::Done | Answer::Applied(_) | Answer::Txn(_) => None,
        }
    }
}
