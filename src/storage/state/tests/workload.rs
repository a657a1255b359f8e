//! Random entries from a seed: everything the machine knows, in the shapes that hurt.

use crate::machine::{
    AccountRef, Command, Expect, Limits, NewAccount, NewLedger, NewTransfer, Once, entry,
    once::fingerprint,
};
use crate::storage::{Kind, LogEntry, LogId};

const HOUR_NS: u64 = 3_600_000_000_000;

/// A generator of entries.
pub(super) struct Workload {
    random: u64,
    ledgers: u64,
    /// Ids of accounts.
    accounts: Vec<String>,
    transfers: u64,
}

/// A command that owns its texts.
enum Owned {
    Ledger(String),
    Account {
        id: String,
        ledger: String,
        limits: Limits,
    },
    Transfers(Vec<Transfer>),
    Put {
        key: String,
        value: Vec<u8>,
        expect: Expect,
    },
    Delete(String),
    Once(u64, Box<Owned>),
}

struct Transfer {
    id: String,
    debit: (u64, String),
    credit: (u64, String),
    amount: u128,
    linked: bool,
    metadata: String,
}

impl Workload {
    pub(super) fn new(seed: u64) -> Workload {
        Workload {
            random: seed,
            ledgers: 0,
            accounts: Vec::new(),
            transfers: 0,
        }
    }

    /// `count` entries from index 0: a membership, then mostly commands.
    pub(super) fn entries(&mut self, count: u64) -> Vec<LogEntry> {
        (0..count).map(|index| self.entry(index)).collect()
    }

    /// A number below `below`.
    pub(super) fn below(&mut self, below: u64) -> u64 {
        // Splitmix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn entry(&mut self, index: u64) -> LogEntry {
        let id = LogId {
            term: 1 + index / 20,
            node: 1,
            index,
        };
        let kind = match (index, self.below(20)) {
            (0, _) => Kind::Membership,
            (1, _) => Kind::Blank,
            (2, _) => return self.setup(id),
            (_, 0) => Kind::Blank,
            (_, 1) => Kind::Membership,
            _ => Kind::Commands,
        };
        let body = match kind {
            Kind::Blank => Vec::new(),
            Kind::Membership => format!("membership at {index}").into_bytes(),
            Kind::Commands => {
                let commands: Vec<Owned> = (0..1 + self.below(4)).map(|_| self.command()).collect();
                self.encode(&commands, index)
            }
        };
        LogEntry {
            id,
            kind,
            body: body.into(),
        }
    }

    fn setup(&mut self, id: LogId) -> LogEntry {
        let mut commands: Vec<Owned> = ["ledger-1", "ledger-2"]
            .map(|id| Owned::Ledger(id.to_owned()))
            .into();
        for number in 0..8 {
            let (id, ledger) = (account_id(number), format!("ledger-{}", 1 + number % 2));
            self.accounts.push(id.clone());
            commands.push(Owned::Account {
                id,
                ledger,
                limits: Limits::default(),
            });
        }
        self.ledgers = 2;
        let body = self.encode(&commands, id.index).into();
        LogEntry {
            id,
            kind: Kind::Commands,
            body,
        }
    }

    fn encode(&mut self, commands: &[Owned], index: u64) -> Vec<u8> {
        // Clocks of leaders jump back and forth; on the way there are a few days.
        let hours = index * 3 - self.below(5).min(index * 3);
        let stamp = 1_000_000 + hours * HOUR_NS;
        let keys: Vec<String> = commands.iter().map(Owned::key).collect();
        let lists: Vec<Vec<NewTransfer<'_>>> = commands
            .iter()
            .map(|command| match command.plain() {
                Owned::Transfers(transfers) => transfers.iter().map(Transfer::command).collect(),
                _ => Vec::new(),
            })
            .collect();
        let commands: Vec<Command<'_>> = commands
            .iter()
            .zip(lists)
            .zip(&keys)
            .map(|((command, list), key)| command.keyed(key, command.plain().command(list)))
            .collect();
        entry::assemble(&commands, stamp)
    }

    fn command(&mut self) -> Owned {
        // One in three has an idempotency key, and one in four of those one that is or was in use.
        match self.below(12) {
            0 => {
                let number = self.below(self.transfers + 1);
                let plain = Owned::Delete(format!("key/{}", number % 3));
                Owned::Once(number, Box::new(plain))
            }
            1..4 => {
                let (number, plain) = (self.transfers, self.plain());
                Owned::Once(number, Box::new(plain))
            }
            _ => self.plain(),
        }
    }

    fn plain(&mut self) -> Owned {
        match self.below(16) {
            0 => self.ledger(),
            1 => self.account(),
            2 | 3 => self.put(),
            4 => Owned::Delete(format!("key/{}", self.below(30))),
            _ => {
                let most = if self.below(6) == 0 { 200 } else { 20 };
                let count = 1 + self.below(most);
                Owned::Transfers((0..count).map(|_| self.transfer()).collect())
            }
        }
    }

    fn ledger(&mut self) -> Owned {
        if self.below(3) > 0 {
            self.ledgers += 1;
        }
        Owned::Ledger(format!("ledger-{}", self.ledgers.max(1)))
    }

    fn account(&mut self) -> Owned {
        let number = self.accounts.len() as u64 + self.below(2);
        let id = account_id(number);
        let ledger = format!("ledger-{}", 1 + self.below(2));
        let limits = Limits {
            debits_must_not_exceed_credits: self.below(6) == 0,
            credits_must_not_exceed_debits: self.below(12) == 0,
        };
        self.accounts.push(id.clone());
        Owned::Account { id, ledger, limits }
    }

    fn put(&mut self) -> Owned {
        let key = format!("key/{}", self.below(30));
        let most = if self.below(8) == 0 { 20_000 } else { 60 };
        let len = self.below(most);
        let expect = match self.below(4) {
            0 => Expect::Absent,
            1 => Expect::Present,
            _ => Expect::Any,
        };
        Owned::Put {
            key,
            value: (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect(),
            expect,
        }
    }

    fn transfer(&mut self) -> Transfer {
        // One in ten is a retry of an old id, mostly with other fields; one in ten has an id too long to be a key.
        let number = if self.below(10) == 0 {
            self.below(self.transfers + 1)
        } else {
            self.transfers
        };
        self.transfers += 1;
        let id = match number % 10 {
            0 => format!("t{number:08}{}", "-long".repeat(20)),
            1..5 => format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            _ => format!("transfer-{number}"),
        };
        let metadata = if self.below(9) == 0 {
            format!("{{\"n\":{number}}}")
        } else {
            String::new()
        };
        Transfer {
            id,
            debit: self.account_ref(),
            credit: self.account_ref(),
            amount: u128::from(self.below(1000)),
            linked: self.below(4) == 0,
            metadata,
        }
    }

    /// A number that was surely given out, or 0 and an id that may not exist.
    fn account_ref(&mut self) -> (u64, String) {
        // Half of all go to two accounts, whose histories so become long.
        let hot = self.below(2) == 0;
        let which = self.below(if hot { 2 } else { self.accounts.len() as u64 });
        match self.below(12) {
            0 => (0, "nobody".to_owned()),
            1..4 => (0, self.accounts[usize::try_from(which).unwrap()].clone()),
            // The first entry of commands creates eight.
            _ => (1 + which % 8, String::new()),
        }
    }
}

/// Ids whose order is not that of the numbers.
fn account_id(number: u64) -> String {
    format!("account:{:04x}", number.wrapping_mul(0x9e37_79b9) % 0xfff1)
}

impl Transfer {
    fn command(&self) -> NewTransfer<'_> {
        fn account(side: &(u64, String)) -> AccountRef<'_> {
            match side {
                (0, id) => AccountRef::Id(id),
                (number, _) => AccountRef::Number(*number),
            }
        }
        NewTransfer {
            id: &self.id,
            debit: account(&self.debit),
            credit: account(&self.credit),
            amount: self.amount,
            code: 7,
            linked: self.linked,
            metadata: &self.metadata,
        }
    }
}

impl Owned {
    /// Without its key.
    fn plain(&self) -> &Owned {
        match self {
            Owned::Once(_, plain) => plain,
            plain => plain,
        }
    }

    /// Under its key, if it has one.
    fn keyed<'a>(&self, key: &'a str, plain: Command<'a>) -> Command<'a> {
        match self {
            Owned::Once(..) => Command::Once(Once {
                key,
                fingerprint: fingerprint("workload", &plain),
                command: Box::new(plain),
            }),
            _ => plain,
        }
    }

    fn key(&self) -> String {
        match self {
            Owned::Once(number, _) => format!("{number:06} {}", "k".repeat(100)),
            _ => String::new(),
        }
    }

    fn command<'a>(&'a self, transfers: Vec<NewTransfer<'a>>) -> Command<'a> {
        match self {
            Owned::Ledger(id) => Command::CreateLedger(NewLedger {
                id,
                asset: "USD",
                scale: 2,
            }),
            Owned::Account { id, ledger, limits } => Command::CreateAccount(NewAccount {
                id,
                ledger,
                code: 3,
                limits: *limits,
            }),
            Owned::Transfers(_) => Command::Transfers(transfers),
            Owned::Put { key, value, expect } => Command::KvPut {
                key,
                value,
                expect: *expect,
            },
            Owned::Delete(key) => Command::KvDelete {
                key,
                expect: Expect::Any,
            },
            Owned::Once(..) => panic!("a key within a key"),
        }
    }
}
