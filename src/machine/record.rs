//! What happened: the rows of the journal, in a fixed little-endian layout (see [`codec`]). Durable: append-only.

pub mod codec;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::command::{Limits, ModIndex};
use super::id::{AccountNumber, LedgerNumber};
use super::once::FINGERPRINT_LEN;
use super::store::Position;

/// An account's two sums, in minor units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// Everything ever debited.
    pub debits: u128,
    /// Everything ever credited.
    pub credits: u128,
}

/// One row of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A key was written.
    KvPut {
        /// The key.
        key: &'a str,
        /// Its new value.
        value: &'a [u8],
        /// Where the key was created.
        created: ModIndex,
        /// This write.
        modified: ModIndex,
        /// Writes since creation, from 1.
        version: u64,
    },
    /// A key was removed.
    KvDeleted {
        /// The key.
        key: &'a str,
    },
    /// A ledger was created.
    LedgerCreated {
        /// Its number: the one after the last.
        number: LedgerNumber,
        /// Client-chosen id.
        id: &'a str,
        /// Asset code.
        asset: &'a str,
        /// Decimal places.
        scale: u8,
    },
    /// An account was created, with an empty balance.
    AccountCreated {
        /// Its number: the one after the last.
        number: AccountNumber,
        /// Client-chosen id.
        id: &'a str,
        /// Its ledger.
        ledger: LedgerNumber,
        /// Client-chosen kind.
        code: u32,
        /// What it must never do.
        limits: Limits,
    },
    /// A transfer was posted, or its id was refused for ever.
    Transfer(TransferRecord<'a>),
    /// A command under an idempotency key was decided; its other records stand before this one.
    Answered {
        /// The key: see [`super::once::is_key`].
        key: &'a str,
        /// Of the request.
        fingerprint: [u8; FINGERPRINT_LEN],
        /// Log time of the entry, nanoseconds since 1970.
        time_ns: u64,
        /// The answer: [`super::Reply::to_bytes`].
        reply: &'a [u8],
    },
    /// An idempotency key had its time and was forgotten: the oldest of all.
    AnswerForgotten {
        /// The key.
        key: &'a str,
        /// The record of its answer.
        at: Position,
    },
}

/// A transfer in the journal: posted if `refusal` is 0, otherwise remembered as refused so that no retry turns no into yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferRecord<'a> {
    /// Client-chosen id.
    pub id: &'a str,
    /// Number of the debit account; 0 if it did not exist (only in a refusal).
    pub debit: AccountNumber,
    /// Number of the credit account; 0 if it did not exist (only in a refusal).
    pub credit: AccountNumber,
    /// Id the client gave for a debit account that did not exist; otherwise empty.
    pub debit_id: &'a str,
    /// Id the client gave for a credit account that did not exist; otherwise empty.
    pub credit_id: &'a str,
    /// Minor units.
    pub amount: u128,
    /// Client-chosen kind.
    pub code: u32,
    /// Linked to the next of its batch.
    pub linked: bool,
    /// Canonical JSON object, or empty.
    pub metadata: &'a str,
    /// 0 if posted; otherwise the number of the remembered refusal (`refusal::*`).
    pub refusal: u16,
    /// The debit account's balance after this record (unchanged by a refusal).
    pub debit_after: Balance,
    /// The credit account's balance after this record (unchanged by a refusal).
    pub credit_after: Balance,
}

/// Numbers of remembered refusals in [`TransferRecord::refusal`]. Append-only.
pub mod refusal {
    /// [`crate::machine::Rejection::DebitAccountNotFound`].
    pub const DEBIT_ACCOUNT_NOT_FOUND: u16 = 1;
    /// [`crate::machine::Rejection::CreditAccountNotFound`].
    pub const CREDIT_ACCOUNT_NOT_FOUND: u16 = 2;
    /// [`crate::machine::Rejection::AmountOverflow`].
    pub const AMOUNT_OVERFLOW: u16 = 3;
    /// [`crate::machine::Rejection::ExceedsCredits`].
    pub const EXCEEDS_CREDITS: u16 = 4;
    /// [`crate::machine::Rejection::ExceedsDebits`].
    pub const EXCEEDS_DEBITS: u16 = 5;
}
