//! What a record changes, and its inverse: the one derivation that every [`Store`](super::Store) shares.
//!
//! | record | derived from it |
//! |---|---|
//! | ledger created | a ledger of that number, its id, totals of zero |
//! | account created | an account of that number, its id, a balance of zero |
//! | transfer | its id -> its position; if posted: both accounts' balances and their ledger's totals, by [`post`] |
//! | key written | the key's value and [`KvMeta`](super::KvMeta) |
//! | key removed | the key is gone |
//! | answered | the [`Answer`](super::Answer) under its idempotency key, as the newest |
//! | answer forgotten | the answer, the oldest, is gone |
//!
//! Only transfers are ever taken back: their ids are forgotten and [`unpost`] restores the balances.
//!
//! A ledger's totals follow the *balances the store holds*, not the amount: were the two sides of a record to disagree, the
//! totals would differ and the check after the entry would stop the node.

use super::id::AccountNumber;
use super::record::{Balance, TransferRecord};
use super::store::Ledger;
use crate::mutants::{self, Mutant};

/// One account's part in a posted transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// The account.
    pub account: AccountNumber,
    /// What it had.
    pub before: Balance,
    /// What it has.
    pub after: Balance,
}

/// Both sides of a transfer, debit first; `None` if it was refused and so moved nothing.
///
/// # Panics
/// If the balances after are below the amount: such a record was never posted.
#[inline]
pub fn sides(transfer: &TransferRecord<'_>) -> Option<[Side; 2]> {
    if transfer.refusal != 0 {
        return leg_of_refused(transfer).filter(|_| mutants::on(Mutant::RefusalLeavesLeg));
    }
    let before = |sum: u128| {
        sum.checked_sub(transfer.amount)
            .expect("a sum after a transfer holds its amount")
    };
    let (debit, credit) = (transfer.debit_after, transfer.credit_after);
    Some([
        Side {
            account: transfer.debit,
            before: Balance {
                debits: before(debit.debits),
                ..debit
            },
            after: debit,
        },
        Side {
            account: transfer.credit,
            before: Balance {
                credits: before(credit.credits),
                ..credit
            },
            after: credit,
        },
    ])
}

/// The debit of a refused transfer between accounts that exist, and the credit that it does not get: for
/// [`Mutant::RefusalLeavesLeg`] only.
fn leg_of_refused(transfer: &TransferRecord<'_>) -> Option<[Side; 2]> {
    let (debit, credit) = (transfer.debit_after, transfer.credit_after);
    let has_both = transfer.debit != 0 && transfer.credit != 0 && transfer.debit != transfer.credit;
    let debits = debit.debits.checked_add(transfer.amount)?;
    let unmoved = |account, balance| Side {
        account,
        before: balance,
        after: balance,
    };
    let debited = Side {
        after: Balance { debits, ..debit },
        ..unmoved(transfer.debit, debit)
    };
    has_both.then_some([debited, unmoved(transfer.credit, credit)])
}

/// Moves `held`, the balance a store keeps, from before to after; `ledger` is the account's.
///
/// # Panics
/// If the store holds something else than `side.before`: its state is not the one the record was made for.
#[inline]
pub fn post(side: &Side, held: &mut Balance, ledger: &mut Ledger) {
    move_balance(held, ledger, side.before, side.after);
}

/// The inverse of [`post`].
///
/// # Panics
/// If the store holds something else than `side.after`: records are taken back newest first.
#[inline]
pub fn unpost(side: &Side, held: &mut Balance, ledger: &mut Ledger) {
    move_balance(held, ledger, side.after, side.before);
}

#[inline]
fn move_balance(held: &mut Balance, ledger: &mut Ledger, from: Balance, to: Balance) {
    assert_eq!(
        *held, from,
        "an account's balance is not the one its record starts from"
    );
    let total = |total: u128, from: u128, to: u128| {
        let others = total
            .checked_sub(from)
            .expect("a ledger's total holds each of its accounts");
        others
            .checked_add(to)
            .expect("a ledger's total was checked before the transfer was posted")
    };
    ledger.debits = total(ledger.debits, from.debits, to.debits);
    ledger.credits = total(ledger.credits, from.credits, to.credits);
    *held = to;
}
