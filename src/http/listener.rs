//! Accepting connections: one loop for the client and the peer listener.
//!
//! A connection may be silent for [`Limits::idle`], but once the first byte of a request head has arrived the rest must follow
//! within [`Limits::head`]: a client that dribbles bytes holds a connection for seconds, not for ever. Stopping has three steps,
//! see [`Phase`], so that a client with several nodes to talk to never sees a request fail because one of them stops.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

/// How far a node is with stopping. Goes forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything is served.
    Serving,
    /// Not ready any more, so that load balancers look elsewhere; still serving.
    Draining,
    /// No new connections; each answer asks its client to close.
    Closing,
    /// Idle connections are closed, busy ones after their answer.
    Closed,
}

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Longest time from the first byte of a request head to its last.
    pub head: Duration,
    /// Longest silence between two requests.
    pub idle: Duration,
    /// Most headers of a request.
    pub headers_max: usize,
    /// Most bytes of a request head.
    pub head_len_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 4096,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            headers_max: 64,
            head_len_max: 32 << 10,
        }
    }
}

/// Serves `service` on `listener` until `phase` says to stop and every connection has ended.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    limits: Limits,
    phase: watch::Receiver<Phase>,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let free = Arc::new(Semaphore::new(limits.connections_max));
    // Every connection holds a sender; receiving ends when the last one is gone.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let start = |stream, free: Arc<Semaphore>| {
        let (service, phase, alive) = (service.clone(), phase.clone(), alive.clone());
        async move {
            let slot = free.acquire_owned().await;
            tokio::spawn(async move {
                connection(stream, service, limits, phase).await;
                drop((slot, alive));
            });
        }
    };
    let mut stopping = phase.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|phase| *phase >= Phase::Closing) => break,
        };
        match accepted {
            Ok((stream, _)) => start(stream, free.clone()).await,
            Err(error) => {
                // Such as too many open files: the queue waits until some are closed.
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Whoever is in the kernel's queue was told that the connection stands: closing the listener would reset it.
    while let Poll::Ready(Ok((stream, _))) =
        poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await
    {
        start(stream, free.clone()).await;
    }
    drop(listener);
    drop(alive);
    while all_gone.recv().await.is_some() {}
}

async fn connection<S, B>(
    stream: TcpStream,
    service: S,
    limits: Limits,
    mut phase: watch::Receiver<Phase>,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended at once");
        return;
    }
    let activity = Arc::new(Activity::default());
    let io = TokioIo::new(Watched {
        stream,
        activity: activity.clone(),
    });
    let marks = activity.clone();
    let service = service_fn(move |request| {
        marks.set(BUSY);
        let (answering, activity) = (service.call(request), marks.clone());
        async move {
            let answer = answering.await;
            activity.set(IDLE);
            answer
        }
    });
    let mut builder = Builder::new();
    builder
        .timer(TokioTimer::new())
        // Watched here instead: hyper's own timeout also ends idle connections, and costs a timer a request.
        .header_read_timeout(None)
        .max_headers(limits.headers_max)
        .max_header_size(limits.head_len_max);
    let mut serving = std::pin::pin!(builder.serve_connection(io, service).with_upgrades());
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watcher = Watcher::default();
    let mut told = false;
    loop {
        tokio::select! {
            ended = serving.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended");
                }
                return;
            }
            _ = tick.tick() => match watcher.look(&activity, &limits) {
                Verdict::Fine => {}
                Verdict::Idle => serving.as_mut().graceful_shutdown(),
                Verdict::Slow => {
                    tracing::debug!("a connection took too long over a request head");
                    return;
                }
            },
            _ = phase.wait_for(|phase| *phase == Phase::Closed), if !told => {
                serving.as_mut().graceful_shutdown();
                told = true;
            }
        }
    }
}

/// How often connections are looked at.
const TICK: Duration = Duration::from_secs(1);

const IDLE: u32 = 0;
const HEAD: u32 = 1;
const BUSY: u32 = 2;

/// What a connection is doing: waiting for a request, reading its head, or answering. Each change counts up, so that the
/// watcher can tell a long wait from two short ones.
#[derive(Debug, Default)]
struct Activity(AtomicU32);

impl Activity {
    // Relaxed throughout: one task writes and reads, the atomic only makes sharing it within that task safe.
    fn set(&self, state: u32) {
        let count = self.0.load(Ordering::Relaxed) >> 2;
        self.0
            .store(count.wrapping_add(1) << 2 | state, Ordering::Relaxed);
    }

    fn state(&self) -> u32 {
        self.0.load(Ordering::Relaxed) & 3
    }
}

#[derive(Debug, Default)]
struct Watcher {
    seen: u32,
    ticks: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    Idle,
    Slow,
}

impl Watcher {
    fn look(&mut self, activity: &Activity, limits: &Limits) -> Verdict {
        let now = activity.0.load(Ordering::Relaxed);
        if now != self.seen {
            self.seen = now;
            self.ticks = 0;
            return Verdict::Fine;
        }
        self.ticks += 1;
        let unchanged = TICK * self.ticks;
        match activity.state() {
            HEAD if unchanged >= limits.head => Verdict::Slow,
            IDLE if unchanged >= limits.idle => Verdict::Idle,
            _ => Verdict::Fine,
        }
    }
}

/// A stream that notes when the first bytes of a request arrive.
struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && self.activity.state() == IDLE {
            self.activity.set(HEAD);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
