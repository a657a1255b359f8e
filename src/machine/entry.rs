//! The bytes of one log entry: a header and the commands of many clients, encoded once by the leader, then written to the
//! log, sent to the peers and applied as they are.
//!
//! Layout, little-endian: format version u8, apply-rules version u8, reserved u16 (0), command count u32, leader's stamp
//! u64 (nanoseconds since 1970), then per command its length u32 and its bytes.
//!
//! | command | its bytes |
//! |---|---|
//! | put | 1, expectation (13), key length u16, key, value |
//! | delete | 2, expectation (13), key length u16, key |
//! | create a ledger | 3, scale u8, id length u8, asset length u8, id, asset |
//! | create an account | 4, limits u8 (bit 0 debits, bit 1 credits), code u32, id length u8, ledger id length u8, id, ledger id |
//! | transfers | 5, then a count u32, rows of 64 bytes and a heap of texts: see `entry/transfers.rs` |
//! | any of these once | 6, key length u8, key, fingerprint (32), then the bytes of the command; from rules version 2 on |
//!
//! An entry may have no commands: a *tick*, which only carries time.
//!
//! An expectation is a kind u8 (0 any, 1 absent, 2 present, 3 at) and, for *at*, entry index u64 and command u32; 0 otherwise.
//!
//! There is exactly one encoding of a command, and reading is total: any bytes give commands or an `Err` that names what is
//! wrong, and never an allocation larger than a small multiple of the bytes given.

mod transfers;

#[cfg(test)]
mod tests;

use super::bytes::{Reader, utf8};
use super::command::{
    ASSET_LEN_MAX, Command, Expect, KEY_LEN_MAX, Limits, ModIndex, NewAccount, NewLedger, Once,
    SCALE_MAX, VALUE_LEN_MAX,
};
use super::id;
use super::once;

/// Version of the layout.
pub const FORMAT: u8 = 1;
/// Version of the rules that apply follows. An entry of a newer one is a fault: this node must be upgraded first.
///
/// | version | what is new |
/// |---|---|
/// | 1 | |
/// | 2 | commands under idempotency keys, and keys that are forgotten with time |
pub const RULES: u8 = 2;
/// The first rules with idempotency keys: entries of older ones hold none and forget none.
pub(super) const RULES_WITH_KEYS: u8 = 2;
/// Largest entry, in bytes (4 MiB). Proposers keep it; it is not checked on the way in, since an entry already committed
/// must be applied.
pub const ENTRY_LEN_MAX: usize = 4 << 20;
/// Bytes of the header before the first command.
pub const HEADER_LEN: usize = 16;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const LEDGER: u8 = 3;
const ACCOUNT: u8 = 4;
const TRANSFERS: u8 = 5;
const ONCE: u8 = 6;

/// Appends one command, with its length before it, to `out`: what [`assemble`] puts after the header.
///
/// # Panics
/// The caller has checked the shape (ids, lengths, counts); a violation is a bug and panics.
pub fn encode_command(command: &Command<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    if let Command::Once(once) = command {
        encode_once(once, out);
        encode_plain(&once.command, out);
    } else {
        encode_plain(command, out);
    }
    let len = u32::try_from(out.len() - start - 4).expect("the largest command is far below 4 GiB");
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

fn encode_once(once: &Once<'_>, out: &mut Vec<u8>) {
    assert!(
        once::is_key(once.key.as_bytes()),
        "idempotency key {:?} breaks its grammar",
        once.key
    );
    out.extend_from_slice(&[ONCE, short_len(once.key)]);
    out.extend_from_slice(once.key.as_bytes());
    out.extend_from_slice(&once.fingerprint);
}

fn encode_plain(command: &Command<'_>, out: &mut Vec<u8>) {
    match command {
        Command::KvPut { key, value, expect } => {
            assert!(
                value.len() <= VALUE_LEN_MAX,
                "a value is at most {VALUE_LEN_MAX} bytes"
            );
            out.push(PUT);
            encode_key(key, *expect, out);
            out.extend_from_slice(value);
        }
        Command::KvDelete { key, expect } => {
            out.push(DELETE);
            encode_key(key, *expect, out);
        }
        Command::CreateLedger(ledger) => {
            assert!(
                is_asset(ledger.asset.as_bytes()),
                "asset {:?} breaks its grammar",
                ledger.asset
            );
            assert!(ledger.scale <= SCALE_MAX, "a scale is at most {SCALE_MAX}");
            out.extend_from_slice(&[
                LEDGER,
                ledger.scale,
                id_len(ledger.id),
                short_len(ledger.asset),
            ]);
            out.extend_from_slice(ledger.id.as_bytes());
            out.extend_from_slice(ledger.asset.as_bytes());
        }
        Command::CreateAccount(account) => {
            out.extend_from_slice(&[ACCOUNT, account.limits.to_bits()]);
            out.extend_from_slice(&account.code.to_le_bytes());
            out.extend_from_slice(&[id_len(account.id), id_len(account.ledger)]);
            out.extend_from_slice(account.id.as_bytes());
            out.extend_from_slice(account.ledger.as_bytes());
        }
        Command::Transfers(batch) => {
            out.push(TRANSFERS);
            transfers::encode(batch, out);
        }
        Command::Once(_) => panic!("a command under a key is under one key"),
    }
}

/// Writes the header of an entry of `count` commands into the first [`HEADER_LEN`] bytes of `entry`.
pub fn write_header(entry: &mut [u8], count: u32, stamp_ns: u64) {
    entry[0] = FORMAT;
    entry[1] = RULES;
    entry[2..4].fill(0);
    entry[4..8].copy_from_slice(&count.to_le_bytes());
    entry[8..16].copy_from_slice(&stamp_ns.to_le_bytes());
}

/// A whole entry of `commands`, for callers that have them at hand; the batcher encodes each as it comes instead.
pub fn assemble(commands: &[Command<'_>], stamp_ns: u64) -> Vec<u8> {
    let mut entry = vec![0; HEADER_LEN];
    for command in commands {
        encode_command(command, &mut entry);
    }
    let count = u32::try_from(commands.len()).expect("commands of one entry are counted in a u32");
    write_header(&mut entry, count, stamp_ns);
    entry
}

/// An entry, checked and readable in place.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Version of the rules to apply it by, at most [`RULES`].
    pub rules: u8,
    /// The leader's clock when it proposed, nanoseconds since 1970.
    pub stamp_ns: u64,
    /// How many commands follow. Never more than the bytes could hold.
    pub count: u32,
    body: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Checks header and versions. `Err` names what is wrong.
    pub fn parse(bytes: &'a [u8]) -> Result<Entry<'a>, String> {
        let mut reader = Reader::new(bytes);
        let format = reader.u8("format version")?;
        if format != FORMAT {
            return Err(format!(
                "entry has format {format}, this node reads {FORMAT}"
            ));
        }
        let rules = reader.u8("rules version")?;
        if !(1..=RULES).contains(&rules) {
            return Err(format!(
                "entry wants rules {rules}, this node follows those up to {RULES}: start a newer version"
            ));
        }
        if reader.u16("reserved")? != 0 {
            return Err("reserved bytes of the entry header are not zero".to_owned());
        }
        let count = reader.u32("command count")?;
        let stamp_ns = reader.u64("stamp")?;
        let body = reader.remainder();
        // The shortest command: its length and its kind.
        if u64::from(count) * 5 > body.len() as u64 {
            return Err(format!(
                "entry counts {count} commands in {} bytes",
                body.len()
            ));
        }
        Ok(Entry {
            rules,
            stamp_ns,
            count,
            body,
        })
    }

    /// The commands in order; an `Err` item names what is wrong, and is the last.
    pub fn commands(&self) -> impl Iterator<Item = Result<Command<'a>, String>> + use<'a> {
        Commands {
            reader: Reader::new(self.body),
            rules: self.rules,
            left: self.count,
            position: 0,
            done: false,
        }
    }
}

/// See [`Entry::commands`].
struct Commands<'a> {
    reader: Reader<'a>,
    rules: u8,
    left: u32,
    position: u32,
    done: bool,
}

impl<'a> Iterator for Commands<'a> {
    type Item = Result<Command<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.left == 0 {
            self.done = true;
            return self.reader.end("the last command").err().map(Err);
        }
        let item = next_command(&mut self.reader, self.rules)
            .map_err(|what| format!("command {}: {what}", self.position));
        self.left -= 1;
        self.position += 1;
        self.done = item.is_err();
        Some(item)
    }
}

fn next_command<'a>(reader: &mut Reader<'a>, rules: u8) -> Result<Command<'a>, String> {
    let len = reader.u32("length")?;
    let bytes = reader.take(
        usize::try_from(len).map_err(|_| "length is out of range")?,
        "command",
    )?;
    let mut reader = Reader::new(bytes);
    match reader.u8("kind")? {
        ONCE if rules >= RULES_WITH_KEYS => decode_once(&mut reader).map(Command::Once),
        kind => decode_plain(kind, &mut reader),
    }
}

fn decode_once<'a>(reader: &mut Reader<'a>) -> Result<Once<'a>, String> {
    let key_len = reader.u8("idempotency key length")?;
    let key = reader.take(key_len.into(), "idempotency key")?;
    if !once::is_key(key) {
        return Err("idempotency key breaks its grammar".to_owned());
    }
    let fingerprint = *reader.array("fingerprint")?;
    let kind = reader.u8("kind")?;
    Ok(Once {
        key: utf8(key, "idempotency key")?,
        fingerprint,
        command: Box::new(decode_plain(kind, reader)?),
    })
}

fn decode_plain<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Command<'a>, String> {
    let command = match kind {
        PUT => {
            let (key, expect) = decode_key(reader)?;
            let value = reader.remainder();
            if value.len() > VALUE_LEN_MAX {
                return Err(format!(
                    "value has {} bytes, more than {VALUE_LEN_MAX}",
                    value.len()
                ));
            }
            Command::KvPut { key, value, expect }
        }
        DELETE => {
            let (key, expect) = decode_key(reader)?;
            Command::KvDelete { key, expect }
        }
        LEDGER => Command::CreateLedger(decode_ledger(reader)?),
        ACCOUNT => Command::CreateAccount(decode_account(reader)?),
        TRANSFERS => Command::Transfers(transfers::decode(reader)?),
        kind => return Err(format!("unknown kind {kind}")),
    };
    reader.end("the command")?;
    Ok(command)
}

fn encode_key(key: &str, expect: Expect, out: &mut Vec<u8>) {
    assert!(
        (1..=KEY_LEN_MAX).contains(&key.len()),
        "a key is 1 to {KEY_LEN_MAX} bytes"
    );
    let (kind, at) = match expect {
        Expect::Any => (
            0,
            ModIndex {
                index: 0,
                command: 0,
            },
        ),
        Expect::Absent => (
            1,
            ModIndex {
                index: 0,
                command: 0,
            },
        ),
        Expect::Present => (
            2,
            ModIndex {
                index: 0,
                command: 0,
            },
        ),
        Expect::At(at) => (3, at),
    };
    out.push(kind);
    out.extend_from_slice(&at.index.to_le_bytes());
    out.extend_from_slice(&at.command.to_le_bytes());
    out.extend_from_slice(
        &u16::try_from(key.len())
            .expect("checked above")
            .to_le_bytes(),
    );
    out.extend_from_slice(key.as_bytes());
}

fn decode_key<'a>(reader: &mut Reader<'a>) -> Result<(&'a str, Expect), String> {
    let kind = reader.u8("expectation")?;
    let at = ModIndex {
        index: reader.u64("expected index")?,
        command: reader.u32("expected command")?,
    };
    let expect = match kind {
        0 => Expect::Any,
        1 => Expect::Absent,
        2 => Expect::Present,
        3 => Expect::At(at),
        _ => return Err(format!("unknown expectation {kind}")),
    };
    if kind != 3 && (at.index, at.command) != (0, 0) {
        return Err("an index is expected that is not compared".to_owned());
    }
    let len = usize::from(reader.u16("key length")?);
    if !(1..=KEY_LEN_MAX).contains(&len) {
        return Err(format!("key has {len} bytes"));
    }
    Ok((reader.text(len, "key")?, expect))
}

fn decode_ledger<'a>(reader: &mut Reader<'a>) -> Result<NewLedger<'a>, String> {
    let [scale, id_len, asset_len] = *reader.array("ledger")?;
    if scale > SCALE_MAX {
        return Err(format!("scale {scale} is above {SCALE_MAX}"));
    }
    let id = decode_id(reader.take(id_len.into(), "ledger id")?, "ledger id")?;
    let asset = reader.take(asset_len.into(), "asset")?;
    if !is_asset(asset) {
        return Err("asset breaks its grammar".to_owned());
    }
    Ok(NewLedger {
        id,
        asset: utf8(asset, "asset")?,
        scale,
    })
}

fn decode_account<'a>(reader: &mut Reader<'a>) -> Result<NewAccount<'a>, String> {
    let limits = Limits::from_bits(reader.u8("limits")?)?;
    let code = reader.u32("code")?;
    let [id_len, ledger_len] = *reader.array("account")?;
    let id = decode_id(reader.take(id_len.into(), "account id")?, "account id")?;
    let ledger = decode_id(reader.take(ledger_len.into(), "ledger id")?, "ledger id")?;
    Ok(NewAccount {
        id,
        ledger,
        code,
        limits,
    })
}

/// An id as it came, or what is wrong with it.
#[inline]
fn decode_id<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str, String> {
    id::parse(bytes).ok_or_else(|| format!("{what} of {} bytes breaks its grammar", bytes.len()))
}

/// The length of an id that follows the grammar.
fn id_len(id: &str) -> u8 {
    assert!(id::is_valid(id), "id {id:?} breaks its grammar");
    short_len(id)
}

fn short_len(text: &str) -> u8 {
    u8::try_from(text.len()).expect("ids, assets and idempotency keys are below 256 bytes")
}

/// Whether `asset` is 1 to [`ASSET_LEN_MAX`] bytes of `[A-Za-z0-9._-]`.
pub fn is_asset(asset: &[u8]) -> bool {
    (1..=ASSET_LEN_MAX).contains(&asset.len())
        && asset
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
