//! Between openraft's requests and answers and ours.

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::answer::Answer;
use super::append::Append;
use super::rare::{TransferAsked, TransferGiven, VoteAsked, VoteGiven};
use crate::raft::convert;
use crate::raft::types::Types;
use crate::storage::{LogId, Vote};

/// The vote of an append and the rest of it.
pub(crate) fn append(request: AppendEntriesRequest<Types>) -> (Vote, Append) {
    let append = Append {
        prev: request.prev_log_id.as_ref().map(convert::log_id),
        commit: request.leader_commit.as_ref().map(convert::log_id),
        entries: request.entries.into_iter().map(convert::entry).collect(),
    };
    (convert::vote(&request.vote), append)
}

/// Openraft's append. `Err` names an entry whose body is not what it must be.
pub(crate) fn raft_append(
    vote: Vote,
    append: Append,
) -> Result<AppendEntriesRequest<Types>, String> {
    let entries = append.entries.into_iter().map(convert::raft_entry);
    Ok(AppendEntriesRequest {
        vote: convert::raft_vote(vote),
        prev_log_id: append.prev.map(convert::raft_log_id),
        entries: entries.collect::<Result<_, _>>()?,
        leader_commit: append.commit.map(convert::raft_log_id),
    })
}

/// The answer to one append of a stream.
pub(crate) fn stream_answer(result: &StreamAppendResult<Types>) -> Answer {
    match result {
        Ok(matched) => Answer::Matched(matched.as_ref().map(convert::log_id)),
        Err(StreamAppendError::Conflict(id)) => Answer::Conflict(Some(convert::log_id(id))),
        Err(StreamAppendError::HigherVote(vote)) => Answer::HigherVote(convert::vote(vote)),
    }
}

/// The answer to a unary append that followed `prev` and ended at `last`.
pub(crate) fn unary_answer(
    response: &AppendEntriesResponse<Types>,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Answer {
    match response {
        AppendEntriesResponse::Success => Answer::Matched(last),
        AppendEntriesResponse::PartialSuccess(matched) => {
            Answer::Matched(matched.as_ref().map(convert::log_id))
        }
        AppendEntriesResponse::Conflict => Answer::Conflict(prev),
        AppendEntriesResponse::HigherVote(vote) => Answer::HigherVote(convert::vote(vote)),
    }
}

/// The vote of a vote request and the rest of it.
pub(crate) fn vote(request: &VoteRequest<Types>) -> (Vote, VoteAsked) {
    let asked = VoteAsked {
        last: request.last_log_id.as_ref().map(convert::log_id),
        leadership_transfer: request.leadership_transfer,
    };
    (convert::vote(&request.vote), asked)
}

/// Openraft's vote request.
pub(crate) fn raft_vote(vote: Vote, asked: VoteAsked) -> VoteRequest<Types> {
    let last = asked.last.map(convert::raft_log_id);
    let mut request = VoteRequest::new(convert::raft_vote(vote), last);
    request.leadership_transfer = asked.leadership_transfer;
    request
}

/// The answer to a vote.
pub(crate) fn vote_given(response: &VoteResponse<Types>) -> VoteGiven {
    VoteGiven {
        vote: convert::vote(&response.vote),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(convert::log_id),
    }
}

/// Openraft's answer to a vote.
pub(crate) fn raft_vote_given(given: VoteGiven) -> VoteResponse<Types> {
    let last = given.last.map(convert::raft_log_id);
    VoteResponse::new(convert::raft_vote(given.vote), last, given.granted)
}

/// The vote of a transfer and the rest of it.
pub(crate) fn transfer(request: &TransferLeaderRequest<Types>) -> (Vote, TransferAsked) {
    let asked = TransferAsked {
        heir: *request.to_node_id(),
        last: request.last_log_id().map(convert::log_id),
    };
    (convert::vote(request.from_leader()), asked)
}

/// Openraft's transfer.
pub(crate) fn raft_transfer(vote: Vote, asked: TransferAsked) -> TransferLeaderRequest<Types> {
    let last = asked.last.map(convert::raft_log_id);
    TransferLeaderRequest::new(convert::raft_vote(vote), asked.heir, last)
}

/// The answer to a transfer.
pub(crate) fn transfer_given(response: &TransferLeaderResponse<Types>) -> TransferGiven {
    match response {
        Ok(()) => TransferGiven::Accepted,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => TransferGiven::VoteChanged {
            expected: convert::vote(expected),
            actual: convert::vote(actual),
        },
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            TransferGiven::LogNotFlushed {
                expected: expected.as_ref().map(convert::log_id),
                actual: actual.as_ref().map(convert::log_id),
            }
        }
    }
}

/// Openraft's answer to a transfer.
pub(crate) fn raft_transfer_given(given: TransferGiven) -> TransferLeaderResponse<Types> {
    match given {
        TransferGiven::Accepted => Ok(()),
        TransferGiven::VoteChanged { expected, actual } => Err(TransferLeaderError::VoteChanged {
            expected: convert::raft_vote(expected),
            actual: convert::raft_vote(actual),
        }),
        TransferGiven::LogNotFlushed { expected, actual } => {
            Err(TransferLeaderError::LogNotFlushed {
                expected: expected.map(convert::raft_log_id),
                actual: actual.map(convert::raft_log_id),
            })
        }
    }
}
