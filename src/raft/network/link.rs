//! One link to one peer, as openraft uses it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::v2::RaftNetworkV2;
use openraft::network::{Backoff, RPCOption, RPCTypes, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::Shared;
use super::connect::{Connect, Lane};
use super::stream::{self, Session, StreamLink};
use super::unary::{CallError, Unary};
use super::window::check_held;
use crate::raft::Member;
use crate::raft::convert;
use crate::raft::peer::{Call, SNAPSHOT_PATH, SNAPSHOT_PROTOCOL};
use crate::raft::snapshots::SnapshotDir;
use crate::raft::types::{RaftSnapshot, RaftVote, SnapshotData, Types};
use crate::raft::wire::answer::Answer;
use crate::raft::wire::{Header, Segments, rare, translate};
use crate::storage::clock::now;
use crate::storage::{LogId, Vote};

pub(super) type BoxFuture<'s, T> = futures_util::future::BoxFuture<'s, T>;
pub(super) type BoxStream<'s, T> = futures_util::stream::BoxStream<'s, T>;
pub(super) type RpcError = RPCError<Types>;

/// First pause after a peer was found unreachable; doubled up to half the heartbeat interval, or ten for a snapshot.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);

/// A link to one peer. Connects when used.
pub(crate) struct Link<C: Connect> {
    pub(super) shared: Arc<Shared<C>>,
    pub(super) target: u64,
    pub(super) addr: String,
    lane: Lane,
    unary: Unary,
    unary_seq: u64,
    /// The append stream, between two sessions of openraft.
    pub(super) kept: Option<StreamLink<C::Io>>,
}

impl<C: Connect> Link<C> {
    pub(super) fn new(shared: Arc<Shared<C>>, target: u64, member: &Member, lane: Lane) -> Link<C> {
        Link {
            shared,
            target,
            addr: member.peer_addr.clone(),
            lane,
            unary: Unary::default(),
            unary_seq: 0,
            kept: None,
        }
    }

    /// Notes where the peer is reached now. What was connected to where it was before is given up.
    pub(super) fn look_up(&mut self) {
        if let Some(member) = self.shared.member(self.target)
            && member.peer_addr != self.addr
        {
            self.addr = member.peer_addr;
            self.kept = None;
            self.unary = Unary::default();
        }
    }

    /// One unary call: header, `body`, answer.
    async fn call(
        &mut self,
        call: Call,
        vote: Vote,
        body: impl FnOnce(&Header, &mut Segments),
        option: &RPCOption,
    ) -> Result<Answer, RpcError> {
        let answered = self.exchange(call, vote, body, option).await;
        self.heed(Lane::Unary, answered.as_ref().err());
        answered.map_err(|error| self.rpc_error(call, error))
    }

    async fn exchange(
        &mut self,
        call: Call,
        vote: Vote,
        body: impl FnOnce(&Header, &mut Segments),
        option: &RPCOption,
    ) -> Result<Answer, CallError> {
        self.look_up();
        let header = self.shared.header(call, self.target, vote);
        let mut header = header.map_err(CallError::Connect)?;
        self.unary_seq += 1;
        header.seq = self.unary_seq;
        let mut message = Segments::default();
        body(&header, &mut message);
        let message = message.into_bytes();
        let shared = Arc::clone(&self.shared);
        let sent = now();
        let unary = &mut self.unary;
        let answer = unary.call(
            &shared.connect,
            &self.addr,
            call,
            message,
            option.soft_ttl(),
        );
        let answered = Answer::decode(answer.await?);
        let answered = answered.map_err(|error| CallError::Lost(error.to_string()))?;
        if let Answer::Refused(reason) = answered.answer {
            return Err(CallError::Refused(reason));
        }
        if answered.seq != header.seq {
            return Err(CallError::Lost(format!(
                "request {} got the answer to request {}",
                header.seq, answered.seq
            )));
        }
        shared.vitals.hear(self.target, sent, answered.signs);
        Ok(answered.answer)
    }

    /// Sends a snapshot on a connection of its own. Gives the peer's vote once that has installed it.
    async fn send_snapshot(
        &mut self,
        vote: Vote,
        snapshot: &SnapshotDir,
        option: &RPCOption,
    ) -> Result<Vote, CallError> {
        self.look_up();
        let header = self.shared.header(Call::Snapshot, self.target, vote);
        let header = header.map_err(CallError::Connect)?;
        let (connect, addr) = (&self.shared.connect, &self.addr);
        let (path, protocol) = (SNAPSHOT_PATH, SNAPSHOT_PROTOCOL);
        let opening = stream::upgraded(connect, addr, Lane::Snapshot, path, protocol);
        let halves = match tokio::time::timeout(option.soft_ttl(), opening).await {
            Ok(opened) => opened?,
            Err(_) => return Err(CallError::Connect(format!("{addr}: no answer in time"))),
        };
        let options = &self.shared.snapshots;
        super::snapshot::send(halves, header, snapshot, options).await
    }

    /// One line in the log when a problem begins, one when it is over.
    pub(super) fn heed(&self, lane: Lane, error: Option<&CallError>) {
        let (noise, peer) = (&self.shared.noise, self.target);
        let Some(error) = error else {
            if noise.recovered(peer, lane.name()) {
                tracing::info!(peer, addr = self.addr, "{} works again", lane.name());
            }
            return;
        };
        let problem = match error {
            CallError::Connect(_) => "connect",
            CallError::Lost(_) => "lost",
            CallError::Timeout(_) => "timeout",
            CallError::Refused(_) => "refused",
        };
        if noise.is_new(peer, lane.name(), problem) {
            tracing::warn!(peer, addr = self.addr, "{} failed: {error}", lane.name());
        }
    }

    pub(super) fn rpc_error(&self, call: Call, error: CallError) -> RpcError {
        match error {
            CallError::Connect(_) | CallError::Refused(_) => unreachable(error),
            CallError::Lost(_) => RPCError::Network(NetworkError::from_string(error)),
            CallError::Timeout(timeout) => RPCError::Timeout(Timeout {
                action: match call {
                    Call::Vote | Call::PreVote => RPCTypes::Vote,
                    Call::Transfer => RPCTypes::TransferLeader,
                    Call::Snapshot | Call::Fetch => RPCTypes::InstallSnapshot,
                    Call::Hello | Call::Adopt | Call::Append | Call::Marks => {
                        RPCTypes::AppendEntries
                    }
                },
                id: self.shared.dir.identity().node_id,
                target: self.target,
                timeout,
            }),
        }
    }

    async fn ask_vote(
        &mut self,
        call: Call,
        request: &VoteRequest<Types>,
        option: &RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let (vote, asked) = translate::vote(request);
        let answer = self.call_rare(call, vote, &asked, option).await?;
        Ok(translate::raft_vote_given(answer))
    }

    async fn call_rare<A: serde::Serialize + Sync, G: serde::de::DeserializeOwned>(
        &mut self,
        call: Call,
        vote: Vote,
        asked: &A,
        option: &RPCOption,
    ) -> Result<G, RpcError> {
        let body = rare::encode(asked);
        let put = |header: &Header, out: &mut Segments| {
            header.encode(out);
            out.put(&body);
        };
        match self.call(call, vote, put, option).await? {
            Answer::Rare(given) => rare::decode(&given).map_err(nonsense),
            other => Err(nonsense(format!("{call:?} was answered with {other:?}"))),
        }
    }
}

impl<C: Connect> RaftNetworkV2<Types> for Link<C> {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        let (vote, append) = translate::append(request);
        let whole = append.last();
        // What does not fit into one request is left to the next one: openraft goes on from the answer.
        let append = append.into_frames().map_err(unreachable)?.swap_remove(0);
        let (prev, last) = (append.prev, append.last());
        let put = |header: &_, out: &mut Segments| append.encode(header, out);
        let answer = self.call(Call::Append, vote, put, &option).await?;
        check_answer(&answer, prev, last).map_err(nonsense)?;
        let heard = &self.shared.vitals.heard;
        if let Err(refused) = check_held(heard, self.target, vote, &answer) {
            self.heed(Lane::Unary, Some(&refused));
            return Err(unreachable(refused));
        }
        match answer {
            Answer::Matched(matched) if matched == whole => Ok(AppendEntriesResponse::Success),
            Answer::Matched(matched) => Ok(AppendEntriesResponse::PartialSuccess(
                matched.map(convert::raft_log_id),
            )),
            Answer::Conflict(_) => Ok(AppendEntriesResponse::Conflict),
            Answer::HigherVote(vote) => {
                Ok(AppendEntriesResponse::HigherVote(convert::raft_vote(vote)))
            }
            other => Err(nonsense(format!("an append was answered with {other:?}"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        match self.lane {
            // A heartbeat: one request without entries. Its connection is its own, and a stream would gain nothing.
            Lane::Unary | Lane::Snapshot => stream_append_sequential(self, input, option),
            Lane::Stream => Box::pin(async move {
                let session = Session::new(self, input, option.soft_ttl());
                Ok(session.into_answers().boxed())
            }),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_vote(Call::Vote, &request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        self.ask_vote(Call::PreVote, &request, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sent = tokio::select! {
            biased;
            sent = self.send_snapshot(convert::vote(&vote), &snapshot.snapshot, &option) => sent,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        self.heed(Lane::Snapshot, sent.as_ref().err());
        match sent {
            Ok(vote) => Ok(SnapshotResponse::new(convert::raft_vote(vote))),
            // Whatever went wrong, the next attempt comes after a pause.
            Err(error) => Err(StreamingError::Unreachable(Unreachable::from_string(error))),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let (vote, asked) = translate::transfer(&request);
        let given = self
            .call_rare(Call::Transfer, vote, &asked, &option)
            .await?;
        Ok(translate::raft_transfer_given(given))
    }

    fn backoff(&self) -> Option<Backoff> {
        let longest = match self.lane {
            Lane::Stream | Lane::Unary => self.shared.heartbeat / 2,
            // A peer that is away, or refuses what it gets, must not be offered all of it ten times a second.
            Lane::Snapshot => self.shared.heartbeat * 10,
        };
        let longest = longest.max(BACKOFF_FIRST);
        let pauses = std::iter::successors(Some(BACKOFF_FIRST), move |pause| {
            Some((*pause * 2).min(longest))
        });
        Some(Backoff::new(pauses))
    }
}

/// Holds the answer to an append from `prev` to `last` against what was asked: the core trusts it with what is committed.
pub(super) fn check_answer(
    answer: &Answer,
    prev: Option<LogId>,
    last: Option<LogId>,
) -> Result<(), String> {
    match answer {
        Answer::Matched(matched) if *matched < prev || *matched > last => Err(format!(
            "an append from {prev:?} to {last:?} was answered to match {matched:?}"
        )),
        Answer::Conflict(at) if *at != prev || at.is_none() => Err(format!(
            "an append after {prev:?} was answered to conflict at {at:?}"
        )),
        _ => Ok(()),
    }
}

pub(super) fn unreachable(what: impl ToString) -> RpcError {
    RPCError::Unreachable(Unreachable::from_string(what))
}

pub(super) fn nonsense(what: impl ToString) -> RpcError {
    RPCError::Network(NetworkError::from_string(what))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_that_claims_more_than_was_asked_is_not_believed() {
        let id = |index| {
            Some(LogId {
                term: 1,
                node: 1,
                index,
            })
        };
        for (answer, believed) in [
            (Answer::Matched(id(5)), true),
            (Answer::Matched(id(4)), true),
            (Answer::Matched(id(3)), true),
            (Answer::Matched(id(6)), false),
            (Answer::Matched(id(2)), false),
            (Answer::Matched(None), false),
            (Answer::Conflict(id(3)), true),
            (Answer::Conflict(id(4)), false),
            (Answer::Conflict(None), false),
        ] {
            assert_eq!(
                check_answer(&answer, id(3), id(5)).is_ok(),
                believed,
                "{answer:?}"
            );
        }
        // What follows nothing cannot conflict; the core would panic on it.
        assert!(check_answer(&Answer::Conflict(None), None, id(0)).is_err());
    }

    /// Answers one call after the other with `answers`, each on a connection of its own.
    async fn answer_calls(listener: TcpListener, answers: Vec<(u64, Answer)>) {
        for (seq, answer) in answers {
            let (mut io, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            let whole = loop {
                io.read_buf(&mut request).await.unwrap();
                let text = String::from_utf8_lossy(&request);
                let Some((head, _)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length = head.lines().find_map(|line| {
                    let (name, value) = line.split_once(": ")?;
                    name.eq_ignore_ascii_case("content-length")
                        .then(|| value.parse::<usize>().unwrap())
                });
                break head.len() + 4 + length.unwrap();
            };
            while request.len() < whole {
                io.read_buf(&mut request).await.unwrap();
            }
            let mut body = Segments::default();
            answer.encode(seq, crate::raft::vitals::Signs::default(), &mut body);
            let head = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            io.write_all(head.as_bytes()).await.unwrap();
            io.write_all(&body.into_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_answer_to_another_call_or_to_more_than_was_asked_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let member = Member {
            peer_addr: listener.local_addr().unwrap().to_string(),
            ..Member::default()
        };
        let more = Some(LogId {
            term: 1,
            node: 1,
            index: 7,
        });
        let answers = vec![
            (1, Answer::Matched(None)),
            (1, Answer::Matched(None)),
            (3, Answer::Matched(more)),
            (4, Answer::Matched(None)),
        ];
        let answering = tokio::spawn(answer_calls(listener, answers));
        let stranger = crate::raft::network::testing::Stranger::new(1, &"0".repeat(32));
        let options = crate::raft::Options::default();
        let vitals = crate::raft::vitals::Vitals::healthy();
        let network = crate::raft::network::Network::new(stranger.dir.clone(), &options, vitals);
        let mut link = network.link(2, &member, Lane::Unary);
        let mut beat = async || {
            let vote = Vote {
                term: 1,
                node: 1,
                committed: true,
            };
            let request = AppendEntriesRequest {
                vote: convert::raft_vote(vote),
                prev_log_id: None,
                entries: Vec::new(),
                leader_commit: None,
            };
            let within = RPCOption::new(Duration::from_secs(30));
            link.append_entries(request, within).await
        };
        assert!(beat().await.is_ok());
        for says in ["the answer to request 1", "was answered to match"] {
            match beat().await {
                Err(RPCError::Network(error)) => {
                    assert!(error.to_string().contains(says), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(beat().await.is_ok());
        answering.await.unwrap();
    }

    #[test]
    fn pauses_grow_to_half_a_heartbeat() {
        let stranger = crate::raft::network::testing::Stranger::new(1, &"0".repeat(32));
        let options = crate::raft::Options::default();
        let vitals = crate::raft::vitals::Vitals::healthy();
        let network = crate::raft::network::Network::new(stranger.dir.clone(), &options, vitals);
        let link = network.link(2, &Member::default(), Lane::Stream);
        let pauses: Vec<_> = link
            .backoff()
            .unwrap()
            .take(6)
            .map(|p| p.as_millis())
            .collect();
        assert_eq!(pauses, [10, 20, 40, 80, 100, 100]);
    }
}
