//! A naive model of the ledger and the key-value store, written from the rules and not from the machine.
//!
//! It keeps *lists of what happened* and computes everything from them each time it is asked: a balance is a sum over the
//! accepted transfers, a key is its last write. Accounts are texts, never numbers. A chain is tried on a copy of the model
//! that is thrown away if it fails; nothing is ever undone.

use quorate::machine::command::ModIndex;
use quorate::machine::reply::{Existence, fields};
use quorate::machine::{
    Balance, Expect, KvMeta, Limits, Position, Rejection, Replayed, Reply, TransferResult,
};

use crate::known::{again, existing, number};

/// A command with owned texts; accounts by id. Equal ones are the same request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Put {
        key: String,
        value: Vec<u8>,
        expect: Expect,
    },
    Delete {
        key: String,
        expect: Expect,
    },
    Ledger {
        id: String,
        asset: String,
        scale: u8,
    },
    Account {
        id: String,
        ledger: String,
        code: u32,
        limits: Limits,
    },
    Transfers(Vec<Transfer>),
    /// Under an idempotency key.
    Once {
        key: String,
        ask: Box<Ask>,
    },
}

/// An idempotency key in use.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    pub(crate) key: String,
    ask: Ask,
    reply: Reply,
    pub(crate) at: Position,
    pub(crate) time_ns: u64,
}

const DAY_NS: u64 = 86_400_000_000_000;

/// A transfer as asked for. Equal ones are the same transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transfer {
    pub(crate) id: String,
    pub(crate) debit: String,
    pub(crate) credit: String,
    pub(crate) amount: u128,
    pub(crate) code: u32,
    pub(crate) linked: bool,
    pub(crate) metadata: String,
}

/// A transfer whose id is taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) transfer: Transfer,
    /// Why it was refused for ever; `None` if it was accepted.
    pub(crate) refused: Option<u16>,
    /// Balances at the time, of accounts that existed: as they stood *before* it if it was refused, after it otherwise.
    pub(crate) balances: [Balance; 2],
    pub(crate) at: Position,
}

#[derive(Clone, Debug)]
struct Write {
    key: String,
    /// `None`: deleted.
    value: Option<Vec<u8>>,
    at: ModIndex,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) ledgers: Vec<(String, String, u8)>,
    pub(crate) accounts: Vec<(String, String, u32, Limits)>,
    pub(crate) taken: Vec<Taken>,
    writes: Vec<Write>,
    /// Oldest first.
    pub(crate) used: Vec<Used>,
    time_ns: u64,
    /// The entry and how many records it has left so far.
    next: (u64, u32),
}

impl Model {
    pub(crate) fn entry(&mut self, index: u64, stamp_ns: u64, asks: &[Ask]) -> Vec<Reply> {
        self.next = (index, 0);
        self.time_ns = stamp_ns.max(self.time_ns + 1);
        for _ in 0..1024 + asks.len() {
            if self
                .used
                .first()
                .is_some_and(|oldest| oldest.time_ns + DAY_NS <= self.time_ns)
            {
                self.used.remove(0);
                self.position();
            }
        }
        let positions = 0..;
        asks.iter()
            .zip(positions)
            .map(|(ask, command)| self.ask(ask, ModIndex { index, command }))
            .collect()
    }

    fn ask(&mut self, ask: &Ask, at: ModIndex) -> Reply {
        match ask {
            Ask::Put { key, value, expect } => {
                if let Some(reply) = self.precondition(key, *expect) {
                    return reply;
                }
                self.writes.push(Write {
                    key: key.clone(),
                    value: Some(value.clone()),
                    at,
                });
                self.position();
                let (meta, _) = self.key(key).expect("it was written just now");
                Reply::KvPut {
                    created: meta.created,
                    modified: meta.modified,
                    version: meta.version,
                }
            }
            Ask::Delete { key, expect } => {
                if let Some(reply) = self.precondition(key, *expect) {
                    return reply;
                }
                let Some((meta, _)) = self.key(key) else {
                    return Reply::Rejected(Rejection::KeyNotFound);
                };
                self.writes.push(Write {
                    key: key.clone(),
                    value: None,
                    at,
                });
                self.position();
                Reply::KvDeleted { was: meta.modified }
            }
            Ask::Ledger { id, asset, scale } => self.create_ledger(id, asset, *scale),
            Ask::Account {
                id,
                ledger,
                code,
                limits,
            } => self.create_account(id, ledger, *code, *limits),
            Ask::Transfers(batch) => Reply::Transfers(self.transfers(batch)),
            Ask::Once { key, ask } => self.once(key, ask, at),
        }
    }

    fn once(&mut self, key: &str, ask: &Ask, at: ModIndex) -> Reply {
        if let Some(used) = self.used.iter().find(|used| used.key == key) {
            let index = used.at.index;
            return match used.ask == *ask {
                true => Reply::Replayed(Replayed {
                    index,
                    reply: Box::new(used.reply.clone()),
                }),
                false => Reply::Rejected(Rejection::IdempotencyKeyReused {
                    index,
                    time_ns: used.time_ns,
                }),
            };
        }
        let reply = self.ask(ask, at);
        let used = Used {
            key: key.to_owned(),
            ask: ask.clone(),
            reply: reply.clone(),
            at: self.position(),
            time_ns: self.time_ns,
        };
        self.used.push(used);
        reply
    }

    /// A key as its writes make it.
    pub(crate) fn key(&self, key: &str) -> Option<(KvMeta, Vec<u8>)> {
        let writes: Vec<&Write> = self
            .writes
            .iter()
            .filter(|write| write.key == key)
            .collect();
        let life: Vec<&Write> = writes
            .iter()
            .rev()
            .take_while(|write| write.value.is_some())
            .copied()
            .collect();
        let (last, first) = (life.first()?, life.last()?);
        let meta = KvMeta {
            created: first.at,
            modified: last.at,
            version: life.len() as u64,
        };
        Some((meta, last.value.clone()?))
    }

    fn precondition(&self, key: &str, expect: Expect) -> Option<Reply> {
        let current = self.key(key).map(|(meta, _)| meta.modified);
        let ok = match (expect, current) {
            (Expect::Any, _) | (Expect::Absent, None) | (Expect::Present, Some(_)) => true,
            (Expect::At(wanted), Some(current)) => wanted == current,
            _ => false,
        };
        (!ok).then_some(Reply::Rejected(Rejection::PreconditionFailed { current }))
    }

    fn create_ledger(&mut self, id: &str, asset: &str, scale: u8) -> Reply {
        match self.ledgers.iter().find(|ledger| ledger.0 == id) {
            None => {
                self.ledgers.push((id.to_owned(), asset.to_owned(), scale));
                self.position();
                Reply::Ledger {
                    existence: Existence::Created,
                    totals: Balance::default(),
                }
            }
            Some(held) => {
                let bits = [
                    (held.1 != asset, fields::ASSET),
                    (held.2 != scale, fields::SCALE),
                ];
                let turnover = self.turnover(id);
                let existed = Reply::Ledger {
                    existence: Existence::Existed,
                    totals: Balance {
                        debits: turnover,
                        credits: turnover,
                    },
                };
                existing(&bits).map_or(existed, Reply::Rejected)
            }
        }
    }

    fn create_account(&mut self, id: &str, ledger: &str, code: u32, limits: Limits) -> Reply {
        if let Some(held) = self.account(id) {
            let bits = [
                (held.1 != ledger, fields::LEDGER),
                (held.2 != code, fields::CODE),
                (held.3 != limits, fields::LIMITS),
            ];
            let existed = Reply::Account {
                existence: Existence::Existed,
                balance: self.balance(id),
            };
            return existing(&bits).map_or(existed, Reply::Rejected);
        }
        if !self.ledgers.iter().any(|held| held.0 == ledger) {
            return Reply::Rejected(Rejection::LedgerNotFound);
        }
        self.accounts
            .push((id.to_owned(), ledger.to_owned(), code, limits));
        self.position();
        Reply::Account {
            existence: Existence::Created,
            balance: Balance::default(),
        }
    }

    fn account(&self, id: &str) -> Option<&(String, String, u32, Limits)> {
        self.accounts.iter().find(|account| account.0 == id)
    }

    fn accepted(&self) -> impl Iterator<Item = &Transfer> {
        self.taken
            .iter()
            .filter(|taken| taken.refused.is_none())
            .map(|taken| &taken.transfer)
    }

    pub(crate) fn balance(&self, account: &str) -> Balance {
        let sum = |side: fn(&Transfer) -> &str| {
            self.accepted()
                .filter(|transfer| side(transfer) == account)
                .map(|transfer| transfer.amount)
                .sum()
        };
        Balance {
            debits: sum(|transfer| &transfer.debit),
            credits: sum(|transfer| &transfer.credit),
        }
    }

    /// Everything ever moved in a ledger: its debits, and its credits.
    pub(crate) fn turnover(&self, ledger: &str) -> u128 {
        let inside = |transfer: &&Transfer| {
            self.account(&transfer.debit)
                .is_some_and(|account| account.1 == ledger)
        };
        self.accepted()
            .filter(inside)
            .map(|transfer| transfer.amount)
            .sum()
    }

    fn position(&mut self) -> Position {
        let (index, record) = self.next;
        self.next.1 += 1;
        Position { index, record }
    }

    fn transfers(&mut self, batch: &[Transfer]) -> Vec<TransferResult> {
        // Every chain ends at the first that is not linked; a rest without one is open.
        let mut results = Vec::new();
        for group in batch.split_inclusive(|transfer| !transfer.linked) {
            let open = group.iter().all(|transfer| transfer.linked);
            if open {
                let last = group.len() - 1;
                results.extend((0..group.len()).map(|member| {
                    TransferResult::Refused(if member == last {
                        Rejection::ChainOpen
                    } else {
                        Rejection::ChainFailed
                    })
                }));
            } else {
                results.extend(self.group(group));
            }
        }
        results
    }

    /// A chain, or a single transfer, which is a chain of one.
    fn group(&mut self, group: &[Transfer]) -> Vec<TransferResult> {
        let mut trial = self.clone();
        let mut results = Vec::new();
        for transfer in group {
            match trial.one(transfer) {
                (result @ TransferResult::Refused(rejection), fresh) => {
                    // On the model as it was before the chain.
                    if let (Some(number), true) = (number(&rejection), fresh) {
                        self.take(transfer, Some(number));
                    }
                    return (0..group.len())
                        .map(|member| {
                            let before = self
                                .taken
                                .iter()
                                .find(|taken| taken.transfer == group[member]);
                            match before {
                                _ if member == results.len() => result,
                                Some(taken)
                                    if member < results.len() && taken.refused.is_none() =>
                                {
                                    TransferResult::Exists(taken.at)
                                }
                                _ => TransferResult::Refused(Rejection::ChainFailed),
                            }
                        })
                        .collect();
                }
                (result, _) => results.push(result),
            }
        }
        *self = trial;
        results
    }

    /// The result, and whether it is a new decision.
    fn one(&mut self, transfer: &Transfer) -> (TransferResult, bool) {
        if transfer.amount == 0 {
            return (
                TransferResult::Refused(Rejection::AmountMustNotBeZero),
                true,
            );
        }
        if let Some(taken) = self
            .taken
            .iter()
            .find(|taken| taken.transfer.id == transfer.id)
        {
            return (again(taken, transfer), false);
        }
        match self.why_not(transfer) {
            Some(rejection) => (TransferResult::Refused(rejection), true),
            None => (TransferResult::Created(self.take(transfer, None)), true),
        }
    }

    fn why_not(&self, transfer: &Transfer) -> Option<Rejection> {
        if transfer.debit == transfer.credit {
            return Some(Rejection::AccountsMustDiffer);
        }
        let Some(debit) = self.account(&transfer.debit) else {
            return Some(Rejection::DebitAccountNotFound);
        };
        let Some(credit) = self.account(&transfer.credit) else {
            return Some(Rejection::CreditAccountNotFound);
        };
        if debit.1 != credit.1 {
            return Some(Rejection::LedgerMismatch);
        }
        // No account can hold more than moved in its ledger.
        if u128::MAX - self.turnover(&debit.1) < transfer.amount {
            return Some(Rejection::AmountOverflow);
        }
        let balance = self.balance(&transfer.debit);
        if debit.3.debits_must_not_exceed_credits
            && balance.debits + transfer.amount > balance.credits
        {
            return Some(Rejection::ExceedsCredits { balance });
        }
        let balance = self.balance(&transfer.credit);
        if credit.3.credits_must_not_exceed_debits
            && balance.credits + transfer.amount > balance.debits
        {
            return Some(Rejection::ExceedsDebits { balance });
        }
        None
    }

    fn take(&mut self, transfer: &Transfer, refused: Option<u16>) -> Position {
        let at = self.position();
        self.taken.push(Taken {
            transfer: transfer.clone(),
            refused,
            balances: [Balance::default(); 2],
            at,
        });
        let balances = [
            self.balance(&transfer.debit),
            self.balance(&transfer.credit),
        ];
        self.taken.last_mut().expect("pushed just now").balances = balances;
        at
    }
}
