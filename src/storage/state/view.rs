//! Reads of the applied state. Every answer says at which applied index it was true.
//!
//! Methods may block on the disk for rows that are not in memory; lists and old transfers belong off the async threads.

use std::sync::Arc;

use bytes::Bytes;

use super::core::Core;
use crate::machine::command::ModIndex;
use crate::machine::once::FINGERPRINT_LEN;
use crate::machine::{Balance, Limits, Position, Reply};

/// A value and the applied log index it was read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// Applied log index (0 before anything is applied).
    pub index: u64,
    /// What was read there.
    pub value: T,
}

/// A ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerRow {
    /// Client-chosen id.
    pub id: String,
    /// Asset code.
    pub asset: String,
    /// Decimal places of the minor unit.
    pub scale: u8,
    /// Where it was created.
    pub created: Position,
    /// Log time of its creation, nanoseconds since 1970.
    pub created_ns: u64,
    /// Sum of the debits and of the credits of its accounts.
    pub totals: Balance,
}

/// An account with its current balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Client-chosen id.
    pub id: String,
    /// Id of its ledger.
    pub ledger: String,
    /// Asset code of its ledger.
    pub asset: String,
    /// Decimal places of its ledger.
    pub scale: u8,
    /// Client-chosen kind.
    pub code: u32,
    /// What it must never do.
    pub limits: Limits,
    /// Its two sums.
    pub balance: Balance,
    /// Where it was created.
    pub created: Position,
    /// Log time of its creation, nanoseconds since 1970.
    pub created_ns: u64,
}

/// A transfer, posted or refused for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRow {
    /// Client-chosen id.
    pub id: String,
    /// Id of the debit account.
    pub debit_account: String,
    /// Id of the credit account.
    pub credit_account: String,
    /// Id of their ledger; `None` if an account did not exist (only in a refusal).
    pub ledger: Option<String>,
    /// Minor units.
    pub amount: u128,
    /// Client-chosen kind.
    pub code: u32,
    /// Linked to the next of its batch.
    pub linked: bool,
    /// Canonical JSON object, or empty.
    pub metadata: String,
    /// 0 if posted, else the remembered refusal (`machine::record::refusal`).
    pub refusal: u16,
    /// Balance of the debit account right after.
    pub debit_after: Balance,
    /// Balance of the credit account right after.
    pub credit_after: Balance,
    /// Where it stands.
    pub position: Position,
    /// Log time, nanoseconds since 1970.
    pub time_ns: u64,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvRow {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Bytes,
    /// Where it was created.
    pub created: ModIndex,
    /// Its last write.
    pub modified: ModIndex,
    /// Writes since creation, from 1.
    pub version: u64,
}

/// Keys in order, as many as were wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvPage {
    /// The keys with their values.
    pub rows: Vec<KvRow>,
    /// There are more after them, in the same state.
    pub more: bool,
}

/// An answer held under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Log index of the write it answered.
    pub index: u64,
    /// Log time of that write, nanoseconds since 1970.
    pub time_ns: u64,
    /// Of the request.
    pub fingerprint: [u8; FINGERPRINT_LEN],
    /// What was answered.
    pub reply: Reply,
}

/// The sums of a ledger: equal, or double entry is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialBalance {
    /// The ledger, with the totals the machine keeps.
    pub ledger: LedgerRow,
    /// Sum of debits and credits added up over the accounts for this answer.
    pub summed: Balance,
    /// How many accounts were added up.
    pub accounts: u64,
}

/// Direction of a list of transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// Reads of the applied state; clones share it. Its methods are in `read`.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) core: Arc<Core>,
}

impl View {
    pub(super) fn new(core: Arc<Core>) -> View {
        View { core }
    }
}
