//! The seam between the machine and whatever holds its state: typed, statically dispatched, without a heap copy an access.
//!
//! Two implementations run the same machine: [`super::memory::Memory`] on plain collections (tests, models) and
//! `storage::state` on RocksDB.

use serde::{Deserialize, Serialize};

use super::command::{Limits, ModIndex, NewTransfer};
use super::id::{AccountNumber, LedgerNumber};
use super::record::{Balance, Record};

/// This node cannot go on: I/O failed or stored bytes are not what they must be. Never a client's doing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}")]
pub struct Fault {
    /// What happened, naming the thing.
    pub what: String,
    /// What is stored is damaged: trying again would find the same.
    pub is_damage: bool,
}

impl Fault {
    /// A fault described by `what`: lower case, no final stop.
    pub fn new(what: impl Into<String>) -> Fault {
        Fault {
            what: what.into(),
            is_damage: false,
        }
    }

    /// A fault for which stored bytes are to blame, described as for [`Fault::new`].
    pub fn damage(what: impl Into<String>) -> Fault {
        Fault {
            what: what.into(),
            is_damage: true,
        }
    }
}

/// Where a record stands in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Log index of its entry.
    pub index: u64,
    /// Its number among the entry's records, from 0.
    pub record: u32,
}

/// A ledger, without its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Decimal places of the minor unit.
    pub scale: u8,
    /// Sum of the debits of its accounts.
    pub debits: u128,
    /// Sum of the credits of its accounts.
    pub credits: u128,
}

/// An account, without its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its ledger.
    pub ledger: LedgerNumber,
    /// Client-chosen kind.
    pub code: u32,
    /// What it must never do.
    pub limits: Limits,
    /// Its two sums.
    pub balance: Balance,
}

/// A key's versions, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvMeta {
    /// Where the key was created.
    pub created: ModIndex,
    /// Its last write.
    pub modified: ModIndex,
    /// Writes since creation, from 1.
    pub version: u64,
}

/// Where the answer to a command under an idempotency key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its record.
    pub at: Position,
    /// Log time of its entry, nanoseconds since 1970.
    pub time_ns: u64,
    /// Of the request it answers.
    pub fingerprint: [u8; super::once::FINGERPRINT_LEN],
}

/// An answer as the order of answers holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldAnswer {
    /// Its record.
    pub at: Position,
    /// Log time of its entry, nanoseconds since 1970.
    pub time_ns: u64,
    /// The idempotency key it was given under.
    pub key: String,
}

/// The state as the machine sees it while it applies one entry: everything applied before plus what this entry did so far.
///
/// Everything is derived from records: [`Store::append`] journals one and updates ids, balances, totals, keys; there is no
/// other way to change anything. Implementations keep one derivation for live apply, roll-forward and rebuild.
pub trait Store {
    /// Number of ledgers; the next one gets this plus one.
    fn ledger_count(&self) -> LedgerNumber;
    /// A ledger by number.
    fn ledger(&self, number: LedgerNumber) -> Option<Ledger>;
    /// Calls `f` with a ledger's asset code; `None` if there is no such ledger.
    fn ledger_asset(&self, number: LedgerNumber) -> Option<&str>;
    /// A ledger's number by id.
    fn find_ledger(&self, id: &str) -> Option<LedgerNumber>;

    /// Number of accounts; the next one gets this plus one.
    fn account_count(&self) -> AccountNumber;
    /// An account by number.
    fn account(&self, number: AccountNumber) -> Option<Account>;
    /// An account's number by id.
    fn find_account(&mut self, id: &str) -> Result<Option<AccountNumber>, Fault>;
    /// An account's id by number; a fault if there is none, since the journal never names an account that does not exist.
    fn account_id(&mut self, number: AccountNumber) -> Result<String, Fault>;

    /// A hint, which changes nothing: the ids and accounts of `batch` will be asked for next. A store that has to go far for
    /// them fetches them together.
    fn expect(&mut self, batch: &[NewTransfer<'_>]) -> Result<(), Fault> {
        let _ = batch;
        Ok(())
    }
    /// Where a transfer id was posted or refused for ever.
    fn find_transfer(&mut self, id: &str) -> Result<Option<Position>, Fault>;
    /// The bytes of a record; a fault if it is not there or damaged.
    fn record(&mut self, at: Position) -> Result<Vec<u8>, Fault>;

    /// A key's versions.
    fn kv(&mut self, key: &str) -> Result<Option<KvMeta>, Fault>;

    /// The answer held under an idempotency key.
    fn find_answer(&mut self, key: &str) -> Result<Option<Answer>, Fault>;
    /// Number of answers held.
    fn answer_count(&self) -> u64;
    /// Log time of the oldest answer held. Asked for with every entry: from memory, as a rule.
    fn oldest_answer_ns(&mut self) -> Result<Option<u64>, Fault>;
    /// The answers held that were given at log time `until_ns` or before, oldest first, at most `max`.
    fn oldest_answers(&mut self, until_ns: u64, max: u32) -> Result<Vec<OldAnswer>, Fault>;

    /// Journals `record` as the next of this entry and derives everything from it. Returns its position.
    fn append(&mut self, record: &Record<'_>) -> Result<Position, Fault>;
    /// How many records this entry has journaled so far: a mark for [`Store::undo_to`].
    fn mark(&self) -> u32;
    /// Takes back every record from number `mark` on, newest first, with all that was derived from it. They are all
    /// [`Record::Transfer`]: only linked chains are taken back.
    fn undo_to(&mut self, mark: u32) -> Result<(), Fault>;
}
