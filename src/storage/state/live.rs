//! What is derived from the journal and lives in memory, and the one derivation: [`Live::derive`] is what live apply, roll-forward
//! at open and the full rebuild of `verify` all call for each record.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::answers::{Answers, AnswersOverlay};
use super::filter::Filter;
use super::hash::Seed;
use super::journal::EntryRows;
use super::layout::{AccountFixed, KvCell, LedgerFixed, PAGE_ACCOUNTS, PageRow};
use super::recent::{Posting, Recents};
use crate::machine::derive::{self, Side};
use crate::machine::{
    Account, Balance, Fault, KvMeta, Ledger, Limits, Position, Record, TransferRecord,
};

/// Most accounts: recents hold account numbers in 32 bits, and this many take 256 GiB of memory.
const ACCOUNTS_MAX: u64 = u32::MAX as u64;

/// An account in memory: one cache line.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccountState {
    pub(super) balance: Balance,
    /// Its newest posting in the recents; 0 if none.
    pub(super) head: Posting,
    pub(super) ledger: u32,
    pub(super) code: u32,
    pub(super) limits: Limits,
}

const _: () = assert!(size_of::<AccountState>() == 64);

impl AccountState {
    /// As the machine sees it.
    #[inline]
    pub(super) fn account(&self) -> Account {
        Account {
            ledger: self.ledger,
            code: self.code,
            limits: self.limits,
            balance: self.balance,
        }
    }

    /// As a page of balances holds it.
    pub(super) fn page_row(&self) -> PageRow {
        PageRow {
            balance: self.balance,
            ledger: self.ledger,
            code: self.code,
            limits: self.limits,
        }
    }

    /// What a page of balances held.
    pub(super) fn from_page(row: &PageRow) -> AccountState {
        AccountState {
            balance: row.balance,
            head: 0,
            ledger: row.ledger,
            code: row.code,
            limits: row.limits,
        }
    }
}

/// A ledger in memory.
#[derive(Clone, Debug)]
pub(super) struct LedgerState {
    pub(super) fixed: LedgerFixed,
    pub(super) ledger: Ledger,
}

/// What was applied and is not in the database's tables yet. Empty between two calls of `apply`.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Records by entry index.
    pub(super) entries: BTreeMap<u64, Arc<EntryRows>>,
    /// Keys written, and `None` for keys removed.
    pub(super) kv: BTreeMap<String, Option<KvCell>>,
    /// New accounts by id.
    pub(super) accounts: BTreeMap<String, u64>,
    /// New accounts by number.
    pub(super) account_rows: BTreeMap<u64, AccountFixed>,
    /// Number of the first new ledger, if any.
    pub(super) ledgers_from: Option<u32>,
    /// Answers under idempotency keys.
    pub(super) answers: AnswersOverlay,
    /// Bytes of entries and values in it, about.
    pub(super) bytes: usize,
}

/// How far a derivation reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reach {
    /// Rows of accounts, ledgers, keys and answers are noted to be written; otherwise the tables hold them already.
    pub(super) rows: bool,
    /// Ids and postings become recents; otherwise they are sealed already.
    pub(super) recents: bool,
    /// Balances held must be the ones a record starts from. Those loaded from pages may be ahead of it: each was copied at some
    /// moment after the seal began. The record's balance after is then simply the newer truth.
    pub(super) exact: bool,
}

impl Reach {
    /// Live apply.
    pub(super) const APPLY: Reach = Reach {
        rows: true,
        recents: true,
        exact: true,
    };
}

/// Everything held in memory, as of one entry, or within one while it is applied.
#[derive(Debug)]
pub(super) struct Live {
    /// Log index of the last entry applied; 0 before the first.
    pub(super) index: u64,
    /// By number - 1.
    pub(super) ledgers: Vec<LedgerState>,
    pub(super) ledger_numbers: BTreeMap<String, u32>,
    /// By number - 1.
    pub(super) accounts: Vec<AccountState>,
    /// Transfers since the last seal began.
    pub(super) recents: Recents,
    /// Transfers that a running seal writes down.
    pub(super) frozen: Option<Arc<Recents>>,
    /// Transfers up to this entry are in the tables.
    pub(super) sealed: u64,
    /// Over the ids of sealed transfers.
    pub(super) filter: Filter,
    /// Pages of balances that changed since they were last written: a bit each.
    pub(super) dirty: Vec<u64>,
    /// Answers held under idempotency keys.
    pub(super) answers: Answers,
    pub(super) overlay: Overlay,
    /// The database's key for hashes.
    pub(super) seed: Seed,
    /// An entry failed half way: nothing here may be read any more.
    pub(super) broken: bool,
}

impl Live {
    /// Of an empty database.
    pub(super) fn new(seed: Seed) -> Live {
        Live {
            index: 0,
            ledgers: Vec::new(),
            ledger_numbers: BTreeMap::new(),
            accounts: Vec::new(),
            recents: Recents::new(1, 0),
            frozen: None,
            sealed: 0,
            filter: Filter::default(),
            dirty: Vec::new(),
            answers: Answers::default(),
            overlay: Overlay::default(),
            seed,
            broken: false,
        }
    }

    /// Derives everything from `record`, which stands at `at`. Log times of what it creates are set by [`Live::end_entry`].
    pub(super) fn derive(
        &mut self,
        record: &Record<'_>,
        at: Position,
        reach: Reach,
    ) -> Result<(), Fault> {
        match record {
            Record::Transfer(transfer) => self.derive_transfer(transfer, at, reach),
            &Record::AccountCreated {
                number,
                id,
                ledger,
                code,
                limits,
            } => {
                let id = id.to_owned();
                let row = AccountFixed {
                    created: at,
                    created_ns: 0,
                    ledger,
                    code,
                    limits,
                    id,
                };
                return self.derive_account(number, row, reach);
            }
            &Record::LedgerCreated {
                number,
                id,
                asset,
                scale,
            } => {
                let (asset, id) = (asset.to_owned(), id.to_owned());
                let fixed = LedgerFixed {
                    created: at,
                    created_ns: 0,
                    scale,
                    asset,
                    id,
                };
                self.derive_ledger(number, fixed, reach);
            }
            &Record::KvPut {
                key,
                value,
                created,
                modified,
                version,
            } if reach.rows => {
                let meta = KvMeta {
                    created,
                    modified,
                    version,
                };
                let cell = KvCell {
                    meta,
                    value: Bytes::copy_from_slice(value),
                };
                self.overlay.bytes += key.len() + value.len();
                self.overlay.kv.insert(key.to_owned(), Some(cell));
            }
            &Record::KvDeleted { key } if reach.rows => {
                self.overlay.bytes += key.len();
                self.overlay.kv.insert(key.to_owned(), None);
            }
            Record::Answered { .. } | Record::AnswerForgotten { .. } if reach.rows => {
                self.derive_answer(record, at);
            }
            Record::KvPut { .. }
            | Record::KvDeleted { .. }
            | Record::Answered { .. }
            | Record::AnswerForgotten { .. } => {}
        }
        Ok(())
    }

    fn derive_ledger(&mut self, number: u32, fixed: LedgerFixed, reach: Reach) {
        let ledger = Ledger {
            scale: fixed.scale,
            debits: 0,
            credits: 0,
        };
        let before = self.ledger_numbers.insert(fixed.id.clone(), number);
        assert_eq!(before, None, "a ledger id is used once");
        self.ledgers.push(LedgerState { fixed, ledger });
        assert_eq!(
            self.ledgers.len() as u64,
            u64::from(number),
            "ledger numbers have no gaps"
        );
        if reach.rows {
            self.overlay.ledgers_from.get_or_insert(number);
        }
    }

    fn derive_account(
        &mut self,
        number: u64,
        row: AccountFixed,
        reach: Reach,
    ) -> Result<(), Fault> {
        if number > ACCOUNTS_MAX {
            return Err(Fault::new(format!(
                "account number {number} is beyond the limit of {ACCOUNTS_MAX}"
            )));
        }
        self.accounts.push(AccountState {
            balance: Balance::default(),
            head: 0,
            ledger: row.ledger,
            code: row.code,
            limits: row.limits,
        });
        assert_eq!(
            self.accounts.len() as u64,
            number,
            "account numbers have no gaps"
        );
        self.mark_dirty(slot(number));
        if reach.rows {
            self.overlay.bytes += 2 * row.id.len() + size_of::<AccountFixed>();
            let before = self.overlay.accounts.insert(row.id.clone(), number);
            assert_eq!(before, None, "an account id is used once");
            self.overlay.account_rows.insert(number, row);
        }
        Ok(())
    }

    #[inline]
    fn derive_transfer(&mut self, transfer: &TransferRecord<'_>, at: Position, reach: Reach) {
        let sides = derive::sides(transfer);
        for side in sides.iter().flatten() {
            let (account, ledger) = held(&mut self.accounts, &mut self.ledgers, side.account);
            if reach.exact {
                derive::post(side, &mut account.balance, ledger);
            } else {
                let side = Side {
                    before: account.balance,
                    ..*side
                };
                derive::post(&side, &mut account.balance, ledger);
            }
            self.mark_dirty(slot(side.account));
        }
        if reach.recents {
            let next = 2 * self.recents.next_slot();
            let floor = self.frozen.as_deref().unwrap_or(&self.recents).floor();
            let posted = sides.map(|[debit, credit]| {
                [(debit.account, next), (credit.account, next + 1)].map(|(account, posting)| {
                    let head = std::mem::replace(&mut self.accounts[slot(account)].head, posting);
                    let back = if head < floor { 0 } else { posting - head };
                    let back = u32::try_from(back)
                        .expect("recents are sealed long before 4 billion postings");
                    (
                        u32::try_from(account).expect("checked when it was created"),
                        back,
                    )
                })
            });
            self.recents.push(
                self.seed.hash(transfer.id.as_bytes()),
                transfer.id,
                at,
                posted,
            );
        }
    }

    /// The inverse of [`Live::derive`] for the newest transfer of the entry being applied.
    pub(super) fn undo(&mut self, transfer: &TransferRecord<'_>) {
        let back = self.recents.pop(self.seed.hash(transfer.id.as_bytes()));
        for (side, back) in derive::sides(transfer).iter().flatten().zip(back) {
            let (account, ledger) = held(&mut self.accounts, &mut self.ledgers, side.account);
            derive::unpost(side, &mut account.balance, ledger);
            account.head = if back == 0 {
                0
            } else {
                account.head - u64::from(back)
            };
        }
    }

    /// Ends the entry at `index`: what it created was created at `time_ns`.
    pub(super) fn end_entry(&mut self, index: u64, time_ns: u64) {
        self.index = index;
        for ledger in self
            .ledgers
            .iter_mut()
            .rev()
            .take_while(|ledger| ledger.fixed.created.index == index)
        {
            ledger.fixed.created_ns = time_ns;
        }
        for row in self
            .overlay
            .account_rows
            .values_mut()
            .rev()
            .take_while(|row| row.created.index == index)
        {
            row.created_ns = time_ns;
        }
    }

    /// An account by number.
    #[inline]
    pub(super) fn account(&self, number: u64) -> Option<&AccountState> {
        self.accounts
            .get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// A ledger by number.
    #[inline]
    pub(super) fn ledger(&self, number: u32) -> Option<&LedgerState> {
        self.ledgers
            .get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// Where a transfer since the last finished seal stands.
    #[inline]
    pub(super) fn find_recent(&self, hash: u64, id: &str) -> Option<Position> {
        let frozen = || self.frozen.as_ref()?.find(hash, id);
        self.recents.find(hash, id).or_else(frozen)
    }

    #[inline]
    fn mark_dirty(&mut self, account: usize) {
        let page = account / PAGE_ACCOUNTS;
        if page / 64 >= self.dirty.len() {
            self.dirty.resize(page / 64 + 1, 0);
        }
        self.dirty[page / 64] |= 1 << (page % 64);
    }
}

/// Where account `number` stands in memory.
#[inline]
pub(super) fn slot(number: u64) -> usize {
    usize::try_from(number - 1).expect("an account in memory has a number that fits")
}

/// An account and its ledger, which exist: the record names them.
#[inline]
fn held<'a>(
    accounts: &'a mut [AccountState],
    ledgers: &'a mut [LedgerState],
    number: u64,
) -> (&'a mut AccountState, &'a mut Ledger) {
    let account = &mut accounts[slot(number)];
    let ledger = &mut ledgers[slot(account.ledger.into())].ledger;
    (account, ledger)
}
