//! The state machine of the simulated store.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::history::{Call, Micro};

/// The accounts of the bank; the first may owe, and pays out everything that the others have.
pub(crate) const ACCOUNTS: [&str; 6] = ["mint", "ada", "bob", "cyd", "dan", "eve"];

/// What each account but the first begins with.
pub(crate) const OPENING: i64 = 20;

/// Everything that a node has applied.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Every value that each register ever held, the last one last.
    pub(crate) registers: BTreeMap<String, Vec<i64>>,
    /// By position in [`ACCOUNTS`].
    pub(crate) accounts: [i64; ACCOUNTS.len()],
    /// Elements in the order of their adds.
    pub(crate) sets: BTreeMap<String, Vec<i64>>,
    /// Lists of the transactions.
    pub(crate) lists: BTreeMap<String, Vec<i64>>,
}

impl State {
    /// Empty, with the bank open.
    pub(crate) fn new() -> State {
        let mut accounts = [OPENING; ACCOUNTS.len()];
        accounts[0] = 0;
        State {
            registers: BTreeMap::new(),
            accounts,
            sets: BTreeMap::new(),
            lists: BTreeMap::new(),
        }
    }

    /// What a register holds.
    pub(crate) fn register(&self, key: &str) -> Option<i64> {
        self.registers
            .get(key)
            .and_then(|held| held.last())
            .copied()
    }

    /// Applies a write; gives its result for the applied log. With `is_wild`, conditions are taken as met.
    pub(crate) fn apply(&mut self, key: &str, call: &Call, is_wild: bool) -> Value {
        match call {
            Call::Read => Value::Null,
            Call::Write(value) => {
                self.registers
                    .entry(key.to_owned())
                    .or_default()
                    .push(*value);
                Value::Null
            }
            Call::Cas(old, new) => {
                let is_met = is_wild || self.register(key) == *old;
                if is_met {
                    self.registers.entry(key.to_owned()).or_default().push(*new);
                }
                Value::Bool(is_met)
            }
            Call::Transfer(transfer) => {
                let place = |name: &str| ACCOUNTS.iter().position(|account| *account == name);
                let (Some(from), Some(to)) = (place(&transfer.from), place(&transfer.to)) else {
                    return Value::Bool(false);
                };
                let has = from == 0 || is_wild || self.accounts[from] >= transfer.amount;
                let is_met = has && from != to && transfer.amount > 0;
                if is_met {
                    self.accounts[from] -= transfer.amount;
                    self.accounts[to] += transfer.amount;
                }
                Value::Bool(is_met)
            }
            Call::Add(element) => {
                let set = self.sets.entry(key.to_owned()).or_default();
                if !set.contains(element) {
                    set.push(*element);
                }
                Value::Null
            }
            Call::Txn(steps) => steps.iter().map(|step| self.step(step, is_wild)).collect(),
        }
    }

    fn step(&mut self, step: &Micro, is_wild: bool) -> Value {
        match step {
            Micro::Append(key, element) => {
                let list = self.lists.entry(key.clone()).or_default();
                let at = if is_wild { list.len() / 2 } else { list.len() };
                list.insert(at, *element);
                json!(["append", key, element])
            }
            Micro::Read(key, _) => {
                json!(["r", key, self.lists.get(key).cloned().unwrap_or_default()])
            }
        }
    }

    /// The balances as a read of the bank shows them.
    pub(crate) fn balances(&self) -> Value {
        let balances = ACCOUNTS.iter().zip(self.accounts);
        balances
            .map(|(name, balance)| ((*name).to_owned(), json!(balance)))
            .collect()
    }
}
