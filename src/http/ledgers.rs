//! Ledgers: sets of accounts in one asset.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use serde::Serialize;

use super::answer::{Answer, Created, Sums, Text, rfc3339};
use super::call::{Input, READ_PARAMS};
use super::error::{ApiError, Code};
use super::json::read_object;
use super::page::{LIST_PARAMS, Range};
use super::{Shared, blocking};
use crate::machine::command::{ASSET_LEN_MAX, SCALE_MAX};
use crate::machine::{Command, NewLedger, Reply};
use crate::raft::{LedgerRow, TrialBalance};

const LEDGERS: &str = "/v1/ledgers/";

pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/ledgers", post(create).get(list))
        .route("/v1/ledgers/{id}", get(show))
        .route("/v1/ledgers/{id}/trial-balance", get(trial_balance))
}

/// A ledger as clients see it.
#[derive(Debug, Serialize)]
struct Ledger {
    id: String,
    asset: String,
    scale: u8,
    totals: Sums,
    created_at: String,
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
    let (id, asset, scale) = read_object(&call.body, |fields| {
        let id = fields.id("id");
        let asset = fields.text("asset", "1 to 16 of [A-Za-z0-9._-]", is_asset);
        let scale = fields.integer("scale", u64::from(SCALE_MAX));
        fields.done(&["id", "asset", "scale"]);
        (
            id,
            asset,
            u8::try_from(scale).expect("bounded by SCALE_MAX"),
        )
    })?;
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
    Ok(Answer::json(&page).read(rows.index, level, &permit))
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
#[derive(Debug, Serialize)]
struct Trial {
    ledger: String,
    asset: String,
    scale: u8,
    accounts: Text<u64>,
    totals: Sums,
    summed: Sums,
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
