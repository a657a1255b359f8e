//! A batch of transfers in an entry: count u32, a row of 64 bytes each, then the texts of all rows in order.
//!
//! | row bytes | field |
//! |---|---|
//! | 0..16 | amount u128 |
//! | 16..24 | debit account: its number u64, or the length of its id if flag 2 is set |
//! | 24..32 | credit account: its number u64, or the length of its id if flag 4 is set |
//! | 32..36 | code u32 |
//! | 36..38 | flags u16: 1 linked, 2 debit account by id, 4 credit account by id |
//! | 38..40 | length of the transfer's id u16 |
//! | 40..42 | length of its metadata u16 |
//! | 42..64 | reserved (0) |
//!
//! Its texts follow each other without separators: id, debit account's id, credit account's id (where by id), metadata.

use super::decode_id;
use crate::machine::bytes::{Reader, fixed};
use crate::machine::command::{AccountRef, BATCH_LEN_MAX, METADATA_LEN_MAX, NewTransfer};
use crate::machine::id;

/// Bytes of a row.
const ROW_LEN: usize = 64;
/// First reserved byte of a row.
const ROW_END: usize = 42;

const LINKED: u16 = 1;
const DEBIT_BY_ID: u16 = 2;
const CREDIT_BY_ID: u16 = 4;

/// Appends `batch` to `out`; panics if it breaks a limit, which the caller has checked.
pub(super) fn encode(batch: &[NewTransfer<'_>], out: &mut Vec<u8>) {
    assert!(
        (1..=BATCH_LEN_MAX).contains(&batch.len()),
        "a batch is 1 to {BATCH_LEN_MAX} transfers"
    );
    out.reserve(4 + batch.len() * (ROW_LEN + 32));
    let count = u32::try_from(batch.len()).expect("checked above");
    out.extend_from_slice(&count.to_le_bytes());
    for transfer in batch {
        out.extend_from_slice(&encode_row(transfer));
    }
    for transfer in batch {
        out.extend_from_slice(transfer.id.as_bytes());
        for account in [transfer.debit, transfer.credit] {
            if let AccountRef::Id(id) = account {
                out.extend_from_slice(id.as_bytes());
            }
        }
        out.extend_from_slice(transfer.metadata.as_bytes());
    }
}

fn encode_row(transfer: &NewTransfer<'_>) -> [u8; ROW_LEN] {
    assert!(
        id::is_valid(transfer.id),
        "id {:?} breaks its grammar",
        transfer.id
    );
    assert!(
        transfer.metadata.len() <= METADATA_LEN_MAX,
        "metadata is at most {METADATA_LEN_MAX} bytes"
    );
    let (debit, debit_by_id) = encode_account(transfer.debit);
    let (credit, credit_by_id) = encode_account(transfer.credit);
    let flag = |bit: u16, set: bool| if set { bit } else { 0 };
    let flags = flag(LINKED, transfer.linked)
        | flag(DEBIT_BY_ID, debit_by_id)
        | flag(CREDIT_BY_ID, credit_by_id);
    let len = |text: &str| {
        u16::try_from(text.len())
            .expect("checked above")
            .to_le_bytes()
    };

    let mut row = [0; ROW_LEN];
    row[0..16].copy_from_slice(&transfer.amount.to_le_bytes());
    row[16..24].copy_from_slice(&debit.to_le_bytes());
    row[24..32].copy_from_slice(&credit.to_le_bytes());
    row[32..36].copy_from_slice(&transfer.code.to_le_bytes());
    row[36..38].copy_from_slice(&flags.to_le_bytes());
    row[38..40].copy_from_slice(&len(transfer.id));
    row[40..42].copy_from_slice(&len(transfer.metadata));
    row
}

fn encode_account(account: AccountRef<'_>) -> (u64, bool) {
    match account {
        AccountRef::Number(number) => {
            assert!(number != 0, "account numbers start at 1");
            (number, false)
        }
        AccountRef::Id(id) => {
            assert!(id::is_valid(id), "id {id:?} breaks its grammar");
            (id.len() as u64, true)
        }
    }
}

/// Reads a batch: everything left of `reader`.
pub(super) fn decode<'a>(reader: &mut Reader<'a>) -> Result<Vec<NewTransfer<'a>>, String> {
    let count = reader.u32("transfer count")? as usize;
    if !(1..=BATCH_LEN_MAX).contains(&count) {
        return Err(format!("a batch of {count} transfers"));
    }
    // Before the allocation: so it is never more than twice the bytes that came.
    let rows = reader.take(count * ROW_LEN, "transfer rows")?;
    let (rows, _) = rows.as_chunks::<ROW_LEN>();
    let mut heap = Reader::new(reader.remainder());
    let mut batch = Vec::with_capacity(count);
    for (position, row) in rows.iter().enumerate() {
        batch.push(
            decode_row(row, &mut heap).map_err(|what| format!("transfer {position}: {what}"))?,
        );
    }
    heap.end("the batch's texts")?;
    Ok(batch)
}

#[inline]
fn decode_row<'a>(row: &[u8; ROW_LEN], heap: &mut Reader<'a>) -> Result<NewTransfer<'a>, String> {
    let flags = u16::from_le_bytes(fixed(row, 36));
    if flags & !(LINKED | DEBIT_BY_ID | CREDIT_BY_ID) != 0 {
        return Err(format!("unknown flags {flags:#x}"));
    }
    if row[ROW_END..] != [0; ROW_LEN - ROW_END] {
        return Err("reserved bytes are not zero".to_owned());
    }
    let id_len = usize::from(u16::from_le_bytes(fixed(row, 38)));
    let metadata_len = usize::from(u16::from_le_bytes(fixed(row, 40)));
    if metadata_len > METADATA_LEN_MAX {
        return Err(format!(
            "metadata has {metadata_len} bytes, more than {METADATA_LEN_MAX}"
        ));
    }
    Ok(NewTransfer {
        id: decode_id(heap.take(id_len, "id")?, "id")?,
        debit: decode_account(fixed(row, 16), flags & DEBIT_BY_ID != 0, heap)?,
        credit: decode_account(fixed(row, 24), flags & CREDIT_BY_ID != 0, heap)?,
        amount: u128::from_le_bytes(fixed(row, 0)),
        code: u32::from_le_bytes(fixed(row, 32)),
        linked: flags & LINKED != 0,
        metadata: heap.text(metadata_len, "metadata")?,
    })
}

#[inline]
fn decode_account<'a>(
    field: [u8; 8],
    by_id: bool,
    heap: &mut Reader<'a>,
) -> Result<AccountRef<'a>, String> {
    let field = u64::from_le_bytes(field);
    if by_id {
        let len = usize::try_from(field).map_err(|_| "account id is out of range".to_owned())?;
        Ok(AccountRef::Id(decode_id(
            heap.take(len, "account id")?,
            "account id",
        )?))
    } else if field == 0 {
        Err("account number 0".to_owned())
    } else {
        Ok(AccountRef::Number(field))
    }
}
