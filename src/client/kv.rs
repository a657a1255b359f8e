//! The key-value store.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::Deserialize;

use super::answer::{Answer, Page, Read, Written};
use super::ask::{Ask, Key, Repeat, escaped};
use super::error::Error;
use super::ledgers::Range;
use super::{Client, text};

/// The version of a key's value: what its `ETag` says, such as `40.0`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Tag(String);

impl FromStr for Tag {
    type Err = String;

    /// Reads a tag, with or without its quotes.
    fn from_str(text: &str) -> Result<Tag, String> {
        let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
        let bare = bare.unwrap_or(text);
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match bare.split_once('.') {
            Some((index, command)) if digits(index) && digits(command) => Ok(Tag(bare.to_owned())),
            _ => Err(format!("{text:?} is not a tag such as 40.0")),
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What must hold of a key for a write to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    Any,
    /// It does not exist.
    Absent,
    /// It exists.
    Present,
    /// Its value is the one with this tag: compare and set.
    At(Tag),
}

impl Condition {
    fn of(&self, ask: Ask) -> Ask {
        match self {
            Condition::Any => ask,
            Condition::Absent => ask.header("if-none-match", "*"),
            Condition::Present => ask.header("if-match", "*"),
            Condition::At(tag) => ask.header("if-match", format!("\"{tag}\"")),
        }
    }
}

/// A write of a value.
#[derive(Clone, Debug)]
pub struct Put {
    /// The key: 1 to 1024 bytes.
    pub key: String,
    /// The value: up to 1 MiB.
    pub value: Bytes,
    /// When to write.
    pub condition: Condition,
    /// It is done once under this key, and answered with what was answered then.
    pub idempotency_key: Key,
}

impl Put {
    /// A write without condition, with an idempotency key of its own.
    pub fn new(key: impl Into<String>, value: impl Into<Bytes>) -> Put {
        Put {
            key: key.into(),
            value: value.into(),
            condition: Condition::Any,
            idempotency_key: Key::make(),
        }
    }

    /// The same under a condition.
    #[must_use]
    pub fn only_if(mut self, condition: Condition) -> Put {
        self.condition = condition;
        self
    }

    /// The request.
    ///
    /// # Errors
    /// If the key is empty.
    pub fn ask(&self) -> Result<Ask, Error> {
        let repeat = Repeat::ByKey(self.idempotency_key.clone());
        let ask = Ask::put(path(&self.key)?, self.value.clone(), repeat);
        Ok(self.condition.of(ask))
    }
}

/// A removal of a key.
#[derive(Clone, Debug)]
pub struct Delete {
    /// The key.
    pub key: String,
    /// When to remove it.
    pub condition: Condition,
    /// It is done once under this key, and answered with what was answered then.
    pub idempotency_key: Key,
}

impl Delete {
    /// A removal without condition, with an idempotency key of its own.
    pub fn new(key: impl Into<String>) -> Delete {
        Delete {
            key: key.into(),
            condition: Condition::Any,
            idempotency_key: Key::make(),
        }
    }

    /// The request.
    ///
    /// # Errors
    /// If the key is empty.
    pub fn ask(&self) -> Result<Ask, Error> {
        let repeat = Repeat::ByKey(self.idempotency_key.clone());
        Ok(self.condition.of(Ask::delete(path(&self.key)?, repeat)))
    }
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// The bytes.
    pub value: Bytes,
    /// Changes with every write.
    pub tag: Tag,
    /// How many writes since the key was created, that one included.
    pub version: u64,
}

/// A key of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    /// The key.
    pub key: String,
    value: String,
    encoding: Encoding,
    /// Where it was created.
    pub create_index: Tag,
    /// Where it was last written.
    pub mod_index: Tag,
    /// How many writes since the key was created, that one included.
    #[serde(with = "text")]
    pub version: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    Utf8,
    Base64,
}

impl Record {
    /// The value's bytes; nothing if they are not what they should be.
    pub fn bytes(&self) -> Option<Bytes> {
        match self.encoding {
            Encoding::Utf8 => Some(self.value.clone().into()),
            Encoding::Base64 => base64(&self.value).map(Bytes::from),
        }
    }
}

/// What a write of a value gave.
#[derive(Clone, Debug, Deserialize)]
pub struct Stored {
    /// The value's tag: what to compare with to set it again.
    #[serde(rename = "mod_index")]
    pub tag: Tag,
    /// How many writes since the key was created; 1 if this one did.
    #[serde(with = "text")]
    pub version: u64,
}

/// What a removal gave.
#[derive(Clone, Debug, Deserialize)]
pub struct Deleted {
    /// The tag of the value that was removed.
    pub was: Tag,
}

/// The path of a key.
///
/// # Errors
/// If the key is empty.
pub fn path(key: &str) -> Result<String, Error> {
    match key.is_empty() {
        true => Err(Error::Invalid("a key has at least one byte".to_owned())),
        false => Ok(format!("/v1/kv/{}", escaped(key, "/"))),
    }
}

impl Client {
    /// The value of a key, if it exists.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, key: &str) -> Result<Option<Read<Value>>, Error> {
        let ask = Ask::read(path(key)?, self.options().level);
        match self.ask(&ask).await {
            Ok(answer) => {
                let value = value(&answer).ok_or_else(|| {
                    Error::Protocol("a value without a tag and a version".to_owned())
                })?;
                Ok(Some(answer.read_as(value)))
            }
            Err(Error::Rejection(rejection)) if rejection.problem.code == "key_not_found" => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a value.
    ///
    /// # Errors
    /// See [`Error`]; that the condition does not hold is a rejection with the code `precondition_failed`.
    pub async fn put(&self, put: &Put) -> Result<Written<Stored>, Error> {
        self.write(&put.ask()?).await
    }

    /// Removes a key.
    ///
    /// # Errors
    /// See [`Error`]; that there is none is a rejection with the code `key_not_found`.
    pub async fn delete(&self, delete: &Delete) -> Result<Written<Deleted>, Error> {
        self.write(&delete.ask()?).await
    }

    /// Keys that start with `prefix` and their values, in byte order.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn keys(&self, prefix: &str, range: &Range) -> Result<Read<Page<Record>>, Error> {
        let prefix = Some(prefix).filter(|prefix| !prefix.is_empty());
        let ask = Ask::read("/v1/kv", self.options().level).param("prefix", prefix);
        self.read(&range.of(ask)).await
    }
}

fn value(answer: &Answer) -> Option<Value> {
    Some(Value {
        value: answer.body.clone(),
        tag: answer.header("etag")?.parse().ok()?,
        version: answer.header("kv-version")?.parse().ok()?,
    })
}

/// Undoes base64 with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.as_bytes().chunks(4) {
        let filled = group.iter().take_while(|byte| **byte != b'=').count();
        if group.len() != 4 || filled < 2 || group[filled..].iter().any(|byte| *byte != b'=') {
            return None;
        }
        let mut bits = 0u32;
        for (place, byte) in group.iter().enumerate() {
            let value = if place < filled { digit(*byte)? } else { 0 };
            bits = bits << 6 | u32::from(value);
        }
        let [_, bytes @ ..] = bits.to_be_bytes();
        out.extend_from_slice(&bytes[..filled - 1]);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_undone() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(base64("//4="), Some(vec![0xff, 0xfe]));
        for bad in ["Z", "Zg", "Zg=", "Z===", "Z=g=", "Zm9?"] {
            assert_eq!(base64(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_tag_is_read_with_and_without_quotes() {
        assert_eq!("\"40.2\"".parse::<Tag>().unwrap().to_string(), "40.2");
        assert_eq!("40.2".parse::<Tag>().unwrap().to_string(), "40.2");
        for bad in ["", "40", "40.", ".2", "a.b", "*", "W/\"40.0\"", "\"40.2"] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn every_key_has_a_path() {
        assert_eq!(path("a/b").unwrap(), "/v1/kv/a/b");
        assert_eq!(
            path("a b?c#d%\u{e9}").unwrap(),
            "/v1/kv/a%20b%3Fc%23d%25%C3%A9"
        );
        assert!(path("").is_err());
    }
}
