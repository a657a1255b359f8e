//! The append stream to one peer: requests out, answers in, pipelined.
//!
//! Openraft replicates in sessions, each a stream of requests it wants answered in order; the connection is kept from one to
//! the next. Within a session writing and reading go on independently. What is under way is bounded ([`Window`]), and while something is, the connection must move: if for twice the heartbeat interval neither a
//! byte was taken nor an answer came, the connection is closed and the peer reported unreachable.
//!
//! Both directions live in the returned stream and nothing is spawned for them, so that when openraft drops a session its
//! input is dropped with it, at once: the next session reads the same state.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::Full;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::connect::{Connect, Lane};
use super::link::{BoxFuture, Link, RpcError, unreachable};
use super::snapshot::Halves;
use super::unary::{CallError, Connection, read_body, refusal};
use super::window::{InFlight, Window};
use crate::raft::peer::{Call, STREAM_PATH, STREAM_PROTOCOL};
use crate::raft::types::Types;
use crate::raft::wire::{self, ANSWER_LEN_MAX, Header, Segments, translate};
use crate::storage::Vote;
use crate::storage::clock::now;

type Item = Result<StreamAppendResult<Types>, RpcError>;

/// An open append stream, between two sessions: nothing is under way.
pub(super) struct StreamLink<Io> {
    frames: FramedRead<ReadHalf<Io>, LengthDelimitedCodec>,
    out: Outbound<Io>,
}

/// The writing half.
struct Outbound<Io> {
    write: WriteHalf<Io>,
    /// Header of the next frame, but for the vote.
    header: Header,
}

/// One session of openraft.
pub(super) struct Session<'s, C: Connect, S> {
    link: &'s mut Link<C>,
    phase: Phase<S, C::Io>,
    /// How long connecting may take.
    open_within: Duration,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one a session, and it is not moved about"
)]
enum Phase<S, Io> {
    /// Nothing asked yet.
    New(S),
    Running(Running<Io>),
    Over,
}

struct Running<Io> {
    frames: FramedRead<ReadHalf<Io>, LengthDelimitedCodec>,
    /// Writes what openraft asks for until it asks no more, and gives the writing half back.
    writer: Option<BoxFuture<'static, Written<Io>>>,
    /// How that ended.
    written: Option<Written<Io>>,
    window: Arc<Window>,
}

type Written<Io> = Result<Outbound<Io>, CallError>;

/// What happened next in a session.
enum Event<Io> {
    Answer(Option<Result<BytesMut, std::io::Error>>),
    Written(Written<Io>),
    Stuck,
}

impl<'s, C, S> Session<'s, C, S>
where
    C: Connect,
    S: Stream<Item = AppendEntriesRequest<Types>> + Send + Unpin + 'static,
{
    pub(super) fn new(link: &'s mut Link<C>, input: S, open_within: Duration) -> Self {
        Session {
            link,
            phase: Phase::New(input),
            open_within,
        }
    }

    /// The answers, in the order of the requests. Ends after the first error and after the first append that is not accepted.
    pub(super) fn into_answers(self) -> impl Stream<Item = Item> + Send + 's {
        futures_util::stream::unfold(self, |mut session| async {
            let item = session.next().await?;
            Some((item, session))
        })
    }

    async fn next(&mut self) -> Option<Item> {
        let running = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::New(input) => self.open(input).await.transpose()?,
            Phase::Running(running) => Ok(running),
            Phase::Over => return None,
        };
        let stepped = match running {
            Ok(running) => self.step(running).await,
            Err(error) => Err(error),
        };
        self.link.heed(Lane::Stream, stepped.as_ref().err());
        match stepped {
            Ok(item) => item.map(Ok),
            // A peer that is connected and does not move is as good as gone.
            Err(error @ CallError::Timeout(_)) => Some(Err(unreachable(error))),
            Err(error) => Some(Err(self.link.rpc_error(Call::Append, error))),
        }
    }

    /// Waits for the first request, then connects unless there is a connection. In this order, since openraft makes a pause
    /// after failures by delaying the request.
    async fn open(&mut self, mut input: S) -> Result<Option<Running<C::Io>>, CallError> {
        let Some(first) = input.next().await else {
            return Ok(None);
        };
        let link = &mut *self.link;
        link.look_up();
        let kept = match link.kept.take() {
            Some(kept) => kept,
            None => match timeout(self.open_within, StreamLink::open(link)).await {
                Ok(opened) => opened?,
                Err(_) => {
                    let reason = format!("{}: no answer in time", link.addr);
                    return Err(CallError::Connect(reason));
                }
            },
        };
        let vitals = self.link.shared.vitals.clone();
        let window = Arc::new(Window::new(self.link.target, vitals));
        let writer = write(kept.out, first, input, Arc::clone(&window));
        Ok(Some(Running {
            frames: kept.frames,
            writer: Some(Box::pin(writer)),
            written: None,
            window,
        }))
    }

    /// Goes on until there is an answer to give. `None`: the session is over and all is answered.
    async fn step(
        &mut self,
        mut running: Running<C::Io>,
    ) -> Result<Option<StreamAppendResult<Types>>, CallError> {
        let idle_max = self.link.shared.heartbeat * 2;
        loop {
            if running.window.is_empty()
                && let Some(written) = running.written.take()
            {
                self.link.kept = Some(StreamLink {
                    frames: running.frames,
                    out: written?,
                });
                return Ok(None);
            }
            match running.event(idle_max).await {
                Event::Stuck => return Err(CallError::Timeout(idle_max)),
                Event::Written(written) => {
                    // A peer that refuses closes the connection under what is being written: its answer is there to be read
                    // all the same, and says more than the failed write.
                    running.writer = None;
                    running.written = Some(written);
                }
                Event::Answer(frame) => {
                    let result = running.window.answered(frame)?;
                    if result.is_ok() {
                        self.phase = Phase::Running(running);
                    }
                    return Ok(Some(result));
                }
            }
        }
    }
}

impl<Io: AsyncRead + Send> Running<Io> {
    async fn event(&mut self, idle_max: Duration) -> Event<Io> {
        let writer = async {
            match &mut self.writer {
                Some(writer) => writer.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            frame = self.frames.next() => Event::Answer(frame),
            written = writer => Event::Written(written),
            () = self.window.stuck(idle_max) => Event::Stuck,
        }
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin + Send + 'static> StreamLink<Io> {
    /// Connects and upgrades.
    async fn open<C: Connect<Io = Io>>(link: &Link<C>) -> Result<StreamLink<Io>, CallError> {
        let header = link
            .shared
            .header(Call::Append, link.target, Vote::default());
        let header = header.map_err(CallError::Connect)?;
        let connect = &link.shared.connect;
        let upgraded = upgraded(
            connect,
            &link.addr,
            Lane::Stream,
            STREAM_PATH,
            STREAM_PROTOCOL,
        );
        let (frames, write) = upgraded.await?;
        Ok(StreamLink {
            frames,
            out: Outbound { write, header },
        })
    }
}

/// Connects to `addr` and upgrades at `path` to `protocol`.
pub(super) async fn upgraded<C: Connect>(
    connect: &C,
    addr: &str,
    lane: Lane,
    path: &str,
    protocol: &'static str,
) -> Result<Halves<C::Io>, CallError> {
    let mut connection = Connection::open(connect, addr, lane).await?;
    let failed = |error: &dyn std::fmt::Display| CallError::Connect(format!("{addr}: {error}"));
    let request = Request::get(path)
        .header(HOST, addr)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, protocol)
        .body(Full::new(Bytes::new()))
        .map_err(|e| failed(&e))?;
    let response = connection
        .sender
        .send_request(request)
        .await
        .map_err(|e| failed(&e))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        return Err(refusal(status, &read_body(response, ANSWER_LEN_MAX).await?));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| failed(&e))?;
    let parts = upgraded.downcast::<TokioIo<C::Io>>();
    let parts = parts.expect("what was upgraded is what was connected");
    let (read, write) = tokio::io::split(parts.io.into_inner());
    let mut frames = FramedRead::new(read, wire::codec());
    frames.read_buffer_mut().extend_from_slice(&parts.read_buf);
    Ok((frames, write))
}

/// Writes `first` and what `input` gives, as far as the window has room, until `input` ends.
async fn write<S, Io>(
    mut out: Outbound<Io>,
    first: AppendEntriesRequest<Types>,
    mut input: S,
    window: Arc<Window>,
) -> Written<Io>
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
    Io: AsyncWrite,
{
    let mut next = Some(first);
    while let Some(request) = next {
        let (vote, append) = translate::append(request);
        out.header.vote = vote;
        for frame in append.into_frames().map_err(CallError::Refused)? {
            let in_flight = InFlight {
                seq: out.header.seq,
                vote,
                prev: frame.prev,
                last: frame.last(),
                len: frame.frame_len(),
                sent: now(),
            };
            window.enter(in_flight).await;
            let mut message = Segments::default();
            let len = u32::try_from(in_flight.len).expect("frames are bounded to 8 MiB");
            message.put_u32(len);
            frame.encode(&out.header, &mut message);
            assert_eq!(
                message.len(),
                in_flight.len + 4,
                "a frame is as long as it says"
            );
            while message.has_remaining() {
                match out.write.write_buf(&mut message).await {
                    Ok(0) => return Err(CallError::Lost("nothing is taken any more".into())),
                    Ok(_) => window.moved(),
                    Err(error) => return Err(CallError::Lost(error.to_string())),
                }
            }
            out.header.seq += 1;
        }
        next = input.next().await;
    }
    Ok(out)
}
