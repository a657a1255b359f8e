//! Reads of accounts.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::core::Core;
use super::super::db::{Range, Table};
use super::super::layout::{AccountFixed, account_id_key, after_prefix, ledger_account_key};
use super::super::live::Live;
use super::super::view::{AccountRow, At, TrialBalance, View};
use super::{ledger_of, ledger_row};
use crate::machine::{Balance, Fault};

/// How often a list is begun again because accounts were created meanwhile, before it makes apply wait.
const ATTEMPTS: u32 = 3;

/// Which accounts a list is of.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    ledger: Option<u32>,
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
}

/// An account found by its id.
#[derive(Debug)]
struct Listed {
    number: u64,
    /// If it is not in the tables yet.
    fixed: Option<AccountFixed>,
}

impl View {
    /// An account by id.
    pub fn account(&self, id: &str) -> Result<At<Option<AccountRow>>, Fault> {
        let At { index, value } = self.core.account_number(id)?;
        let Some(number) = value else {
            return Ok(At { index, value: None });
        };
        let fixed = self.core.fixed(number)?;
        let live = self.core.read()?;
        Ok(At {
            index: live.index,
            value: Some(account_row(&self.core, &live, number, fixed)?),
        })
    }

    /// Accounts in order of their ids, those after `after` whose id starts with `prefix`, of one ledger or all, up to `limit`.
    pub fn accounts(
        &self,
        ledger: Option<&str>,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<At<Vec<AccountRow>>, Fault> {
        for attempt in 1.. {
            let live = self.core.read()?;
            let ledger = match ledger.map(|id| live.ledger_numbers.get(id)) {
                Some(None) => {
                    return Ok(At {
                        index: live.index,
                        value: Vec::new(),
                    });
                }
                Some(Some(number)) => Some(*number),
                None => None,
            };
            let wanted = Wanted {
                ledger,
                prefix,
                after,
                limit,
            };
            let (count, overlaid) = (live.accounts.len(), overlaid(&live, wanted));
            // Held on to for the last attempt, which so cannot fail.
            let held = (attempt > ATTEMPTS).then_some(live);
            let mut listed = list_tables(&self.core, wanted)?;
            listed.extend(overlaid);
            let listed = fixed(&self.core, listed, limit)?;
            let live = held.map_or_else(|| self.core.read(), Ok)?;
            // No account was created meanwhile, so the list is whole as of now; balances are those of now.
            if live.accounts.len() == count {
                return account_rows(&self.core, &live, listed);
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The sums of a ledger, added up over its accounts; `None` if there is no such ledger. Looks at every account in memory,
    /// some 10 ms a million, during which nothing is applied: the sums must be of one moment.
    pub fn trial_balance(&self, ledger: &str) -> Result<At<Option<TrialBalance>>, Fault> {
        let live = self.core.read()?;
        let Some((&number, ledger)) = live
            .ledger_numbers
            .get(ledger)
            .and_then(|number| Some((number, live.ledger(*number)?)))
        else {
            return Ok(At {
                index: live.index,
                value: None,
            });
        };
        let (mut summed, mut accounts) = (Balance::default(), 0);
        for account in live
            .accounts
            .iter()
            .filter(|account| account.ledger == number)
        {
            // A part of a ledger's totals, which are known to fit.
            summed.debits = summed.debits.saturating_add(account.balance.debits);
            summed.credits = summed.credits.saturating_add(account.balance.credits);
            accounts += 1;
        }
        let value = TrialBalance {
            ledger: ledger_row(ledger),
            summed,
            accounts,
        };
        Ok(At {
            index: live.index,
            value: Some(value),
        })
    }
}

fn account_rows(
    core: &Core,
    live: &Live,
    listed: Vec<(u64, AccountFixed)>,
) -> Result<At<Vec<AccountRow>>, Fault> {
    let rows = listed
        .into_iter()
        .map(|(number, fixed)| account_row(core, live, number, fixed));
    Ok(At {
        index: live.index,
        value: rows.collect::<Result<_, _>>()?,
    })
}

fn account_row(
    core: &Core,
    live: &Live,
    number: u64,
    fixed: AccountFixed,
) -> Result<AccountRow, Fault> {
    let ledger = ledger_of(core, live, number)?;
    let account = live
        .account(number)
        .expect("its ledger was found through it");
    Ok(AccountRow {
        id: fixed.id,
        ledger: ledger.fixed.id,
        asset: ledger.fixed.asset,
        scale: ledger.fixed.scale,
        code: account.code,
        limits: account.limits,
        balance: account.balance,
        created: fixed.created,
        created_ns: fixed.created_ns,
    })
}

/// The accounts wanted that are not in the tables yet.
fn overlaid(live: &Live, wanted: Wanted<'_>) -> BTreeMap<String, Listed> {
    let from = wanted
        .after
        .filter(|after| *after >= wanted.prefix)
        .map_or(Bound::Included(wanted.prefix), Bound::Excluded);
    let ids = live
        .overlay
        .accounts
        .range::<str, _>((from, Bound::Unbounded));
    ids.take_while(|(id, _)| id.starts_with(wanted.prefix))
        .filter_map(|(id, number)| Some((id, *number, live.overlay.account_rows.get(number)?)))
        .filter(|(_, _, fixed)| wanted.ledger.is_none_or(|ledger| fixed.ledger == ledger))
        .take(wanted.limit)
        .map(|(id, number, fixed)| {
            (
                id.clone(),
                Listed {
                    number,
                    fixed: Some(fixed.clone()),
                },
            )
        })
        .collect()
}

/// The accounts wanted that are in the tables.
fn list_tables(core: &Core, wanted: Wanted<'_>) -> Result<BTreeMap<String, Listed>, Fault> {
    let key = |id: &str| match wanted.ledger {
        Some(ledger) => ledger_account_key(ledger, id),
        None => account_id_key(id),
    };
    let start = key("").len();
    let from = match wanted.after.filter(|after| *after >= wanted.prefix) {
        // The next key in order: no id holds a zero byte.
        Some(after) => [&key(after)[..], &[0]].concat(),
        None => key(wanted.prefix),
    };
    let to = after_prefix(&key(wanted.prefix)).expect("the key starts with a letter");
    let mut rows = core
        .db
        .rows(Table::AccountIds, Range::from(&from).to(&to), None);
    let mut listed = BTreeMap::new();
    while listed.len() < wanted.limit
        && let Some((key, value)) = rows.next()?
    {
        let id = std::str::from_utf8(&key[start..])
            .map_err(|error| core.db.damaged(Table::AccountIds, error))?;
        listed.insert(
            id.to_owned(),
            Listed {
                number: core.parse_number(value)?,
                fixed: None,
            },
        );
    }
    Ok(listed)
}

/// Reads the fixed fields of the first `limit`.
fn fixed(
    core: &Core,
    listed: BTreeMap<String, Listed>,
    limit: usize,
) -> Result<Vec<(u64, AccountFixed)>, Fault> {
    let first = listed.into_values().take(limit);
    first
        .map(|account| {
            let fixed = account
                .fixed
                .map_or_else(|| core.account_fixed(account.number), Ok)?;
            Ok((account.number, fixed))
        })
        .collect()
}
