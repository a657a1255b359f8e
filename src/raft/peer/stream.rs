//! An append stream: frames in, answers out, in order.
//!
//! The core takes up to 64 appends before it has answered the first, so reading and answering are independent: the inbound
//! half is a stream the core pulls from, this task writes what comes out. The stream ends, after an answer that says so,
//! with the first append that is not accepted (the sender starts over from what it learnt), with the first that is refused,
//! when a newer stream of the same peer takes over, and when the sender's removal from the cluster is committed.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use openraft::storage::RaftStateMachine;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;

use super::fence::{Fence, Refusal, check_member, check_room};
use super::serve::{Server, failed, nonsense};
use super::{Call, Duplex, PeerError};
use crate::mutants::{self, Mutant};
use crate::raft::context::PeerContext;
use crate::raft::convert;
use crate::raft::types::Types;
use crate::raft::vitals::Signs;
use crate::raft::wire::answer::Answer;
use crate::raft::wire::append::Append;
use crate::raft::wire::{self, Cursor, Header, Segments, translate};
use crate::storage::Vote;

/// How long a peer may take to send its first frame: it opens a stream only when it has something to send.
pub(super) const FIRST_FRAME_WITHIN: Duration = Duration::from_secs(5);
/// Unanswered bytes taken from a peer before reading pauses, in KiB (32 MiB): twice what a sender of ours has in flight.
const UNANSWERED_KIB_MAX: u32 = 32 << 10;

pub(super) type Io = Box<dyn Duplex>;

/// What the inbound half hands to the answering half.
#[derive(Default)]
struct Shared {
    /// Sequence numbers of appends the core has and this node has not answered, with the memory they hold.
    unanswered: VecDeque<(u64, OwnedSemaphorePermit)>,
    /// The request that ended the inbound half.
    refused: Option<(u64, Refusal)>,
}

/// The inbound half.
struct Inbound<SM: RaftStateMachine<Types>> {
    frames: FramedRead<ReadHalf<Io>, LengthDelimitedCodec>,
    /// The first frame, read before the stream was admitted.
    first: Option<Bytes>,
    /// What every later header must repeat, its sequence number counting on.
    expected: Header,
    /// A plain lock: held for queue operations, never across an await.
    shared: Arc<Mutex<Shared>>,
    budget: Arc<Semaphore>,
    fence: Arc<Fence>,
    context: Arc<PeerContext<SM>>,
}

/// Serves the stream on `io` until it ends.
pub(super) async fn serve<SM: RaftStateMachine<Types>>(
    server: &Server<SM>,
    io: Io,
) -> Result<(), PeerError> {
    let (read, mut write) = tokio::io::split(io);
    let mut frames = FramedRead::new(read, wire::codec());
    let first = match timeout(FIRST_FRAME_WITHIN, frames.next()).await {
        Ok(Some(Ok(frame))) => frame.freeze(),
        Ok(Some(Err(error))) => return Err(PeerError(format!("no frame: {error}"))),
        Ok(None) => return Ok(()),
        Err(_) => return Err(PeerError("no frame in time".to_owned())),
    };
    let header = Header::decode(&mut Cursor::new(first.clone()));
    let (from, seq) = header.as_ref().map_or((0, 0), |h| (h.from, h.seq));
    let ended = match header.map_err(nonsense) {
        Ok(header) => admitted(server, &header, first, frames, &mut write).await,
        Err(refusal) => Err((seq, refusal)),
    };
    let Err((seq, refusal)) = ended else {
        return Ok(());
    };
    let mut answers = BytesMut::new();
    let refused = Answer::Refused(refusal.reason.clone());
    put_answer(refused, seq, server.context.vitals.signs(), &mut answers);
    // The stream is over whether the peer still hears why or not.
    let _ = send(
        &mut write,
        &mut answers,
        server.context.options.heartbeat * 2,
    )
    .await;
    Err(server.refuse(from, "stream", refusal))
}

/// Runs the stream whose first frame starts with `header`. `Err` is the refusal that ends it and the request it answers.
async fn admitted<SM: RaftStateMachine<Types>>(
    server: &Server<SM>,
    header: &Header,
    first: Bytes,
    frames: FramedRead<ReadHalf<Io>, LengthDelimitedCodec>,
    write: &mut WriteHalf<Io>,
) -> Result<(), (u64, Refusal)> {
    let refused = |refusal| (header.seq, refusal);
    server.admit(header).map_err(refused)?;
    let raft = server.raft().map_err(refused)?;
    let admission = server.fence.admit(header).map_err(refused)?;
    let shared = Arc::new(Mutex::new(Shared::default()));
    let inbound = Inbound {
        frames,
        first: Some(first),
        expected: *header,
        shared: Arc::clone(&shared),
        budget: Arc::new(Semaphore::new(UNANSWERED_KIB_MAX as usize)),
        fence: Arc::clone(&server.fence),
        context: Arc::clone(&server.context),
    };
    // The core reads in a task of its own, which would wait for a silent peer for ever: this ends it when answering ends.
    let stop = CancellationToken::new();
    let _stop_on_return = stop.clone().drop_guard();
    let requests = inbound.into_requests().take_until(stop.cancelled_owned());
    let answers = pin!(raft.stream_append(requests));
    let answering = answer(server, header, answers, &shared, write);
    tokio::select! {
        biased;
        ended = answering => ended,
        () = admission.close.cancelled() => {
            Err((header.seq, Refusal::new("superseded", "a newer stream of this peer took over")))
        }
    }
}

/// Writes the core's answers until there are no more.
async fn answer<SM: RaftStateMachine<Types>>(
    server: &Server<SM>,
    header: &Header,
    mut answers: std::pin::Pin<
        &mut impl Stream<Item = Result<StreamAppendResult<Types>, impl std::fmt::Display>>,
    >,
    shared: &Mutex<Shared>,
    write: &mut WriteHalf<Io>,
) -> Result<(), (u64, Refusal)> {
    let heartbeat = server.context.options.heartbeat;
    let mut metrics = server
        .raft()
        .map_err(|refusal| (0, refusal))?
        .server_metrics();
    let mut out = BytesMut::new();
    let mut last_seq = 0;
    loop {
        let next = tokio::select! {
            biased;
            next = answers.next() => next,
            changed = metrics.changed() => {
                let refusal = |refusal| (last_seq, refusal);
                changed.map_err(failed).map_err(refusal)?;
                let now = metrics.borrow_and_update().clone();
                check_member(&now, header).map_err(refusal)?;
                continue;
            }
        };
        // Whatever else is answered already goes out in the same write.
        let mut next = Some(next);
        while let Some(Some(result)) = next {
            let (seq, _memory) = lock(shared)
                .unanswered
                .pop_front()
                .expect("asked, so counted");
            last_seq = seq;
            let result = result.map_err(|fatal| (seq, failed(fatal)))?;
            let answer = translate::stream_answer(&result);
            put_answer(answer, seq, server.context.vitals.signs(), &mut out);
            next = answers.next().now_or_never();
        }
        let sent = send(write, &mut out, heartbeat * 2).await;
        sent.map_err(|error| (last_seq, Refusal::new("write", error)))?;
        if next.is_some() {
            return lock(shared).refused.take().map_or(Ok(()), Err);
        }
        server.noise.recovered(header.from, "stream");
    }
}

impl<SM: RaftStateMachine<Types>> Inbound<SM> {
    fn into_requests(self) -> impl Stream<Item = AppendEntriesRequest<Types>> + Send + 'static {
        futures_util::stream::unfold(self, |mut inbound| async {
            let request = inbound.next().await?;
            Some((request, inbound))
        })
    }

    /// The next append to hand to the core; `None` if the peer has closed its side or asked for what is refused.
    async fn next(&mut self) -> Option<AppendEntriesRequest<Types>> {
        let frame = match self.first.take() {
            Some(first) => first,
            None => match self.frames.next().await? {
                Ok(frame) => frame.freeze(),
                Err(error) => {
                    let reason = format!("a frame cannot be read: {error}");
                    return self.refuse(Refusal::new("malformed", reason));
                }
            },
        };
        let kib = u32::try_from(frame.len() >> 10).expect("frames are bounded to 8 MiB") + 1;
        let budget = Arc::clone(&self.budget);
        let memory = budget.acquire_many_owned(kib).await.ok()?;
        match self.decode(frame) {
            Ok(request) => {
                let seq = self.expected.seq;
                lock(&self.shared).unanswered.push_back((seq, memory));
                self.expected.seq += 1;
                Some(request)
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Option<AppendEntriesRequest<Types>> {
        lock(&self.shared).refused = Some((self.expected.seq, refusal));
        None
    }

    /// The vote of whoever leads now, though it is another one who speaks.
    fn newest(&self, said: Vote) -> Vote {
        let raft = self.context.raft().ok();
        let known = raft.map(|raft| convert::vote(&raft.server_metrics().borrow_watched().vote));
        known
            .filter(|known| known.committed && known.term > said.term)
            .unwrap_or(said)
    }

    fn decode(&self, frame: Bytes) -> Result<AppendEntriesRequest<Types>, Refusal> {
        let mut cursor = Cursor::new(frame);
        let header = Header::decode(&mut cursor).map_err(nonsense)?;
        if header.call != Call::Append {
            let reason = format!("{:?} on an append stream", header.call);
            return Err(Refusal::new("malformed", reason));
        }
        let sender = |header: &Header| (header.from, header.from_uuid, header.boot);
        if sender(&header) != sender(&self.expected) {
            return Err(Refusal::new("sender", "the sender of a stream changed"));
        }
        if header.seq != self.expected.seq {
            let reason = format!(
                "frame {} came where {} was due",
                header.seq, self.expected.seq
            );
            return Err(Refusal::new("sequence", reason));
        }
        // The cluster id can still change while the log is empty, so each frame is held against the identity of now.
        self.fence.check(&self.context.dir.identity(), &header)?;
        // And a newer start of the sender may have spoken meanwhile.
        let heard = &self.context.vitals.heard;
        let newest = heard.check(header.from, header.from_uuid, header.boot);
        newest.map_err(|reason| Refusal::new("start", reason))?;
        let append = Append::decode(&header, cursor).map_err(nonsense)?;
        check_room(&self.context.vitals.space, &append)?;
        let vote = match mutants::on(Mutant::StaleTerm) {
            true => self.newest(header.vote),
            false => header.vote,
        };
        translate::raft_append(vote, append).map_err(|reason| Refusal::new("malformed", reason))
    }
}

pub(super) fn put_answer(answer: Answer, seq: u64, signs: Signs, out: &mut BytesMut) {
    let mut message = Segments::default();
    answer.encode(seq, signs, &mut message);
    let len = u32::try_from(message.len()).expect("answers are small");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&message.into_bytes());
}

/// Writes and empties `out`; gives up on a peer that does not read for `limit`.
pub(super) async fn send(
    write: &mut WriteHalf<Io>,
    out: &mut BytesMut,
    limit: Duration,
) -> Result<(), String> {
    let writing = async {
        write.write_all(out).await?;
        write.flush().await
    };
    match timeout(limit, writing).await {
        Ok(Ok(())) => {
            out.clear();
            Ok(())
        }
        Ok(Err(error)) => Err(format!("answers cannot be written: {error}")),
        Err(_) => Err("answers are not read".to_owned()),
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
