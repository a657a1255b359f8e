//! One grammar for all lists: `limit`, `cursor`, and `{data, has_more, next_cursor, index}`.
//!
//! A cursor is opaque to clients: where the page ended, bound to the list and the filters it came from, so that it cannot be
//! used with others by mistake.

use std::borrow::Cow;

use serde::Serialize;
use utoipa::openapi::schema::{ObjectBuilder, Schema};
use utoipa::openapi::{Array, Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::answer::Text;
use super::call::Params;
use super::doc::schema;
use super::error::Code;
use super::problems::Place;

/// Rows of a page when the request does not say.
pub(super) const LIMIT_DEFAULT: usize = 100;
/// Most rows of a page.
pub(super) const LIMIT_MAX: usize = 1000;

/// Parameters of a list without filters.
pub(super) const LIST_PARAMS: &[&str] = &["limit", "cursor", "consistency", "timeout"];

/// A page as clients see it.
#[derive(Debug, Serialize)]
pub(super) struct Page<T> {
    data: Vec<T>,
    has_more: bool,
    next_cursor: Option<String>,
    index: Text<u64>,
}

impl<T: ToSchema> PartialSchema for Page<T> {
    fn schema() -> RefOr<Schema> {
        let mut data = Array::new(Ref::from_schema_name(T::name()));
        let short = "The rows. There may be fewer than asked for, or none, though there are more.";
        data.description = Some(short.to_owned());
        let cursor = schema::maybe_text("The `cursor` of the next page; null on the last.");
        ObjectBuilder::new()
            .property("data", data)
            .property("has_more", schema::flag())
            .property("next_cursor", cursor)
            .property("index", schema::digits())
            .required("data")
            .required("has_more")
            .required("next_cursor")
            .required("index")
            .into()
    }
}

impl<T: ToSchema> ToSchema for Page<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Page", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

impl<T> Page<T> {
    /// The cursor of the next page.
    pub(super) fn next_cursor(&self) -> Option<&str> {
        self.next_cursor.as_deref()
    }
}

/// What a request wants of a list.
#[derive(Debug)]
pub(super) struct Range {
    /// Rows wanted.
    pub(super) limit: usize,
    /// Where the page before ended.
    pub(super) after: Option<String>,
    list: u64,
}

impl Range {
    /// Reads `limit` and `cursor` for the list called `name`, filtered by `filters`.
    pub(super) fn read(params: &mut Params<'_>, name: &str, filters: &[&str]) -> Range {
        let list = fingerprint([name].iter().chain(filters));
        Range {
            limit: limit(params),
            after: cursor(params, list),
            list,
        }
    }

    /// The page of `rows`, of which one more than wanted was asked for; `end` names where a row stands.
    pub(super) fn page<R, T>(
        &self,
        index: u64,
        mut rows: Vec<R>,
        end: impl Fn(&R) -> String,
        show: impl Fn(R) -> T,
    ) -> Page<T> {
        let has_more = rows.len() > self.limit;
        rows.truncate(self.limit);
        self.partial(index, rows, has_more, end, show)
    }

    /// A page that may be shorter than wanted though there is more.
    pub(super) fn partial<R, T>(
        &self,
        index: u64,
        rows: Vec<R>,
        has_more: bool,
        end: impl Fn(&R) -> String,
        show: impl Fn(R) -> T,
    ) -> Page<T> {
        let last = rows.last().filter(|_| has_more);
        let next_cursor = last.map(|row| encode(self.list, &end(row)));
        let data = rows.into_iter().map(show).collect();
        Page {
            data,
            has_more,
            next_cursor,
            index: Text(index),
        }
    }

    /// The page of `rows`, and where the next one begins.
    pub(super) fn page_to<T>(&self, index: u64, rows: Vec<T>, next: Option<String>) -> Page<T> {
        Page {
            data: rows,
            has_more: next.is_some(),
            next_cursor: next.map(|end| encode(self.list, &end)),
            index: Text(index),
        }
    }

    /// Notes that the cursor, though one of this list, does not name a place in it.
    pub(super) fn bad_cursor(params: &mut Params<'_>) {
        let place = Place::Parameter("cursor".to_owned());
        params
            .problems
            .add(place, Code::InvalidCursor, "the cursor is damaged");
    }
}

fn limit(params: &mut Params<'_>) -> usize {
    let Some(text) = params.get("limit") else {
        return LIMIT_DEFAULT;
    };
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(limit) if digits && (1..=LIMIT_MAX).contains(&limit) => limit,
        _ => {
            let detail = format!("{text:?} is not a number from 1 to {LIMIT_MAX}");
            let place = Place::Parameter("limit".to_owned());
            params.problems.add(place, Code::InvalidValue, detail);
            LIMIT_DEFAULT
        }
    }
}

fn cursor(params: &mut Params<'_>, list: u64) -> Option<String> {
    let text = params.get("cursor")?;
    match decode(list, &text) {
        Ok(after) => Some(after),
        Err(detail) => {
            let place = Place::Parameter("cursor".to_owned());
            params.problems.add(place, Code::InvalidCursor, detail);
            None
        }
    }
}

/// Version of the layout of cursors: version, fingerprint of the list, check over both and the end, the end.
const VERSION: u8 = 1;

fn encode(list: u64, end: &str) -> String {
    let list_text = list.to_string();
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&list.to_le_bytes());
    bytes.extend_from_slice(&fingerprint([list_text.as_str(), end].iter()).to_le_bytes()[..4]);
    bytes.extend_from_slice(end.as_bytes());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(list: u64, text: &str) -> Result<String, &'static str> {
    const DAMAGED: &str = "this is not a cursor of this API";
    let digit = |b: u8| {
        char::from(b)
            .to_digit(16)
            .filter(|_| !b.is_ascii_uppercase())
    };
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
    let bytes = bytes.ok_or(DAMAGED)?;
    let (head, end) = bytes.split_at_checked(13).ok_or(DAMAGED)?;
    if head[0] != VERSION {
        return Err(DAMAGED);
    }
    let end = String::from_utf8(end.to_vec()).map_err(|_| DAMAGED)?;
    if head[1..9] != list.to_le_bytes() {
        return Err("this cursor belongs to another list or other filters");
    }
    match encode(list, &end) == text {
        true => Ok(end),
        false => Err(DAMAGED),
    }
}

/// FNV-1a over texts: finds mistakes, keeps no secrets.
fn fingerprint<'a>(texts: impl Iterator<Item = &'a &'a str>) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    texts.fold(0xcbf2_9ce4_8422_2325, |hash, text| {
        // A text ends with a byte that no UTF-8 has, so that "ab","c" is not "a","bc".
        text.bytes().chain([0xff]).fold(hash, step)
    })
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::super::call::tests::call;
    use super::*;

    fn range(query: &str, filters: &[&str]) -> (Range, bool) {
        let call = call(Method::GET, &format!("/v1/x?{query}"), &[], "");
        let mut params = call.params(&["limit", "cursor"]);
        let range = Range::read(&mut params, "x", filters);
        (range, params.problems.is_empty())
    }

    #[test]
    fn a_cursor_continues_its_own_list_only() {
        let (first, _) = range("limit=2", &["f"]);
        let page = first.page(7, vec!["a", "b", "c"], |row| (*row).to_owned(), |row| row);
        assert_eq!((page.data, page.has_more), (vec!["a", "b"], true));
        let cursor = page.next_cursor.unwrap();
        let query = format!("cursor={cursor}");
        assert_eq!(range(&query, &["f"]).0.after.as_deref(), Some("b"));
        assert!(!range(&query, &["g"]).1);
        for at in 0..cursor.len() {
            let mut damaged = cursor.clone().into_bytes();
            damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
            let query = format!("cursor={}", String::from_utf8(damaged).unwrap());
            assert!(!range(&query, &["f"]).1, "digit {at}");
        }
        assert!(!range("cursor=", &[]).1);
        assert!(!range("cursor=zz", &[]).1);
    }

    #[test]
    fn the_last_page_has_no_cursor() {
        let (all, _) = range("", &[]);
        let page = all.page(7, vec!["a"], |row| (*row).to_owned(), |row| row);
        assert_eq!((page.has_more, page.next_cursor), (false, None));
    }

    #[test]
    fn a_limit_is_a_number_in_bounds() {
        assert_eq!(range("limit=1000", &[]).0.limit, 1000);
        assert_eq!(range("", &[]).0.limit, LIMIT_DEFAULT);
        for bad in [
            "0",
            "1001",
            "-1",
            "+1",
            "x",
            "",
            "1.0",
            "99999999999999999999",
        ] {
            assert!(!range(&format!("limit={bad}"), &[]).1, "{bad:?}");
        }
    }
}
