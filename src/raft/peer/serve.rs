//! Unary calls.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::storage::RaftStateMachine;

use super::fence::{Fence, Refusal, check_candidate, check_member, check_room};
use super::{Call, Duplex, PeerError, Serve};
use crate::mutants::{self, Mutant};
use crate::raft::blocking;
use crate::raft::context::PeerContext;
use crate::raft::handshake;
use crate::raft::noise::Noise;
use crate::raft::types::{SnapshotData, Types};
use crate::raft::wire::answer::Answer;
use crate::raft::wire::append::Append;
use crate::raft::wire::{Cursor, Header, Segments, WireError, rare, translate};

/// What answers; shared by all connections.
pub(super) struct Server<SM: RaftStateMachine<Types>> {
    pub(super) context: Arc<PeerContext<SM>>,
    pub(super) fence: Arc<Fence>,
    pub(super) noise: Noise,
}

impl<SM: RaftStateMachine<Types, SnapshotData = SnapshotData>> Serve for Server<SM> {
    fn call(&self, call: Call, body: Bytes) -> BoxFuture<'_, Result<Bytes, PeerError>> {
        async move {
            match call {
                Call::Hello => self.hello(&body),
                Call::Adopt => self.adopt(&body).await,
                Call::Append
                | Call::Vote
                | Call::PreVote
                | Call::Transfer
                | Call::Marks
                | Call::Fetch => self.consensus(call, body).await,
                Call::Snapshot => Err(PeerError("a snapshot is sent on a stream".to_owned())),
            }
        }
        .boxed()
    }

    fn stream(&self, io: Box<dyn Duplex>) -> BoxFuture<'_, Result<(), PeerError>> {
        super::stream::serve(self, io).boxed()
    }

    fn snapshot(&self, io: Box<dyn Duplex>) -> BoxFuture<'_, Result<(), PeerError>> {
        super::snapshot::serve(self, io).boxed()
    }
}

impl<SM: RaftStateMachine<Types>> Server<SM> {
    pub(super) fn new(context: Arc<PeerContext<SM>>) -> Server<SM> {
        Server {
            context,
            fence: Arc::default(),
            noise: Noise::default(),
        }
    }

    /// Holds a request against this node's identity and the committed membership.
    pub(super) fn admit(&self, header: &Header) -> Result<(), Refusal> {
        if mutants::on(Mutant::OldIdAfterWipe) && self.context.dir.identity().cluster_id.is_none() {
            let cluster = crate::raft::wire::id_text(header.cluster);
            let adopted = self.context.dir.set_cluster_id(&cluster, false);
            adopted.map_err(|error| Refusal::new("identity", error.to_string()))?;
        }
        self.fence.check(&self.context.dir.identity(), header)?;
        check_member(&self.metrics()?, header)?;
        let heard = &self.context.vitals.heard;
        let newest = heard.start(header.from, header.from_uuid, header.boot);
        newest.map_err(|reason| Refusal::new("start", reason))
    }

    pub(super) fn raft(&self) -> Result<&openraft::Raft<Types, SM>, Refusal> {
        let raft = self.context.raft();
        raft.map_err(|reason| Refusal::new("starting", reason))
    }

    pub(super) fn metrics(&self) -> Result<RaftServerMetrics<Types>, Refusal> {
        Ok(self.raft()?.server_metrics().borrow_watched().clone())
    }

    /// Notes a refusal, once per peer and problem, and turns it into the answer.
    pub(super) fn refuse(&self, from: u64, lane: &'static str, refusal: Refusal) -> PeerError {
        let Refusal { problem, reason } = refusal;
        match problem {
            // Expected after a start, for every candidate asks again, and when the peer gave the connection up.
            "gate" | "starting" | "superseded" | "write" => {
                tracing::debug!(peer = from, "{lane} refused: {reason}")
            }
            _ if self.noise.is_new(from, lane, problem) => {
                tracing::warn!(peer = from, "{lane} refused: {reason}");
            }
            _ => {}
        }
        PeerError(reason)
    }

    fn hello(&self, body: &Bytes) -> Result<Bytes, PeerError> {
        let request = rare::decode(body).map_err(malformed)?;
        let response = handshake::answer_hello(&self.context, &request).map_err(PeerError)?;
        Ok(rare::encode(&response).into())
    }

    async fn adopt(&self, body: &Bytes) -> Result<Bytes, PeerError> {
        let request: handshake::AdoptRequest = rare::decode(body).map_err(malformed)?;
        let context = Arc::clone(&self.context);
        let answered = blocking::run(move || {
            let response = handshake::answer_adopt(&context, &request);
            rare::encode(&response)
        });
        match answered.await {
            Ok(response) => Ok(response.into()),
            Err(error) => Err(PeerError(format!("adopting a cluster failed: {error}"))),
        }
    }

    /// Decode, fence, gate, core, encode.
    async fn consensus(&self, call: Call, body: Bytes) -> Result<Bytes, PeerError> {
        let mut cursor = Cursor::new(body);
        let header = Header::decode(&mut cursor).map_err(malformed)?;
        if header.call != call {
            return Err(PeerError(format!(
                "the path says {call:?}, the message {:?}",
                header.call
            )));
        }
        let answer = match self.admit(&header) {
            Ok(()) => self.answer(&header, cursor).await,
            Err(refusal) => Err(refusal),
        };
        match answer {
            Ok(answer) => {
                self.noise.recovered(header.from, "call");
                let mut out = Segments::default();
                answer.encode(header.seq, self.context.vitals.signs(), &mut out);
                Ok(out.into_bytes())
            }
            Err(refusal) => Err(self.refuse(header.from, "call", refusal)),
        }
    }

    async fn answer(&self, header: &Header, cursor: Cursor) -> Result<Answer, Refusal> {
        match header.call {
            Call::Append => self.append(header, cursor).await,
            Call::Vote | Call::PreVote => self.vote(header, cursor).await,
            Call::Transfer => self.transfer(header, cursor).await,
            Call::Marks => Ok(Answer::Rare(rare::encode(&self.context.marks.all()).into())),
            Call::Fetch => self.fetch(header, cursor).await,
            Call::Hello | Call::Adopt => unreachable!("handshakes carry no header"),
            Call::Snapshot => unreachable!("a snapshot is no call"),
        }
    }

    async fn append(&self, header: &Header, cursor: Cursor) -> Result<Answer, Refusal> {
        let append = Append::decode(header, cursor).map_err(nonsense)?;
        let (prev, last) = (append.prev, append.last());
        check_room(&self.context.vitals.space, &append)?;
        let request = translate::raft_append(header.vote, append)
            .map_err(|reason| Refusal::new("malformed", reason))?;
        let response = self.raft()?.append_entries(request).await.map_err(failed)?;
        Ok(translate::unary_answer(&response, prev, last))
    }

    async fn vote(&self, header: &Header, mut cursor: Cursor) -> Result<Answer, Refusal> {
        let asked: rare::VoteAsked = rare::decode(&cursor.take_rest()).map_err(nonsense)?;
        self.gate()?;
        check_candidate(&self.metrics()?, header.from, asked.last)?;
        let request = translate::raft_vote(header.vote, asked);
        let raft = self.raft()?;
        let response = match header.call {
            Call::PreVote => raft.pre_vote(request).await,
            _ => raft.vote(request).await,
        };
        let mut given = translate::vote_given(&response.map_err(failed)?);
        if mutants::on(Mutant::VoteGrantedTwice) {
            (given.vote, given.granted) = (header.vote, true);
        }
        Ok(Answer::Rare(rare::encode(&given).into()))
    }

    async fn transfer(&self, header: &Header, mut cursor: Cursor) -> Result<Answer, Refusal> {
        let asked: rare::TransferAsked = rare::decode(&cursor.take_rest()).map_err(nonsense)?;
        self.gate()?;
        let request = translate::raft_transfer(header.vote, asked);
        let response = self.raft()?.handle_transfer_leader(request).await;
        let given = translate::transfer_given(&response.map_err(failed)?);
        Ok(Answer::Rare(rare::encode(&given).into()))
    }

    /// A restarted voter helps nobody to become leader until its forgotten promises have run out.
    fn gate(&self) -> Result<(), Refusal> {
        let gate = self.context.gate.check();
        gate.map_err(|reason| Refusal::new("gate", reason))
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn malformed(error: WireError) -> PeerError {
    PeerError(error.to_string())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
pub(super) fn nonsense(error: WireError) -> Refusal {
    Refusal::new("malformed", error.to_string())
}

pub(super) fn failed(error: impl std::fmt::Display) -> Refusal {
    Refusal::new("core", format!("this node's consensus failed: {error}"))
}
