//! A request before it is sent: what is asked, and what asking twice would do.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use serde::Serialize;

use super::Level;
use super::error::Error;

/// Name of the header that makes a write happen once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest time a node takes for one request.
const SERVER_TIMEOUT_MAX_MS: u128 = 60_000;

/// What asking again does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// It asks for no change.
    Read,
    /// It carries an id that the state remembers for ever: sent again, it is found done, or stays refused.
    ById,
    /// The state remembers the answer under this idempotency key for at least a day.
    ByKey(Key),
    /// It might be done twice: it is not sent again once a byte of it has left.
    Never,
}

/// An idempotency key, and whose choice it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// The caller's, who may know it from before: the write is done under it or not at all.
    Given(String),
    /// Made for this write alone, to send it again: when the cluster can hold no more keys, it is sent once without one.
    Made(String),
}

impl Key {
    /// A new one, for one write.
    pub fn make() -> Key {
        Key::Made(new_key())
    }

    /// As it is sent.
    pub fn text(&self) -> &str {
        match self {
            Key::Given(text) | Key::Made(text) => text,
        }
    }
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The leader has to do it: asked directly, it saves a hop.
    Leader,
    /// Any node does it by itself.
    Anywhere,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    method: Method,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    repeat: Repeat,
    place: Place,
}

impl Ask {
    /// A read that any node answers from what it knows, such as a probe or its view of the cluster.
    pub fn get(target: impl Into<String>) -> Ask {
        Ask {
            method: Method::GET,
            target: target.into(),
            headers: Vec::new(),
            body: Bytes::new(),
            repeat: Repeat::Read,
            place: Place::Anywhere,
        }
    }

    /// A read of data at `level`.
    pub fn read(target: impl Into<String>, level: Level) -> Ask {
        let mut ask = Ask::get(target);
        ask.add_param("consistency", level.name());
        if level != Level::Follower {
            ask.place = Place::Leader;
        }
        ask
    }

    /// A write with a JSON body.
    pub fn post(target: impl Into<String>, body: &impl Serialize, repeat: Repeat) -> Ask {
        let body = serde_json::to_vec(body).expect("our own types are JSON");
        Ask::write(Method::POST, target.into(), body.into(), repeat)
            .header("content-type", "application/json")
    }

    /// A write of bytes.
    pub fn put(target: impl Into<String>, body: Bytes, repeat: Repeat) -> Ask {
        Ask::write(Method::PUT, target.into(), body, repeat)
    }

    /// A removal.
    pub fn delete(target: impl Into<String>, repeat: Repeat) -> Ask {
        Ask::write(Method::DELETE, target.into(), Bytes::new(), repeat)
    }

    fn write(method: Method, target: String, body: Bytes, repeat: Repeat) -> Ask {
        Ask {
            method,
            target,
            headers: Vec::new(),
            body,
            repeat,
            place: Place::Leader,
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Ask {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds a query parameter if there is a value for it.
    #[must_use]
    pub fn param(mut self, name: &str, value: Option<&str>) -> Ask {
        if let Some(value) = value {
            self.add_param(name, value);
        }
        self
    }

    fn add_param(&mut self, name: &str, value: &str) {
        let mark = if self.target.contains('?') { '&' } else { '?' };
        let _ = write!(self.target, "{mark}{name}={}", escaped(value, ""));
    }

    /// What asking again does.
    pub fn repeat(&self) -> &Repeat {
        &self.repeat
    }

    /// The same without its idempotency key, and so not to be repeated.
    pub(super) fn without_key(&self) -> Ask {
        let mut ask = self.clone();
        ask.repeat = Repeat::Never;
        ask
    }

    /// The idempotency key that it is sent under.
    pub(super) fn key(&self) -> Option<&Key> {
        match &self.repeat {
            Repeat::ByKey(key) => Some(key),
            Repeat::Read | Repeat::ById | Repeat::Never => None,
        }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// It asks for no change.
    pub fn is_read(&self) -> bool {
        self.repeat == Repeat::Read
    }

    /// All headers but the deadline.
    fn all_headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let given = self.headers.iter().map(|(name, value)| (*name, &**value));
        let key = self.key().map(|key| (IDEMPOTENCY_KEY, key.text()));
        given.chain(key)
    }

    /// The request of one attempt, for whose answer `left` remains.
    pub(super) fn request(&self, left: Duration) -> Result<Request<Full<Bytes>>, Error> {
        let invalid = |error: &dyn std::fmt::Display| Error::Invalid(error.to_string());
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.parse().map_err(|error| invalid(&error))?;
        for (name, value) in self.all_headers() {
            let value = HeaderValue::from_str(value).map_err(|_| {
                invalid(&format_args!("{value:?} cannot stand in the header {name}"))
            })?;
            request
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        // A header, not the parameter: the deadline differs from attempt to attempt, the request must not.
        let left = left.as_millis().clamp(1, SERVER_TIMEOUT_MAX_MS);
        let left = HeaderValue::from_str(&format!("{left}ms")).expect("digits and letters");
        let name = HeaderName::from_static("quorate-timeout");
        request.headers_mut().insert(name, left);
        Ok(request)
    }

    /// The same as a command line for a shell, asking the node at `address` (`host:port`).
    pub fn curl(&self, address: &str) -> String {
        let mut line = "curl".to_owned();
        if self.method != Method::GET {
            let _ = write!(line, " --request {}", self.method);
        }
        for (name, value) in self.all_headers() {
            let _ = write!(line, " --header {}", quoted(&format!("{name}: {value}")));
        }
        if !self.body.is_empty() {
            let body = match std::str::from_utf8(&self.body) {
                Ok(text) if !text.starts_with('@') && !text.contains('\0') => quoted(text),
                _ => "@-".to_owned(),
            };
            let _ = write!(line, " --data-binary {body}");
        } else if self.method == Method::PUT {
            line.push_str(" --data-binary ''");
        }
        let _ = write!(
            line,
            " {}",
            quoted(&format!("http://{address}{}", self.target))
        );
        line
    }
}

/// A word that a shell takes as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Percent-encodes every byte but letters, digits, `-._~` and those in `also`.
pub(super) fn escaped(text: &str, also: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || also.as_bytes().contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// A new idempotency key: random enough never to meet another.
pub fn new_key() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_carries_its_key_and_deadline_but_not_in_its_target() {
        let ask = Ask::put(
            "/v1/kv/a",
            Bytes::from_static(b"v"),
            Repeat::ByKey(Key::Given("k".into())),
        );
        let request = ask.request(Duration::from_millis(1500)).unwrap();
        assert_eq!(request.uri(), "/v1/kv/a");
        assert_eq!(request.headers()[IDEMPOTENCY_KEY], "k");
        assert_eq!(request.headers()["quorate-timeout"], "1500ms");
        let bare = ask.without_key().request(Duration::ZERO).unwrap();
        assert!(!bare.headers().contains_key(IDEMPOTENCY_KEY));
        assert_eq!(bare.headers()["quorate-timeout"], "1ms");
        assert!(ask.header("x", "a\nb").request(Duration::ZERO).is_err());
    }

    #[test]
    fn parameters_are_escaped() {
        let ask = Ask::read("/v1/kv", Level::Lease)
            .param("prefix", Some("a b&c/\u{e9}"))
            .param("cursor", None);
        assert_eq!(
            ask.target,
            "/v1/kv?consistency=lease&prefix=a%20b%26c%2F%C3%A9"
        );
        assert_eq!(escaped("a/b c", "/"), "a/b%20c");
    }

    #[test]
    fn a_curl_line_survives_the_shell() {
        let ask = Ask::post("/v1/x", &"it's", Repeat::ById);
        assert_eq!(
            ask.curl("a:1"),
            r#"curl --request POST --header 'content-type: application/json' --data-binary '"it'\''s"' 'http://a:1/v1/x'"#
        );
        let file = Ask::put("/v1/kv/a", Bytes::from_static(b"@etc"), Repeat::Never);
        assert!(file.curl("a:1").contains("--data-binary @- "));
    }
}
