//! Keys and values of the derived tables. Durable: what is written here must be readable for ever.
//!
//! Integers in keys are big-endian, so that their order is the order of the keys; in values they are little-endian.

use bytes::Bytes;

use crate::machine::command::ModIndex;
use crate::machine::{Answer, Balance, KvMeta, Limits, OldAnswer, Position};

/// Accounts of one page of balances.
pub(super) const PAGE_ACCOUNTS: usize = 32;
/// Transfer ids up to this long are their own key.
const ID_KEY_MAX: usize = 40;

/// Cuts `N` bytes off the front of `rest`.
pub(super) fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(taken)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(|bytes| u32::from_le_bytes(*bytes))
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(|bytes| u64::from_le_bytes(*bytes))
}

fn take_u128(rest: &mut &[u8]) -> Option<u128> {
    take(rest).map(|bytes| u128::from_le_bytes(*bytes))
}

/// The key of a chunk of an entry's records.
pub(super) fn journal_key(index: u64, chunk: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&index.to_be_bytes());
    key[8..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// What [`journal_key`] was made of.
pub(super) fn parse_journal_key(key: &[u8]) -> Option<(u64, u16)> {
    let mut rest = key;
    let index = u64::from_be_bytes(*take(&mut rest)?);
    let chunk = u16::from_be_bytes(*take(&mut rest)?);
    rest.is_empty().then_some((index, chunk))
}

/// The key of a transfer id: its own bytes, so that ids made in order of time stay in order. A longer one is cut to its first
/// 8 bytes, a zero byte, which no id holds, and 32 bytes of BLAKE3.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdKey {
    bytes: [u8; 41],
    len: u8,
}

impl IdKey {
    /// The key of `id`.
    pub(super) fn new(id: &[u8]) -> IdKey {
        let mut bytes = [0; 41];
        if let Ok(len @ 0..=40) = u8::try_from(id.len()) {
            bytes[..id.len()].copy_from_slice(id);
            return IdKey { bytes, len };
        }
        bytes[..8].copy_from_slice(&id[..8]);
        bytes[9..].copy_from_slice(blake3::hash(id).as_bytes());
        IdKey { bytes, len: 41 }
    }

    /// Its bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether the key does not hold the whole id, so that a hit must be checked against the record.
    pub(super) fn is_digest(&self) -> bool {
        usize::from(self.len) > ID_KEY_MAX
    }
}

/// A position as a value.
pub(super) fn position(at: Position) -> [u8; 12] {
    let mut value = [0; 12];
    value[..8].copy_from_slice(&at.index.to_le_bytes());
    value[8..].copy_from_slice(&at.record.to_le_bytes());
    value
}

/// What [`position`] gave.
pub(super) fn parse_position(value: &[u8]) -> Option<Position> {
    let mut rest = value;
    let at = take_position(&mut rest)?;
    rest.is_empty().then_some(at)
}

fn take_position(rest: &mut &[u8]) -> Option<Position> {
    Some(Position {
        index: take_u64(rest)?,
        record: take_u32(rest)?,
    })
}

/// The key of the answer held under an idempotency key.
pub(super) fn answer_key(key: &str) -> Vec<u8> {
    [b"k", key.as_bytes()].concat()
}

/// Its row: position, log time u64, fingerprint.
pub(super) fn answer_row(answer: &Answer) -> [u8; 52] {
    let mut row = [0; 52];
    row[..12].copy_from_slice(&position(answer.at));
    row[12..20].copy_from_slice(&answer.time_ns.to_le_bytes());
    row[20..].copy_from_slice(&answer.fingerprint);
    row
}

/// What [`answer_row`] gave.
pub(super) fn parse_answer(row: &[u8]) -> Option<Answer> {
    let mut rest = row;
    let answer = Answer {
        at: take_position(&mut rest)?,
        time_ns: take_u64(&mut rest)?,
        fingerprint: *take(&mut rest)?,
    };
    rest.is_empty().then_some(answer)
}

/// The key of an answer in the order they were given; behind all of [`answer_key`].
pub(super) fn answer_order_key(at: Position) -> [u8; 13] {
    let mut key = [b'o'; 13];
    key[1..9].copy_from_slice(&at.index.to_be_bytes());
    key[9..].copy_from_slice(&at.record.to_be_bytes());
    key
}

/// Its row: log time u64, idempotency key.
pub(super) fn old_answer_row(answer: &OldAnswer) -> Vec<u8> {
    [&answer.time_ns.to_le_bytes(), answer.key.as_bytes()].concat()
}

/// What [`answer_order_key`] and [`old_answer_row`] were made of.
pub(super) fn parse_old_answer(key: &[u8], row: &[u8]) -> Option<OldAnswer> {
    let mut at = key.strip_prefix(b"o")?;
    let mut rest = row;
    let answer = OldAnswer {
        at: Position {
            index: u64::from_be_bytes(*take(&mut at)?),
            record: u32::from_be_bytes(*take(&mut at)?),
        },
        time_ns: take_u64(&mut rest)?,
        key: std::str::from_utf8(rest).ok()?.to_owned(),
    };
    at.is_empty().then_some(answer)
}

/// The key of an account id by itself.
pub(super) fn account_id_key(id: &str) -> Vec<u8> {
    [b"i", id.as_bytes()].concat()
}

/// The key of an account id behind its ledger.
pub(super) fn ledger_account_key(ledger: u32, id: &str) -> Vec<u8> {
    [b"l", &ledger.to_be_bytes()[..], id.as_bytes()].concat()
}

/// The first key that no key starting with `prefix` reaches; `None` if there is none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut key = prefix[..=kept].to_vec();
    key[kept] += 1;
    Some(key)
}

/// What of an account never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AccountFixed {
    pub(super) created: Position,
    pub(super) created_ns: u64,
    pub(super) ledger: u32,
    pub(super) code: u32,
    pub(super) limits: Limits,
    pub(super) id: String,
}

impl AccountFixed {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut value = position(self.created).to_vec();
        value.extend_from_slice(&self.created_ns.to_le_bytes());
        value.extend_from_slice(&self.ledger.to_le_bytes());
        value.extend_from_slice(&self.code.to_le_bytes());
        value.push(self.limits.to_bits());
        value.extend_from_slice(self.id.as_bytes());
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<AccountFixed> {
        let mut rest = value;
        Some(AccountFixed {
            created: take_position(&mut rest)?,
            created_ns: take_u64(&mut rest)?,
            ledger: take_u32(&mut rest)?,
            code: take_u32(&mut rest)?,
            limits: Limits::from_bits(take::<1>(&mut rest)?[0]).ok()?,
            id: std::str::from_utf8(rest).ok()?.to_owned(),
        })
    }
}

/// What of a ledger never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LedgerFixed {
    pub(super) created: Position,
    pub(super) created_ns: u64,
    pub(super) scale: u8,
    pub(super) asset: String,
    pub(super) id: String,
}

impl LedgerFixed {
    pub(super) fn encode(&self) -> Vec<u8> {
        let asset_len = u8::try_from(self.asset.len()).expect("an asset code is at most 16 bytes");
        let mut value = position(self.created).to_vec();
        value.extend_from_slice(&self.created_ns.to_le_bytes());
        value.extend_from_slice(&[self.scale, asset_len]);
        value.extend_from_slice(self.asset.as_bytes());
        value.extend_from_slice(self.id.as_bytes());
        value
    }

    pub(super) fn decode(value: &[u8]) -> Option<LedgerFixed> {
        let mut rest = value;
        let created = take_position(&mut rest)?;
        let created_ns = take_u64(&mut rest)?;
        let [scale, asset_len] = *take(&mut rest)?;
        let (asset, id) = rest.split_at_checked(asset_len.into())?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        Some(LedgerFixed {
            created,
            created_ns,
            scale,
            asset: text(asset)?,
            id: text(id)?,
        })
    }
}

/// Bytes of an account in a page: balance, ledger, code, limits.
const PAGE_ROW: usize = 16 + 16 + 4 + 4 + 1;

/// An account as a page of balances holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRow {
    pub(super) balance: Balance,
    pub(super) ledger: u32,
    pub(super) code: u32,
    pub(super) limits: Limits,
}

/// Appends an account to a page.
pub(super) fn push_page_row(row: &PageRow, page: &mut Vec<u8>) {
    page.extend_from_slice(&row.balance.debits.to_le_bytes());
    page.extend_from_slice(&row.balance.credits.to_le_bytes());
    page.extend_from_slice(&row.ledger.to_le_bytes());
    page.extend_from_slice(&row.code.to_le_bytes());
    page.push(row.limits.to_bits());
}

/// The accounts of a page.
pub(super) fn parse_page(value: &[u8]) -> Option<Vec<PageRow>> {
    let (rows, rest) = value.as_chunks::<PAGE_ROW>();
    if rows.is_empty() || !rest.is_empty() || rows.len() > PAGE_ACCOUNTS {
        return None;
    }
    rows.iter()
        .map(|row| {
            let mut rest = &row[..];
            Some(PageRow {
                balance: Balance {
                    debits: take_u128(&mut rest)?,
                    credits: take_u128(&mut rest)?,
                },
                ledger: take_u32(&mut rest)?,
                code: take_u32(&mut rest)?,
                limits: Limits::from_bits(take::<1>(&mut rest)?[0]).ok()?,
            })
        })
        .collect()
}

/// A key's value with its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KvCell {
    pub(super) meta: KvMeta,
    pub(super) value: Bytes,
}

impl KvCell {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::with_capacity(32 + self.value.len());
        for at in [self.meta.created, self.meta.modified] {
            row.extend_from_slice(&at.index.to_le_bytes());
            row.extend_from_slice(&at.command.to_le_bytes());
        }
        row.extend_from_slice(&self.meta.version.to_le_bytes());
        row.extend_from_slice(&self.value);
        row
    }

    pub(super) fn decode(row: &[u8]) -> Option<KvCell> {
        let (meta, value) = parse_kv(row)?;
        Some(KvCell {
            meta,
            value: Bytes::copy_from_slice(value),
        })
    }
}

/// The versions and the value of a key's row.
pub(super) fn parse_kv(row: &[u8]) -> Option<(KvMeta, &[u8])> {
    let mut rest = row;
    let mut at = || {
        Some(ModIndex {
            index: take_u64(&mut rest)?,
            command: take_u32(&mut rest)?,
        })
    };
    let (created, modified) = (at()?, at()?);
    let version = take_u64(&mut rest)?;
    Some((
        KvMeta {
            created,
            modified,
            version,
        },
        rest,
    ))
}

/// The key of a row of an account's history, by the first position in it.
pub(super) fn history_key(account: u64, first: Position) -> [u8; 20] {
    let mut key = [0; 20];
    key[..8].copy_from_slice(&account.to_be_bytes());
    key[8..16].copy_from_slice(&first.index.to_be_bytes());
    key[16..].copy_from_slice(&first.record.to_be_bytes());
    key
}

/// What [`history_key`] was made of.
pub(super) fn parse_history_key(key: &[u8]) -> Option<(u64, Position)> {
    let mut rest = key;
    let account = u64::from_be_bytes(*take(&mut rest)?);
    let index = u64::from_be_bytes(*take(&mut rest)?);
    let record = u32::from_be_bytes(*take(&mut rest)?);
    rest.is_empty()
        .then_some((account, Position { index, record }))
}

/// Appends `next`, which follows `last`, to a row of history: how far the index rises, then the record's number, or within an
/// entry how far that rises; both as variable-length integers.
pub(super) fn push_history(last: Position, next: Position, row: &mut Vec<u8>) {
    assert!(last < next, "positions of an account rise");
    let rise = next.index - last.index;
    push_varint(rise, row);
    push_varint(
        u64::from(if rise == 0 {
            next.record - last.record
        } else {
            next.record
        }),
        row,
    );
}

/// All positions of a row of history that begins with `first`.
pub(super) fn parse_history(first: Position, row: &[u8]) -> Option<Vec<Position>> {
    let (mut positions, mut last, mut rest) = (vec![first], first, row);
    while !rest.is_empty() {
        let rise = take_varint(&mut rest)?;
        let record = u32::try_from(take_varint(&mut rest)?).ok()?;
        last = if rise == 0 {
            Position {
                index: last.index,
                record: last.record.checked_add(record)?,
            }
        } else {
            Position {
                index: last.index.checked_add(rise)?,
                record,
            }
        };
        positions.push(last);
    }
    Some(positions)
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn push_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The key of part `part` of full filter segment `segment`.
pub(super) fn segment_key(segment: u32, part: u32) -> [u8; 9] {
    let mut key = [b's', 0, 0, 0, 0, 0, 0, 0, 0];
    key[1..5].copy_from_slice(&segment.to_be_bytes());
    key[5..].copy_from_slice(&part.to_be_bytes());
    key
}

/// The key of part `part` of the hashes that the seal up to `to` added to the filter segment `segment`, which is not full.
pub(super) fn hashes_key(segment: u32, to: u64, part: u32) -> [u8; 17] {
    let mut key = [b'h'; 17];
    key[1..5].copy_from_slice(&segment.to_be_bytes());
    key[5..13].copy_from_slice(&to.to_be_bytes());
    key[13..].copy_from_slice(&part.to_be_bytes());
    key
}
