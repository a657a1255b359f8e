//! Reads. Each takes what must be of one moment under the lock of the state in memory, and the rest, which never changes, from
//! the tables afterwards: so no reader makes apply wait for the disk.
//!
//! The order of looking matters: the overlay first, then the tables. Rows go to the tables before they leave the overlay, so
//! what is in neither does not exist.

mod accounts;
mod kv;
mod transfers;

use std::sync::Arc;

use super::core::{Core, lock};
use super::db::Table;
use super::layout::{AccountFixed, account_id_key};
use super::live::{LedgerState, Live};
use super::view::{At, LedgerRow, View};
use crate::machine::{Balance, Fault, Position};

impl View {
    /// The applied index now.
    pub fn index(&self) -> u64 {
        match self.core.read() {
            Ok(live) => live.index,
            Err(_) => lock(&self.core.applied).log_id.map_or(0, |id| id.index),
        }
    }

    /// A ledger by id.
    pub fn ledger(&self, id: &str) -> Result<At<Option<LedgerRow>>, Fault> {
        let live = self.core.read()?;
        let value = live
            .ledger_numbers
            .get(id)
            .and_then(|&number| live.ledger(number))
            .map(ledger_row);
        Ok(At {
            index: live.index,
            value,
        })
    }

    /// Ledgers in order of their ids, those after `after`, up to `limit`.
    pub fn ledgers(&self, after: Option<&str>, limit: usize) -> Result<At<Vec<LedgerRow>>, Fault> {
        let live = self.core.read()?;
        let ids = live
            .ledger_numbers
            .iter()
            .skip_while(|(id, _)| after.is_some_and(|after| id.as_str() <= after));
        let value = ids
            .take(limit)
            .filter_map(|(_, &number)| live.ledger(number))
            .map(ledger_row)
            .collect();
        Ok(At {
            index: live.index,
            value,
        })
    }
}

fn ledger_row(ledger: &LedgerState) -> LedgerRow {
    LedgerRow {
        id: ledger.fixed.id.clone(),
        asset: ledger.fixed.asset.clone(),
        scale: ledger.fixed.scale,
        created: ledger.fixed.created,
        created_ns: ledger.fixed.created_ns,
        totals: Balance {
            debits: ledger.ledger.debits,
            credits: ledger.ledger.credits,
        },
    }
}

/// The ledger of an account, both of which exist.
fn ledger_of(core: &Core, live: &Live, account: u64) -> Result<LedgerState, Fault> {
    let ledger = live
        .account(account)
        .and_then(|account| live.ledger(account.ledger));
    ledger.cloned().ok_or_else(|| {
        core.db.damaged(
            Table::Accounts,
            format_args!("account {account} has no ledger"),
        )
    })
}

impl Core {
    /// Account numbers of `ids`.
    pub(super) fn resolve<'a>(
        &self,
        ids: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<Option<u64>>, Fault> {
        let mut missing = Vec::new();
        let mut numbers: Vec<Option<u64>> = {
            let mut names = lock(&self.names);
            let look = |(place, id)| {
                names
                    .get(id)
                    .or_else(|| (missing.push((id, place)), None).1)
            };
            ids.enumerate().map(look).collect()
        };
        if missing.is_empty() {
            return Ok(numbers);
        }
        {
            let live = self.read()?;
            if !live.overlay.accounts.is_empty() {
                for (id, place) in &missing {
                    numbers[*place] = live.overlay.accounts.get(*id).copied();
                }
                missing.retain(|(_, place)| numbers[*place].is_none());
            }
        }
        missing.sort_unstable();
        let keys: Vec<Vec<u8>> = missing.iter().map(|(id, _)| account_id_key(id)).collect();
        let found = self
            .db
            .get_sorted(Table::AccountIds, keys.iter().map(Vec::as_slice))?;
        let mut names = lock(&self.names);
        for ((id, place), value) in missing.into_iter().zip(found) {
            if let Some(value) = value {
                let number = self.parse_number(&value)?;
                names.insert(id, number);
                numbers[place] = Some(number);
            }
        }
        Ok(numbers)
    }

    /// The number of the account with this id, wherever it is, and an index at which that was so.
    fn account_number(&self, id: &str) -> Result<At<Option<u64>>, Fault> {
        let (index, number) = {
            let live = self.read()?;
            (live.index, live.overlay.accounts.get(id).copied())
        };
        // If the tables have none now, there was none at the index taken before: an account never goes away.
        let value = match number {
            Some(number) => Some(number),
            None => self.find_account(id)?,
        };
        Ok(At { index, value })
    }

    /// The fixed fields of account `number`, wherever they are.
    fn fixed(&self, number: u64) -> Result<AccountFixed, Fault> {
        let overlaid = self.read()?.overlay.account_rows.get(&number).cloned();
        overlaid.map_or_else(|| self.account_fixed(number), Ok)
    }

    /// The time of an entry and the bytes of a record of it, wherever they are.
    pub(super) fn record(&self, at: Position) -> Result<(u64, Vec<u8>), Fault> {
        let rows = self.read()?.overlay.entries.get(&at.index).map(Arc::clone);
        let overlaid = rows
            .as_ref()
            .and_then(|rows| Some((rows.time_ns, rows.record(at.record)?.to_vec())));
        overlaid.map_or_else(|| self.journal_record(at), Ok)
    }
}
