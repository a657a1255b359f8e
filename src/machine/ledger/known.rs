//! A transfer id that was used before: is this the same transfer?

use super::account::bit;
use crate::machine::command::{AccountRef, NewTransfer};
use crate::machine::id::AccountNumber;
use crate::machine::record::{Record, TransferRecord};
use crate::machine::reply::{Rejection, fields};
use crate::machine::store::{Fault, Position, Store};

/// What a known id answers.
pub(super) enum Known {
    /// Posted, with the same fields.
    Posted,
    /// Remembered as refused, or used with other fields.
    Refused(Rejection),
}

/// Compares `transfer` with the record under its id, at `position`.
pub(super) fn compare<S: Store>(
    store: &mut S,
    transfer: &NewTransfer<'_>,
    position: Position,
) -> Result<Known, Fault> {
    let bytes = store.record(position)?;
    let wrong = |what| {
        Fault::new(format!(
            "record {}.{}: {what}",
            position.index, position.record
        ))
    };
    let Record::Transfer(record) = Record::decode(&bytes).map_err(wrong)? else {
        return Err(wrong(format!("is not transfer {:?}", transfer.id)));
    };
    if record.id != transfer.id {
        return Err(wrong(format!(
            "is transfer {:?}, not {:?}",
            record.id, transfer.id
        )));
    }
    let different = different_fields(store, transfer, &record)?;
    if different != 0 {
        return Ok(Known::Refused(Rejection::ExistsWithDifferentFields {
            fields: different,
        }));
    }
    if record.refusal == 0 {
        return Ok(Known::Posted);
    }
    let rejection = Rejection::remembered_in(&record);
    Ok(Known::Refused(rejection.ok_or_else(|| {
        wrong(format!("has unknown refusal {}", record.refusal))
    })?))
}

/// Bits of [`fields`] in which the two differ.
fn different_fields<S: Store>(
    store: &mut S,
    transfer: &NewTransfer<'_>,
    record: &TransferRecord<'_>,
) -> Result<u16, Fault> {
    let debit = is_account(store, transfer.debit, record.debit, record.debit_id)?;
    let credit = is_account(store, transfer.credit, record.credit, record.credit_id)?;
    Ok(bit(!debit, fields::DEBIT_ACCOUNT)
        | bit(!credit, fields::CREDIT_ACCOUNT)
        | bit(record.amount != transfer.amount, fields::AMOUNT)
        | bit(record.code != transfer.code, fields::CODE)
        | bit(record.metadata != transfer.metadata, fields::METADATA)
        | bit(record.linked != transfer.linked, fields::LINKED))
}

/// Whether `given` names the account that a record names by `number`, or by `id` if it did not exist then.
///
/// One account may be named in both ways: it may have been created between the two, or the leader may have resolved its
/// id only the second time. Ids and numbers are immutable and one to one, so either way of comparing is comparing ids.
fn is_account<S: Store>(
    store: &mut S,
    given: AccountRef<'_>,
    number: AccountNumber,
    id: &str,
) -> Result<bool, Fault> {
    Ok(match given {
        AccountRef::Number(given) if number != 0 => given == number,
        AccountRef::Number(given) => store.find_account(id)? == Some(given),
        AccountRef::Id(given) if number != 0 => store.find_account(given)? == Some(number),
        AccountRef::Id(given) => given == id,
    })
}
