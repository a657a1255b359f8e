//! Votes, pre-votes and transfers: `postcard` of these types. A new field needs a new protocol version.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::WireError;
use crate::storage::{LogId, Vote};

/// Asks for a vote, or whether one would be given. The vote itself is the header's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteAsked {
    /// Last entry of the candidate's log.
    pub(crate) last: Option<LogId>,
    /// The leader told the candidate to stand.
    pub(crate) leadership_transfer: bool,
}

/// The answer to [`VoteAsked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VoteGiven {
    /// The answerer's vote now.
    pub(crate) vote: Vote,
    /// It is for the candidate.
    pub(crate) granted: bool,
    /// Last entry of the answerer's log.
    pub(crate) last: Option<LogId>,
}

/// Tells every voter that the leader of the header's vote hands over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransferAsked {
    /// The node that shall lead.
    pub(crate) heir: u64,
    /// Last entry of the leader's log, which the heir must have.
    pub(crate) last: Option<LogId>,
}

/// The answer to [`TransferAsked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TransferGiven {
    /// Taken note of.
    Accepted,
    /// Another vote is known by now.
    VoteChanged {
        /// The leader's.
        expected: Vote,
        /// The answerer's.
        actual: Vote,
    },
    /// The heir's disk does not have the leader's last entry.
    LogNotFlushed {
        /// The leader's.
        expected: Option<LogId>,
        /// The answerer's.
        actual: Option<LogId>,
    },
}

/// The bytes of one of the types here or in `handshake`.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain data into memory")
}

/// Reads back [`encode`].
pub(crate) fn decode<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(WireError::malformed(format!(
            "{} bytes too many",
            rest.len()
        ))),
        Err(error) => Err(WireError::malformed(error.to_string())),
    }
}
