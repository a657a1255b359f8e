//! As much HTTP/1.1 as a client needs, on a plain socket that knows whether anything was sent: nothing is tried again
//! behind the back of whoever keeps the history.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// `GET`, `PUT`, `POST`.
    pub(crate) method: &'static str,
    /// Path and query.
    pub(crate) path: String,
    /// Headers beside those of every request.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The body.
    pub(crate) body: String,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    /// Status code.
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    /// The whole body.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// An answer by hand.
    pub(crate) fn made(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
        let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Reply {
            status,
            headers: headers.iter().map(header).collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    /// The first header of that name (lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A header that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }

    /// The body as JSON; `null` if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The text at a field of the body, or nothing.
    pub(crate) fn field(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// There was no connection: nothing was sent.
    NotSent(String),
    /// Something was sent.
    Unknown(String),
}

/// Connections to one node, kept from request to request.
#[derive(Default)]
pub(crate) struct Connection {
    open: Option<BufReader<TcpStream>>,
}

impl Connection {
    /// Sends `request` to `addr` and waits for the answer, each step for `patience` at most.
    pub(crate) fn ask(
        &mut self,
        addr: SocketAddr,
        request: &Request,
        patience: Duration,
    ) -> Result<Reply, Lost> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => open(addr, patience).map_err(|error| Lost::NotSent(error.to_string()))?,
        };
        let lost = |error: io::Error| Lost::Unknown(error.to_string());
        stream
            .get_mut()
            .write_all(&message(request))
            .map_err(lost)?;
        let (reply, is_kept) = receive(&mut stream).map_err(lost)?;
        if is_kept {
            self.open = Some(stream);
        }
        Ok(reply)
    }

    /// Sends `request` and closes the connection without a look at the answer.
    pub(crate) fn throw(&mut self, addr: SocketAddr, request: &Request, patience: Duration) {
        let stream = match self.open.take() {
            Some(stream) => Ok(stream),
            None => open(addr, patience),
        };
        // Whether it got there is not known, and need not be.
        let _ = stream.and_then(|mut stream| stream.get_mut().write_all(&message(request)));
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(
    addr: SocketAddr,
    method: &'static str,
    path: &str,
    body: &str,
    patience: Duration,
) -> Result<Reply, Lost> {
    let request = Request {
        method,
        path: path.to_owned(),
        body: body.to_owned(),
        ..Request::default()
    };
    Connection::default().ask(addr, &request, patience)
}

fn open(addr: SocketAddr, patience: Duration) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&addr, patience)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(BufReader::new(stream))
}

fn message(request: &Request) -> Vec<u8> {
    let Request {
        method, path, body, ..
    } = request;
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: faults\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.push_str(body);
    text.into_bytes()
}

/// An answer, and whether the connection stays open after it.
fn receive(stream: &mut BufReader<TcpStream>) -> io::Result<(Reply, bool)> {
    let status = line(stream)?;
    let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
    let mut reply = Reply {
        status: status.ok_or_else(|| io::Error::other("not an HTTP answer"))?,
        ..Reply::default()
    };
    loop {
        let line = line(stream)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        let header = (name.to_ascii_lowercase(), value.trim().to_owned());
        reply.headers.push(header);
    }
    let length = reply.number("content-length");
    let length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
    reply.body = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut reply.body)?;
    let is_kept = reply.header("connection") != Some("close");
    Ok((reply, is_kept))
}

fn line(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}
