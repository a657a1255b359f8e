//! Ledgers: sets of accounts in one asset.

use std::borrow::Cow;

use axum::extract::State;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::answer::{Answer, Created, Indexed, Sums, Text};
use super::call::{Input, READ_PARAMS};
use super::doc::{Operation, schema};
use super::error::{ApiError, Code};
use super::fields::{Fields, describe};
use super::json::read_object;
use super::page::{LIST_PARAMS, Page, Range};
use super::routes::Routes;
use super::time::rfc3339;
use super::{Shared, blocking};
use crate::machine::command::{ASSET_LEN_MAX, SCALE_MAX};
use crate::machine::{Command, NewLedger, Reply};
use crate::raft::{LedgerRow, TrialBalance};

const LEDGERS: &str = "/v1/ledgers/";

pub(super) fn routes() -> Routes {
    let about = |id, summary, description| Operation::new(id, "ledgers", summary, description);
    let create_about = about(
        "createLedger",
        "Create a ledger",
        "A ledger is a set of accounts in one asset. The id makes it safe to send this twice.",
    );
    let list_about = about("listLedgers", "List ledgers", "In order of their ids.");
    let show_about = about("getLedger", "One ledger", "With its totals.");
    let trial_about = about(
        "getTrialBalance",
        "The proof that a ledger balances",
        "Its totals as they are kept, and added up over its accounts for this answer, all of one moment.",
    );
    let example = json!({ "id": "usd", "asset": "USD", "scale": 2 });
    Routes::new()
        .post(
            "/v1/ledgers",
            create,
            create_about
                .writes()
                .takes(describe(new_ledger), example)
                .answers::<Created<Ledger>>(201, "It was created.")
                .answers::<Created<Ledger>>(200, "It exists, with the same fields.")
                .sends(&["Location"])
                .fails(&[Code::ExistsWithDifferentFields]),
        )
        .get(
            "/v1/ledgers",
            list,
            list_about
                .reads()
                .pages()
                .answers::<Page<Ledger>>(200, "A page of ledgers."),
        )
        .get(
            "/v1/ledgers/{id}",
            show,
            one(show_about).answers::<Indexed<Ledger>>(200, "The ledger."),
        )
        .get(
            "/v1/ledgers/{id}/trial-balance",
            trial_balance,
            one(trial_about).answers::<Indexed<Trial>>(200, "Its sums."),
        )
}

/// A read of one ledger.
fn one(operation: Operation) -> Operation {
    operation
        .reads()
        .path("id", "The ledger.", schema::id())
        .fails(&[Code::LedgerNotFound])
}

/// A ledger as clients see it.
#[derive(Debug, Serialize, ToSchema)]
struct Ledger {
    #[schema(schema_with = schema::id)]
    id: String,
    #[schema(schema_with = schema::asset)]
    asset: String,
    /// Decimal places of the minor unit.
    #[schema(maximum = 38)]
    scale: u8,
    totals: Sums,
    #[schema(schema_with = schema::time)]
    created_at: String,
    #[schema(schema_with = schema::digits)]
    created_index: Text<u64>,
}

impl From<LedgerRow> for Ledger {
    fn from(row: LedgerRow) -> Ledger {
        Ledger {
            id: row.id,
            asset: row.asset,
            scale: row.scale,
            totals: row.totals.into(),
            created_at: rfc3339(row.created_ns),
            created_index: Text(row.created.index),
        }
    }
}

async fn create(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.expect_json()?;
    let terms = call.terms("POST /v1/ledgers")?;
    let (id, asset, scale) = read_object(&call.body, new_ledger)?;
    let command = Command::CreateLedger(NewLedger {
        id: &id,
        asset: &asset,
        scale,
    });
    let pending = app.raft.write(&terms.once(command), terms.deadline);
    let written = pending
        .await
        .map_err(|error| ApiError::from(error).check(|| format!("{LEDGERS}{id}")))?;
    match written.reply {
        Reply::Ledger { existence, totals } => {
            let row = app.raft.view().ledger(&id)?.value;
            let row = row.ok_or_else(|| ApiError::lost("ledger"))?;
            // Its totals may be newer by now; everything else never changes.
            let row = LedgerRow { totals, ..row };
            let index = written.index;
            Ok(Created::answer(
                existence,
                index,
                &format!("{LEDGERS}{id}"),
                Ledger::from(row),
            )
            .replayed(written.replayed))
        }
        _ => Err(ApiError::refused(&written)),
    }
}

/// Id, asset and scale.
fn new_ledger<'a>(fields: &mut Fields<'_, 'a>) -> (Cow<'a, str>, Cow<'a, str>, u8) {
    let id = fields.id("id");
    let wanted = "1 to 16 of [A-Za-z0-9._-]";
    let asset = fields.text("asset", wanted, schema::asset, is_asset);
    let scale = fields.integer("scale", u32::from(SCALE_MAX));
    fields.done(&["id", "asset", "scale"]);
    let scale = u8::try_from(scale).expect("bounded by SCALE_MAX");
    (id, asset, scale)
}

fn is_asset(asset: &str) -> bool {
    (1..=ASSET_LEN_MAX).contains(&asset.len())
        && asset
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

async fn list(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let mut params = call.params(LIST_PARAMS);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    let range = Range::read(&mut params, "ledgers", &[]);
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let (view, after, limit) = (app.raft.view(), range.after.clone(), range.limit + 1);
    let rows = blocking(move || view.ledgers(after.as_deref(), limit)).await?;
    let page = range.page(rows.index, rows.value, |row| row.id.clone(), Ledger::from);
    Ok(Answer::page(&call, &page).read(rows.index, level, &permit))
}

async fn show(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let id = call.path_id(LEDGERS)?;
    let mut params = call.params(READ_PARAMS);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let row = app.raft.view().ledger(&id)?;
    let ledger = row
        .value
        .ok_or_else(|| ApiError::absent(Code::LedgerNotFound, &id, row.index))?;
    Ok(Answer::at(row.index, Ledger::from(ledger)).read(row.index, level, &permit))
}

/// The proof that a ledger balances: its totals as the machine keeps them, and added up over its accounts.
#[derive(Debug, Serialize, ToSchema)]
struct Trial {
    #[schema(schema_with = schema::id)]
    ledger: String,
    #[schema(schema_with = schema::asset)]
    asset: String,
    #[schema(maximum = 38)]
    scale: u8,
    /// How many accounts were added up.
    #[schema(schema_with = schema::digits)]
    accounts: Text<u64>,
    totals: Sums,
    summed: Sums,
    /// Whether all four sums say that debits equal credits.
    balanced: bool,
}

impl From<TrialBalance> for Trial {
    fn from(trial: TrialBalance) -> Trial {
        let (totals, summed) = (trial.ledger.totals, trial.summed);
        Trial {
            ledger: trial.ledger.id,
            asset: trial.ledger.asset,
            scale: trial.ledger.scale,
            accounts: Text(trial.accounts),
            totals: totals.into(),
            summed: summed.into(),
            balanced: totals == summed && summed.debits == summed.credits,
        }
    }
}

async fn trial_balance(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let id = call.path_id(LEDGERS)?.into_owned();
    let mut params = call.params(READ_PARAMS);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let view = app.raft.view();
    let wanted = id.clone();
    let trial = blocking(move || view.trial_balance(&wanted)).await?;
    let sums = trial
        .value
        .ok_or_else(|| ApiError::absent(Code::LedgerNotFound, &id, trial.index))?;
    Ok(Answer::at(trial.index, Trial::from(sums)).read(trial.index, level, &permit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Balance;
    use crate::machine::Position;

    #[test]
    fn a_trial_balance_shows_whether_it_balances() {
        let sums = |debits, credits| Balance { debits, credits };
        let trial = |totals, summed| {
            let ledger = LedgerRow {
                id: "usd".into(),
                asset: "USD".into(),
                scale: 2,
                created: Position {
                    index: 1,
                    record: 0,
                },
                created_ns: 0,
                totals,
            };
            Trial::from(TrialBalance {
                ledger,
                summed,
                accounts: 2,
            })
            .balanced
        };
        assert!(trial(sums(5, 5), sums(5, 5)));
        assert!(!trial(sums(5, 5), sums(5, 4)));
        assert!(!trial(sums(5, 5), sums(4, 4)));
        assert!(!trial(sums(5, 4), sums(5, 4)));
    }
}
