//! Answers: 24 bytes (protocol version u32, status u8, room on the answerer's disk u8, reserved 2, sequence number u64, the
//! answerer's wall clock u64 in nanoseconds since 1970) and what the status says.

use bytes::Bytes;

use super::{Cursor, PROTOCOL, Segments, WireError};
use crate::raft::space::Room;
use crate::raft::vitals::Signs;
use crate::storage::{LogId, Vote};

/// Longest reason given for a refusal, in bytes.
const REASON_LEN_MAX: usize = 512;

/// What the receiver made of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An append was accepted and is on the receiver's disk up to here.
    Matched(Option<LogId>),
    /// The receiver's log does not have this entry, the one before an append's first. Ends a stream.
    Conflict(Option<LogId>),
    /// The receiver knows a newer leader. Ends a stream.
    HigherVote(Vote),
    /// The request was not acted on, and why. Ends a stream.
    Refused(String),
    /// The answer to a vote, a pre-vote or a transfer: [`super::rare`].
    Rare(Bytes),
}

/// An answer as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answered {
    /// The number of the request it belongs to.
    pub(crate) seq: u64,
    /// What who answered said of itself.
    pub(crate) signs: Signs,
    /// What it says.
    pub(crate) answer: Answer,
}

impl Answer {
    /// Appends the answer to the request numbered `seq`, given by a node that says `signs` of itself, to `out`.
    pub(crate) fn encode(self, seq: u64, signs: Signs, out: &mut Segments) {
        out.put_u32(PROTOCOL);
        let status = match self {
            Answer::Matched(_) => 0,
            Answer::Conflict(_) => 1,
            Answer::HigherVote(_) => 2,
            Answer::Refused(_) => 3,
            Answer::Rare(_) => 4,
        };
        out.put_u8(status);
        out.put_u8(signs.room as u8);
        out.put(&[0; 2]);
        out.put_u64(seq);
        out.put_u64(signs.wall_ns);
        match self {
            Answer::Matched(id) | Answer::Conflict(id) => {
                out.put_u8(u8::from(id.is_some()));
                out.put_log_id(id.unwrap_or_default());
            }
            Answer::HigherVote(vote) => {
                out.put_u8(u8::from(vote.committed));
                out.put_u64(vote.term);
                out.put_u64(vote.node);
            }
            Answer::Refused(reason) => {
                out.put(&reason.as_bytes()[..reason.len().min(REASON_LEN_MAX)]);
            }
            Answer::Rare(body) => out.put_body(body),
        }
    }

    /// Reads an answer and what it comes with.
    pub(crate) fn decode(message: Bytes) -> Result<Answered, WireError> {
        let mut cursor = Cursor::new(message);
        let version = cursor.u32()?;
        if version != PROTOCOL {
            return Err(WireError::Version(version));
        }
        let status = cursor.u8()?;
        let room = cursor.u8()?;
        let room = Room::ALL.get(usize::from(room)).copied();
        let room = room.ok_or_else(|| WireError::malformed("no such room on a disk".to_owned()))?;
        cursor.zeros(2)?;
        let seq = cursor.u64()?;
        let wall_ns = cursor.u64()?;
        let answer = match status {
            0 => Answer::Matched(decode_place(&mut cursor)?),
            1 => Answer::Conflict(decode_place(&mut cursor)?),
            2 => Answer::HigherVote(decode_vote(&mut cursor)?),
            3 => {
                let reason = cursor.take_rest();
                let reason = &reason[..reason.len().min(REASON_LEN_MAX)];
                Answer::Refused(String::from_utf8_lossy(reason).into_owned())
            }
            4 => Answer::Rare(cursor.take_rest()),
            other => return Err(WireError::malformed(format!("unknown status {other}"))),
        };
        cursor.end()?;
        Ok(Answered {
            seq,
            signs: Signs { wall_ns, room },
            answer,
        })
    }
}

fn decode_place(cursor: &mut Cursor) -> Result<Option<LogId>, WireError> {
    let present = cursor.flag()?;
    cursor.maybe_log_id(present)
}

fn decode_vote(cursor: &mut Cursor) -> Result<Vote, WireError> {
    let committed = cursor.flag()?;
    Ok(Vote {
        term: cursor.u64()?,
        node: cursor.u64()?,
        committed,
    })
}
