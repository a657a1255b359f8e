//! Answers of handlers: a body, and the headers that say at which index and level it was true.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{AllOfBuilder, Object, ObjectBuilder, Schema};
use utoipa::openapi::{Ref, RefOr};
use utoipa::{PartialSchema, ToSchema};

use super::call::{Call, level_name};
use super::doc::schema;
use super::page::Page;
use crate::machine::Balance;
use crate::machine::reply::Existence;
use crate::mutants::{self, Mutant};
use crate::raft::{Permit, ReadLevel};

/// Log index of a write, or the index of the state that was read.
pub(super) const INDEX: HeaderName = HeaderName::from_static("quorate-index");
/// `true` on an answer given again under an idempotency key.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Proven upper bound on the age of what was read, or `unknown`.
pub(super) const STALENESS: HeaderName = HeaderName::from_static("quorate-staleness");
/// Level asked for.
pub(super) const REQUESTED: HeaderName = HeaderName::from_static("consistency-requested");
/// Level reached: the same or a stronger one.
pub(super) const EFFECTIVE: HeaderName = HeaderName::from_static("consistency-effective");

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    response: Response,
}

impl Answer {
    /// A JSON body with status 200.
    pub(super) fn json(body: &impl Serialize) -> Answer {
        let text = serde_json::to_vec(body).expect("our own types are JSON");
        Answer::bytes("application/json", text.into())
    }

    /// Any body with status 200.
    pub(super) fn bytes(content_type: &'static str, body: Bytes) -> Answer {
        let mut response = Response::new(body.into());
        let content_type = HeaderValue::from_static(content_type);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type);
        Answer { response }
    }

    /// A body that is made while it is sent.
    pub(super) fn stream(content_type: &'static str, body: Body) -> Answer {
        let answer = Answer::bytes(content_type, Bytes::new());
        Answer {
            response: answer.response.map(|_| body),
        }
    }

    /// A page of a list, and where the next one is.
    pub(super) fn page<T: Serialize>(call: &Call, page: &Page<T>) -> Answer {
        let answer = Answer::json(page);
        match page.next_cursor() {
            Some(cursor) => answer.header(header::LINK, next_link(&call.uri, cursor)),
            None => answer,
        }
    }

    /// Another success than 200.
    pub(super) fn status(mut self, status: StatusCode) -> Answer {
        *self.response.status_mut() = status;
        self
    }

    /// One more header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Answer {
        self.response.headers_mut().insert(name, value);
        self
    }

    /// The index this is true at.
    pub(super) fn index(self, index: u64) -> Answer {
        self.header(INDEX, index.into())
    }

    /// Says so if the answer was given before, to the same request under the same idempotency key.
    pub(super) fn replayed(self, replayed: bool) -> Answer {
        match replayed {
            true => self.header(REPLAYED, HeaderValue::from_static("true")),
            false => self,
        }
    }

    /// How it was read.
    pub(super) fn read(self, index: u64, requested: ReadLevel, permit: &Permit) -> Answer {
        let staleness = match permit.staleness {
            Some(Duration::ZERO) => HeaderValue::from_static("0ms"),
            Some(age) => {
                HeaderValue::from_str(&format!("{}ms", age.as_nanos().div_ceil(1_000_000)))
                    .expect("digits and letters are visible ASCII")
            }
            None => HeaderValue::from_static("unknown"),
        };
        let index = index + u64::from(mutants::on(Mutant::AppliedTooHigh));
        self.index(index)
            .header(STALENESS, staleness)
            .header(REQUESTED, HeaderValue::from_static(level_name(requested)))
            .header(
                EFFECTIVE,
                HeaderValue::from_static(level_name(permit.effective)),
            )
    }
}

/// The same list from `cursor` on.
fn next_link(uri: &Uri, cursor: &str) -> HeaderValue {
    let others = uri.query().unwrap_or_default().split('&');
    let mut query: Vec<String> = others
        .filter(|pair| !pair.is_empty() && pair.split('=').next() != Some("cursor"))
        .map(str::to_owned)
        .collect();
    query.push(format!("cursor={cursor}"));
    let link = format!("<{}?{}>; rel=\"next\"", uri.path(), query.join("&"));
    HeaderValue::from_str(&link).expect("a request's target is visible ASCII")
}

/// A body with the index it was true at.
#[derive(Serialize)]
pub(super) struct Indexed<T> {
    #[serde(flatten)]
    row: T,
    index: Text<u64>,
}

impl<T: ToSchema> PartialSchema for Indexed<T> {
    fn schema() -> RefOr<Schema> {
        let index = described(schema::digits(), "The applied index at which this was so.");
        beside::<T>([("index", index)])
    }
}

impl<T: ToSchema> ToSchema for Indexed<T> {
    fn name() -> Cow<'static, str> {
        format!("Indexed{}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// The members of `T` and some more.
fn beside<T: ToSchema>(members: impl IntoIterator<Item = (&'static str, Object)>) -> RefOr<Schema> {
    let more = members
        .into_iter()
        .fold(ObjectBuilder::new(), |more, (name, schema)| {
            more.property(name, schema).required(name)
        });
    let all = AllOfBuilder::new()
        .item(Ref::from_schema_name(T::name()))
        .item(more);
    Schema::AllOf(all.build()).into()
}

fn described(schema: Object, about: &str) -> Object {
    ObjectBuilder::from(schema).description(Some(about)).build()
}

impl Answer {
    /// `row` as JSON, with the index it was true at.
    pub(super) fn at(index: u64, row: impl Serialize) -> Answer {
        Answer::json(&Indexed {
            row,
            index: Text(index),
        })
    }
}

/// The body of a create: the row and what was done.
#[derive(Debug, Serialize)]
pub(super) struct Created<T> {
    result: &'static str,
    #[serde(flatten)]
    row: T,
    index: Text<u64>,
}

impl<T: ToSchema> PartialSchema for Created<T> {
    fn schema() -> RefOr<Schema> {
        let about = "`created` now, or `exists` with the same fields.";
        let result = described(created_or_exists(), about);
        let index = described(schema::digits(), "The log index of this write.");
        beside::<T>([("result", result), ("index", index)])
    }
}

impl<T: ToSchema> ToSchema for Created<T> {
    fn name() -> Cow<'static, str> {
        format!("Created{}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Indexed::<T>::schemas(schemas);
    }
}

/// The two results of a create.
pub(super) fn created_or_exists() -> Object {
    schema::one_of(&["created", "exists"])
}

impl<T: Serialize> Created<T> {
    /// The answer to a create at log index `index` of `row`, which stands at `url`.
    pub(super) fn answer(existence: Existence, index: u64, url: &str, row: T) -> Answer {
        let (status, result) = created_status(existence);
        let answer = Answer::json(&Created {
            result,
            row,
            index: Text(index),
        });
        location(answer.status(status).index(index), url)
    }
}

/// Status and `result` of a create.
pub(super) fn created_status(existence: Existence) -> (StatusCode, &'static str) {
    match existence {
        Existence::Created => (StatusCode::CREATED, "created"),
        Existence::Existed => (StatusCode::OK, "exists"),
    }
}

/// Adds where the thing stands. Ids need no escaping in a path.
pub(super) fn location(answer: Answer, url: &str) -> Answer {
    let url = HeaderValue::from_str(url).expect("ids are visible ASCII");
    answer.header(header::LOCATION, url)
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        self.response
    }
}

/// A number as a JSON string: JSON readers lose integers beyond 2^53.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The two sums of an account or a ledger.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sums {
    /// All that was debited.
    #[schema(schema_with = schema::digits)]
    debits_posted: Text<u128>,
    /// All that was credited.
    #[schema(schema_with = schema::digits)]
    credits_posted: Text<u128>,
}

impl From<Balance> for Sums {
    fn from(balance: Balance) -> Sums {
        Sums {
            debits_posted: Text(balance.debits),
            credits_posted: Text(balance.credits),
        }
    }
}

/// Minor units with a point, for people: `1250` at scale 2 is `12.50`.
pub(super) fn display(amount: u128, scale: u8) -> String {
    let scale = usize::from(scale);
    let digits = format!("{amount:0>width$}", width = scale + 1);
    match scale {
        0 => digits,
        _ => format!(
            "{}.{}",
            &digits[..digits.len() - scale],
            &digits[digits.len() - scale..]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_with_their_point() {
        assert_eq!(display(1250, 2), "12.50");
        assert_eq!(display(5, 2), "0.05");
        assert_eq!(display(0, 2), "0.00");
        assert_eq!(display(7, 0), "7");
        assert_eq!(
            display(u128::MAX, 38),
            "3.40282366920938463463374607431768211455"
        );
    }
}
