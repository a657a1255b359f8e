//! Many transfers in one command: in order, each by itself or in linked chains.

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, Object, ObjectBuilder};

use super::Shared;
use super::answer::{Answer, Text};
use super::call::Input;
use super::doc::{Operation, schema};
use super::error::{ApiError, Code, describe, too_many};
use super::fields::{self, Fields};
use super::json::read_list;
use super::problems::{Place, Problems};
use super::routes::Routes;
use super::transfers::{Draft, REFUSALS, example};
use crate::machine::command::BATCH_LEN_MAX;
use crate::machine::{Command, NewTransfer, Reply, TransferResult};

const LIST: &str = "transfers";

pub(super) fn routes() -> Routes {
    let about = Operation::new(
        "createTransfers",
        "transfers",
        "Post many transfers",
        "In order, each by itself or in linked chains. Each has its own fate: a refusal is a result here, not a problem. The \
         body may have 8 MiB.",
    );
    let mut linked = example("t2");
    linked["linked"] = true.into();
    let example = json!({ LIST: [linked, example("t3")] });
    Routes::new().post(
        "/v1/transfers/batch",
        create,
        about
            .writes()
            .takes(body(), example)
            .answers::<Results<'_>>(200, "All were posted, now or before.")
            .answers::<Results<'_>>(207, "Some were refused.")
            .fails(&[Code::TooManyItems]),
    )
}

fn body() -> Object {
    let list = schema::list(fields::describe(Draft::read), 1, BATCH_LEN_MAX);
    ObjectBuilder::new()
        .property(LIST, list)
        .required(LIST)
        .additional_properties(Some(AdditionalProperties::FreeForm(false)))
        .build()
}

fn refusals() -> Object {
    schema::one_of(&REFUSALS.iter().map(|code| code.name()).collect::<Vec<_>>())
}

fn fates() -> Object {
    schema::one_of(&["created", "exists", "refused"])
}

async fn create(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.expect_json()?;
    let terms = call.terms("POST /v1/transfers/batch")?;
    let drafts = read(&call.body, call.limits.batch_transfers_max)?;
    let transfers: Vec<NewTransfer<'_>> = drafts.iter().map(Draft::command).collect();
    let pending = app
        .raft
        .write(&terms.once(Command::Transfers(transfers)), terms.deadline);
    let written = pending.await?;
    match &written.reply {
        Reply::Transfers(results) => {
            Ok(answer(written.index, &drafts, results).replayed(written.replayed))
        }
        _ => Err(ApiError::refused(&written)),
    }
}

fn read(body: &[u8], max: usize) -> Result<Vec<Draft<'_>>, ApiError> {
    let mut problems = Problems::default();
    let mut drafts = Vec::new();
    let mut listed = read_list(body, LIST, |place, element| match element {
        // Beyond the bound only the count matters.
        _ if place >= max => {}
        Ok(pairs) => {
            let mut fields = Fields::new("/transfers", Some(place), pairs, &mut problems);
            drafts.push(Draft::read(&mut fields));
        }
        Err(kind) => {
            let pointer = Place::Pointer(format!("/transfers/{place}"));
            let detail = format!("a transfer must be an object, not {kind}");
            problems.add(pointer, Code::InvalidValue, detail);
        }
    })?;
    let pointer = || Place::Pointer("/transfers".to_owned());
    match (listed.lists, listed.wrong) {
        (0, _) => problems.add(pointer(), Code::MissingField, "\"transfers\" is missing"),
        (1, None) if listed.count == 0 => {
            problems.add(pointer(), Code::InvalidValue, "\"transfers\" is empty");
        }
        (1, None) => {}
        (1, Some(kind)) => {
            let detail = format!("\"transfers\" must be an array, not {kind}");
            problems.add(pointer(), Code::InvalidValue, detail);
        }
        _ => problems.add(
            pointer(),
            Code::DuplicateField,
            "\"transfers\" is given twice",
        ),
    }
    Fields::new("", None, &mut listed.others, &mut problems).done(&[LIST]);
    if listed.count > max {
        return Err(too_many(
            "transfers",
            listed.count,
            max,
            "batch_transfers_max",
        ));
    }
    problems.finish()?;
    Ok(drafts)
}

#[derive(Debug, Serialize, ToSchema)]
struct Results<'a> {
    /// The log index of this write.
    #[schema(schema_with = schema::digits)]
    index: Text<u64>,
    summary: Summary,
    /// In the order of the request.
    results: Vec<Fate<'a>>,
}

/// How many met which fate.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
struct Summary {
    created: usize,
    exists: usize,
    refused: usize,
}

/// What became of one transfer.
#[derive(Debug, Serialize, ToSchema)]
struct Fate<'a> {
    #[schema(schema_with = schema::id)]
    id: &'a str,
    #[schema(schema_with = fates)]
    result: &'static str,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = refusals, required = false)]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    detail: Option<String>,
    /// If it existed: the log index of its entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::digits, required = false)]
    created_index: Option<Text<u64>>,
    /// If it was posted, now or before: its place in its entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = schema::small, required = false)]
    seq: Option<u32>,
}

fn answer(index: u64, drafts: &[Draft<'_>], results: &[TransferResult]) -> Answer {
    assert_eq!(
        drafts.len(),
        results.len(),
        "the machine answers every transfer"
    );
    let mut summary = Summary::default();
    let results = drafts.iter().zip(results).map(|(draft, result)| {
        let mut fate = Fate {
            id: &draft.id,
            result: "created",
            code: None,
            detail: None,
            created_index: None,
            seq: None,
        };
        match result {
            TransferResult::Created(at) => {
                summary.created += 1;
                fate.seq = Some(at.record);
            }
            TransferResult::Exists(at) => {
                summary.exists += 1;
                fate.result = "exists";
                fate.created_index = Some(Text(at.index));
                fate.seq = Some(at.record);
            }
            TransferResult::Refused(rejection) => {
                summary.refused += 1;
                fate.result = "refused";
                fate.code = Some(rejection.code());
                fate.detail = Some(describe(rejection));
            }
        }
        fate
    });
    let results = results.collect();
    let status = match summary.refused {
        0 => StatusCode::OK,
        _ => StatusCode::MULTI_STATUS,
    };
    Answer::json(&Results {
        index: Text(index),
        summary,
        results,
    })
    .status(status)
    .index(index)
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::machine::{Position, Rejection};

    fn body(transfers: &Value) -> Vec<u8> {
        json!({ "transfers": transfers }).to_string().into_bytes()
    }

    fn transfer(id: &str) -> Value {
        json!({ "id": id, "debit_account": "a", "credit_account": "b", "amount": "1" })
    }

    fn codes(body: &[u8]) -> Vec<String> {
        match read(body, BATCH_LEN_MAX) {
            Ok(_) => Vec::new(),
            Err(ApiError::Problem(problem)) if problem.errors.is_empty() => {
                vec![problem.code.name().to_owned()]
            }
            Err(ApiError::Problem(problem)) => problem
                .errors
                .iter()
                .map(|e| format!("{:?} {}", e.place, e.code.name()))
                .collect(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_full_batch_is_read_and_one_more_is_refused() {
        let many: Vec<_> = (0..BATCH_LEN_MAX)
            .map(|i| transfer(&i.to_string()))
            .collect();
        assert_eq!(
            read(&body(&json!(many)), BATCH_LEN_MAX).unwrap().len(),
            BATCH_LEN_MAX
        );
        let more: Vec<_> = (0..=BATCH_LEN_MAX)
            .map(|i| transfer(&i.to_string()))
            .collect();
        assert_eq!(codes(&body(&json!(more))), ["too_many_items"]);
    }

    #[test]
    fn one_bad_transfer_refuses_the_batch_and_is_named() {
        let bad = json!([transfer("a"), 7, { "id": "" }]);
        let found = codes(&body(&bad));
        assert_eq!(
            found,
            [
                r#"Pointer("/transfers/1") invalid_value"#,
                r#"Pointer("/transfers/2/id") invalid_value"#,
                r#"Pointer("/transfers/2/debit_account") missing_field"#,
                r#"Pointer("/transfers/2/credit_account") missing_field"#,
                r#"Pointer("/transfers/2/amount") missing_field"#,
            ]
        );
        assert_eq!(codes(b"{}"), [r#"Pointer("/transfers") missing_field"#]);
        assert_eq!(
            codes(&body(&json!([]))),
            [r#"Pointer("/transfers") invalid_value"#]
        );
        assert_eq!(
            codes(&body(&json!({}))),
            [r#"Pointer("/transfers") invalid_value"#]
        );
        assert_eq!(codes(b"[]"), ["invalid_value"]);
        assert_eq!(
            codes(br#"{"transfers":[1],"transfers":[1],"x":1}"#)
                .last()
                .unwrap(),
            r#"Pointer("/x") unknown_field"#
        );
    }

    #[tokio::test]
    async fn the_answer_tells_the_fate_of_each_in_order() {
        let text = body(&json!([transfer("a"), transfer("b"), transfer("c")]));
        let drafts = read(&text, BATCH_LEN_MAX).unwrap();
        let at = Position {
            index: 4,
            record: 1,
        };
        let results = [
            TransferResult::Created(at),
            TransferResult::Exists(at),
            TransferResult::Refused(Rejection::ChainFailed),
        ];
        let some = answer(5, &drafts, &results).into_response();
        assert_eq!(some.status(), StatusCode::MULTI_STATUS);
        let json: Value =
            serde_json::from_slice(&some.into_body().collect().await.unwrap().to_bytes()).unwrap();
        assert_eq!(
            json["summary"],
            json!({ "created": 1, "exists": 1, "refused": 1 })
        );
        assert_eq!(
            json["results"][0],
            json!({ "id": "a", "result": "created", "seq": 1 })
        );
        assert_eq!(json["results"][1]["created_index"], "4");
        assert_eq!(json["results"][2]["code"], "chain_failed");
        let all = answer(5, &drafts[..1], &results[..1]).into_response();
        assert_eq!(all.status(), StatusCode::OK);
    }
}
