//! The ends of connections, and what accepts them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{CAPACITY, Net};

/// One end of a connection.
pub struct Io {
    net: Net,
    node: u64,
    out: u64,
    into: u64,
}

impl Io {
    pub(super) fn new(net: Net, node: u64, out: u64, into: u64) -> Io {
        Io {
            net,
            node,
            out,
            into,
        }
    }
}

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "connection {}/{} of node {}",
            self.out, self.into, self.node
        )
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.net.lock();
        let now_ns = inner.now_ns;
        let Some(pipe) = inner.pipes.get_mut(&self.into) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let mut taken = 0;
        while let Some((at, bytes)) = pipe.pieces.front_mut()
            && *at <= now_ns
            && buf.remaining() > 0
        {
            let len = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..len]);
            bytes.advance(len);
            taken += len;
            if bytes.is_empty() {
                pipe.pieces.pop_front();
            }
        }
        pipe.bytes -= taken;
        if taken > 0 {
            let writer = pipe.writer.take();
            drop(inner);
            writer.into_iter().for_each(std::task::Waker::wake);
            return Poll::Ready(Ok(()));
        }
        if pipe.pieces.is_empty() && pipe.closed.is_some_and(|at| at <= now_ns) {
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.net.lock();
        let now_ns = inner.now_ns;
        let broken = Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        let Some(pipe) = inner.pipes.get_mut(&self.out) else {
            return broken;
        };
        if pipe.reset.is_some_and(|at| at <= now_ns) || pipe.closed.is_some() {
            return broken;
        }
        if pipe.is_unread {
            // The other end is gone, which nobody has told this one yet.
            return Poll::Ready(Ok(buf.len()));
        }
        let room = CAPACITY.saturating_sub(pipe.bytes).min(buf.len());
        if room == 0 && !buf.is_empty() {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        inner.send(self.out, &buf[..room]);
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.net.lock();
        if let Some(pipe) = inner.pipes.get(&self.out) {
            let (from, to, lag_us, last_ns) = (pipe.from, pipe.to, pipe.lag_us, pipe.last_ns);
            let at = inner.arrival(from, to, lag_us).max(last_ns);
            let pipe = inner.pipes.get_mut(&self.out).expect("it is there");
            pipe.closed.get_or_insert(at);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        self.net.lock().close(self.node, self.out, self.into);
    }
}

/// Where a node's peers connect to.
pub struct Listener {
    pub(in crate::raft::sim) net: Net,
    pub(in crate::raft::sim) node: u64,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "listener of node {}", self.node)
    }
}

impl Listener {
    /// The next connection.
    pub async fn accept(&self) -> Io {
        std::future::poll_fn(|cx| {
            let mut inner = self.net.lock();
            let Some((_, backlog, waker)) = inner.doors.get_mut(&self.node) else {
                return Poll::Pending;
            };
            match backlog.pop_front() {
                Some(io) => Poll::Ready(io),
                None => {
                    *waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}
