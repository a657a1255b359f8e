//! What a client may ask the replicated state to do. Replicated: append-only, never reorder, never reuse a number.
//!
//! Commands borrow: from the request body on the way in, from the entry's bytes on the way to apply, so a batch of 8190
//! transfers is never copied string by string.

/// Most transfers in one command.
pub const BATCH_LEN_MAX: usize = 8190;
/// Longest key of the key-value store, in bytes.
pub const KEY_LEN_MAX: usize = 1024;
/// Longest value of the key-value store, in bytes (1 MiB).
pub const VALUE_LEN_MAX: usize = 1 << 20;
/// Longest metadata of one transfer, in bytes of canonical JSON.
pub const METADATA_LEN_MAX: usize = 16 << 10;
/// Longest asset code of a ledger, in bytes.
pub const ASSET_LEN_MAX: usize = 16;
/// Most decimal places of a ledger's minor unit.
pub const SCALE_MAX: u8 = 38;

/// One client command. Several travel in one log entry; one is never split over two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Create or replace the value of a key.
    KvPut {
        /// UTF-8, 1 to [`KEY_LEN_MAX`] bytes.
        key: &'a str,
        /// Any bytes, up to [`VALUE_LEN_MAX`].
        value: &'a [u8],
        /// What must hold of the key before.
        expect: Expect,
    },
    /// Remove a key.
    KvDelete {
        /// UTF-8, 1 to [`KEY_LEN_MAX`] bytes.
        key: &'a str,
        /// What must hold of the key before.
        expect: Expect,
    },
    /// Create a ledger: a set of accounts in one asset.
    CreateLedger(NewLedger<'a>),
    /// Create an account in a ledger.
    CreateAccount(NewAccount<'a>),
    /// Post 1 to [`BATCH_LEN_MAX`] transfers in order, each refused or created by itself unless `linked`.
    Transfers(Vec<NewTransfer<'a>>),
    /// Do a command unless it was done before under the same idempotency key; then answer what was answered.
    Once(Once<'a>),
}

/// A command under an idempotency key: see [`super::once`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Once<'a> {
    /// Client-chosen; see [`super::once::is_key`].
    pub key: &'a str,
    /// Of the request; see [`super::once::fingerprint`].
    pub fingerprint: [u8; super::once::FINGERPRINT_LEN],
    /// What is to be done once. Never another [`Command::Once`].
    pub command: Box<Command<'a>>,
}

/// The modification index of a key: where in the log its last write stands. Unique per write, also within one entry, so
/// comparing it is comparing the write. Written as `<entry>.<command>` in text.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct ModIndex {
    /// Log index of the entry.
    pub index: u64,
    /// Position of the command in the entry, from 0.
    pub command: u32,
}

impl std::fmt::Display for ModIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.index, self.command)
    }
}

/// The condition of a key-value write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No condition.
    Any,
    /// The key must not exist (`If-None-Match: *`).
    Absent,
    /// The key must exist, whatever its version (`If-Match: *`).
    Present,
    /// The key's modification index must be this one (`If-Match: "40.0"`).
    At(ModIndex),
}

/// A ledger to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewLedger<'a> {
    /// Client-chosen id; see [`super::id::is_valid`].
    pub id: &'a str,
    /// Asset code such as `USD`: 1 to [`ASSET_LEN_MAX`] bytes of `[A-Za-z0-9._-]`.
    pub asset: &'a str,
    /// Decimal places of the minor unit (2 for cents), up to [`SCALE_MAX`].
    pub scale: u8,
}

/// What an account must never do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Refuse a debit that would bring debits above credits (a wallet).
    pub debits_must_not_exceed_credits: bool,
    /// Refuse a credit that would bring credits above debits (a loan).
    pub credits_must_not_exceed_debits: bool,
}

impl Limits {
    /// As stored and sent: bit 0 for debits, bit 1 for credits.
    pub fn to_bits(self) -> u8 {
        u8::from(self.debits_must_not_exceed_credits)
            | u8::from(self.credits_must_not_exceed_debits) << 1
    }

    /// What [`Limits::to_bits`] gave; `Err` names unknown bits.
    pub fn from_bits(bits: u8) -> Result<Limits, String> {
        if bits & !3 != 0 {
            return Err(format!("unknown limits {bits:#x}"));
        }
        Ok(Limits {
            debits_must_not_exceed_credits: bits & 1 != 0,
            credits_must_not_exceed_debits: bits & 2 != 0,
        })
    }
}

/// An account to create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAccount<'a> {
    /// Client-chosen id; see [`super::id::is_valid`].
    pub id: &'a str,
    /// Id of its ledger.
    pub ledger: &'a str,
    /// Client-chosen kind, such as a chart-of-accounts number.
    pub code: u32,
    /// What it must never do.
    pub limits: Limits,
}

/// An account as a transfer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountRef<'a> {
    /// Resolved by the leader: numbers are immutable, so apply need not look the id up again.
    Number(u64),
    /// Not known to the leader when it proposed; apply looks it up.
    Id(&'a str),
}

/// A transfer to post: `amount` is added to the debits of one account and to the credits of another of the same ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewTransfer<'a> {
    /// Client-chosen id, unique over all ledgers for ever; see [`super::id::is_valid`].
    pub id: &'a str,
    /// Account debited.
    pub debit: AccountRef<'a>,
    /// Account credited.
    pub credit: AccountRef<'a>,
    /// Minor units, more than zero.
    pub amount: u128,
    /// Client-chosen kind.
    pub code: u32,
    /// Shares the fate of the next transfer of the batch: a chain of linked transfers is posted whole or not at all.
    pub linked: bool,
    /// Canonical JSON object, or empty. Up to [`METADATA_LEN_MAX`] bytes.
    pub metadata: &'a str,
}
