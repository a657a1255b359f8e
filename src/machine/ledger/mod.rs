//! The double-entry ledger.
//!
//! A *ledger* is a set of accounts in one asset. An *account* has two sums that only ever grow: everything debited and
//! everything credited. A *transfer* adds one amount to the debits of one account and to the credits of another of the same
//! ledger. So per ledger the debits equal the credits after every entry; a node that finds otherwise stops.
//!
//! Everything has an id chosen by the client, and doing the same twice under one id has one effect: creating again with
//! the same fields answers that it exists, with other fields it is refused, naming the fields. The id is looked up before
//! anything else is judged, so a retry is answered alike whatever has happened since.
//!
//! # Order of refusals
//! A transfer gets the first of these that holds:
//!
//! | | refusal | remembered |
//! |---|---|---|
//! | 1 | `chain_open`: the batch ends inside its chain and it is the last (the other members: `chain_failed`) | |
//! | 2 | `chain_failed`: an earlier member of its chain was refused | |
//! | 3 | `amount_must_not_be_zero` | |
//! | 4 | its id is known: *exists*; the refusal remembered; or `exists_with_different_fields` | |
//! | 5 | `accounts_must_differ` | |
//! | 6 | `debit_account_not_found`, then `credit_account_not_found` | yes |
//! | 7 | `ledger_mismatch` | |
//! | 8 | `amount_overflow`: of a balance or of the ledger's totals | yes |
//! | 9 | `exceeds_credits`: of the debit account, if so limited | yes |
//! | 10 | `exceeds_debits`: of the credit account, if so limited | yes |
//!
//! What the state of the moment caused is *remembered*: it is journaled under the transfer's id, and every retry gets the
//! same refusal, although by then the account may exist or hold enough. A client that saw "no" may act on it; one that timed
//! out and retries can never turn that no into a yes. The other refusals follow from the request alone (accounts never move
//! to another ledger), so a retry gets them again without being remembered, and the id stays free for a corrected request.
//!
//! # Linked chains
//! Transfers of a batch that are `linked`, and the one that follows the last of them, are posted whole or not at all. They
//! are judged in order, each seeing those before it. At the first refusal everything the chain posted is taken back; that
//! member answers its refusal, remembered if the state caused it (journaled after the taking back, so the balances in the
//! record are the untouched ones, while the answer tells the balance the member saw); the others answer `chain_failed`,
//! which is not remembered. A member posted by an earlier command counts as a success, so a whole chain sent again answers
//! *exists* throughout, and keeps that answer if a later member fails.

#![deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

mod account;

mod transfer;

mod posting;

mod known;

#[cfg(test)]
mod tests;

pub(super) use account::{create_account, create_ledger};
pub(super) use transfer::post_transfers;

use super::id::LedgerNumber;
use super::store::Store;

/// The ledgers an entry moved money in, to be checked at its end.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// With repetitions, but no two equal ones in a row: one number for the usual entry of one ledger.
    ledgers: Vec<LedgerNumber>,
}

impl Touched {
    fn add(&mut self, ledger: LedgerNumber) {
        if self.ledgers.last() != Some(&ledger) {
            self.ledgers.push(ledger);
        }
    }

    /// That debits and credits are equal in every ledger touched.
    ///
    /// # Panics
    /// If they are not: money was made or lost, and no answer may leave this node.
    pub(super) fn assert_balanced<S: Store>(mut self, store: &S) {
        self.ledgers.sort_unstable();
        self.ledgers.dedup();
        for number in self.ledgers {
            let ledger = store.ledger(number).expect("a transfer was posted in it");
            assert_eq!(
                ledger.debits, ledger.credits,
                "debits and credits of ledger number {number} differ"
            );
        }
    }
}
