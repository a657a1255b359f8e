//! What nodes answer, and what an answer says of itself.

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::Error;
use super::text;

/// A success, as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// `host:port` of who was asked.
    pub asked: String,
    /// How many attempts it took.
    pub attempts: u32,
}

impl Answer {
    pub(super) fn new(response: Response<Bytes>, asked: &str, attempts: u32) -> Answer {
        let (head, body) = response.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body,
            asked: asked.to_owned(),
            attempts,
        }
    }

    /// The text of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The log index of what was written, or of the state that was read.
    pub fn index(&self) -> Option<u64> {
        self.header("quorate-index")?.parse().ok()
    }

    /// It was given before, to the same request under the same idempotency key.
    pub fn is_replayed(&self) -> bool {
        self.header("idempotency-replayed") == Some("true")
    }

    /// The answer to a read.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<Read<T>, Error> {
        Ok(self.read_as(self.decode().map_err(Error::Protocol)?))
    }

    /// `value`, which this answer to a read gave.
    pub(super) fn read_as<T>(&self, value: T) -> Read<T> {
        Read {
            value,
            index: self.index().unwrap_or(0),
            staleness: self.header("quorate-staleness").map(str::to_owned),
            requested: self.header("consistency-requested").map(str::to_owned),
            effective: self.header("consistency-effective").map(str::to_owned),
            served_by: self.served_by(),
        }
    }

    fn served_by(&self) -> Option<u64> {
        self.header("quorate-served-by")?.parse().ok()
    }

    /// The body as a `T`.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_slice(&self.body)
            .map_err(|error| format!("HTTP {} with a body that {error}", self.status))
    }
}

/// What was read, and how.
#[derive(Clone, Debug)]
pub struct Read<T> {
    /// What was read.
    pub value: T,
    /// Log index of the state it was read from.
    pub index: u64,
    /// Proven bound on its age, such as `12ms`, or `unknown`.
    pub staleness: Option<String>,
    /// Level asked for.
    pub requested: Option<String>,
    /// Level reached: the same or a stronger one.
    pub effective: Option<String>,
    /// Id of the node whose state it was.
    pub served_by: Option<u64>,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct Written<T> {
    /// What stands there now, or the results.
    pub value: T,
    /// Log index at which it was done.
    pub index: u64,
    /// The answer was given before under the same idempotency key: an earlier attempt had done it.
    pub replayed: bool,
    /// How many attempts it took.
    pub attempts: u32,
}

/// Whether a create did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Existence {
    /// It did.
    #[serde(rename = "created")]
    Created,
    /// The same was there before.
    #[serde(rename = "exists")]
    Existed,
}

/// What a create gave.
#[derive(Clone, Debug, Deserialize)]
pub struct Created<T> {
    /// Whether this call, or an earlier one, created it.
    #[serde(rename = "result")]
    pub existence: Existence,
    /// What stands there.
    #[serde(flatten)]
    pub row: T,
}

/// One page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// There are more.
    pub has_more: bool,
    /// Continues the list, with the same filters.
    pub next_cursor: Option<String>,
    /// Log index at which the page was true.
    #[serde(with = "text")]
    pub index: u64,
}
