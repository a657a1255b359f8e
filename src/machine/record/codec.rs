//! The layout of a record, little-endian; its first byte is its kind.
//!
//! | kind | bytes after it |
//! |---|---|
//! | 1 key written | key length u16, created 12, modified 12, version u64, key, value |
//! | 2 key removed | key |
//! | 3 ledger created | scale u8, id length u8, asset length u8, number u32, id, asset |
//! | 4 account created | limits u8, id length u8, reserved u8, ledger u32, number u64, code u32, id |
//! | 5 transfer | see below |
//! | 6 answered | key length u8, log time u64, fingerprint 32, key, reply |
//! | 7 answer forgotten | entry u64, record u32, key |
//!
//! A modification index is entry u64, command u32. A transfer has 112 fixed bytes, so that balances and accounts can be read
//! without the texts: 1 flags u8 (1 linked), 2 refusal u16, 4 code u32, 8 id length u8, 9 debit id length u8,
//! 10 credit id length u8, 11 reserved, 12 metadata length u16, 14 reserved u16, 16 debit account u64, 24 credit account u64,
//! 32 amount u128, 48 debit account's debits and credits after (u128 each), 80 the credit account's; then id, debit id,
//! credit id and metadata.
//!
//! There is exactly one encoding of a record and reading is total, as with entries.

use super::{Balance, Record, TransferRecord, refusal};
use crate::machine::bytes::{Reader, fixed, utf8};
use crate::machine::command::{Limits, ModIndex};
use crate::machine::once;
use crate::machine::store::Position;

/// Bytes of a transfer before its texts.
pub const TRANSFER_LEN: usize = 112;

const PUT: u8 = 1;
const DELETED: u8 = 2;
const LEDGER: u8 = 3;
const ACCOUNT: u8 = 4;
const TRANSFER: u8 = 5;
const ANSWERED: u8 = 6;
const FORGOTTEN: u8 = 7;

const LINKED: u8 = 1;

impl<'a> Record<'a> {
    /// Appends the layout of this record to `out`.
    ///
    /// # Panics
    /// If a text is longer than its limit, or a transfer names neither or both of an account's number and its id: such a
    /// record could not be read back.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Record::Transfer(transfer) => encode_transfer(transfer, out),
            Record::KvPut {
                key,
                value,
                created,
                modified,
                version,
            } => {
                let key_len = u16::try_from(key.len()).expect("a key is at most 1 KiB");
                out.push(PUT);
                out.extend_from_slice(&key_len.to_le_bytes());
                for at in [created, modified] {
                    out.extend_from_slice(&at.index.to_le_bytes());
                    out.extend_from_slice(&at.command.to_le_bytes());
                }
                out.extend_from_slice(&version.to_le_bytes());
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(value);
            }
            Record::KvDeleted { key } => {
                out.push(DELETED);
                out.extend_from_slice(key.as_bytes());
            }
            Record::LedgerCreated {
                number,
                id,
                asset,
                scale,
            } => {
                out.extend_from_slice(&[LEDGER, *scale, len8(id), len8(asset)]);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(id.as_bytes());
                out.extend_from_slice(asset.as_bytes());
            }
            Record::AccountCreated {
                number,
                id,
                ledger,
                code,
                limits,
            } => {
                out.extend_from_slice(&[ACCOUNT, limits.to_bits(), len8(id), 0]);
                out.extend_from_slice(&ledger.to_le_bytes());
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&code.to_le_bytes());
                out.extend_from_slice(id.as_bytes());
            }
            Record::Answered {
                key,
                fingerprint,
                time_ns,
                reply,
            } => {
                assert!(
                    once::is_key(key.as_bytes()),
                    "key {key:?} breaks its grammar"
                );
                out.extend_from_slice(&[ANSWERED, len8(key)]);
                out.extend_from_slice(&time_ns.to_le_bytes());
                out.extend_from_slice(fingerprint);
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(reply);
            }
            Record::AnswerForgotten { key, at } => {
                assert!(
                    once::is_key(key.as_bytes()),
                    "key {key:?} breaks its grammar"
                );
                out.push(FORGOTTEN);
                out.extend_from_slice(&at.index.to_le_bytes());
                out.extend_from_slice(&at.record.to_le_bytes());
                out.extend_from_slice(key.as_bytes());
            }
        }
    }

    /// Reads back what [`Record::encode`] wrote: the whole of `bytes`, nothing more. `Err` names what is wrong.
    pub fn decode(bytes: &'a [u8]) -> Result<Record<'a>, String> {
        let mut reader = Reader::new(bytes);
        match reader.u8("record kind")? {
            PUT => decode_put(&mut reader),
            DELETED => {
                let key = reader.remainder();
                Ok(Record::KvDeleted {
                    key: utf8(key, "key")?,
                })
            }
            LEDGER => decode_ledger(&mut reader),
            ACCOUNT => decode_account(&mut reader),
            TRANSFER => decode_transfer(bytes).map(Record::Transfer),
            ANSWERED => decode_answered(&mut reader),
            FORGOTTEN => {
                let at = Position {
                    index: reader.u64("entry index")?,
                    record: reader.u32("record number")?,
                };
                let key = idempotency_key(reader.remainder())?;
                Ok(Record::AnswerForgotten { key, at })
            }
            kind => Err(format!("unknown record kind {kind}")),
        }
    }
}

fn encode_transfer(transfer: &TransferRecord<'_>, out: &mut Vec<u8>) {
    check_accounts(transfer).expect("the machine names each account of a record once");
    let metadata_len = u16::try_from(transfer.metadata.len()).expect("metadata is at most 16 KiB");
    let mut fixed = [0; TRANSFER_LEN];
    fixed[0] = TRANSFER;
    fixed[1] = if transfer.linked { LINKED } else { 0 };
    fixed[2..4].copy_from_slice(&transfer.refusal.to_le_bytes());
    fixed[4..8].copy_from_slice(&transfer.code.to_le_bytes());
    fixed[8] = len8(transfer.id);
    fixed[9] = len8(transfer.debit_id);
    fixed[10] = len8(transfer.credit_id);
    fixed[12..14].copy_from_slice(&metadata_len.to_le_bytes());
    fixed[16..24].copy_from_slice(&transfer.debit.to_le_bytes());
    fixed[24..32].copy_from_slice(&transfer.credit.to_le_bytes());
    fixed[32..48].copy_from_slice(&transfer.amount.to_le_bytes());
    fixed[48..64].copy_from_slice(&transfer.debit_after.debits.to_le_bytes());
    fixed[64..80].copy_from_slice(&transfer.debit_after.credits.to_le_bytes());
    fixed[80..96].copy_from_slice(&transfer.credit_after.debits.to_le_bytes());
    fixed[96..112].copy_from_slice(&transfer.credit_after.credits.to_le_bytes());

    let texts = [
        transfer.id,
        transfer.debit_id,
        transfer.credit_id,
        transfer.metadata,
    ];
    out.reserve(TRANSFER_LEN + texts.iter().map(|text| text.len()).sum::<usize>());
    out.extend_from_slice(&fixed);
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

fn decode_transfer(bytes: &[u8]) -> Result<TransferRecord<'_>, String> {
    let mut reader = Reader::new(bytes);
    let row: &[u8; TRANSFER_LEN] = reader.array("transfer record")?;
    if row[1] & !LINKED != 0 || row[11] != 0 || row[14..16] != [0; 2] {
        return Err("unknown flags or reserved bytes of a transfer record".to_owned());
    }
    let u128_at = |at| u128::from_le_bytes(fixed(row, at));
    let transfer = TransferRecord {
        id: reader.text(row[8].into(), "transfer id")?,
        debit: u64::from_le_bytes(fixed(row, 16)),
        credit: u64::from_le_bytes(fixed(row, 24)),
        debit_id: reader.text(row[9].into(), "debit account id")?,
        credit_id: reader.text(row[10].into(), "credit account id")?,
        amount: u128_at(32),
        code: u32::from_le_bytes(fixed(row, 4)),
        linked: row[1] & LINKED != 0,
        metadata: reader.text(u16::from_le_bytes(fixed(row, 12)).into(), "metadata")?,
        refusal: u16::from_le_bytes(fixed(row, 2)),
        debit_after: Balance {
            debits: u128_at(48),
            credits: u128_at(64),
        },
        credit_after: Balance {
            debits: u128_at(80),
            credits: u128_at(96),
        },
    };
    reader.end("the transfer record")?;
    if transfer.refusal > refusal::EXCEEDS_DEBITS {
        return Err(format!("unknown refusal {}", transfer.refusal));
    }
    check_accounts(&transfer)?;
    Ok(transfer)
}

/// An account is named by its number, or by its id if it did not exist, which only a refusal can say.
#[inline]
fn check_accounts(transfer: &TransferRecord<'_>) -> Result<(), String> {
    let by_number = transfer.debit != 0 && transfer.credit != 0;
    let named_once = (transfer.debit == 0) != transfer.debit_id.is_empty()
        && (transfer.credit == 0) != transfer.credit_id.is_empty();
    if !named_once || (transfer.refusal == 0 && !by_number) {
        return Err(format!(
            "transfer {:?} does not name its accounts",
            transfer.id
        ));
    }
    Ok(())
}

fn decode_put<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, String> {
    let key_len = usize::from(reader.u16("key length")?);
    let created = decode_mod_index(reader)?;
    let modified = decode_mod_index(reader)?;
    let version = reader.u64("version")?;
    Ok(Record::KvPut {
        key: reader.text(key_len, "key")?,
        value: reader.remainder(),
        created,
        modified,
        version,
    })
}

fn decode_mod_index(reader: &mut Reader<'_>) -> Result<ModIndex, String> {
    Ok(ModIndex {
        index: reader.u64("entry index")?,
        command: reader.u32("command position")?,
    })
}

fn decode_ledger<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, String> {
    let [scale, id_len, asset_len] = *reader.array("ledger record")?;
    let number = reader.u32("ledger number")?;
    let id = reader.text(id_len.into(), "ledger id")?;
    let asset = reader.text(asset_len.into(), "asset")?;
    reader.end("the ledger record")?;
    Ok(Record::LedgerCreated {
        number,
        id,
        asset,
        scale,
    })
}

fn decode_account<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, String> {
    let [limits, id_len, reserved] = *reader.array("account record")?;
    if reserved != 0 {
        return Err("reserved byte of an account record".to_owned());
    }
    let limits = Limits::from_bits(limits)?;
    let ledger = reader.u32("ledger number")?;
    let number = reader.u64("account number")?;
    let code = reader.u32("code")?;
    let id = reader.text(id_len.into(), "account id")?;
    reader.end("the account record")?;
    Ok(Record::AccountCreated {
        number,
        id,
        ledger,
        code,
        limits,
    })
}

fn decode_answered<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, String> {
    let key_len = usize::from(reader.u8("key length")?);
    let time_ns = reader.u64("log time")?;
    let fingerprint = *reader.array("fingerprint")?;
    let key = idempotency_key(reader.take(key_len, "idempotency key")?)?;
    let reply = reader.remainder();
    Ok(Record::Answered {
        key,
        fingerprint,
        time_ns,
        reply,
    })
}

/// An idempotency key as it came, or what is wrong with it.
fn idempotency_key(bytes: &[u8]) -> Result<&str, String> {
    if !once::is_key(bytes) {
        return Err(format!(
            "idempotency key of {} bytes breaks its grammar",
            bytes.len()
        ));
    }
    utf8(bytes, "idempotency key")
}

fn len8(text: &str) -> u8 {
    u8::try_from(text.len()).expect("ids, assets and idempotency keys are below 256 bytes")
}
