//! The state on plain collections: for tests, models and benchmarks of the machine, and for simulations of a cluster.
//!
//! Nothing is thrown away: the journal is kept whole, so a position once given can always be read.

mod dump;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::derive::{self, Side};
use super::id::{AccountNumber, LedgerNumber};
use super::record::{Record, TransferRecord};
use super::store::{Account, Answer, Fault, KvMeta, Ledger, OldAnswer, Position, Store};
use super::{Outcome, apply, digest};

/// A [`Store`] in memory. Cloning it is taking a snapshot; equal ones hold the same state and the same history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// By number - 1.
    ledgers: Vec<LedgerRow>,
    ledger_numbers: BTreeMap<String, LedgerNumber>,
    /// By number - 1.
    accounts: Vec<AccountRow>,
    account_numbers: BTreeMap<String, AccountNumber>,
    transfers: BTreeMap<String, Position>,
    kv: BTreeMap<String, (KvMeta, Vec<u8>)>,
    /// By idempotency key.
    answers: BTreeMap<String, Answer>,
    /// The keys of those, by where they were given.
    answer_order: BTreeMap<Position, String>,
    /// Counted besides those held, for tests of what happens when too many are.
    #[cfg(test)]
    pub(super) answers_pretended: u64,
    /// Records by entry index. An entry without records is not in it.
    journal: BTreeMap<u64, Vec<Vec<u8>>>,
    /// Last entry finished.
    applied: u64,
    time_ns: u64,
    digest: [u8; 32],
    /// The entry begun and not finished.
    open: Option<(u64, Vec<Vec<u8>>)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LedgerRow {
    id: String,
    asset: String,
    ledger: Ledger,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AccountRow {
    id: String,
    account: Account,
}

impl Memory {
    /// An empty state.
    pub fn new() -> Memory {
        Memory {
            digest: digest::GENESIS,
            ..Memory::default()
        }
    }

    /// Applies the entry `bytes` at log index `index`, whole: [`Memory::begin`], [`apply`], [`Memory::finish`].
    ///
    /// # Errors
    /// As [`apply`]. The state is then undefined.
    pub fn apply(&mut self, index: u64, bytes: &[u8]) -> Result<Outcome, Fault> {
        self.begin(index);
        let outcome = apply(bytes, index, self.time_ns, self)?;
        self.finish(outcome.time_ns);
        Ok(outcome)
    }

    /// Begins the entry at `index`: what is appended until [`Memory::finish`] belongs to it.
    ///
    /// # Panics
    /// If an entry is open, or `index` is not beyond the last.
    pub fn begin(&mut self, index: u64) {
        assert!(self.open.is_none(), "an entry is open");
        assert!(
            index > self.applied,
            "entry {index} is not beyond entry {}",
            self.applied
        );
        self.open = Some((index, Vec::new()));
    }

    /// Ends the open entry, at its log time.
    ///
    /// # Panics
    /// If no entry is open, or time does not advance.
    pub fn finish(&mut self, time_ns: u64) {
        let (index, records) = self.open.take().expect("an entry is open");
        assert!(
            time_ns > self.time_ns,
            "log time {time_ns} is not beyond {}",
            self.time_ns
        );
        let mut chain = digest::Chain::start(&self.digest, index, time_ns);
        for record in &records {
            chain.record(record);
        }
        self.digest = chain.finish();
        self.time_ns = time_ns;
        self.applied = index;
        if !records.is_empty() {
            self.journal.insert(index, records);
        }
    }

    /// Log index of the last entry finished; 0 if none was.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Log time of the last entry, nanoseconds since 1970.
    pub fn time_ns(&self) -> u64 {
        self.time_ns
    }

    /// The chain digest after the last entry.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// A key's versions and value.
    pub fn value(&self, key: &str) -> Option<(KvMeta, &[u8])> {
        self.kv
            .get(key)
            .map(|(meta, value)| (*meta, value.as_slice()))
    }

    /// The journal: records as encoded, with their positions, in order. Without the open entry.
    pub fn journal(&self) -> impl Iterator<Item = (Position, &[u8])> {
        self.journal.iter().flat_map(|(&index, records)| {
            records
                .iter()
                .zip(0..)
                .map(move |(bytes, record)| (Position { index, record }, bytes.as_slice()))
        })
    }

    fn records(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.open.as_mut().expect("an entry is open").1
    }

    /// Derives everything from `record`, which stands at `position`.
    fn derive(&mut self, record: &Record<'_>, position: Position) {
        match *record {
            Record::KvPut {
                key,
                value,
                created,
                modified,
                version,
            } => {
                let meta = KvMeta {
                    created,
                    modified,
                    version,
                };
                self.kv.insert(key.to_owned(), (meta, value.to_vec()));
            }
            Record::KvDeleted { key } => {
                self.kv
                    .remove(key)
                    .expect("only a key that exists is deleted");
            }
            Record::LedgerCreated {
                number,
                id,
                asset,
                scale,
            } => {
                let ledger = Ledger {
                    scale,
                    debits: 0,
                    credits: 0,
                };
                self.ledgers.push(LedgerRow {
                    id: id.to_owned(),
                    asset: asset.to_owned(),
                    ledger,
                });
                assert_eq!(self.ledger_count(), number, "ledger numbers have no gaps");
                let before = self.ledger_numbers.insert(id.to_owned(), number);
                assert_eq!(before, None, "a ledger id is used once");
            }
            Record::AccountCreated {
                number,
                id,
                ledger,
                code,
                limits,
            } => {
                let account = Account {
                    ledger,
                    code,
                    limits,
                    balance: Default::default(),
                };
                self.accounts.push(AccountRow {
                    id: id.to_owned(),
                    account,
                });
                assert_eq!(self.account_count(), number, "account numbers have no gaps");
                let before = self.account_numbers.insert(id.to_owned(), number);
                assert_eq!(before, None, "an account id is used once");
            }
            Record::Transfer(ref transfer) => {
                let before = self.transfers.insert(transfer.id.to_owned(), position);
                assert_eq!(before, None, "a transfer id is used once");
                self.each_side(transfer, derive::post);
            }
            Record::Answered {
                key,
                fingerprint,
                time_ns,
                reply: _,
            } => {
                let answer = Answer {
                    at: position,
                    time_ns,
                    fingerprint,
                };
                let before = self.answers.insert(key.to_owned(), answer);
                assert_eq!(before, None, "a key is answered once");
                self.answer_order.insert(position, key.to_owned());
            }
            Record::AnswerForgotten { key, at } => {
                let oldest = self.answer_order.pop_first();
                assert_eq!(
                    oldest,
                    Some((at, key.to_owned())),
                    "the oldest answer is forgotten first"
                );
                self.answers.remove(key).expect("it is in their order");
            }
        }
    }

    fn each_side(
        &mut self,
        transfer: &TransferRecord<'_>,
        step: fn(&Side, &mut super::Balance, &mut Ledger),
    ) {
        for side in derive::sides(transfer).iter().flatten() {
            let row = slot(side.account).and_then(|slot| self.accounts.get_mut(slot));
            let account = &mut row
                .expect("a posted transfer names accounts that exist")
                .account;
            let row = slot(account.ledger.into()).and_then(|slot| self.ledgers.get_mut(slot));
            step(
                side,
                &mut account.balance,
                &mut row.expect("an account's ledger exists").ledger,
            );
        }
    }
}

/// Where a number counted from 1 stands in a vector.
fn slot(number: u64) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

impl Store for Memory {
    fn ledger_count(&self) -> LedgerNumber {
        LedgerNumber::try_from(self.ledgers.len()).expect("ledgers are numbered in a u32")
    }

    fn ledger(&self, number: LedgerNumber) -> Option<Ledger> {
        Some(self.ledgers.get(slot(number.into())?)?.ledger)
    }

    fn ledger_asset(&self, number: LedgerNumber) -> Option<&str> {
        Some(&self.ledgers.get(slot(number.into())?)?.asset)
    }

    fn find_ledger(&self, id: &str) -> Option<LedgerNumber> {
        self.ledger_numbers.get(id).copied()
    }

    fn account_count(&self) -> AccountNumber {
        self.accounts.len() as AccountNumber
    }

    fn account(&self, number: AccountNumber) -> Option<Account> {
        Some(self.accounts.get(slot(number)?)?.account)
    }

    fn find_account(&mut self, id: &str) -> Result<Option<AccountNumber>, Fault> {
        Ok(self.account_numbers.get(id).copied())
    }

    fn account_id(&mut self, number: AccountNumber) -> Result<String, Fault> {
        let row = slot(number).and_then(|slot| self.accounts.get(slot));
        row.map(|row| row.id.clone())
            .ok_or_else(|| Fault::new(format!("account number {number} does not exist")))
    }

    fn find_transfer(&mut self, id: &str) -> Result<Option<Position>, Fault> {
        Ok(self.transfers.get(id).copied())
    }

    fn record(&mut self, at: Position) -> Result<Vec<u8>, Fault> {
        let records = match &self.open {
            Some((index, records)) if *index == at.index => Some(records),
            _ => self.journal.get(&at.index),
        };
        let bytes = records.and_then(|records| records.get(usize::try_from(at.record).ok()?));
        bytes
            .cloned()
            .ok_or_else(|| Fault::new(format!("record {}.{} does not exist", at.index, at.record)))
    }

    fn kv(&mut self, key: &str) -> Result<Option<KvMeta>, Fault> {
        Ok(self.kv.get(key).map(|(meta, _)| *meta))
    }

    fn find_answer(&mut self, key: &str) -> Result<Option<Answer>, Fault> {
        Ok(self.answers.get(key).copied())
    }

    fn answer_count(&self) -> u64 {
        let held = self.answers.len() as u64;
        #[cfg(test)]
        let held = held + self.answers_pretended;
        held
    }

    fn oldest_answer_ns(&mut self) -> Result<Option<u64>, Fault> {
        let oldest = self.answer_order.first_key_value();
        Ok(oldest.map(|(_, key)| self.answers[key].time_ns))
    }

    fn oldest_answers(&mut self, until_ns: u64, max: u32) -> Result<Vec<OldAnswer>, Fault> {
        let max = usize::try_from(max).expect("a usize has 32 bits");
        let in_order = self.answer_order.iter().map(|(at, key)| OldAnswer {
            at: *at,
            time_ns: self.answers[key].time_ns,
            key: key.clone(),
        });
        let old = in_order.take_while(|answer| answer.time_ns <= until_ns);
        Ok(old.take(max).collect())
    }

    fn append(&mut self, record: &Record<'_>) -> Result<Position, Fault> {
        let (index, records) = self.open.as_mut().expect("an entry is open");
        let number =
            u32::try_from(records.len()).expect("records of an entry are counted in a u32");
        let position = Position {
            index: *index,
            record: number,
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        records.push(bytes);
        self.derive(record, position);
        Ok(position)
    }

    fn mark(&self) -> u32 {
        let records = self.open.as_ref().map_or(0, |(_, records)| records.len());
        u32::try_from(records).expect("records of an entry are counted in a u32")
    }

    fn undo_to(&mut self, mark: u32) -> Result<(), Fault> {
        while self.mark() > mark {
            let bytes = self.records().pop().expect("mark() counted it");
            let Record::Transfer(transfer) = Record::decode(&bytes).expect("append() encoded it")
            else {
                panic!("only transfers are taken back");
            };
            self.transfers
                .remove(transfer.id)
                .expect("append() added it");
            self.each_side(&transfer, derive::unpost);
        }
        Ok(())
    }
}
