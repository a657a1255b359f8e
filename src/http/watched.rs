//! The stream under the HTTP library: it notes when a request begins to arrive, and where the library refuses a head with a
//! bare status it says why instead.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::activity::{Activity, HEAD, IDLE};
use super::door::{PARTING_LEN_MAX, Refuse, Refused};

/// How long a refused client is listened to after its answer, so that it is not reset before it has read that.
const LINGER: Duration = Duration::from_secs(1);

/// Bytes of an answer whose taking shows that somebody is there: fewer may be taken by who wants to hold a connection.
const PROGRESS_LEN: usize = 64 << 10;

/// See the module.
pub(super) struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
    /// Bytes of an answer taken since that was last noted.
    taken: usize,
    refuse: Option<Refuse>,
    /// The answer that stands in for the library's, as far as it is not written.
    instead: Bytes,
    /// Set once the head was refused: when listening ends, and how much may come until then.
    linger: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Watched {
    pub(super) fn new(
        stream: TcpStream,
        activity: Arc<Activity>,
        refuse: Option<Refuse>,
    ) -> Watched {
        Watched {
            stream,
            activity,
            taken: 0,
            refuse,
            instead: Bytes::new(),
            linger: None,
        }
    }

    /// Takes what the library writes if that is its bare refusal of a head; the caller takes it for written.
    fn intercept(&mut self, bytes: &[u8]) -> bool {
        let Some(refuse) = &self.refuse else {
            return false;
        };
        if self.activity.state() != HEAD || self.linger.is_some() {
            return false;
        }
        let Some(status) = bare_refusal(bytes) else {
            return false;
        };
        self.instead = refuse(Refused::Head(status));
        self.linger = Some((Box::pin(sleep(LINGER)), PARTING_LEN_MAX));
        true
    }

    /// Notes that a client takes a long answer, which so may take longer than a connection may be silent.
    fn note(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(len)) = written
            && self.activity.state() == IDLE
        {
            self.taken += len;
            if self.taken >= PROGRESS_LEN {
                self.taken = 0;
                self.activity.set(IDLE);
            }
        }
    }

    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.instead.has_remaining() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.instead))?;
            self.instead.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads and drops until the client has closed, said too much or taken too long.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((end, left)) = &mut self.linger else {
            return Poll::Ready(());
        };
        let mut scratch = [0; 4096];
        while *left > 0 && end.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    *left = left.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

/// The status, if this is an answer with nothing but a status: what the library writes for a head it cannot read.
fn bare_refusal(bytes: &[u8]) -> Option<StatusCode> {
    let head = bytes.strip_suffix(b"\r\n\r\n")?;
    let head = std::str::from_utf8(head).ok()?.to_ascii_lowercase();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("http/1.1 ")?.get(..3)?;
    let plain = ["connection: close", "content-length: 0"];
    let bare = lines.all(|line| plain.contains(&line) || line.starts_with("date: "));
    let status = status.parse::<StatusCode>().ok()?;
    (bare && status.is_client_error()).then_some(status)
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
        if self.intercept(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut full = slices.iter().filter(|slice| !slice.is_empty());
        if let (Some(only), None) = (full.next(), full.next())
            && self.intercept(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(cx))?;
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        self.poll_linger(cx).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_nothing_but_a_status_is_replaced() {
        let bare = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: x\r\n\r\n";
        assert_eq!(
            bare_refusal(bare),
            Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
        );
        for other in [
            &b"HTTP/1.1 400 Bad Request\r\nquorate-node: 1\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 1\r\n\r\nx",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"",
        ] {
            assert_eq!(bare_refusal(other), None);
        }
    }
}
