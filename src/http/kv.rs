//! The key-value store: values as bytes, conditional writes, lists by prefix.

mod about;

pub(super) use about::routes;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::Object;

use super::accept::{self, BYTES, JSON};
use super::answer::{Answer, Text};
use super::call::{Call, Input, READ_PARAMS};
use super::doc::schema;
use super::error::{ApiError, Code};
use super::idempotency::Terms;
use super::page::{LIST_PARAMS, Range};
use super::problems::{Place, Problems};
use super::{Shared, blocking};
use crate::machine::command::{KEY_LEN_MAX, ModIndex};
use crate::machine::{Command, Expect, Reply};
use crate::raft::KvRow;

const KV: &str = "/v1/kv/";
/// What a value can be answered as.
const MADE: &[&str] = &[BYTES, JSON];
const VERSION: HeaderName = HeaderName::from_static("kv-version");
const CREATE_INDEX: HeaderName = HeaderName::from_static("kv-create-index");

fn encodings() -> Object {
    schema::one_of(&["utf8", "base64"])
}

/// A key with its value as JSON: text as it is if it is UTF-8, else base64.
#[derive(Debug, Serialize, ToSchema)]
struct Record {
    #[schema(schema_with = schema::key)]
    key: String,
    value: String,
    /// How `value` is to be read.
    #[schema(schema_with = encodings)]
    encoding: &'static str,
    #[schema(schema_with = schema::mod_index)]
    create_index: String,
    #[schema(schema_with = schema::mod_index)]
    mod_index: String,
    /// How often it was written since it was created.
    #[schema(schema_with = schema::digits)]
    version: Text<u64>,
}

impl From<KvRow> for Record {
    fn from(row: KvRow) -> Record {
        let (value, encoding) = match std::str::from_utf8(&row.value) {
            Ok(text) => (text.to_owned(), "utf8"),
            Err(_) => (base64(&row.value), "base64"),
        };
        Record {
            key: row.key,
            value,
            encoding,
            create_index: mod_text(row.created),
            mod_index: mod_text(row.modified),
            version: Text(row.version),
        }
    }
}

/// A modification index as text: `<entry>.<command>`.
fn mod_text(at: ModIndex) -> String {
    format!("{}.{}", at.index, at.command)
}

fn etag(at: ModIndex) -> HeaderValue {
    let text = format!("\"{}\"", mod_text(at));
    HeaderValue::from_str(&text).expect("digits, a dot and quotes are visible ASCII")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| usize::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let filled = digit <= group.len();
            let value = DIGITS[bits >> (18 - 6 * digit) & 63];
            text.push(if filled { char::from(value) } else { '=' });
        }
    }
    text
}

fn key(call: &Call) -> Result<std::borrow::Cow<'_, str>, ApiError> {
    let key = call.path_tail(KV)?;
    if (1..=KEY_LEN_MAX).contains(&key.len()) {
        return Ok(key);
    }
    let mut problems = Problems::default();
    let detail = format!(
        "a key has 1 to {KEY_LEN_MAX} bytes, this one has {}",
        key.len()
    );
    problems.add(
        Place::Parameter("key".to_owned()),
        Code::InvalidValue,
        detail,
    );
    problems.finish()?;
    unreachable!("a problem was added above")
}

async fn show(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let key = key(&call)?;
    let mut params = call.params(READ_PARAMS);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    let known = one_etag(
        &call.headers,
        header::IF_NONE_MATCH,
        "If-None-Match",
        &mut params.problems,
    );
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let found = app.raft.view().kv(&key)?;
    let row = found
        .value
        .ok_or_else(|| ApiError::absent(Code::KeyNotFound, &key, found.index))?;
    let (tag, version, created) = (etag(row.modified), row.version, mod_text(row.created));
    let created = HeaderValue::from_str(&created).expect("digits and a dot are visible ASCII");
    let unchanged = match known {
        Some(Tag::Any) => true,
        Some(Tag::At(at)) => at == row.modified,
        None => false,
    };
    let answer = if unchanged {
        Answer::bytes("application/octet-stream", Bytes::new()).status(StatusCode::NOT_MODIFIED)
    } else if accept::choose(&call.headers, MADE)? == JSON {
        Answer::at(found.index, Record::from(row))
    } else {
        Answer::bytes("application/octet-stream", row.value)
    };
    Ok(answer
        .read(found.index, level, &permit)
        .header(header::ETAG, tag)
        .header(VERSION, version.into())
        .header(CREATE_INDEX, created))
}

async fn list(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let allowed: Vec<_> = LIST_PARAMS.iter().copied().chain(["prefix"]).collect();
    let mut params = call.params(&allowed);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    let prefix = params.get("prefix").unwrap_or_default().into_owned();
    let range = Range::read(&mut params, "kv", &[&prefix]);
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let (view, after, limit) = (app.raft.view(), range.after.clone(), range.limit);
    let bytes_max = call.limits.page_bytes_max;
    let found = blocking(move || view.kv_list(&prefix, after.as_deref(), limit, bytes_max)).await?;
    // Of the same state as the rows: a key that came since is none of this page's business.
    let (rows, has_more) = (found.value.rows, found.value.more);
    let end = |row: &KvRow| row.key.clone();
    let page = range.partial(found.index, rows, has_more, end, Record::from);
    Ok(Answer::page(&call, &page).read(found.index, level, &permit))
}

/// The body of a write.
#[derive(Debug, Serialize, ToSchema)]
struct Put {
    /// The log index of this write.
    #[schema(schema_with = schema::digits)]
    index: Text<u64>,
    #[schema(schema_with = schema::mod_index)]
    mod_index: String,
    #[schema(schema_with = schema::mod_index)]
    create_index: String,
    #[schema(schema_with = schema::digits)]
    version: Text<u64>,
}

async fn put(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let key = key(&call)?;
    let (expect, terms) = condition(&call, "PUT /v1/kv/{key}")?;
    let command = Command::KvPut {
        key: &key,
        value: &call.body,
        expect,
    };
    let pending = app.raft.write(&terms.once(command), terms.deadline);
    let written = pending
        .await
        .map_err(|error| ApiError::from(error).check(|| check_url(&call)))?;
    match written.reply {
        Reply::KvPut {
            created,
            modified,
            version,
        } => {
            let body = Put {
                index: Text(written.index),
                mod_index: mod_text(modified),
                create_index: mod_text(created),
                version: Text(version),
            };
            let status = if version == 1 {
                StatusCode::CREATED
            } else {
                StatusCode::OK
            };
            let answer = Answer::json(&body)
                .status(status)
                .index(written.index)
                .replayed(written.replayed);
            Ok(answer
                .header(header::ETAG, etag(modified))
                .header(VERSION, version.into()))
        }
        _ => Err(ApiError::refused(&written)),
    }
}

/// The body of a removal.
#[derive(Debug, Serialize, ToSchema)]
struct Deleted {
    #[schema(schema_with = schema::small)]
    deleted: u32,
    /// The modification index it had.
    #[schema(schema_with = schema::mod_index)]
    was: String,
    /// The log index of this write.
    #[schema(schema_with = schema::digits)]
    index: Text<u64>,
}

async fn delete(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let key = key(&call)?;
    let (expect, terms) = condition(&call, "DELETE /v1/kv/{key}")?;
    let command = Command::KvDelete { key: &key, expect };
    let pending = app.raft.write(&terms.once(command), terms.deadline);
    let written = pending
        .await
        .map_err(|error| ApiError::from(error).check(|| check_url(&call)))?;
    match written.reply {
        Reply::KvDeleted { was } => {
            let index = written.index;
            let body = Deleted {
                deleted: 1,
                was: mod_text(was),
                index: Text(index),
            };
            Ok(Answer::json(&body).index(index).replayed(written.replayed))
        }
        _ => Err(ApiError::refused(&written)),
    }
}

fn check_url(call: &Call) -> String {
    format!("{}?consistency=leader", call.uri.path())
}

/// The condition of a write, and its terms.
fn condition<'c>(call: &'c Call, route: &'static str) -> Result<(Expect, Terms<'c>), ApiError> {
    let mut params = call.params(&["timeout"]);
    let terms = call.terms_with(route, &mut params);
    let problems = &mut params.problems;
    let matching = one_etag(&call.headers, header::IF_MATCH, "If-Match", problems);
    let none = one_etag(
        &call.headers,
        header::IF_NONE_MATCH,
        "If-None-Match",
        problems,
    );
    let place = Place::Header("If-None-Match");
    let expect = match (matching, none) {
        (None, None) => Expect::Any,
        (Some(Tag::Any), None) => Expect::Present,
        (Some(Tag::At(at)), None) => Expect::At(at),
        (None, Some(Tag::Any)) => Expect::Absent,
        (None, Some(Tag::At(_))) => {
            problems.add(
                place,
                Code::InvalidValue,
                "If-None-Match of a write must be *",
            );
            Expect::Any
        }
        (Some(_), Some(_)) => {
            let detail = "If-Match and If-None-Match exclude each other";
            problems.add(place, Code::InvalidValue, detail);
            Expect::Any
        }
    };
    params.problems.finish()?;
    Ok((expect, terms))
}

/// What a conditional header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Any,
    At(ModIndex),
}

/// The one tag of a conditional header. A list, a weak tag or one this store never gave is a mistake, and a condition that
/// is not understood must not be taken for none.
fn one_etag(
    headers: &HeaderMap,
    name: HeaderName,
    shown: &'static str,
    problems: &mut Problems,
) -> Option<Tag> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    let tag = value
        .to_str()
        .ok()
        .and_then(parse_tag)
        .filter(|_| values.next().is_none());
    if tag.is_none() {
        let detail = format!("{shown} must be * or one tag of this store, such as \"40.0\"");
        problems.add(Place::Header(shown), Code::InvalidValue, detail);
    }
    tag
}

fn parse_tag(text: &str) -> Option<Tag> {
    if text == "*" {
        return Some(Tag::Any);
    }
    let (index, command) = text.strip_prefix('"')?.strip_suffix('"')?.split_once('.')?;
    let at = ModIndex {
        index: index.parse().ok()?,
        command: command.parse().ok()?,
    };
    // Only the one way to write it: no sign, no leading zero.
    (format!("\"{}\"", mod_text(at)) == text).then_some(Tag::At(at))
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::super::call::tests::call;
    use super::*;

    #[test]
    fn bytes_become_base64() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }

    #[test]
    fn a_tag_has_one_way_to_be_written() {
        let at = ModIndex {
            index: 40,
            command: 0,
        };
        assert_eq!(parse_tag("\"40.0\""), Some(Tag::At(at)));
        assert_eq!(parse_tag("*"), Some(Tag::Any));
        for bad in [
            "40.0",
            "W/\"40.0\"",
            "\"040.0\"",
            "\"+40.0\"",
            "\"40\"",
            "\"*\"",
            "",
            "\"",
        ] {
            assert_eq!(parse_tag(bad), None, "{bad}");
        }
    }

    #[test]
    fn conditions_of_writes_come_from_headers() {
        let at = ModIndex {
            index: 40,
            command: 2,
        };
        let of = |headers: &[(&str, &str)]| {
            condition(&call(Method::PUT, "/v1/kv/a", headers, ""), "PUT")
                .map(|(expect, _)| expect)
                .ok()
        };
        assert_eq!(of(&[]), Some(Expect::Any));
        assert_eq!(of(&[("if-match", "*")]), Some(Expect::Present));
        assert_eq!(of(&[("if-match", "\"40.2\"")]), Some(Expect::At(at)));
        assert_eq!(of(&[("if-none-match", "*")]), Some(Expect::Absent));
        assert_eq!(of(&[("if-none-match", "\"40.2\"")]), None);
        assert_eq!(of(&[("if-match", "*"), ("if-none-match", "*")]), None);
        assert_eq!(of(&[("if-match", "\"1.0\", \"2.0\"")]), None);
        assert_eq!(
            of(&[("if-match", "\"1.0\""), ("if-match", "\"2.0\"")]),
            None
        );
    }

    #[test]
    fn a_key_is_a_decoded_path_of_bounded_length() {
        let of = |path: &str| {
            key(&call(Method::GET, path, &[], ""))
                .map(std::borrow::Cow::into_owned)
                .ok()
        };
        assert_eq!(
            of("/v1/kv/a/b%2Fc%20%C3%A9//"),
            Some("a/b/c \u{e9}//".to_owned())
        );
        assert_eq!(of(&format!("/v1/kv/{}", "k".repeat(KEY_LEN_MAX + 1))), None);
        assert_eq!(of("/v1/kv/%ff"), None);
    }
}
