//! What the model answers when an id is taken.

use quorate::machine::record::refusal;
use quorate::machine::reply::fields;
use quorate::machine::{Rejection, TransferResult};

use crate::model::{Taken, Transfer};

/// The refusal of an id that is taken by something else, in the fields that differ.
pub(crate) fn existing(bits: &[(bool, u16)]) -> Option<Rejection> {
    let fields: u16 = bits
        .iter()
        .filter(|(different, _)| *different)
        .map(|(_, bit)| bit)
        .sum();
    (fields != 0).then_some(Rejection::ExistsWithDifferentFields { fields })
}

/// What a transfer whose id is taken answers.
pub(crate) fn again(taken: &Taken, transfer: &Transfer) -> TransferResult {
    let held = &taken.transfer;
    let different = existing(&[
        (held.debit != transfer.debit, fields::DEBIT_ACCOUNT),
        (held.credit != transfer.credit, fields::CREDIT_ACCOUNT),
        (held.amount != transfer.amount, fields::AMOUNT),
        (held.code != transfer.code, fields::CODE),
        (held.metadata != transfer.metadata, fields::METADATA),
        (held.linked != transfer.linked, fields::LINKED),
    ]);
    let [debit, credit] = taken.balances;
    match (different, taken.refused) {
        (Some(rejection), _) => TransferResult::Refused(rejection),
        (None, None) => TransferResult::Exists(taken.at),
        (None, Some(refusal::DEBIT_ACCOUNT_NOT_FOUND)) => {
            TransferResult::Refused(Rejection::DebitAccountNotFound)
        }
        (None, Some(refusal::CREDIT_ACCOUNT_NOT_FOUND)) => {
            TransferResult::Refused(Rejection::CreditAccountNotFound)
        }
        (None, Some(refusal::AMOUNT_OVERFLOW)) => {
            TransferResult::Refused(Rejection::AmountOverflow)
        }
        (None, Some(refusal::EXCEEDS_CREDITS)) => {
            TransferResult::Refused(Rejection::ExceedsCredits { balance: debit })
        }
        (None, Some(refusal::EXCEEDS_DEBITS)) => {
            TransferResult::Refused(Rejection::ExceedsDebits { balance: credit })
        }
        (None, Some(other)) => panic!("the model never remembers {other}"),
    }
}

/// The refusals that are for ever.
pub(crate) fn number(rejection: &Rejection) -> Option<u16> {
    match rejection {
        Rejection::DebitAccountNotFound => Some(refusal::DEBIT_ACCOUNT_NOT_FOUND),
        Rejection::CreditAccountNotFound => Some(refusal::CREDIT_ACCOUNT_NOT_FOUND),
        Rejection::AmountOverflow => Some(refusal::AMOUNT_OVERFLOW),
        Rejection::ExceedsCredits { .. } => Some(refusal::EXCEEDS_CREDITS),
        Rejection::ExceedsDebits { .. } => Some(refusal::EXCEEDS_DEBITS),
        _ => None,
    }
}
