//! The records of one entry, as journaled: in chunks of up to 64, each with its own checksum.
//!
//! A chunk is, little-endian: version u8 (1), flags u8 (1: last of its entry), records u16, log time u64, then per record its
//! length u32 and its bytes, and at the end a CRC-32C of key and value. Every entry with commands has at least one chunk, if
//! it journaled nothing an empty one: so the chain of digests can be computed again from the journal alone, and an entry
//! that is missing is noticed.

use std::ops::Range;

use super::layout::{journal_key, parse_journal_key, take};
use crate::machine::digest::Chain;
use crate::machine::{Position, Record};

/// Most records of a chunk. Small enough that reading one record reads little, large enough that the key costs nothing.
const CHUNK_RECORDS: usize = 64;
/// Version of the layout.
const VERSION: u8 = 1;
/// Flag of the last chunk of an entry.
const LAST: u8 = 1;
/// Bytes before the first record.
const HEADER_LEN: usize = 12;
/// Bytes after the last.
const CRC_LEN: usize = 4;

/// The records of an entry in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct EntryRows {
    /// Log index of the entry.
    pub(super) index: u64,
    /// Its log time.
    pub(super) time_ns: u64,
    /// Per record its length u32 and its bytes.
    framed: Vec<u8>,
    /// Where each record's length stands.
    starts: Vec<u32>,
}

impl EntryRows {
    /// None yet of the entry at `index`; reuses the memory of `self`.
    pub(super) fn restart(mut self, index: u64) -> EntryRows {
        self.framed.clear();
        self.starts.clear();
        EntryRows {
            index,
            time_ns: 0,
            ..self
        }
    }

    /// Adds a record; returns its position.
    #[inline]
    pub(super) fn push(&mut self, record: &Record<'_>) -> Position {
        let at = Position {
            index: self.index,
            record: self.len(),
        };
        let start = self.framed.len();
        self.starts
            .push(u32::try_from(start).expect("an entry's records are far below 4 GiB"));
        self.framed.extend_from_slice(&[0; 4]);
        record.encode(&mut self.framed);
        let len =
            u32::try_from(self.framed.len() - start - 4).expect("a record is little over 1 MiB");
        self.framed[start..start + 4].copy_from_slice(&len.to_le_bytes());
        at
    }

    /// Number of records.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.starts.len()).expect("records of an entry are counted in a u32")
    }

    /// Bytes of all records.
    pub(super) fn bytes(&self) -> usize {
        self.framed.len()
    }

    /// The bytes of record `number`.
    pub(super) fn record(&self, number: u32) -> Option<&[u8]> {
        let start = *self.starts.get(usize::try_from(number).ok()?)?;
        let mut rest = self.framed.get(usize::try_from(start).ok()?..)?;
        take_record(&mut rest)
    }

    /// Drops the last record.
    pub(super) fn pop(&mut self) {
        let start = self.starts.pop().expect("the caller counted the records");
        self.framed
            .truncate(usize::try_from(start).expect("an offset into memory"));
    }

    /// The digest after this entry, given the one before.
    pub(super) fn digest(&self, before: &[u8; 32]) -> [u8; 32] {
        let mut chain = Chain::start(before, self.index, self.time_ns);
        chain.framed(&self.framed);
        chain.finish()
    }

    /// Writes the chunk after `from` into `value`, replacing it; returns its key and where the next chunk begins, if any.
    pub(super) fn chunk(&self, from: usize, value: &mut Vec<u8>) -> ([u8; 10], Option<usize>) {
        let chunk = u16::try_from(from / CHUNK_RECORDS)
            .expect("an entry holds far fewer than 4 million records");
        let to = self.starts.len().min(from + CHUNK_RECORDS);
        let records = &self.framed[self.span(from..to)];
        let more = to < self.starts.len();
        let key = journal_key(self.index, chunk);
        let count = u16::try_from(to - from).expect("a chunk has at most 64 records");
        value.clear();
        value.reserve(HEADER_LEN + records.len() + CRC_LEN);
        value.extend_from_slice(&[VERSION, if more { 0 } else { LAST }]);
        value.extend_from_slice(&count.to_le_bytes());
        value.extend_from_slice(&self.time_ns.to_le_bytes());
        value.extend_from_slice(records);
        let crc = crc32c::crc32c_append(crc32c::crc32c(&key), value);
        value.extend_from_slice(&crc.to_le_bytes());
        (key, more.then_some(to))
    }

    fn span(&self, records: Range<usize>) -> Range<usize> {
        let offset = |number: usize| match self.starts.get(number) {
            Some(&start) => usize::try_from(start).expect("an offset into memory"),
            None => self.framed.len(),
        };
        offset(records.start)..offset(records.end)
    }
}

/// Which chunk record `number` of an entry is in.
pub(super) fn chunk_of(number: u32) -> Option<u16> {
    u16::try_from(usize::try_from(number).ok()? / CHUNK_RECORDS).ok()
}

/// A chunk as read, its checksum verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    /// Log index of its entry.
    pub(super) index: u64,
    /// Its number among the chunks of the entry.
    pub(super) number: u16,
    /// No chunk of the entry follows.
    pub(super) last: bool,
    /// Log time of the entry.
    pub(super) time_ns: u64,
    /// Its records, framed as the digest takes them.
    pub(super) framed: &'a [u8],
    count: u16,
}

impl<'a> Chunk<'a> {
    /// Reads a row of the journal. `Err` names what is wrong.
    pub(super) fn parse(key: &[u8], value: &'a [u8]) -> Result<Chunk<'a>, String> {
        let Some((index, number)) = parse_journal_key(key) else {
            return Err(format!(
                "key {} is not an entry and a chunk",
                key.escape_ascii()
            ));
        };
        let wrong = |what: &str| format!("entry {index} chunk {number} {what}");
        let (body, crc) = value
            .split_last_chunk::<CRC_LEN>()
            .ok_or_else(|| wrong("is too short"))?;
        if crc32c::crc32c_append(crc32c::crc32c(key), body) != u32::from_le_bytes(*crc) {
            return Err(wrong("fails its checksum"));
        }
        let mut rest = body;
        let header = take::<HEADER_LEN>(&mut rest).ok_or_else(|| wrong("is too short"))?;
        if header[0] != VERSION {
            return Err(wrong(&format!(
                "has version {}; this program knows {VERSION}",
                header[0]
            )));
        }
        let (count, time) = header[2..].split_at(2);
        Ok(Chunk {
            index,
            number,
            last: header[1] & LAST != 0,
            time_ns: u64::from_le_bytes(time.try_into().expect("8 of 12 bytes are left")),
            framed: rest,
            count: u16::from_le_bytes(count.try_into().expect("split at 2")),
        })
    }

    /// The records with their positions.
    pub(super) fn records(&self) -> impl Iterator<Item = (Position, &'a [u8])> + use<'a> {
        let (index, mut rest) = (self.index, self.framed);
        let first = u32::from(self.number) * u32::try_from(CHUNK_RECORDS).expect("64 fits");
        (first..first + u32::from(self.count))
            .map_while(move |record| Some((Position { index, record }, take_record(&mut rest)?)))
    }

    /// Record `number` of the entry.
    pub(super) fn record(&self, number: u32) -> Option<&'a [u8]> {
        self.records()
            .find(|(at, _)| at.record == number)
            .map(|(_, bytes)| bytes)
    }

    /// That the records fill the chunk and are as many as its header says.
    pub(super) fn check(&self) -> Result<(), String> {
        let (count, bytes) = self
            .records()
            .fold((0u16, 0), |(count, bytes), (_, record)| {
                (count + 1, bytes + 4 + record.len())
            });
        if count != self.count || bytes != self.framed.len() {
            return Err(format!(
                "entry {} chunk {} does not hold what its header says",
                self.index, self.number
            ));
        }
        Ok(())
    }
}

fn take_record<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = u32::from_le_bytes(*take(rest)?);
    let (record, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    *rest = after;
    Some(record)
}

/// Follows the chunks of a journal in order: none missing, none out of place, and the digest that results.
#[derive(Debug)]
pub(super) struct Trail {
    /// Digest after the last whole entry.
    pub(super) digest: [u8; 32],
    /// Log time of the last entry seen.
    pub(super) time_ns: u64,
    open: Option<(u64, u16, Chain)>,
}

impl Trail {
    /// Begins after an entry with this log time and digest.
    pub(super) fn after(time_ns: u64, digest: [u8; 32]) -> Trail {
        Trail {
            digest,
            time_ns,
            open: None,
        }
    }

    /// Takes the next chunk. `Err` names what is wrong.
    pub(super) fn follow(&mut self, chunk: &Chunk<'_>) -> Result<(), String> {
        chunk.check()?;
        let wrong = |what: &str| {
            Err(format!(
                "entry {} chunk {} {what}",
                chunk.index, chunk.number
            ))
        };
        let mut chain = match self.open.take() {
            Some((index, number, chain)) => {
                if (chunk.index, chunk.number) != (index, number + 1)
                    || chunk.time_ns != self.time_ns
                {
                    return wrong("does not follow the chunk before it");
                }
                chain
            }
            None => {
                if chunk.number != 0 || chunk.time_ns <= self.time_ns {
                    return wrong("does not begin an entry later than the one before");
                }
                self.time_ns = chunk.time_ns;
                Chain::start(&self.digest, chunk.index, chunk.time_ns)
            }
        };
        chain.framed(chunk.framed);
        if chunk.last {
            self.digest = chain.finish();
        } else {
            self.open = Some((chunk.index, chunk.number, chain));
        }
        Ok(())
    }

    /// That the last entry was whole.
    pub(super) fn end(&self) -> Result<(), String> {
        match &self.open {
            Some((index, number, _)) => Err(format!("entry {index} ends after chunk {number}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(records: usize) -> EntryRows {
        let mut rows = EntryRows::default().restart(7);
        rows.time_ns = 9;
        for n in 0..records {
            let at = rows.push(&Record::KvDeleted {
                key: &format!("key {n}"),
            });
            assert_eq!(usize::try_from(at.record), Ok(n));
        }
        rows
    }

    fn chunks(rows: &EntryRows) -> Vec<([u8; 10], Vec<u8>)> {
        let (mut chunks, mut from) = (Vec::new(), Some(0));
        while let Some(start) = from {
            let mut value = Vec::new();
            let (key, next) = rows.chunk(start, &mut value);
            chunks.push((key, value));
            from = next;
        }
        chunks
    }

    #[test]
    fn chunks_give_back_every_record_and_the_digest() {
        for count in [0, 1, 63, 64, 65, 128, 200] {
            let (rows, mut trail, mut seen) = (rows(count), Trail::after(8, [3; 32]), 0);
            for (key, value) in chunks(&rows) {
                let chunk = Chunk::parse(&key, &value).unwrap();
                trail.follow(&chunk).unwrap();
                for (at, bytes) in chunk.records() {
                    assert_eq!(rows.record(at.record), Some(bytes));
                    assert_eq!(chunk.record(at.record), Some(bytes));
                    assert_eq!(chunk_of(at.record), Some(chunk.number));
                    seen += 1;
                }
            }
            trail.end().unwrap();
            assert_eq!((seen, trail.digest), (count, rows.digest(&[3; 32])));
        }
    }

    #[test]
    fn every_flipped_bit_of_a_chunk_is_detected() {
        let (key, value) = chunks(&rows(3)).remove(0);
        assert!(Chunk::parse(&key, &value).is_ok());
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Chunk::parse(&key, &bad).is_err(), "bit {bit}");
        }
        let elsewhere = journal_key(8, 0);
        assert!(
            Chunk::parse(&elsewhere, &value).is_err(),
            "a chunk of another entry"
        );
    }

    #[test]
    fn a_missing_chunk_is_detected() {
        let chunks = chunks(&rows(200));
        for missing in 0..chunks.len() {
            let mut trail = Trail::after(8, [3; 32]);
            let whole = chunks
                .iter()
                .enumerate()
                .filter(|(number, _)| *number != missing)
                .try_for_each(|(_, (key, value))| trail.follow(&Chunk::parse(key, value)?))
                .and_then(|()| trail.end());
            assert!(whole.is_err(), "chunk {missing}");
        }
    }

    #[test]
    fn what_is_popped_leaves_no_trace() {
        let mut popped = rows(66);
        popped.pop();
        popped.pop();
        assert_eq!(chunks(&popped), chunks(&rows(64)));
        assert_eq!(popped.record(64), None);
    }
}
