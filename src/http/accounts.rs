//! Accounts and their balances.

use std::borrow::Cow;

use axum::extract::State;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::answer::{Answer, Created, Indexed, Sums, Text, display};
use super::call::{Input, READ_PARAMS};
use super::doc::{Operation, schema};
use super::error::{ApiError, Code};
use super::fields::{Fields, describe};
use super::json::read_object;
use super::page::{Page, Range};
use super::routes::Routes;
use super::time::rfc3339;
use super::{Shared, blocking};
use crate::machine::{Balance, Command, Fault, Limits, NewAccount, Reply};
use crate::mutants::{self, Mutant};
use crate::raft::{AccountRow, View};

const ACCOUNTS: &str = "/v1/accounts/";

pub(super) fn routes() -> Routes {
    let about = |id, summary, description| Operation::new(id, "accounts", summary, description);
    let create_about = about(
        "createAccount",
        "Create an account",
        "Its limits bind every transfer for ever. The id makes it safe to send this twice.",
    );
    let list_about = about(
        "listAccounts",
        "List accounts",
        "In order of their ids. Each page shows the balances of its own `index`.",
    );
    let show_about = about("getAccount", "One account", "With its balance.");
    let example = json!({
        "id": "users:alice", "ledger": "usd", "code": 2, "limits": { "debits_must_not_exceed_credits": true },
    });
    Routes::new()
        .post(
            "/v1/accounts",
            create,
            create_about
                .writes()
                .takes(describe(new_account), example)
                .answers::<Created<Account>>(201, "It was created.")
                .answers::<Created<Account>>(200, "It exists, with the same fields.")
                .sends(&["Location"])
                .fails(&[Code::ExistsWithDifferentFields, Code::RefusedLedgerNotFound]),
        )
        .get(
            "/v1/accounts",
            list,
            list_about
                .reads()
                .pages()
                .query("ledger", "Only those of this ledger.", schema::id())
                .query(
                    "prefix",
                    "Only those whose id starts so.",
                    schema::id_prefix(),
                )
                .query(
                    "code",
                    "Only those of this code; looked at row by row, 10,000 a page.",
                    schema::small(),
                )
                .answers::<Page<Account>>(200, "A page of accounts."),
        )
        .get(
            "/v1/accounts/{id}",
            show,
            one(show_about).answers::<Indexed<Account>>(200, "The account."),
        )
}

/// A read of one account.
fn one(operation: Operation) -> Operation {
    operation
        .reads()
        .path("id", "The account.", schema::id())
        .fails(&[Code::AccountNotFound])
}

/// An account as clients see it.
#[derive(Debug, Serialize, ToSchema)]
struct Account {
    #[schema(schema_with = schema::id)]
    id: String,
    #[schema(schema_with = schema::id)]
    ledger: String,
    /// A kind, of the client's choice.
    #[schema(schema_with = schema::small)]
    code: u32,
    /// The side on which it grows.
    #[schema(schema_with = side)]
    normal_side: &'static str,
    limits: AccountLimits,
    balance: AccountBalance,
    #[schema(schema_with = schema::time)]
    created_at: String,
    #[schema(schema_with = schema::digits)]
    created_index: Text<u64>,
}

fn side() -> utoipa::openapi::Object {
    schema::one_of(&["debit", "credit"])
}

#[derive(Debug, Serialize, ToSchema)]
struct AccountLimits {
    /// A wallet: it cannot be overdrawn.
    debits_must_not_exceed_credits: bool,
    /// A loan or a cash box.
    credits_must_not_exceed_debits: bool,
}

#[derive(Debug, Serialize, ToSchema)]
struct AccountBalance {
    #[serde(flatten)]
    sums: Sums,
    /// The difference, counted on the normal side, in minor units.
    #[schema(schema_with = schema::signed_digits)]
    balance: String,
    /// The same in major units, for people.
    #[schema(schema_with = schema::display)]
    display: String,
    #[schema(schema_with = schema::asset)]
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
    let Draft {
        id,
        ledger,
        code,
        limits,
    } = read_object(&call.body, new_account)?;
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

/// An account as a body describes it.
struct Draft<'a> {
    id: Cow<'a, str>,
    ledger: Cow<'a, str>,
    code: u32,
    limits: Limits,
}

fn new_account<'a>(fields: &mut Fields<'_, 'a>) -> Draft<'a> {
    let draft = Draft {
        id: fields.id("id"),
        ledger: fields.id("ledger"),
        code: fields.code("code"),
        limits: fields.object("limits", limits),
    };
    fields.done(&["id", "ledger", "code", "limits"]);
    draft
}

fn limits(fields: &mut Fields<'_, '_>) -> Limits {
    let limits = Limits {
        debits_must_not_exceed_credits: fields.flag("debits_must_not_exceed_credits"),
        credits_must_not_exceed_debits: fields.flag("credits_must_not_exceed_debits"),
    };
    fields.done(&[
        "debits_must_not_exceed_credits",
        "credits_must_not_exceed_debits",
    ]);
    limits
}

async fn list(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let mut params = call.params(&[
        "ledger",
        "prefix",
        "code",
        "limit",
        "cursor",
        "consistency",
        "timeout",
    ]);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    let wanted = Wanted {
        ledger: params.id("ledger").map(Cow::into_owned),
        prefix: params.get("prefix").unwrap_or_default().into_owned(),
        code: params.number("code"),
    };
    let range = Range::read(&mut params, "accounts", &[&format!("{wanted:?}")]);
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let (view, after, limit) = (app.raft.view(), range.after.clone(), range.limit);
    let found = blocking(move || look(&view, &wanted, after, limit)).await?;
    let rows = found.rows.into_iter().map(Account::from).collect();
    let page = range.page_to(found.index, rows, found.more);
    Ok(Answer::page(&call, &page).read(found.index, level, &permit))
}

/// Which accounts a list is of.
#[derive(Debug)]
struct Wanted {
    ledger: Option<String>,
    prefix: String,
    code: Option<u32>,
}

/// Accounts that were found.
struct Found {
    /// The index at which their balances were read.
    index: u64,
    rows: Vec<AccountRow>,
    /// The id to go on after, if there is or may be more.
    more: Option<String>,
}

/// Most rows that one page looks at.
const SCAN_MAX: usize = 10_000;
/// Rows looked at in one go, as of one moment.
const CHUNK: usize = 1000;

/// The accounts wanted after an id, up to `limit`. Ledger and prefix are an index, the code is looked at row by row: a page
/// that finds some in what it looked at ends there, so that all its balances are of one moment.
fn look(
    view: &View,
    wanted: &Wanted,
    mut after: Option<String>,
    limit: usize,
) -> Result<Found, Fault> {
    let mut looked_at = 0;
    loop {
        let count = match wanted.code {
            Some(_) => CHUNK,
            None => limit,
        };
        let ledger = wanted.ledger.as_deref();
        let looked = view.accounts(ledger, &wanted.prefix, after.as_deref(), count + 1)?;
        let (mut rows, index) = (looked.value, looked.index);
        if mutants::on(Mutant::BankReadTorn) {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let later = view.accounts(ledger, &wanted.prefix, after.as_deref(), count + 1)?;
            let half = rows.len() / 2;
            rows.splice(half.., later.value.into_iter().skip(half));
        }
        let mut more = (rows.len() > count).then(|| rows[count - 1].id.clone());
        rows.truncate(count);
        looked_at += rows.len();
        rows.retain(|row| wanted.code.is_none_or(|code| code == row.code));
        if rows.len() > limit {
            rows.truncate(limit);
            more = rows.last().map(|row| row.id.clone());
        }
        if !rows.is_empty() || more.is_none() || looked_at >= SCAN_MAX {
            return Ok(Found { index, rows, more });
        }
        after = more;
    }
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
