//! Accounts and their balances.

use std::borrow::Cow;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::Serialize;

use super::answer::{Answer, Created, Sums, Text, display, rfc3339};
use super::call::{Input, READ_PARAMS};
use super::error::{ApiError, Code};
use super::json::read_object;
use super::page::Range;
use super::transfers::{Transfer, position, position_text};
use super::{Shared, blocking};
use crate::machine::{Balance, Command, Limits, NewAccount, Reply};
use crate::raft::{AccountRow, Order};

const ACCOUNTS: &str = "/v1/accounts/";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/accounts", post(create).get(list))
        .route("/v1/accounts/{id}", get(show))
        .route("/v1/accounts/{id}/transfers", get(transfers))
}

/// An account as clients see it.
#[derive(Debug, Serialize)]
struct Account {
    id: String,
    ledger: String,
    code: u32,
    normal_side: &'static str,
    limits: AccountLimits,
    balance: AccountBalance,
    created_at: String,
    created_index: Text<u64>,
}

#[derive(Debug, Serialize)]
struct AccountLimits {
    debits_must_not_exceed_credits: bool,
    credits_must_not_exceed_debits: bool,
}

#[derive(Debug, Serialize)]
struct AccountBalance {
    #[serde(flatten)]
    sums: Sums,
    balance: String,
    display: String,
    asset: String,
}

/// The side on which an account grows. One that must not be credited beyond its debits (a loan, a cash box) grows by debits,
/// every other by credits.
fn normal_side(limits: Limits) -> &'static str {
    match limits.credits_must_not_exceed_debits && !limits.debits_must_not_exceed_credits {
        true => "debit",
        false => "credit",
    }
}

/// Sign and size of a balance, counted on the normal side: up to 2^128 - 1 either way, more than an `i128` holds.
fn signed(side: &str, sums: Balance) -> (&'static str, u128) {
    let (plus, minus) = match side {
        "debit" => (sums.debits, sums.credits),
        _ => (sums.credits, sums.debits),
    };
    (if plus < minus { "-" } else { "" }, plus.abs_diff(minus))
}

impl From<AccountRow> for Account {
    fn from(row: AccountRow) -> Account {
        let side = normal_side(row.limits);
        let (sign, size) = signed(side, row.balance);
        Account {
            id: row.id,
            ledger: row.ledger,
            code: row.code,
            normal_side: side,
            limits: AccountLimits {
                debits_must_not_exceed_credits: row.limits.debits_must_not_exceed_credits,
                credits_must_not_exceed_debits: row.limits.credits_must_not_exceed_debits,
            },
            balance: AccountBalance {
                sums: row.balance.into(),
                balance: format!("{sign}{size}"),
                display: format!("{sign}{}", display(size, row.scale)),
                asset: row.asset,
            },
            created_at: rfc3339(row.created_ns),
            created_index: Text(row.created.index),
        }
    }
}

async fn create(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.expect_json()?;
    let terms = call.terms("POST /v1/accounts")?;
    let (id, ledger, code, limits) = read_object(&call.body, |fields| {
        let id = fields.id("id");
        let ledger = fields.id("ledger");
        let code = fields.code("code");
        let limits = fields.object("limits", |fields| {
            let limits = Limits {
                debits_must_not_exceed_credits: fields.flag("debits_must_not_exceed_credits"),
                credits_must_not_exceed_debits: fields.flag("credits_must_not_exceed_debits"),
            };
            fields.done(&[
                "debits_must_not_exceed_credits",
                "credits_must_not_exceed_debits",
            ]);
            limits
        });
        fields.done(&["id", "ledger", "code", "limits"]);
        (id, ledger, code, limits)
    })?;
    let command = Command::CreateAccount(NewAccount {
        id: &id,
        ledger: &ledger,
        code,
        limits,
    });
    let pending = app.raft.write(&terms.once(command), terms.deadline);
    let written = pending
        .await
        .map_err(|error| ApiError::from(error).check(|| format!("{ACCOUNTS}{id}")))?;
    match written.reply {
        Reply::Account { existence, balance } => {
            let row = app.raft.view().account(&id)?.value;
            let row = row.ok_or_else(|| ApiError::lost("account"))?;
            // Its balance may be newer by now; everything else never changes.
            let row = AccountRow { balance, ..row };
            let index = written.index;
            Ok(Created::answer(
                existence,
                index,
                &format!("{ACCOUNTS}{id}"),
                Account::from(row),
            )
            .replayed(written.replayed))
        }
        _ => Err(ApiError::refused(&written)),
    }
}

async fn list(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let mut params = call.params(&[
        "ledger",
        "prefix",
        "limit",
        "cursor",
        "consistency",
        "timeout",
    ]);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    let ledger = params.id("ledger").map(Cow::into_owned);
    let prefix = params.get("prefix").unwrap_or_default().into_owned();
    let filters = [ledger.as_deref().unwrap_or(""), &prefix];
    let range = Range::read(&mut params, "accounts", &filters);
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let (view, after, limit) = (app.raft.view(), range.after.clone(), range.limit + 1);
    let read = move || view.accounts(ledger.as_deref(), &prefix, after.as_deref(), limit);
    let rows = blocking(read).await?;
    let page = range.page(rows.index, rows.value, |row| row.id.clone(), Account::from);
    Ok(Answer::json(&page).read(rows.index, level, &permit))
}

async fn show(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let id = call.path_id(ACCOUNTS)?;
    let mut params = call.params(READ_PARAMS);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let row = app.raft.view().account(&id)?;
    let account = row
        .value
        .ok_or_else(|| ApiError::absent(Code::AccountNotFound, &id, row.index))?;
    Ok(Answer::at(row.index, Account::from(account)).read(row.index, level, &permit))
}

async fn transfers(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let id = call.path_id(ACCOUNTS)?.into_owned();
    let mut params = call.params(&["sort", "limit", "cursor", "consistency", "timeout"]);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    let order = params.choice("sort", Code::UnsupportedSort, SORTS, parse_order);
    let order = order.unwrap_or(Order::Ascending);
    let sort = format!("{order:?}");
    let range = Range::read(&mut params, "transfers", &[&id, &sort]);
    let after = range.after.as_deref().and_then(position);
    if range.after.is_some() && after.is_none() {
        Range::bad_cursor(&mut params);
    }
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let (view, wanted, limit) = (app.raft.view(), id.clone(), range.limit + 1);
    let rows = blocking(move || view.transfers_of(&wanted, order, after, limit)).await?;
    let absent = || ApiError::absent(Code::AccountNotFound, &id, rows.index);
    let found = rows.value.ok_or_else(absent)?;
    let end = |row: &crate::raft::TransferRow| position_text(row.position);
    let page = range.page(rows.index, found, end, Transfer::from);
    Ok(Answer::json(&page).read(rows.index, level, &permit))
}

/// Values of `sort` of a list of transfers.
const SORTS: &[&str] = &["created_at", "-created_at"];

/// The order named by `sort`: oldest first unless asked otherwise.
fn parse_order(text: &str) -> Option<Order> {
    match text {
        "created_at" => Some(Order::Ascending),
        "-created_at" => Some(Order::Descending),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_balance_is_counted_on_the_normal_side_and_never_overflows() {
        let sums = |debits, credits| Balance { debits, credits };
        assert_eq!(signed("credit", sums(10, 50)), ("", 40));
        assert_eq!(signed("debit", sums(10, 50)), ("-", 40));
        assert_eq!(signed("debit", sums(u128::MAX, 0)), ("", u128::MAX));
        assert_eq!(signed("credit", sums(u128::MAX, 0)), ("-", u128::MAX));
        let wallet = Limits {
            debits_must_not_exceed_credits: true,
            ..Limits::default()
        };
        let loan = Limits {
            credits_must_not_exceed_debits: true,
            ..Limits::default()
        };
        assert_eq!(normal_side(Limits::default()), "credit");
        assert_eq!(normal_side(wallet), "credit");
        assert_eq!(normal_side(loan), "debit");
    }
}
