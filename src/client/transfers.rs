//! Transfers, one by one and in batches.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answer::{Created, Existence, Page, Read, Written};
use super::ask::{Ask, Key, Repeat};
use super::error::Error;
use super::ledgers::{Range, Sums, path};
use super::{Client, text};
use crate::machine::command::BATCH_LEN_MAX;

/// A transfer to be posted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTransfer {
    /// Its id: of the caller's choice, unique for ever. It is what makes sending it twice safe.
    pub id: String,
    /// Id of the account it comes from.
    pub debit_account: String,
    /// Id of the account it goes to.
    pub credit_account: String,
    /// Minor units.
    #[serde(with = "text")]
    pub amount: u128,
    /// A number of the caller's choice.
    #[serde(default)]
    pub code: u32,
    /// All or nothing with the next one of the batch.
    #[serde(default, skip_serializing_if = "is_false")]
    pub linked: bool,
    /// Names and values of the caller's choice.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature is serde's"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl NewTransfer {
    /// The request. No key: the id is remembered for ever, whatever became of it.
    pub fn ask(&self) -> Ask {
        Ask::post("/v1/transfers", self, Repeat::ById)
    }
}

/// A transfer.
#[derive(Clone, Debug, Deserialize)]
pub struct Transfer {
    /// Its id.
    pub id: String,
    /// `posted`, or `refused` for ever.
    pub status: String,
    /// Why it was refused.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Id of its ledger, if its accounts are known.
    pub ledger: Option<String>,
    /// Id of the account it came from.
    pub debit_account: String,
    /// Id of the account it went to.
    pub credit_account: String,
    /// Minor units.
    #[serde(with = "text")]
    pub amount: u128,
    /// The number chosen by who sent it.
    pub code: u32,
    /// It was all or nothing with the next one.
    pub linked: bool,
    /// Names and values chosen by who sent it.
    pub metadata: BTreeMap<String, String>,
    /// What its accounts had right after it.
    pub balances_after: BalancesAfter,
    /// Log time, RFC 3339.
    pub created_at: String,
    /// Log index of its entry.
    #[serde(with = "text")]
    pub created_index: u64,
    /// Its place in the entry.
    pub seq: u32,
}

/// What both accounts had right after a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct BalancesAfter {
    /// The account it came from.
    pub debit: Sums,
    /// The account it went to.
    pub credit: Sums,
}

/// Transfers that are posted in order, in one log entry, each by itself unless linked.
#[derive(Clone, Debug)]
pub struct Batch {
    /// At most [`BATCH_LEN_MAX`].
    pub transfers: Vec<NewTransfer>,
    /// The batch is done once under this key, and answered with what was answered then.
    pub idempotency_key: Key,
}

#[derive(Serialize)]
struct BatchBody<'a> {
    transfers: &'a [NewTransfer],
}

impl Batch {
    /// A batch with a key of its own.
    pub fn new(transfers: Vec<NewTransfer>) -> Batch {
        Batch {
            transfers,
            idempotency_key: Key::make(),
        }
    }

    /// The request.
    ///
    /// # Errors
    /// If there are too many transfers, or none.
    pub fn ask(&self) -> Result<Ask, Error> {
        let count = self.transfers.len();
        if !(1..=BATCH_LEN_MAX).contains(&count) {
            let why = format!("a batch has 1 to {BATCH_LEN_MAX} transfers, this one has {count}");
            return Err(Error::Invalid(why));
        }
        let body = BatchBody {
            transfers: &self.transfers,
        };
        let repeat = Repeat::ByKey(self.idempotency_key.clone());
        Ok(Ask::post("/v1/transfers/batch", &body, repeat))
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Deserialize)]
pub struct BatchResults {
    /// Counts.
    pub summary: Summary,
    /// One for each transfer, in order.
    pub results: Vec<BatchResult>,
}

/// How many transfers of a batch met which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Summary {
    /// Posted now.
    pub created: u64,
    /// Posted before.
    pub exists: u64,
    /// Not posted.
    pub refused: u64,
}

/// What became of one transfer of a batch.
#[derive(Clone, Debug, Deserialize)]
pub struct BatchResult {
    /// Its id.
    pub id: String,
    /// Its fate.
    pub result: BatchFate,
    /// Why it was refused, for programs.
    #[serde(default)]
    pub code: Option<String>,
    /// Why it was refused, for people.
    #[serde(default)]
    pub detail: Option<String>,
}

/// The fate of one transfer of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchFate {
    /// Posted now.
    Created,
    /// Posted before.
    Exists,
    /// Not posted.
    Refused,
}

/// In which order transfers are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    #[default]
    Ascending,
    /// Newest first.
    Descending,
}

impl Order {
    /// The name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Order::Ascending => "created_at",
            Order::Descending => "-created_at",
        }
    }
}

impl Client {
    /// Posts a transfer, or finds that the same was posted.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transfer(&self, new: &NewTransfer) -> Result<Written<Created<Transfer>>, Error> {
        self.write(&new.ask()).await
    }

    /// Posts a batch. That some of its transfers were refused is a result, not an error.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transfer_batch(&self, batch: &Batch) -> Result<Written<BatchResults>, Error> {
        self.write(&batch.ask()?).await
    }

    /// A transfer, posted or refused for ever, if its id was ever used.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transfer_by_id(&self, id: &str) -> Result<Option<Read<Transfer>>, Error> {
        let ask = Ask::read(path("transfers", id, ""), self.options().level);
        self.find(&ask, "transfer_not_found").await
    }

    /// The posted transfers of an account, if it exists.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn transfers_of(
        &self,
        account: &str,
        order: Order,
        range: &Range,
    ) -> Result<Option<Read<Page<Transfer>>>, Error> {
        let path = path("accounts", account, "/transfers");
        let ask = Ask::read(path, self.options().level).param("sort", Some(order.name()));
        self.find(&range.of(ask), "account_not_found").await
    }
}

/// Whether a write's answer says that it did something now.
impl<T> Written<Created<T>> {
    /// It was created by this call, and not found.
    pub fn is_new(&self) -> bool {
        self.value.existence == Existence::Created
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(id: &str) -> NewTransfer {
        NewTransfer {
            id: id.to_owned(),
            debit_account: "a".to_owned(),
            credit_account: "b".to_owned(),
            amount: u128::MAX,
            code: 0,
            linked: false,
            metadata: BTreeMap::new(),
        }
    }

    #[test]
    fn an_amount_travels_as_text() {
        let text = serde_json::to_string(&transfer("t")).unwrap();
        assert!(text.contains(&format!("\"amount\":\"{}\"", u128::MAX)));
        assert!(!text.contains("linked"), "{text}");
        let back: NewTransfer = serde_json::from_str(&text).unwrap();
        assert_eq!(back, transfer("t"));
    }

    #[test]
    fn a_batch_has_its_bounds() {
        assert!(Batch::new(Vec::new()).ask().is_err());
        assert!(Batch::new(vec![transfer("t"); BATCH_LEN_MAX]).ask().is_ok());
        let more = Batch::new(vec![transfer("t"); BATCH_LEN_MAX + 1]);
        assert!(matches!(more.ask(), Err(Error::Invalid(_))));
    }

    #[test]
    fn every_batch_has_a_key_of_its_own_and_keeps_it() {
        let batch = Batch::new(vec![transfer("t")]);
        assert_eq!(batch.ask().unwrap().repeat(), batch.ask().unwrap().repeat());
        let other = Batch::new(vec![transfer("t")]);
        assert_ne!(batch.idempotency_key, other.idempotency_key);
    }
}
