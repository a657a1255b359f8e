//! Answers of handlers: a body, and the headers that say at which index and level it was true.

use std::fmt::Display;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::call::level_name;
use crate::machine::Balance;
use crate::machine::reply::Existence;
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
        self.index(index)
            .header(STALENESS, staleness)
            .header(REQUESTED, HeaderValue::from_static(level_name(requested)))
            .header(
                EFFECTIVE,
                HeaderValue::from_static(level_name(permit.effective)),
            )
    }
}

/// A body with the index it was true at.
#[derive(Serialize)]
struct Indexed<T> {
    #[serde(flatten)]
    row: T,
    index: Text<u64>,
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
#[derive(Debug, Serialize)]
pub(super) struct Sums {
    debits_posted: Text<u128>,
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

/// Nanoseconds since 1970 as RFC 3339 in UTC, such as `2026-01-31T09:08:07.000000123Z`.
pub(super) fn rfc3339(time_ns: u64) -> String {
    let (seconds, nanos) = (time_ns / 1_000_000_000, time_ns % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of a number of days since 1970 in the Gregorian calendar: years start in March so that the leap day is
/// the last, and 400 years have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
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
    fn times_are_rfc3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(
            rfc3339(951_782_400_000_000_001),
            "2000-02-29T00:00:00.000000001Z"
        );
        assert_eq!(
            rfc3339(1_769_850_487_123_456_789),
            "2026-01-31T09:08:07.123456789Z"
        );
        assert_eq!(
            rfc3339(4_107_542_400_000_000_000),
            "2100-03-01T00:00:00.000000000Z"
        );
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(0);
        for day in 1..200_000 {
            let next = civil(day);
            let same_month = next == (last.0, last.1, last.2 + 1);
            let next_month = next == (last.0, last.1 + 1, 1) && last.2 >= 28;
            let next_year = next == (last.0 + 1, 1, 1) && (last.1, last.2) == (12, 31);
            assert!(
                same_month || next_month || next_year,
                "{last:?} then {next:?}"
            );
            last = next;
        }
    }

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
