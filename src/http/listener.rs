//! Accepting connections: one loop for the client and the peer listener.
//!
//! A connection may be silent for [`Limits::idle`], but once the first byte of a request head has arrived the rest must follow
//! within [`Limits::head`]: a client that dribbles bytes holds a connection for seconds, not for ever. Stopping has three steps,
//! see [`Phase`], so that a client with several nodes to talk to never sees a request fail because one of them stops.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::UPGRADE;
use hyper::server::conn::http1::Builder;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::activity::{Activity, BUSY, IDLE, TICK, Verdict, Watcher};
use super::door::{Door, Slot};
pub use super::door::{Refuse, Refused};
use super::watched::Watched;

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
    /// Most connections at once; more are turned away.
    pub connections_max: usize,
    /// Most connections at once from one address.
    pub per_address_max: usize,
    /// Longest time from the first byte of a request head to its last.
    pub head: Duration,
    /// Longest silence between two requests.
    pub idle: Duration,
    /// Most headers of a request.
    pub headers_max: usize,
    /// Most bytes of a request head.
    pub head_len_max: usize,
}

impl Limits {
    /// Those of a peer listener: few connect, and none of them dribbles.
    pub fn peers() -> Limits {
        Limits {
            connections_max: 512,
            per_address_max: 256,
            ..Limits::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 4096,
            per_address_max: 1024,
            head: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            headers_max: 64,
            head_len_max: 32 << 10,
        }
    }
}

/// A connection's place, which a request to upgrade carries along: whoever keeps the connection keeps the place.
#[derive(Clone, Debug)]
pub struct Place(#[expect(dead_code, reason = "held for its drop")] Arc<Slot>);

/// The other end of the connection that a request came by. Those that ask for no change, which are many, do not carry it.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub SocketAddr);

/// Serves `service` on `listener` until `phase` says to stop and every connection has ended. `refuse` makes the answers to
/// those who are not let in and to heads that cannot be read; without it they get none.
pub async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    limits: Limits,
    refuse: Option<Refuse>,
    phase: watch::Receiver<Phase>,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: hyper::body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let door = Door::new(limits.connections_max, limits.per_address_max);
    // Every connection holds a sender; receiving ends when the last one is gone.
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let start = |stream: TcpStream, from: SocketAddr| match door.enter(from.ip()) {
        Ok(slot) => {
            let (service, phase, alive) = (service.clone(), phase.clone(), alive.clone());
            let (door, refuse) = (door.clone(), refuse.clone());
            tokio::spawn(async move {
                connection(
                    stream,
                    service,
                    limits,
                    (door, Place(Arc::new(slot)), Remote(from)),
                    refuse,
                    phase,
                )
                .await;
                drop(alive);
            });
        }
        Err(refused) => {
            tracing::debug!(%from, ?refused, "a connection is turned away");
            if let Some(refuse) = &refuse {
                door.turn_away(stream, refuse(refused));
            }
        }
    };
    let mut stopping = phase.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|phase| *phase >= Phase::Closing) => break,
        };
        match accepted {
            Ok((stream, from)) => start(stream, from),
            Err(error) => {
                // Such as too many open files: the queue waits until some are closed.
                tracing::warn!(%error, "no connection accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Whoever is in the kernel's queue was told that the connection stands: closing the listener would reset it.
    while let Poll::Ready(Ok((stream, from))) =
        poll_fn(|cx| Poll::Ready(listener.poll_accept(cx))).await
    {
        start(stream, from);
    }
    drop(listener);
    drop(alive);
    while all_gone.recv().await.is_some() {}
}

async fn connection<S, B>(
    stream: TcpStream,
    service: S,
    limits: Limits,
    (door, place, remote): (Arc<Door>, Place, Remote),
    refuse: Option<Refuse>,
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
    let io = TokioIo::new(Watched::new(stream, activity.clone(), refuse));
    let marks = activity.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        marks.set(BUSY);
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(place.clone());
        }
        if !request.method().is_safe() {
            request.extensions_mut().insert(remote);
        }
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
            _ = tick.tick() => match watcher.look(&activity, &limits, door.is_pressed()) {
                Verdict::Fine => {}
                Verdict::Idle => serving.as_mut().graceful_shutdown(),
                Verdict::Slow => {
                    tracing::debug!("a connection took too long over a head or an answer");
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

#[cfg(test)]
#[path = "listener_tests.rs"]
mod tests;
