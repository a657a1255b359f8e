//! Creating ledgers and accounts: once per id.

use crate::machine::command::{NewAccount, NewLedger};
use crate::machine::record::{Balance, Record};
use crate::machine::reply::{Existence, Rejection, Reply, fields};
use crate::machine::store::{Fault, Store};

/// Creates a ledger. Refusals: `exists_with_different_fields`.
pub(in crate::machine) fn create_ledger<S: Store>(
    store: &mut S,
    new: &NewLedger<'_>,
) -> Result<Reply, Fault> {
    if let Some(number) = store.find_ledger(new.id) {
        let missing = || {
            Fault::new(format!(
                "ledger {:?} has number {number}, which does not exist",
                new.id
            ))
        };
        let ledger = store.ledger(number).ok_or_else(missing)?;
        let asset = store.ledger_asset(number).ok_or_else(missing)?;
        let different =
            bit(asset != new.asset, fields::ASSET) | bit(ledger.scale != new.scale, fields::SCALE);
        let totals = Balance {
            debits: ledger.debits,
            credits: ledger.credits,
        };
        return Ok(unless_different(different, || Reply::Ledger {
            existence: Existence::Existed,
            totals,
        }));
    }
    let number = store
        .ledger_count()
        .checked_add(1)
        .ok_or_else(|| Fault::new("ledger numbers are used up"))?;
    store.append(&Record::LedgerCreated {
        number,
        id: new.id,
        asset: new.asset,
        scale: new.scale,
    })?;
    Ok(Reply::Ledger {
        existence: Existence::Created,
        totals: Balance::default(),
    })
}

/// Creates an account. Refusals, in this order: `exists_with_different_fields`, `ledger_not_found`.
pub(in crate::machine) fn create_account<S: Store>(
    store: &mut S,
    new: &NewAccount<'_>,
) -> Result<Reply, Fault> {
    let ledger = store.find_ledger(new.ledger);
    if let Some(number) = store.find_account(new.id)? {
        let account = store.account(number).ok_or_else(|| {
            Fault::new(format!(
                "account {:?} has number {number}, which does not exist",
                new.id
            ))
        })?;
        let different = bit(ledger != Some(account.ledger), fields::LEDGER)
            | bit(account.code != new.code, fields::CODE)
            | bit(account.limits != new.limits, fields::LIMITS);
        return Ok(unless_different(different, || Reply::Account {
            existence: Existence::Existed,
            balance: account.balance,
        }));
    }
    let Some(ledger) = ledger else {
        return Ok(Reply::Rejected(Rejection::LedgerNotFound));
    };
    let number = store
        .account_count()
        .checked_add(1)
        .ok_or_else(|| Fault::new("account numbers are used up"))?;
    store.append(&Record::AccountCreated {
        number,
        id: new.id,
        ledger,
        code: new.code,
        limits: new.limits,
    })?;
    Ok(Reply::Account {
        existence: Existence::Created,
        balance: Balance::default(),
    })
}

/// The answer to a create whose id is taken.
fn unless_different(different: u16, existed: impl FnOnce() -> Reply) -> Reply {
    if different == 0 {
        existed()
    } else {
        Reply::Rejected(Rejection::ExistsWithDifferentFields { fields: different })
    }
}

/// `bit` if a field is different.
pub(super) fn bit(different: bool, bit: u16) -> u16 {
    if different { bit } else { 0 }
}
