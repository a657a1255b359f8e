//! Blocks that say whose a file is: the head of a segment, and the form it shares with the witness.

use super::LogState;
use super::codec::{Reader, put_log_id, put_text, put_vote};
use super::record::{BLOCK_LEN, Chain};
use super::shape::Shape;

/// Version of the format of segments and witness.
pub const FORMAT: u32 = 1;

/// Longest node uuid, in bytes.
pub(super) const UUID_LEN_MAX: usize = 64;

/// First block of a segment: whose it is, where it stands, and everything the segments before it added up to, so that they
/// can be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub uuid: String,
    pub segment: u32,
    pub chain: Chain,
    pub shape: Shape,
}

/// How [`open_block`] says that a block is intact, but of another version.
pub(super) const NEWER: &str = "a file of a newer version of Quorate";

const HEAD_MAGIC: [u8; 8] = *b"QUORLOG\0";

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(BLOCK_LEN);
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.chain.0);
        out.extend_from_slice(&self.shape.first.to_le_bytes());
        put_state(&mut out, &self.shape);
        put_text(&mut out, &self.uuid);
        seal_block(HEAD_MAGIC, &out, BLOCK_LEN)
    }

    pub(super) fn decode(block: &[u8]) -> Result<Head, String> {
        let mut reader = open_block(HEAD_MAGIC, block, BLOCK_LEN)?;
        let head = (|| {
            let segment = reader.u32()?;
            let chain = Chain(reader.array()?);
            let first = reader.u64()?;
            let state = LogState {
                purged: reader.log_id()?,
                last: reader.log_id()?,
                committed: reader.log_id()?,
                vote: reader.vote()?,
            };
            let uuid = reader.text()?.to_owned();
            let shape = Shape { state, first };
            Some(Head {
                uuid,
                segment,
                chain,
                shape,
            })
        })();
        head.ok_or_else(|| "an unreadable head".to_owned())
    }
}

fn put_state(out: &mut Vec<u8>, shape: &Shape) {
    put_log_id(out, shape.state.purged);
    put_log_id(out, shape.state.last);
    put_log_id(out, shape.state.committed);
    put_vote(out, shape.state.vote);
}

/// A block of `length` bytes: magic, format version, `content`, zeros, checksum over all before it.
pub(super) fn seal_block(magic: [u8; 8], content: &[u8], length: usize) -> Vec<u8> {
    assert!(content.len() + 16 <= length, "a block's content fits");
    let mut block = Vec::with_capacity(length);
    block.extend_from_slice(&magic);
    block.extend_from_slice(&FORMAT.to_le_bytes());
    block.extend_from_slice(content);
    block.resize(length - 4, 0);
    let crc = crc32c::crc32c(&block);
    block.extend_from_slice(&crc.to_le_bytes());
    block
}

/// The content of a block that [`seal_block`] made, with the zeros after it; else why not.
pub(super) fn open_block(
    magic: [u8; 8],
    block: &[u8],
    length: usize,
) -> Result<Reader<'_>, String> {
    let Some(block) = block.get(..length) else {
        return Err("a file cut short".to_owned());
    };
    let mut reader = Reader(&block[..length - 4]);
    if reader.array() != Some(magic) {
        return Err("a damaged head".to_owned());
    }
    let format = reader.u32().expect("a block is longer than that");
    if crc32c::crc32c(&block[..length - 4]).to_le_bytes() != block[length - 4..] {
        return Err("a damaged head".to_owned());
    }
    if format != FORMAT {
        return Err(format!(
            "{NEWER}: its format is {format}, this version of Quorate knows {FORMAT}"
        ));
    }
    Ok(reader)
}
