//! Ledgers and accounts.

use serde::{Deserialize, Serialize};

use super::answer::{Created, Page, Read, Written};
use super::ask::{Ask, Key, Repeat, escaped};
use super::error::Error;
use super::{Client, text};

/// A ledger to be created.
#[derive(Clone, Debug, Serialize)]
pub struct NewLedger {
    /// Its id: unique for ever, so creating it twice creates it once.
    pub id: String,
    /// Asset code, such as `USD`.
    pub asset: String,
    /// Decimal places of the minor unit.
    pub scale: u8,
}

impl NewLedger {
    /// The request. Every call makes a new idempotency key: what a refusal (which an id alone does not keep) proved of an
    /// attempt in doubt, the key keeps.
    pub fn ask(&self) -> Ask {
        Ask::post("/v1/ledgers", self, Repeat::ByKey(Key::make()))
    }
}

/// The two sums of an account or a ledger, in minor units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Sums {
    /// Everything debited.
    #[serde(with = "text")]
    pub debits_posted: u128,
    /// Everything credited.
    #[serde(with = "text")]
    pub credits_posted: u128,
}

/// A ledger.
#[derive(Clone, Debug, Deserialize)]
pub struct Ledger {
    /// Its id.
    pub id: String,
    /// Asset code.
    pub asset: String,
    /// Decimal places of the minor unit.
    pub scale: u8,
    /// Sums over its accounts.
    pub totals: Sums,
    /// Log time of its creation, RFC 3339.
    pub created_at: String,
    /// Log index of its creation.
    #[serde(with = "text")]
    pub created_index: u64,
}

/// The proof that a ledger balances.
#[derive(Clone, Debug, Deserialize)]
pub struct TrialBalance {
    /// The ledger's id.
    pub ledger: String,
    /// Asset code.
    pub asset: String,
    /// Decimal places of the minor unit.
    pub scale: u8,
    /// How many accounts it has.
    #[serde(with = "text")]
    pub accounts: u64,
    /// As kept with every transfer.
    pub totals: Sums,
    /// As added up over the accounts now.
    pub summed: Sums,
    /// All four agree.
    pub balanced: bool,
}

/// Which balances an account must not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// A wallet.
    pub debits_must_not_exceed_credits: bool,
    /// A loan.
    pub credits_must_not_exceed_debits: bool,
}

/// An account to be created.
#[derive(Clone, Debug, Serialize)]
pub struct NewAccount {
    /// Its id: unique for ever.
    pub id: String,
    /// Id of its ledger.
    pub ledger: String,
    /// A number of the caller's choice.
    pub code: u32,
    /// What its balance must not be.
    pub limits: Limits,
}

impl NewAccount {
    /// The request; see [`NewLedger::ask`].
    pub fn ask(&self) -> Ask {
        Ask::post("/v1/accounts", self, Repeat::ByKey(Key::make()))
    }
}

/// An account.
#[derive(Clone, Debug, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: String,
    /// Id of its ledger.
    pub ledger: String,
    /// The number chosen at its creation.
    pub code: u32,
    /// `debit` or `credit`: the side on which it grows.
    pub normal_side: String,
    /// What its balance must not be.
    pub limits: Limits,
    /// Its balance.
    pub balance: Balance,
    /// Log time of its creation, RFC 3339.
    pub created_at: String,
    /// Log index of its creation.
    #[serde(with = "text")]
    pub created_index: u64,
}

/// The balance of an account.
#[derive(Clone, Debug, Deserialize)]
pub struct Balance {
    /// Both sides.
    #[serde(flatten)]
    pub sums: Sums,
    /// Their difference in minor units, counted on the normal side; a text, as it may pass what an integer type holds.
    pub balance: String,
    /// The same with its decimal point.
    pub display: String,
    /// Asset code.
    pub asset: String,
}

/// Which part of a list is wanted.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// Most rows, up to 1000; 100 if not given.
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl Range {
    /// `ask` for this part.
    pub(super) fn of(&self, ask: Ask) -> Ask {
        let limit = self.limit.map(|limit| limit.to_string());
        ask.param("limit", limit.as_deref())
            .param("cursor", self.cursor.as_deref())
    }
}

/// Which accounts are wanted.
#[derive(Clone, Debug, Default)]
pub struct AccountFilter {
    /// Of this ledger.
    pub ledger: Option<String>,
    /// With ids that start so.
    pub prefix: Option<String>,
}

/// The path of something with an id.
pub(super) fn path(resource: &str, id: &str, rest: &str) -> String {
    format!("/v1/{resource}/{}{rest}", escaped(id, ":@"))
}

impl Client {
    /// Creates a ledger, or finds that the same exists.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_ledger(&self, new: &NewLedger) -> Result<Written<Created<Ledger>>, Error> {
        self.write(&new.ask()).await
    }

    /// A ledger, if it exists.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ledger(&self, id: &str) -> Result<Option<Read<Ledger>>, Error> {
        let ask = Ask::read(path("ledgers", id, ""), self.options().level);
        self.find(&ask, "ledger_not_found").await
    }

    /// Ledgers, by id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn ledgers(&self, range: &Range) -> Result<Read<Page<Ledger>>, Error> {
        let ask = Ask::read("/v1/ledgers", self.options().level);
        self.read(&range.of(ask)).await
    }

    /// The sums over all accounts of a ledger, if it exists.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn trial_balance(&self, ledger: &str) -> Result<Option<Read<TrialBalance>>, Error> {
        let path = path("ledgers", ledger, "/trial-balance");
        let ask = Ask::read(path, self.options().level);
        self.find(&ask, "ledger_not_found").await
    }

    /// Creates an account, or finds that the same exists.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_account(
        &self,
        new: &NewAccount,
    ) -> Result<Written<Created<Account>>, Error> {
        self.write(&new.ask()).await
    }

    /// An account with its balance, if it exists.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn account(&self, id: &str) -> Result<Option<Read<Account>>, Error> {
        let ask = Ask::read(path("accounts", id, ""), self.options().level);
        self.find(&ask, "account_not_found").await
    }

    /// Accounts, by id.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn accounts(
        &self,
        filter: &AccountFilter,
        range: &Range,
    ) -> Result<Read<Page<Account>>, Error> {
        let ask = Ask::read("/v1/accounts", self.options().level)
            .param("ledger", filter.ledger.as_deref())
            .param("prefix", filter.prefix.as_deref());
        self.read(&range.of(ask)).await
    }
}
