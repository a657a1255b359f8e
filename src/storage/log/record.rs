//! The format of the stream: records in segments, each checked on its own and chained to the one before.
//!
//! ```text
//! segment: head block (4 KiB) | group | group | ... | zeros
//! group:   group record | records | pad record up to the next 4 KiB      (written at once, then synced)
//! record:  length u32 | kind u8 | 0 0 0 | CRC32C of payload | chain (16) | CRC32C of these 28 bytes | payload
//! ```
//!
//! The chain of a record hashes the chain of the record before with this record's length, kind and payload checksum. It
//! starts from the node's uuid, and each group record carries the count of openings, so a record that looks right but was
//! written by another node, at another place or in an earlier life of this log does not continue the chain.
//!
//! A group begins on a block of its own: no block that was ever synced is written again, whatever a power cut does to the
//! one being written. A group is written only after the one before is synced, so a group record says that everything
//! before it was durable: damage before one is damage, not a torn tail.

use bytes::Bytes;

use super::codec::{Reader, put_log_id, put_vote};
use super::shape::Op;
use crate::storage::{Kind, LogEntry, LogId, Vote};

/// Unit of writing, in bytes.
pub const BLOCK: u64 = 4096;

/// [`BLOCK`] for buffers.
pub(super) const BLOCK_LEN: usize = 4096;

/// Length of a record's header.
pub(super) const HEADER_LEN: usize = 32;

/// Length of what an append record holds before the body.
pub(super) const ENTRY_LEN: usize = 25;

/// Length of a group record's payload.
pub(super) const GROUP_LEN: usize = 40;

/// Hash over the stream up to some record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain(pub [u8; 16]);

impl Chain {
    /// Where the chain of node `uuid` starts.
    pub(super) fn seed(uuid: &str) -> Chain {
        Chain(short_hash(&[b"quorate log", uuid.as_bytes()]))
    }

    /// The chain after a record.
    fn next(self, length: u32, kind: u8, crc: u32) -> Chain {
        let mut input = [0; 25];
        input[..16].copy_from_slice(&self.0);
        input[16..20].copy_from_slice(&length.to_le_bytes());
        input[20] = kind;
        input[21..].copy_from_slice(&crc.to_le_bytes());
        Chain(short_hash(&[&input]))
    }
}

/// Says whose a group record is.
pub(super) fn tag(uuid: &str) -> [u8; 16] {
    short_hash(&[b"quorate tag", uuid.as_bytes()])
}

fn short_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

/// A place in the stream. Ordered as the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Offset in it, in bytes.
    pub offset: u64,
}

const GROUP: u8 = 1;
const VOTE: u8 = 2;
const APPEND: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;
const COMMITTED: u8 = 6;
const PAD: u8 = 7;

/// First record of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Whose it is: [`tag`].
    pub tag: [u8; 16],
    /// Where it stands.
    pub position: Position,
    /// How often the log had been opened.
    pub epoch: u64,
}

impl Group {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(GROUP_LEN);
        out.extend_from_slice(&self.tag);
        out.extend_from_slice(&u64::from(self.position.segment).to_le_bytes());
        out.extend_from_slice(&self.position.offset.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out
    }

    fn decode(payload: &[u8]) -> Option<Group> {
        let mut reader = Reader(payload);
        let tag = reader.array()?;
        let segment = u32::try_from(reader.u64()?).ok()?;
        let offset = reader.u64()?;
        let epoch = reader.u64()?;
        reader.end()?;
        let position = Position { segment, offset };
        Some(Group {
            tag,
            position,
            epoch,
        })
    }
}

/// Appends records to a buffer, bodies excepted: they are written from where they are.
pub(super) struct Encoder<'a> {
    pub out: &'a mut Vec<u8>,
    pub chain: Chain,
}

impl Encoder<'_> {
    /// The record that opens a group.
    pub(super) fn group(&mut self, group: &Group) {
        self.record(GROUP, &group.encode(), &[]);
    }

    /// Any operation; an entry's body is to follow.
    pub(super) fn op(&mut self, op: &Op) {
        let mut payload = Vec::with_capacity(ENTRY_LEN);
        match op {
            Op::Vote(vote) => {
                put_vote(&mut payload, Some(*vote));
                self.record(VOTE, &payload, &[]);
            }
            Op::Append(entry) => {
                for number in [entry.id.term, entry.id.node, entry.id.index] {
                    payload.extend_from_slice(&number.to_le_bytes());
                }
                payload.push(entry.kind as u8);
                self.record(APPEND, &payload, &entry.body);
            }
            Op::Truncate(upto) => {
                put_log_id(&mut payload, *upto);
                self.record(TRUNCATE, &payload, &[]);
            }
            Op::Purge(upto) => {
                put_log_id(&mut payload, Some(*upto));
                self.record(PURGE, &payload, &[]);
            }
            Op::Committed(committed) => {
                put_log_id(&mut payload, *committed);
                self.record(COMMITTED, &payload, &[]);
            }
        }
    }

    /// A record of zeros after which `written` bytes of a group end on a block.
    pub(super) fn pad(&mut self, written: usize) {
        let total = padded(written);
        if total > written {
            self.record(PAD, &ZEROS[..total - written - HEADER_LEN], &[]);
        }
    }

    fn record(&mut self, kind: u8, payload: &[u8], body: &[u8]) {
        let length = u32::try_from(payload.len() + body.len()).expect("an entry is below 4 GiB");
        let crc = crc32c::crc32c_append(crc32c::crc32c(payload), body);
        self.chain = self.chain.next(length, kind, crc);
        let start = self.out.len();
        self.out.extend_from_slice(&length.to_le_bytes());
        self.out.extend_from_slice(&[kind, 0, 0, 0]);
        self.out.extend_from_slice(&crc.to_le_bytes());
        self.out.extend_from_slice(&self.chain.0);
        let crc = crc32c::crc32c(&self.out[start..]);
        self.out.extend_from_slice(&crc.to_le_bytes());
        self.out.extend_from_slice(payload);
    }
}

static ZEROS: [u8; 2 * BLOCK_LEN] = [0; 2 * BLOCK_LEN];

/// Length of a group of `bytes` with its padding.
pub(super) fn padded(bytes: usize) -> usize {
    match bytes % BLOCK_LEN {
        0 => bytes,
        // A pad record needs room for its header.
        used if BLOCK_LEN - used < HEADER_LEN => bytes - used + 2 * BLOCK_LEN,
        used => bytes - used + BLOCK_LEN,
    }
}

/// Length of the record of `op`.
pub(super) fn record_len(op: &Op) -> usize {
    HEADER_LEN
        + match op {
            Op::Vote(_) => 18,
            Op::Append(entry) => ENTRY_LEN + entry.body.len(),
            Op::Truncate(_) | Op::Purge(_) | Op::Committed(_) => 25,
        }
}

/// A record read back.
#[derive(Debug)]
pub(super) enum Record<'a> {
    Group(Group),
    Vote(Vote),
    Append(LogId, Kind, &'a [u8]),
    Truncate(Option<LogId>),
    Purge(LogId),
    Committed(Option<LogId>),
    Pad,
}

/// What is checked of a record before its chain.
struct Frame<'a> {
    kind: u8,
    crc: u32,
    chain: Chain,
    payload: &'a [u8],
    end: usize,
}

/// What stands in a record's header.
struct Header {
    length: usize,
    kind: u8,
    crc: u32,
    chain: Chain,
}

/// Finds the header of the record at `at` undamaged; else why not.
fn header(bytes: &[u8], at: usize) -> Result<Header, &'static str> {
    let Some(header) = bytes.get(at..at + HEADER_LEN) else {
        return Err("no room for a record");
    };
    let mut reader = Reader(&header[..HEADER_LEN - 4]);
    let fields = (|| {
        let length = reader.u32()?;
        let kind = reader.u8()?;
        let zeros: [u8; 3] = reader.array()?;
        let crc = reader.u32()?;
        Some((length, kind, zeros, crc, Chain(reader.array()?)))
    })();
    let (length, kind, zeros, crc, chain) = fields.expect("a header is as long as its fields");
    if header.iter().all(|byte| *byte == 0) {
        return Err("no record");
    }
    if crc32c::crc32c(&header[..HEADER_LEN - 4]).to_le_bytes() != header[HEADER_LEN - 4..]
        || zeros != [0; 3]
    {
        return Err("a damaged record header");
    }
    let length = usize::try_from(length).expect("usize holds 32 bits");
    Ok(Header {
        length,
        kind,
        crc,
        chain,
    })
}

/// How many of `bytes`, which begin with a header, their first record takes; only the header if that is damaged.
pub(super) fn first_len(bytes: &[u8]) -> usize {
    HEADER_LEN + header(bytes, 0).map_or(0, |header| header.length)
}

/// Finds the record at `at` whole and undamaged; else why not.
fn frame(bytes: &[u8], at: usize) -> Result<Frame<'_>, &'static str> {
    let Header {
        length,
        kind,
        crc,
        chain,
    } = header(bytes, at)?;
    let start = at + HEADER_LEN;
    let Some(payload) = bytes.get(start..start + length) else {
        return Err("a record longer than the file");
    };
    if crc32c::crc32c(payload) != crc {
        return Err("a damaged record");
    }
    let end = start + length;
    Ok(Frame {
        kind,
        crc,
        chain,
        payload,
        end,
    })
}

/// Reads the record at `at`, which must continue `chain`. Gives it, where it ends and the chain after it.
pub(super) fn read_record(
    bytes: &[u8],
    at: usize,
    chain: Chain,
) -> Result<(Record<'_>, usize, Chain), &'static str> {
    let frame = frame(bytes, at)?;
    let length = u32::try_from(frame.payload.len()).expect("it came from 32 bits");
    if frame.chain != chain.next(length, frame.kind, frame.crc) {
        return Err("a record that does not continue this log");
    }
    let record = parse(frame.kind, frame.payload).ok_or("a record of an unknown kind")?;
    Ok((record, frame.end, frame.chain))
}

/// The group record at `at`, whatever it continues: proof that everything before it was durable.
pub(super) fn find_group(bytes: &[u8], at: usize) -> Option<Group> {
    let frame = frame(bytes, at).ok()?;
    match parse(frame.kind, frame.payload)? {
        Record::Group(group) => Some(group),
        _ => None,
    }
}

/// Reads back the entry whose record is at `at`, sharing `bytes`. Gives it and where it ends.
pub(super) fn read_entry(bytes: &Bytes, at: usize) -> Result<(LogEntry, usize), &'static str> {
    let frame = frame(bytes, at)?;
    let Some(Record::Append(id, kind, body)) = parse(frame.kind, frame.payload) else {
        return Err("another record than the entry's");
    };
    let body = bytes.slice_ref(body);
    Ok((LogEntry { id, kind, body }, frame.end))
}

fn parse(kind: u8, payload: &[u8]) -> Option<Record<'_>> {
    let mut reader = Reader(payload);
    let record = match kind {
        GROUP => return Group::decode(payload).map(Record::Group),
        PAD => return payload.iter().all(|b| *b == 0).then_some(Record::Pad),
        APPEND => {
            let (term, node, index) = (reader.u64()?, reader.u64()?, reader.u64()?);
            let kind = entry_kind(reader.u8()?)?;
            return Some(Record::Append(LogId { term, node, index }, kind, reader.0));
        }
        VOTE => Record::Vote(reader.vote()??),
        TRUNCATE => Record::Truncate(reader.log_id()?),
        PURGE => Record::Purge(reader.log_id()??),
        COMMITTED => Record::Committed(reader.log_id()?),
        _ => return None,
    };
    reader.end()?;
    Some(record)
}

fn entry_kind(number: u8) -> Option<Kind> {
    [Kind::Blank, Kind::Commands, Kind::Membership]
        .into_iter()
        .find(|kind| *kind as u8 == number)
}
