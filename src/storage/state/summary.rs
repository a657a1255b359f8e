//! What there is in a state, counted: for people, and to be held against what is derived from the same state in another way.
//!
//! Counts and sums are made of what happened, transfer by transfer, and never of balances. So they agree with the sums over the
//! balances of all accounts only if every transfer was posted to both of its accounts, once.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::State;
use super::db::{Access, Db, Range, Table};
use super::follow::{Follower, Journaled};
use super::load::Stamps;
use crate::machine::{Fault, Record};

/// Block cache while counting: everything is read once, in order.
const CACHE_BYTES: u64 = 8 << 20;

/// What there is in a state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Accounts.
    #[serde(with = "text")]
    pub accounts: u64,
    /// Transfers that were posted.
    #[serde(with = "text")]
    pub transfers: u64,
    /// Transfers that were refused for ever.
    #[serde(with = "text")]
    pub refused: u64,
    /// Keys of the key-value store.
    #[serde(with = "text")]
    pub keys: u64,
    /// Answers held under idempotency keys.
    #[serde(with = "text")]
    pub idempotency_keys: u64,
    /// Every ledger, in the order in which they were created.
    pub ledgers: Vec<LedgerSummary>,
}

/// The trial balance of a ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSummary {
    /// Its id.
    pub id: String,
    /// Its asset.
    pub asset: String,
    /// Decimal places of its minor unit.
    pub scale: u8,
    /// Its accounts.
    #[serde(with = "text")]
    pub accounts: u64,
    /// All that was debited, in minor units.
    #[serde(with = "text")]
    pub debits_posted: u128,
    /// All that was credited, in minor units.
    #[serde(with = "text")]
    pub credits_posted: u128,
}

impl Summary {
    /// As JSON, in one line: there may be millions of ledgers.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).expect("our own types are JSON");
        text.push(b'\n');
        text
    }

    /// Reads back [`Summary::encode`].
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Summary, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }
}

impl State {
    /// Counts what the checkpoint in `dir` holds. Reads its journal from beginning to end, with little memory but four bytes an account.
    /// Blocking.
    ///
    /// # Errors
    /// If it cannot be read, or its journal does not lead to its digest.
    pub fn summarize(dir: &Path) -> Result<Summary, Fault> {
        let db = Db::open(dir, Access::ReadOnly, CACHE_BYTES)?;
        let stamps = Stamps::read(&db)?;
        let damaged = |what: String| db.damaged(Table::Journal, what);
        let mut counting = Counting::default();
        let mut follower = Follower::default();
        let mut rows = db.rows(Table::Journal, Range::whole(&[]), None);
        while let Some((key, value)) = rows.next()? {
            let counted = follower.row(key, value, &mut |entry| counting.entry(entry));
            counted.map_err(damaged)?;
        }
        let checked = follower.check(&stamps.applied.digest, stamps.applied.time_ns);
        checked.map_err(damaged)?;
        let mut summary = counting.summary;
        summary.idempotency_keys = stamps.answers.count;
        let mut rows = db.rows(Table::Kv, Range::whole(&[]), None);
        while rows.next()?.is_some() {
            summary.keys += 1;
        }
        Ok(summary)
    }
}

/// Counts along a journal.
#[derive(Default)]
struct Counting {
    summary: Summary,
    /// By account number - 1: the number of its ledger.
    ledger_of: Vec<u32>,
}

impl Counting {
    fn entry(&mut self, entry: &Journaled) -> Result<(), String> {
        for record in entry.records()? {
            self.record(&record)
                .ok_or_else(|| format!("entry {} does not fit those before it", entry.index))?;
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Option<()> {
        match record {
            Record::LedgerCreated {
                id, asset, scale, ..
            } => self.summary.ledgers.push(LedgerSummary {
                id: (*id).to_owned(),
                asset: (*asset).to_owned(),
                scale: *scale,
                accounts: 0,
                debits_posted: 0,
                credits_posted: 0,
            }),
            Record::AccountCreated { ledger, .. } => {
                self.ledger(*ledger)?.accounts += 1;
                self.ledger_of.push(*ledger);
                self.summary.accounts += 1;
            }
            Record::Transfer(transfer) if transfer.refusal == 0 => {
                let debited = self.ledger_of(transfer.debit)?;
                debited.debits_posted = debited.debits_posted.checked_add(transfer.amount)?;
                let credited = self.ledger_of(transfer.credit)?;
                credited.credits_posted = credited.credits_posted.checked_add(transfer.amount)?;
                self.summary.transfers += 1;
            }
            Record::Transfer(_) => self.summary.refused += 1,
            Record::KvPut { .. }
            | Record::KvDeleted { .. }
            | Record::Answered { .. }
            | Record::AnswerForgotten { .. } => {}
        }
        Some(())
    }

    fn ledger(&mut self, number: u32) -> Option<&mut LedgerSummary> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        self.summary.ledgers.get_mut(at)
    }

    fn ledger_of(&mut self, account: u64) -> Option<&mut LedgerSummary> {
        let at = usize::try_from(account).ok()?.checked_sub(1)?;
        let ledger = *self.ledger_of.get(at)?;
        self.ledger(ledger)
    }
}

/// Numbers as JSON strings: JSON readers lose integers beyond 2^53.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(
        number: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
