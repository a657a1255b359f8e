//! Moving the leadership.

use axum::extract::State;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::Object;

use super::Shared;
use super::answer::{Answer, Text};
use super::call::Input;
use super::doc::{Operation, schema};
use super::error::{ApiError, Code};
use super::fields::{Fields, describe};
use super::json::read_object;
use super::routes::Routes;
use crate::raft::Transferred;

pub(super) fn routes() -> Routes {
    let about = Operation::new(
        "transferLeader",
        "cluster",
        "Have another voter lead",
        "The one that is named, or else the one that has most of the log. Waits until another node leads. Nothing is tried if \
         that node lags or did not answer lately, because the cluster takes no writes meanwhile. Naming the node that leads \
         changes nothing. Any node takes this; it is forwarded to the leader.",
    );
    Routes::new().post(
        "/v1/cluster/leader/transfer",
        transfer,
        about
            .waits()
            .takes(describe(heir), json!({ "to": 2 }))
            .answers::<Moved>(200, "Who leads now.")
            .fails(&[
                Code::NoHeir,
                Code::MemberNotFound,
                Code::NotAVoter,
                Code::NoLeader,
                Code::NotReady,
                Code::ShuttingDown,
                Code::CommitTimeout,
            ]),
    )
}

/// Who leads now.
#[derive(Debug, Serialize, ToSchema)]
struct Moved {
    /// `moved` to another node, or `unchanged` because it leads already.
    #[schema(schema_with = results)]
    result: &'static str,
    /// The leader.
    leader: u64,
    #[schema(schema_with = schema::digits)]
    term: Text<u64>,
    /// Milliseconds from the request to this answer.
    took_ms: u64,
}

fn results() -> Object {
    schema::one_of(&["moved", "unchanged"])
}

fn heir(fields: &mut Fields<'_, '_>) -> Option<u64> {
    let to = fields.node("to");
    fields.done(&["to"]);
    to
}

async fn transfer(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.expect_json()?;
    let mut params = call.params(&["timeout"]);
    let deadline = call.deadline(&mut params);
    params.problems.finish()?;
    let to = read_object(&call.body, heir)?;
    let raft = app.raft.clone();
    // In a task of its own: a client that goes away must not leave it half done.
    let moving = tokio::spawn(async move { raft.transfer(to, deadline).await });
    let Transferred {
        leader,
        term,
        moved,
    } = moving.await.expect("a transfer does not panic")?;
    Ok(Answer::json(&Moved {
        result: if moved { "moved" } else { "unchanged" },
        leader,
        term: Text(term),
        took_ms: u64::try_from(call.received.elapsed().as_millis()).unwrap_or(u64::MAX),
    }))
}
