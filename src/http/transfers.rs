//! Single transfers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::answer::{Answer, Sums, Text, created_or_exists, created_status, location};
use super::call::{Input, READ_PARAMS};
use super::doc::{Operation, schema};
use super::error::{ApiError, Code};
use super::fields::{Fields, describe};
use super::json::read_object;
use super::routes::Routes;
use super::time::rfc3339;
use super::{Shared, blocking};
use crate::machine::record::refusal;
use crate::machine::reply::Existence;
use crate::machine::{AccountRef, Command, NewTransfer, Position, Reply, TransferResult};
use crate::raft::{At, TransferRow};

pub(super) const TRANSFERS: &str = "/v1/transfers/";

pub(super) fn routes() -> Routes {
    let create_about = Operation::new(
        "createTransfer",
        "transfers",
        "Post a transfer",
        "Debits one account and credits another, or does nothing. Sent again, it is found done; refused for a reason of \
         state, such as insufficient funds, it stays refused.",
    );
    let show_about = Operation::new(
        "getTransfer",
        "transfers",
        "One transfer",
        "Posted, or refused for ever.",
    );
    Routes::new()
        .post(
            "/v1/transfers",
            create,
            create_about
                .writes()
                .takes(describe(Draft::read), example("t1"))
                .answers::<Transfer>(201, "It was posted.")
                .answers::<Transfer>(200, "It was posted before, with the same fields.")
                .sends(&["Location"])
                .fails(REFUSALS),
        )
        .get(
            "/v1/transfers/{id}",
            show,
            show_about
                .reads()
                .path("id", "The transfer.", schema::id())
                .answers::<Transfer>(200, "The transfer.")
                .fails(&[Code::TransferNotFound]),
        )
}

/// Why the ledger refuses a transfer.
pub(super) const REFUSALS: &[Code] = &[
    Code::ExistsWithDifferentFields,
    Code::AmountMustNotBeZero,
    Code::AccountsMustDiffer,
    Code::DebitAccountNotFound,
    Code::CreditAccountNotFound,
    Code::LedgerMismatch,
    Code::AmountOverflow,
    Code::ExceedsCredits,
    Code::ExceedsDebits,
    Code::ChainOpen,
    Code::ChainFailed,
];

/// A transfer that would do.
pub(super) fn example(id: &str) -> Value {
    json!({
        "id": id, "debit_account": "bank", "credit_account": "users:alice", "amount": "1250", "code": 1,
        "metadata": { "order": "77" },
    })
}

/// A transfer as a body describes it; borrows from the body where nothing had to be unescaped.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) id: Cow<'a, str>,
    debit: Cow<'a, str>,
    credit: Cow<'a, str>,
    amount: u128,
    code: u32,
    linked: bool,
    metadata: Cow<'a, str>,
}

impl<'a> Draft<'a> {
    /// Takes the fields of a transfer. Whether the ledger will have it is not decided here.
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Draft<'a> {
        let draft = Draft {
            id: fields.id("id"),
            debit: fields.id("debit_account"),
            credit: fields.id("credit_account"),
            amount: fields.amount("amount"),
            code: fields.code("code"),
            linked: fields.flag("linked"),
            metadata: fields.metadata("metadata"),
        };
        fields.done(&[
            "id",
            "debit_account",
            "credit_account",
            "amount",
            "code",
            "linked",
            "metadata",
        ]);
        draft
    }

    /// As the machine wants it.
    pub(super) fn command(&self) -> NewTransfer<'_> {
        NewTransfer {
            id: &self.id,
            debit: AccountRef::Id(&self.debit),
            credit: AccountRef::Id(&self.credit),
            amount: self.amount,
            code: self.code,
            linked: self.linked,
            metadata: &self.metadata,
        }
    }
}

/// A transfer as clients see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Transfer {
    #[schema(schema_with = schema::id)]
    id: String,
    /// In the answer to a create: `created` now, or `exists` with the same fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = created_or_exists, required = false)]
    result: Option<&'static str>,
    #[schema(schema_with = statuses)]
    status: &'static str,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = refusals, required = false)]
    refusal: Option<&'static str>,
    /// Null in a refusal because an account did not exist.
    ledger: Option<String>,
    #[schema(schema_with = schema::id)]
    debit_account: String,
    #[schema(schema_with = schema::id)]
    credit_account: String,
    /// Minor units.
    #[schema(schema_with = schema::digits)]
    amount: Text<u128>,
    /// A kind, of the client's choice.
    #[schema(schema_with = schema::small)]
    code: u32,
    /// Linked to the next of its batch: both or neither.
    linked: bool,
    metadata: BTreeMap<String, String>,
    balances_after: After,
    /// Log time: never runs backwards from one entry to the next.
    #[schema(schema_with = schema::time)]
    created_at: String,
    /// The log index of its entry.
    #[schema(schema_with = schema::digits)]
    created_index: Text<u64>,
    /// Its place in that entry.
    #[schema(schema_with = schema::small)]
    seq: u32,
    /// The log index of this write, or the applied index of this read; absent in lists, which have one for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::digits, required = false)]
    index: Option<Text<u64>>,
}

fn statuses() -> utoipa::openapi::Object {
    schema::one_of(&["posted", "refused"])
}

fn refusals() -> utoipa::openapi::Object {
    let names = (1..=refusal::EXCEEDS_DEBITS).filter_map(refusal_name);
    schema::one_of(&names.collect::<Vec<_>>())
}

/// The sums of both accounts right after.
#[derive(Debug, Serialize, ToSchema)]
struct After {
    debit: Sums,
    credit: Sums,
}

impl From<TransferRow> for Transfer {
    fn from(row: TransferRow) -> Transfer {
        // Written by this service as an object of strings.
        let metadata = match row.metadata.as_str() {
            "" => BTreeMap::new(),
            text => serde_json::from_str(text).unwrap_or_default(),
        };
        Transfer {
            id: row.id,
            result: None,
            status: if row.refusal == 0 {
                "posted"
            } else {
                "refused"
            },
            refusal: refusal_name(row.refusal),
            ledger: row.ledger,
            debit_account: row.debit_account,
            credit_account: row.credit_account,
            amount: Text(row.amount),
            code: row.code,
            linked: row.linked,
            metadata,
            balances_after: After {
                debit: row.debit_after.into(),
                credit: row.credit_after.into(),
            },
            created_at: rfc3339(row.time_ns),
            created_index: Text(row.position.index),
            seq: row.position.record,
            index: None,
        }
    }
}

fn refusal_name(number: u16) -> Option<&'static str> {
    match number {
        0 => None,
        refusal::DEBIT_ACCOUNT_NOT_FOUND => Some("debit_account_not_found"),
        refusal::CREDIT_ACCOUNT_NOT_FOUND => Some("credit_account_not_found"),
        refusal::AMOUNT_OVERFLOW => Some("amount_overflow"),
        refusal::EXCEEDS_CREDITS => Some("exceeds_credits"),
        refusal::EXCEEDS_DEBITS => Some("exceeds_debits"),
        _ => Some("unknown"),
    }
}

async fn create(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.expect_json()?;
    let terms = call.terms("POST /v1/transfers")?;
    let draft = read_object(&call.body, Draft::read)?;
    let command = Command::Transfers(vec![draft.command()]);
    let pending = app.raft.write(&terms.once(command), terms.deadline);
    let written = pending
        .await
        .map_err(|error| ApiError::from(error).check(|| format!("{TRANSFERS}{}", draft.id)))?;
    let result = match &written.reply {
        Reply::Transfers(results) if results.len() == 1 => results[0],
        _ => return Err(ApiError::refused(&written)),
    };
    let (existence, row) = match result {
        // Just applied, so in memory.
        TransferResult::Created(at) if !written.replayed => {
            (Existence::Created, app.raft.view().transfer_at(at)?)
        }
        TransferResult::Created(at) => (Existence::Created, old(&app, at).await?),
        TransferResult::Exists(at) => (Existence::Existed, old(&app, at).await?),
        TransferResult::Refused(_) => return Err(ApiError::refused(&written)),
    };
    let mut transfer = Transfer::from(row.value);
    let (status, result) = created_status(existence);
    transfer.result = Some(result);
    let index = written.index;
    transfer.index = Some(Text(index));
    let answer = Answer::json(&transfer)
        .status(status)
        .index(index)
        .replayed(written.replayed);
    Ok(location(answer, &format!("{TRANSFERS}{}", draft.id)))
}

/// A transfer that may be on the disk by now.
async fn old(app: &Shared, at: Position) -> Result<At<TransferRow>, ApiError> {
    let view = app.raft.view();
    blocking(move || view.transfer_at(at)).await
}

async fn show(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let id = call.path_id(TRANSFERS)?.into_owned();
    let mut params = call.params(READ_PARAMS);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let (view, wanted) = (app.raft.view(), id.clone());
    let row = blocking(move || view.transfer(&wanted)).await?;
    let found = row
        .value
        .ok_or_else(|| ApiError::absent(Code::TransferNotFound, &id, row.index))?;
    let mut transfer = Transfer::from(found);
    transfer.index = Some(Text(row.index));
    Ok(Answer::json(&transfer).read(row.index, level, &permit))
}

/// A position as it stands in cursors.
pub(super) fn position_text(position: Position) -> String {
    format!("{}.{}", position.index, position.record)
}

/// Undoes [`position_text`].
pub(super) fn position(text: &str) -> Option<Position> {
    let (index, record) = text.split_once('.')?;
    Some(Position {
        index: index.parse().ok()?,
        record: record.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_read_from_its_fields() {
        let body = br#"{"id":"t\u0031","debit_account":"a","credit_account":"b","amount":"12",
            "code":7,"linked":true,"metadata":{"k":"v"}}"#;
        let draft = read_object(body, Draft::read).unwrap();
        let expected = NewTransfer {
            id: "t1",
            debit: AccountRef::Id("a"),
            credit: AccountRef::Id("b"),
            amount: 12,
            code: 7,
            linked: true,
            metadata: r#"{"k":"v"}"#,
        };
        assert_eq!(draft.command(), expected);
    }

    #[test]
    fn every_remembered_refusal_has_the_name_of_its_rejection() {
        for number in 1..=refusal::EXCEEDS_DEBITS {
            assert_ne!(refusal_name(number), Some("unknown"), "{number}");
        }
        assert_eq!(refusal_name(0), None);
    }

    #[test]
    fn a_position_survives_a_cursor() {
        let at = Position {
            index: u64::MAX,
            record: 7,
        };
        assert_eq!(position(&position_text(at)), Some(at));
        assert_eq!(position("7"), None);
        assert_eq!(position("a.b"), None);
    }
}
