//! One new transfer: whether the accounts allow it, and the record it leaves.

use crate::machine::command::{AccountRef, NewTransfer};
use crate::machine::id::{AccountNumber, LedgerNumber};
use crate::machine::record::{Balance, Record, TransferRecord};
use crate::machine::reply::Rejection;
use crate::machine::store::{Account, Fault, Position, Store};
use crate::mutants::{self, Mutant};

/// A transfer that the accounts allow.
pub(super) struct Posting {
    /// The ledger of both accounts.
    pub(super) ledger: LedgerNumber,
    debit: AccountNumber,
    credit: AccountNumber,
    debit_after: Balance,
    credit_after: Balance,
}

/// Goes through the refusals from `accounts_must_differ` on; see the table of [`super`].
pub(super) fn judge<S: Store>(
    store: &mut S,
    transfer: &NewTransfer<'_>,
) -> Result<Result<Posting, Rejection>, Fault> {
    let debit_number = resolve(store, transfer.debit)?;
    let credit_number = resolve(store, transfer.credit)?;
    let same = match (debit_number, credit_number) {
        (None, None) => transfer.debit == transfer.credit,
        (debit, credit) => debit == credit,
    };
    if same {
        return Ok(Err(Rejection::AccountsMustDiffer));
    }
    let Some(debit_number) = debit_number else {
        return Ok(Err(Rejection::DebitAccountNotFound));
    };
    let Some(credit_number) = credit_number else {
        return Ok(Err(Rejection::CreditAccountNotFound));
    };
    let debit = account(store, debit_number)?;
    let credit = account(store, credit_number)?;
    if debit.ledger != credit.ledger {
        return Ok(Err(Rejection::LedgerMismatch));
    }
    Ok(
        check_amount(store, transfer.amount, &debit, &credit)?.map(
            |[debit_after, credit_after]| Posting {
                ledger: debit.ledger,
                debit: debit_number,
                credit: credit_number,
                debit_after,
                credit_after,
            },
        ),
    )
}

/// The balances after moving `amount`, if nothing overflows and both accounts allow it.
fn check_amount<S: Store>(
    store: &S,
    amount: u128,
    debit: &Account,
    credit: &Account,
) -> Result<Result<[Balance; 2], Rejection>, Fault> {
    let number = debit.ledger;
    let ledger = store
        .ledger(number)
        .ok_or_else(|| Fault::new(format!("ledger number {number} does not exist")))?;
    let (Some(debits), Some(credits), Some(_), Some(_)) = (
        debit.balance.debits.checked_add(amount),
        credit.balance.credits.checked_add(amount),
        ledger.debits.checked_add(amount),
        ledger.credits.checked_add(amount),
    ) else {
        return Ok(Err(Rejection::AmountOverflow));
    };
    let is_limited = !mutants::on(Mutant::LimitsIgnored);
    if is_limited && debit.limits.debits_must_not_exceed_credits && debits > debit.balance.credits {
        return Ok(Err(Rejection::ExceedsCredits {
            balance: debit.balance,
        }));
    }
    if credit.limits.credits_must_not_exceed_debits && credits > credit.balance.debits {
        return Ok(Err(Rejection::ExceedsDebits {
            balance: credit.balance,
        }));
    }
    Ok(Ok([
        Balance {
            debits,
            ..debit.balance
        },
        Balance {
            credits: match mutants::on(Mutant::LegLost) {
                true => credit.balance.credits,
                false => credits,
            },
            ..credit.balance
        },
    ]))
}

/// Journals an allowed transfer.
pub(super) fn append<S: Store>(
    store: &mut S,
    transfer: &NewTransfer<'_>,
    posting: &Posting,
) -> Result<Position, Fault> {
    store.append(&Record::Transfer(TransferRecord {
        id: transfer.id,
        debit: posting.debit,
        credit: posting.credit,
        debit_id: "",
        credit_id: "",
        amount: transfer.amount,
        code: transfer.code,
        linked: transfer.linked,
        metadata: transfer.metadata,
        refusal: 0,
        debit_after: posting.debit_after,
        credit_after: posting.credit_after,
    }))
}

/// Journals a refusal, if it is one to be remembered. The id is not known yet, and what its chain posted is taken back.
pub(super) fn remember<S: Store>(
    store: &mut S,
    transfer: &NewTransfer<'_>,
    rejection: &Rejection,
) -> Result<(), Fault> {
    let Some(refusal) = rejection.remembered_as() else {
        return Ok(());
    };
    let (debit, debit_id, debit_after) = as_it_is(store, transfer.debit)?;
    let (credit, credit_id, credit_after) = as_it_is(store, transfer.credit)?;
    store.append(&Record::Transfer(TransferRecord {
        id: transfer.id,
        debit,
        credit,
        debit_id,
        credit_id,
        amount: transfer.amount,
        code: transfer.code,
        linked: transfer.linked,
        metadata: transfer.metadata,
        refusal,
        debit_after,
        credit_after,
    }))?;
    Ok(())
}

/// How a refusal's record names an account: its number and balance, or the id given if there is no such account.
fn as_it_is<'a, S: Store>(
    store: &mut S,
    given: AccountRef<'a>,
) -> Result<(AccountNumber, &'a str, Balance), Fault> {
    Ok(match (resolve(store, given)?, given) {
        (Some(number), _) => (number, "", account(store, number)?.balance),
        (None, AccountRef::Id(id)) => (0, id, Balance::default()),
        (None, AccountRef::Number(number)) => return Err(missing(number)),
    })
}

/// The account's number, if it exists. A number given is taken as it is; [`account`] finds whether it exists.
#[inline]
fn resolve<S: Store>(store: &mut S, given: AccountRef<'_>) -> Result<Option<AccountNumber>, Fault> {
    match given {
        AccountRef::Number(number) => Ok(Some(number)),
        AccountRef::Id(id) => store.find_account(id),
    }
}

#[inline]
fn account<S: Store>(store: &S, number: AccountNumber) -> Result<Account, Fault> {
    store.account(number).ok_or_else(|| missing(number))
}

#[cold]
fn missing(number: AccountNumber) -> Fault {
    Fault::new(format!("account number {number} does not exist"))
}
