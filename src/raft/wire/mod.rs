//! The bytes peers exchange once they belong to a cluster, in a layout of our own that is not openraft's.
//!
//! Every request, whether it is the body of a unary call or one frame of an append stream, starts with a [`Header`] of 112
//! bytes that says who speaks to whom, in which cluster, under which vote. What follows is [`append`] for the hot path
//! (fixed layout; the bodies of entries are written and read in place, never copied or decoded) and [`rare`] for the rest
//! (`postcard`). Every answer starts with [`answer`]'s 24 bytes.
//!
//! Numbers are little-endian. Decoding is total: any bytes give a value or a [`WireError`], never a panic, and nothing is
//! allocated that the bytes at hand do not account for. What the header claims is checked by `peer`, not here.

pub(crate) mod answer;
pub(crate) mod append;
pub(crate) mod rare;
pub(crate) mod snapshot;
pub(crate) mod translate;

mod buffer;

pub(crate) use buffer::{Cursor, Segments};

use super::handshake::PROTOCOL;
use super::peer::Call;
use crate::storage::Vote;
use crate::storage::identity::Boot;

/// Largest frame or unary body, in bytes (8 MiB): an entry of 4 MiB fits, with room.
pub(crate) const FRAME_LEN_MAX: usize = 8 << 20;
/// Largest body of an answer, in bytes: all answers are small.
pub(crate) const ANSWER_LEN_MAX: usize = 64 << 10;
/// Bytes of a [`Header`].
pub(crate) const HEADER_LEN: usize = 112;

/// Why bytes are not a message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// They end before the message does.
    #[error("a message ends before its last field")]
    Short,
    /// They are of another version of the protocol; nothing else in them can be trusted.
    #[error("a message has protocol version {0}, this node speaks {PROTOCOL}")]
    Version(u32),
    /// They contradict themselves.
    #[error("a malformed message: {0}")]
    Malformed(String),
}

impl WireError {
    fn malformed(what: impl Into<String>) -> WireError {
        WireError::Malformed(what.into())
    }
}

/// Who speaks to whom. First in every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// What is asked; must be what the path of a unary request says.
    pub(crate) call: Call,
    /// Cluster the sender belongs to.
    pub(crate) cluster: [u8; 16],
    /// The sender's node id.
    pub(crate) from: u64,
    /// The sender's data directory.
    pub(crate) from_uuid: [u8; 16],
    /// Which start of the sender on it.
    pub(crate) boot: Boot,
    /// The node id it means to reach.
    pub(crate) to: u64,
    /// The data directory it means to reach; zeros if it does not know.
    pub(crate) to_uuid: [u8; 16],
    /// The sender's vote: a leader's own for appends and transfers, a candidate's for votes.
    pub(crate) vote: Vote,
    /// Counts the requests of one connection; the answer repeats it.
    pub(crate) seq: u64,
}

impl Header {
    /// Appends the header to `out`.
    pub(crate) fn encode(&self, out: &mut Segments) {
        out.put_u32(PROTOCOL);
        out.put_u8(call_code(self.call));
        out.put_u8(u8::from(self.vote.committed));
        out.put(&[0; 2]);
        out.put(&self.cluster);
        out.put_u64(self.from);
        out.put(&self.from_uuid);
        out.put_u64(self.boot.number);
        out.put_u64(self.boot.nonce);
        out.put_u64(self.to);
        out.put(&self.to_uuid);
        out.put_u64(self.vote.term);
        out.put_u64(self.vote.node);
        out.put_u64(self.seq);
    }

    /// Reads a header off the front of `cursor`.
    pub(crate) fn decode(cursor: &mut Cursor) -> Result<Header, WireError> {
        let version = cursor.u32()?;
        if version != PROTOCOL {
            return Err(WireError::Version(version));
        }
        let call = call_of(cursor.u8()?)?;
        let committed = cursor.flag()?;
        cursor.zeros(2)?;
        Ok(Header {
            call,
            cluster: cursor.array()?,
            from: cursor.u64()?,
            from_uuid: cursor.array()?,
            boot: Boot {
                number: cursor.u64()?,
                nonce: cursor.u64()?,
            },
            to: cursor.u64()?,
            to_uuid: cursor.array()?,
            vote: Vote {
                term: cursor.u64()?,
                node: cursor.u64()?,
                committed,
            },
            seq: cursor.u64()?,
        })
    }
}

/// Durable numbers of the calls that carry a header: append-only.
fn call_code(call: Call) -> u8 {
    match call {
        Call::Append => 1,
        Call::Vote => 2,
        Call::PreVote => 3,
        Call::Transfer => 4,
        Call::Snapshot => 5,
        Call::Fetch => 6,
        Call::Marks => 7,
        Call::Hello | Call::Adopt => {
            unreachable!("a handshake is sent before there is a cluster to name in a header")
        }
    }
}

fn call_of(code: u8) -> Result<Call, WireError> {
    match code {
        1 => Ok(Call::Append),
        2 => Ok(Call::Vote),
        3 => Ok(Call::PreVote),
        4 => Ok(Call::Transfer),
        5 => Ok(Call::Snapshot),
        6 => Ok(Call::Fetch),
        7 => Ok(Call::Marks),
        other => Err(WireError::malformed(format!("unknown call {other}"))),
    }
}

/// The 16 bytes of an id kept as text: 32 hex digits, with or without hyphens.
///
/// # Errors
/// If `text` is not such an id; the message names it.
pub(crate) fn id_bytes(text: &str) -> Result<[u8; 16], String> {
    uuid::Uuid::parse_str(text)
        .map(uuid::Uuid::into_bytes)
        .map_err(|_| format!("\"{text}\" is not an id of 32 hex digits"))
}

/// The bytes of an id that may not be known: zeros for no text.
///
/// # Errors
/// As [`id_bytes`].
pub(crate) fn known_id(text: &str) -> Result<[u8; 16], String> {
    match text.is_empty() {
        true => Ok([0; 16]),
        false => id_bytes(text),
    }
}

/// The text of an id: 32 hex digits.
pub(crate) fn id_text(id: [u8; 16]) -> String {
    uuid::Uuid::from_bytes(id).simple().to_string()
}

/// How frames stand in a stream: their length as four bytes, little-endian, before each.
pub(crate) fn codec() -> tokio_util::codec::LengthDelimitedCodec {
    tokio_util::codec::LengthDelimitedCodec::builder()
        .little_endian()
        .max_frame_length(FRAME_LEN_MAX)
        .new_codec()
}

#[cfg(test)]
mod tests;
