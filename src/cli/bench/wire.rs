//! HTTP/1.1 by hand: as little work a request as a client can do, so that what is measured is the server. On a machine that
//! the nodes share with the generator, every microsecond here is one less for them.

use std::io;
use std::ops::Range;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One keep-alive connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer: its status, and where its body stands in the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    body: Range<usize>,
    /// The server closes the connection after it.
    pub(super) is_last: bool,
}

impl Wire {
    /// Connects to `host:port`.
    pub(super) async fn connect(address: &str) -> io::Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Wire {
            stream,
            buffer: Vec::with_capacity(16 << 10),
        })
    }

    /// Sends a whole request and reads a whole answer.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(answer) = parse(&self.buffer)? {
                return Ok(answer);
            }
        }
    }

    /// The body of the last answer.
    pub(super) fn body(&self, answer: &Answer) -> &[u8] {
        &self.buffer[answer.body.clone()]
    }
}

/// The answer in `bytes`, or nothing if it is not whole yet.
fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some(head) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head]).map_err(|_| bad("a head that is not ASCII"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok());
    let status = status.ok_or_else(|| bad("no status"))?;
    let (mut length, mut is_last) = (None, false);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            is_last = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let length = length.ok_or_else(|| bad("an answer without a length"))?;
    let body = head + 4..head + 4 + length;
    Ok((bytes.len() >= body.end).then_some(Answer {
        status,
        body,
        is_last,
    }))
}

/// Appends a request with a body to `out`.
pub(super) fn write_request(
    out: &mut Vec<u8>,
    method: &str,
    target: &str,
    content_type: &str,
    body: &[u8],
) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nhost: q\r\n");
    if !content_type.is_empty() {
        out.extend_from_slice(b"content-type: ");
        out.extend_from_slice(content_type.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if method != "GET" {
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(body.len().to_string().as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_parsed_once_it_is_whole() {
        let whole = b"HTTP/1.1 207 Multi-Status\r\nA: b\r\nContent-Length: 3\r\nconnection: close\r\n\r\nabc";
        for cut in 0..whole.len() {
            assert_eq!(parse(&whole[..cut]).unwrap(), None, "{cut}");
        }
        let answer = parse(whole).unwrap().unwrap();
        assert_eq!((answer.status, answer.is_last), (207, true));
        assert_eq!(&whole[answer.body], b"abc");
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"x\r\n\r\n").is_err());
    }

    #[test]
    fn a_request_has_a_length_unless_it_is_a_get() {
        let text = |method, body: &[u8]| {
            let mut out = Vec::new();
            write_request(&mut out, method, "/x", "", body);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text("GET", b""), "GET /x HTTP/1.1\r\nhost: q\r\n\r\n");
        assert_eq!(
            text("PUT", b"ab"),
            "PUT /x HTTP/1.1\r\nhost: q\r\ncontent-length: 2\r\n\r\nab"
        );
    }
}
