//! The transfers of an account: by pages that all show one moment, or the whole of it as CSV or NDJSON.
//!
//! The account's history is an index in order of log time. Filters are looked at row by row, so that a page looks at
//! [`SCAN_MAX`] rows at most: it may be short, or empty, and still say that there is more.

mod scan;
mod stream;

use std::borrow::Cow;

use axum::extract::State;
use serde_json::json;

use super::accept::{self, JSON};
use super::answer::Answer;
use super::call::{Call, Input, Params};
use super::doc::{Operation, schema};
use super::error::{ApiError, Code, Problem};
use super::page::{Page, Range};
use super::problems::Place;
use super::routes::Routes;
use super::transfers::{Transfer, position, position_text};
use super::{Shared, blocking, time};
use crate::machine::Position;
use crate::raft::{Order, Permit, ReadLevel};
use scan::{Filter, Scan, Side};

const ACCOUNTS: &str = "/v1/accounts/";
const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";
const MADE: &[&str] = &[JSON, CSV, NDJSON];
/// Most rows that one page looks at.
const SCAN_MAX: usize = 10_000;
/// Values of `sort`.
const SORTS: &[&str] = &["created_at", "-created_at"];
const SIDES: &[&str] = &["debit", "credit", "any"];
/// Parameters of the whole.
const STREAM_PARAMS: [&str; 7] = [
    "sort",
    "side",
    "code",
    "from",
    "to",
    "consistency",
    "timeout",
];

pub(super) fn routes() -> Routes {
    let of_account = about("listAccountTransfers", "The transfers of an account");
    let of_all = about("listTransfers", "Transfers, by account");
    Routes::new()
        .get(
            "/v1/accounts/{id}/transfers",
            of_path,
            of_account.path("id", "The account.", schema::id()),
        )
        .get(
            "/v1/transfers",
            of_query,
            of_all
                .query("account", "The account; needed.", schema::id())
                .needs("account"),
        )
}

fn about(id: &'static str, summary: &'static str) -> Operation {
    let description = "Those that were posted, in order of log time. All pages of one list show the moment of the first: what \
        is posted later is not in them. Filters are looked at row by row, 10,000 rows a page at most, so a page may be short or \
        empty though there is more. As CSV or NDJSON the whole list is sent, of one moment too, and takes no `limit` and no \
        `cursor`; an end without the last chunk of the body means that it is not whole. No cell of the CSV can be taken for a \
        formula: ids begin with a letter or a digit, metadata with a brace.";
    let time = "RFC 3339, or a date, which begins at midnight UTC.";
    Operation::new(id, "transfers", summary, description)
        .reads()
        .pages()
        .makes(MADE)
        .query(
            "sort",
            "Oldest first, unless it starts with `-`.",
            schema::one_of(SORTS),
        )
        .query(
            "side",
            "Only those that debit, or credit, the account.",
            schema::one_of(SIDES),
        )
        .query("code", "Only those of this code.", schema::small())
        .query(
            "from",
            &format!("Only those of this log time and later. {time}"),
            schema::moment(),
        )
        .query(
            "to",
            &format!("Only those before this log time. {time}"),
            schema::moment(),
        )
        .answers_also::<Page<Transfer>>(
            200,
            "A page of transfers, or all of them.",
            &[(CSV, schema::text()), (NDJSON, schema::text())],
        )
        .fails(&[
            Code::AccountNotFound,
            Code::UnsupportedSort,
            Code::IndexNotReached,
        ])
}

async fn of_path(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let id = call.path_id(ACCOUNTS)?.into_owned();
    answer(&app, &call, |_| id).await
}

async fn of_query(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let account = |params: &mut Params<'_>| {
        let id = params.id("account").map(Cow::into_owned);
        id.unwrap_or_else(|| {
            let place = Place::Parameter("account".to_owned());
            let detail = "\"account\" is needed: transfers are listed by account";
            params.problems.add(place, Code::InvalidValue, detail);
            String::new()
        })
    };
    answer(&app, &call, account).await
}

async fn answer(
    app: &Shared,
    call: &Call,
    account: impl FnOnce(&mut Params<'_>) -> String,
) -> Result<Answer, ApiError> {
    let media = accept::choose(&call.headers, MADE)?;
    let whole = media != JSON;
    let mut allowed = STREAM_PARAMS.to_vec();
    if !whole {
        allowed.extend(["limit", "cursor"]);
    }
    if call.uri.path() == "/v1/transfers" {
        allowed.push("account");
    }
    let mut params = call.params(&allowed);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    let filter = filter(&mut params, account);
    let range = Range::read(&mut params, "transfers", &[&filter.fingerprint()]);
    let begin = range.after.as_deref().map(parse_cursor);
    if begin == Some(None) {
        Range::bad_cursor(&mut params);
    }
    params.problems.finish()?;
    let mut permit = app.raft.read(level, deadline).await?;
    let begin = begin.flatten();
    if begin.is_some() {
        // What it will show is as old as its first page, whenever that was.
        permit.staleness = None;
    }
    if let Some((pin, _)) = begin
        && app.raft.view().index() < pin
        && !app.raft.wait_applied(pin, deadline).await
    {
        return Err(behind(pin, app.raft.view().index()));
    }
    let scan = Scan::new(app.raft.view(), filter, begin);
    match whole {
        true => stream::answer(scan, media, level, permit).await,
        false => page(scan, &range, call, level, &permit).await,
    }
}

async fn page(
    mut scan: Scan,
    range: &Range,
    call: &Call,
    level: ReadLevel,
    permit: &Permit,
) -> Result<Answer, ApiError> {
    let limit = range.limit;
    let (scan, found) = blocking(move || {
        let found = scan.next(limit, SCAN_MAX)?;
        Ok((scan, found))
    })
    .await?;
    let absent = || ApiError::absent(Code::AccountNotFound, scan.account(), scan.pin());
    let found = found.ok_or_else(absent)?;
    let pin = scan.pin();
    let next = found
        .more
        .map(|after| format!("{pin}:{}", position_text(after)));
    let rows = found.rows.into_iter().map(Transfer::from).collect();
    let page = range.page_to(pin, rows, next);
    Ok(Answer::page(call, &page).read(pin, level, permit))
}

/// What a cursor holds: the moment that all pages show, and where the page before ended.
fn parse_cursor(text: &str) -> Option<(u64, Position)> {
    let (pin, after) = text.split_once(':')?;
    Some((pin.parse().ok()?, position(after)?))
}

/// This node is behind the moment that the first page showed.
fn behind(pin: u64, index: u64) -> ApiError {
    let detail = format!("the list is of index {pin}, and this node has applied {index}");
    let problem =
        Problem::new(Code::IndexNotReached, detail).with("wanted", json!(pin.to_string()));
    problem.at(index).into()
}

fn filter(params: &mut Params<'_>, account: impl FnOnce(&mut Params<'_>) -> String) -> Filter {
    let order = params.choice("sort", Code::UnsupportedSort, SORTS, |text| match text {
        "created_at" => Some(Order::Ascending),
        "-created_at" => Some(Order::Descending),
        _ => None,
    });
    let side = params.choice("side", Code::InvalidValue, SIDES, |text| match text {
        "debit" => Some(Side::Debit),
        "credit" => Some(Side::Credit),
        "any" => Some(Side::Any),
        _ => None,
    });
    Filter {
        account: account(params),
        order: order.unwrap_or(Order::Ascending),
        side: side.unwrap_or(Side::Any),
        code: params.number("code"),
        from: moment(params, "from"),
        to: moment(params, "to"),
    }
}

fn moment(params: &mut Params<'_>, name: &str) -> Option<u64> {
    let text = params.get(name)?;
    let parsed = time::parse(&text);
    if parsed.is_none() {
        let detail = format!("{text:?} is neither a time such as 2026-01-31T09:08:07Z nor a date");
        let place = Place::Parameter(name.to_owned());
        params.problems.add(place, Code::InvalidValue, detail);
    }
    parsed
}
