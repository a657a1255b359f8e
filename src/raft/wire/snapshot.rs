//! A snapshot on its connection. The sender offers the manifest; from then on the receiver asks, and what it asks for are the
//! bytes of one file from an offset on, to its end. After the header of every frame of the sender: what it is (u8, reserved 3),
//! file u32, offset u64, bytes. The receiver says [`Asked`], as `postcard` in an answer.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Cursor, HEADER_LEN, Header, Segments, WireError};
use crate::storage::Vote;

/// Most bytes of a file in one frame.
pub(crate) const CHUNK_LEN_MAX: usize = 1 << 20;
/// Bytes before those of the file.
const PREFIX_LEN: usize = HEADER_LEN + 16;

/// What the sender sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The manifest of the snapshot.
    Offer(Bytes),
    /// Bytes of a file.
    Chunk {
        /// Its place among the files of the manifest.
        file: u32,
        /// Where the bytes stand in it.
        offset: u64,
        /// At least one.
        bytes: Bytes,
    },
}

/// What the receiver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asked {
    /// So many bytes of the snapshot are missing here.
    Lacks(u64),
    /// Send this file from this offset on, to its end.
    Want {
        /// Its place among the files of the manifest.
        file: u32,
        /// Bytes of it that are there.
        offset: u64,
    },
    /// Nothing is wanted right now: files are being verified, or the snapshot is being installed.
    Busy,
    /// It is over: the receiver's vote. If that is not beyond the sender's, the snapshot is installed, or was not needed.
    Over(Vote),
}

impl Sent {
    /// Bytes of the whole frame.
    pub(crate) fn frame_len(&self) -> usize {
        let (Sent::Offer(bytes) | Sent::Chunk { bytes, .. }) = self;
        PREFIX_LEN + bytes.len()
    }

    /// Appends the frame to `out`.
    pub(crate) fn encode(self, header: &Header, out: &mut Segments) {
        let (code, file, offset, bytes) = match self {
            Sent::Offer(bytes) => (0, 0, 0, bytes),
            Sent::Chunk {
                file,
                offset,
                bytes,
            } => (1, file, offset, bytes),
        };
        header.encode(out);
        out.put_u8(code);
        out.put(&[0; 3]);
        out.put_u32(file);
        out.put_u64(offset);
        out.put_body(bytes);
    }

    /// Reads what follows a header.
    pub(crate) fn decode(mut cursor: Cursor) -> Result<Sent, WireError> {
        let code = cursor.u8()?;
        cursor.zeros(3)?;
        let (file, offset) = (cursor.u32()?, cursor.u64()?);
        let bytes = cursor.take_rest();
        match code {
            0 if (file, offset) == (0, 0) => Ok(Sent::Offer(bytes)),
            1 if bytes.is_empty() || bytes.len() > CHUNK_LEN_MAX => Err(WireError::malformed(
                format!("a chunk of {} bytes", bytes.len()),
            )),
            1 => Ok(Sent::Chunk {
                file,
                offset,
                bytes,
            }),
            other => Err(WireError::malformed(format!(
                "unknown part {other} of a snapshot"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::Call;
    use crate::storage::identity::Boot;

    fn header() -> Header {
        Header {
            call: Call::Snapshot,
            cluster: [7; 16],
            from: 1,
            from_uuid: [8; 16],
            boot: Boot {
                number: 3,
                nonce: 4,
            },
            to_uuid: [6; 16],
            to: 2,
            vote: Vote::default(),
            seq: 3,
        }
    }

    #[test]
    fn what_is_sent_is_read_back() {
        for sent in [
            Sent::Offer(Bytes::from_static(b"manifest")),
            Sent::Chunk {
                file: 9,
                offset: 1 << 40,
                bytes: Bytes::from(vec![5; CHUNK_LEN_MAX]),
            },
        ] {
            let mut out = Segments::default();
            let len = sent.frame_len();
            sent.clone().encode(&header(), &mut out);
            assert_eq!(out.len(), len);
            let mut cursor = Cursor::new(out.into_bytes());
            assert_eq!(Header::decode(&mut cursor), Ok(header()));
            assert_eq!(Sent::decode(cursor), Ok(sent));
        }
    }

    #[test]
    fn a_chunk_of_nothing_or_of_too_much_is_refused() {
        for len in [0, CHUNK_LEN_MAX + 1] {
            let mut out = Segments::default();
            let chunk = Sent::Chunk {
                file: 0,
                offset: 0,
                bytes: vec![0; len].into(),
            };
            chunk.encode(&header(), &mut out);
            let mut cursor = Cursor::new(out.into_bytes());
            Header::decode(&mut cursor).unwrap();
            assert!(Sent::decode(cursor).is_err(), "{len}");
        }
    }
}
