//! What the machine answers: a reply per command. Replicated (stored with idempotency keys): append-only.

use serde::{Deserialize, Serialize};

use super::command::ModIndex;
use super::record::{Balance, TransferRecord, refusal};
use super::store::Position;

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// The command was refused and changed nothing.
    Rejected(Rejection),
    /// The key was written.
    KvPut {
        /// Where the key was created.
        created: ModIndex,
        /// This write.
        modified: ModIndex,
        /// Writes since creation, from 1.
        version: u64,
    },
    /// The key was removed.
    KvDeleted {
        /// The modification index the key had.
        was: ModIndex,
    },
    /// The ledger exists now.
    Ledger {
        /// Since when.
        existence: Existence,
        /// Its totals at this moment.
        totals: Balance,
    },
    /// The account exists now.
    Account {
        /// Since when.
        existence: Existence,
        /// Its balance at this moment.
        balance: Balance,
    },
    /// One result per transfer, in order.
    Transfers(Vec<TransferResult>),
    /// The command was done before under its idempotency key; this is what was answered then.
    Replayed(Replayed),
}

/// An answer given again. Never stored: what is stored is the first one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// Log index of the entry in which it was given first.
    pub index: u64,
    /// What was answered.
    pub reply: Box<Reply>,
}

impl Reply {
    /// As stored under an idempotency key: compact and binary.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("a reply is plain data")
    }

    /// Reads back [`Reply::to_bytes`]: the whole of `bytes`, nothing more. `Err` says what is wrong.
    pub fn from_bytes(bytes: &[u8]) -> Result<Reply, String> {
        match postcard::take_from_bytes(bytes) {
            Ok((reply, [])) => Ok(reply),
            Ok((_, rest)) => Err(format!("{} bytes after the end of a reply", rest.len())),
            Err(error) => Err(format!("is no reply: {error}")),
        }
    }
}

/// Whether a create did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Existence {
    /// Created by this command.
    Created,
    /// Existed already with the same fields; nothing changed.
    Existed,
}

/// The fate of one transfer of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferResult {
    /// Posted by this command, at this position.
    Created(Position),
    /// Posted before with the same fields, at this position; no second effect.
    Exists(Position),
    /// Not posted by this command.
    Refused(Rejection),
}

/// A business refusal: a committed fact, not a failure. Each has a stable name, see [`Rejection::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rejection {
    /// The key does not exist.
    KeyNotFound,
    /// The condition of a key-value write does not hold; `current` is the key's modification index, if it exists.
    PreconditionFailed {
        /// What the key has instead.
        current: Option<ModIndex>,
    },
    /// The account's ledger does not exist.
    LedgerNotFound,
    /// The id is taken by something with other fields: a set of `FIELD_*` bits says which.
    ExistsWithDifferentFields {
        /// Bits of [`fields`].
        fields: u16,
    },
    /// A transfer of nothing.
    AmountMustNotBeZero,
    /// Debit and credit account are one.
    AccountsMustDiffer,
    /// The debit account does not exist. Remembered.
    DebitAccountNotFound,
    /// The credit account does not exist. Remembered.
    CreditAccountNotFound,
    /// The accounts belong to two ledgers.
    LedgerMismatch,
    /// A balance or a ledger's total would pass 2^128 - 1. Remembered.
    AmountOverflow,
    /// The debit account's debits would exceed its credits. Remembered, with its balance at the time.
    ExceedsCredits {
        /// The debit account's balance when refused.
        balance: Balance,
    },
    /// The credit account's credits would exceed its debits. Remembered, with its balance at the time.
    ExceedsDebits {
        /// The credit account's balance when refused.
        balance: Balance,
    },
    /// The last transfer of the batch is `linked`: its chain has no end.
    ChainOpen,
    /// Another transfer of its chain was refused.
    ChainFailed,
    /// The idempotency key was used before with another request.
    IdempotencyKeyReused {
        /// Log index of its first use.
        index: u64,
        /// Log time of its first use, nanoseconds since 1970.
        time_ns: u64,
    },
    /// As many idempotency keys as may be are held, and none has had its time. Not stored: there is no room.
    IdempotencyKeysFull,
}

/// Bits of [`Rejection::ExistsWithDifferentFields`], and their names.
pub mod fields {
    /// Name of each bit, lowest first. Append-only.
    pub const NAMES: [&str; 10] = [
        "asset",
        "scale",
        "ledger",
        "code",
        "limits",
        "debit_account",
        "credit_account",
        "amount",
        "metadata",
        "linked",
    ];
    /// A ledger's asset.
    pub const ASSET: u16 = 1 << 0;
    /// A ledger's scale.
    pub const SCALE: u16 = 1 << 1;
    /// An account's ledger.
    pub const LEDGER: u16 = 1 << 2;
    /// A code.
    pub const CODE: u16 = 1 << 3;
    /// An account's limits.
    pub const LIMITS: u16 = 1 << 4;
    /// A transfer's debit account.
    pub const DEBIT_ACCOUNT: u16 = 1 << 5;
    /// A transfer's credit account.
    pub const CREDIT_ACCOUNT: u16 = 1 << 6;
    /// A transfer's amount.
    pub const AMOUNT: u16 = 1 << 7;
    /// A transfer's metadata.
    pub const METADATA: u16 = 1 << 8;
    /// A transfer's link to the next.
    pub const LINKED: u16 = 1 << 9;

    /// The names of the bits set, lowest first.
    pub fn names(bits: u16) -> impl Iterator<Item = &'static str> {
        NAMES
            .iter()
            .enumerate()
            .filter(move |(bit, _)| bits & (1 << bit) != 0)
            .map(|(_, name)| *name)
    }
}

impl Rejection {
    /// The number under which a transfer's refusal is remembered ([`refusal`]): those that the state of the moment caused,
    /// so that a retry could get another answer. `None` for those that any retry gets again by itself, and for
    /// [`Rejection::ChainFailed`], which is about other transfers.
    pub fn remembered_as(&self) -> Option<u16> {
        match self {
            Rejection::DebitAccountNotFound => Some(refusal::DEBIT_ACCOUNT_NOT_FOUND),
            Rejection::CreditAccountNotFound => Some(refusal::CREDIT_ACCOUNT_NOT_FOUND),
            Rejection::AmountOverflow => Some(refusal::AMOUNT_OVERFLOW),
            Rejection::ExceedsCredits { .. } => Some(refusal::EXCEEDS_CREDITS),
            Rejection::ExceedsDebits { .. } => Some(refusal::EXCEEDS_DEBITS),
            Rejection::KeyNotFound
            | Rejection::PreconditionFailed { .. }
            | Rejection::LedgerNotFound
            | Rejection::ExistsWithDifferentFields { .. }
            | Rejection::AmountMustNotBeZero
            | Rejection::AccountsMustDiffer
            | Rejection::LedgerMismatch
            | Rejection::ChainOpen
            | Rejection::ChainFailed
            | Rejection::IdempotencyKeyReused { .. }
            | Rejection::IdempotencyKeysFull => None,
        }
    }

    /// The refusal that `record` remembers, with the balance it holds; `None` if it was posted or its number is unknown.
    ///
    /// In a chain that balance is the one after the chain was taken back, where the first answer told the one it saw.
    pub fn remembered_in(record: &TransferRecord<'_>) -> Option<Rejection> {
        match record.refusal {
            refusal::DEBIT_ACCOUNT_NOT_FOUND => Some(Rejection::DebitAccountNotFound),
            refusal::CREDIT_ACCOUNT_NOT_FOUND => Some(Rejection::CreditAccountNotFound),
            refusal::AMOUNT_OVERFLOW => Some(Rejection::AmountOverflow),
            refusal::EXCEEDS_CREDITS => Some(Rejection::ExceedsCredits {
                balance: record.debit_after,
            }),
            refusal::EXCEEDS_DEBITS => Some(Rejection::ExceedsDebits {
                balance: record.credit_after,
            }),
            _ => None,
        }
    }

    /// The stable name, as clients see it.
    pub fn code(&self) -> &'static str {
        match self {
            Rejection::KeyNotFound => "key_not_found",
            Rejection::PreconditionFailed { .. } => "precondition_failed",
            Rejection::LedgerNotFound => "ledger_not_found",
            Rejection::ExistsWithDifferentFields { .. } => "exists_with_different_fields",
            Rejection::AmountMustNotBeZero => "amount_must_not_be_zero",
            Rejection::AccountsMustDiffer => "accounts_must_differ",
            Rejection::DebitAccountNotFound => "debit_account_not_found",
            Rejection::CreditAccountNotFound => "credit_account_not_found",
            Rejection::LedgerMismatch => "ledger_mismatch",
            Rejection::AmountOverflow => "amount_overflow",
            Rejection::ExceedsCredits { .. } => "exceeds_credits",
            Rejection::ExceedsDebits { .. } => "exceeds_debits",
            Rejection::ChainOpen => "chain_open",
            Rejection::ChainFailed => "chain_failed",
            Rejection::IdempotencyKeyReused { .. } => "idempotency_key_reused",
            Rejection::IdempotencyKeysFull => "idempotency_keys_full",
        }
    }
}
