//! What this node applied, for whoever exports it.

use axum::extract::State;

use super::accept::BYTES;
use super::answer::Answer;
use super::call::Input;
use super::doc::{Operation, schema};
use super::error::{ApiError, Code};
use super::routes::Routes;
use super::{Shared, blocking};

/// No page is larger: what one entry can hold, several times.
const PAGE_LEN_MAX: usize = 32 << 20;

pub(super) fn routes() -> Routes {
    let about = Operation::new(
        "getAppliedLog",
        "node",
        "A part of what was applied",
        "For `quorate log export`, which makes lines of it and checks them against the digest that the node stored: log and journal \
         as the node keeps them, from `from` on, a few megabytes of them. The encoding is of the node's version and may change.",
    );
    Routes::new().get(
        "/v1/log/applied",
        page,
        about
            .reads()
            .query(
                "from",
                "The log index to begin at; 0 if not given.",
                index(),
            )
            .query(
                "to",
                "The log index to end at, if that much is applied.",
                index(),
            )
            .makes(&[BYTES])
            .answers_in(200, "A part.", &[(BYTES, schema::bytes(PAGE_LEN_MAX))])
            .fails(&[Code::Internal]),
    )
}

fn index() -> utoipa::openapi::Object {
    schema::integer(0, usize::MAX >> 1)
}

async fn page(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let mut params = call.params(&["from", "to", "consistency", "timeout"]);
    let (level, deadline) = (call.level(&mut params), call.deadline(&mut params));
    let (from, to) = (params.index("from").unwrap_or(0), params.index("to"));
    params.problems.finish()?;
    let permit = app.raft.read(level, deadline).await?;
    let index = app.raft.view().index();
    let page = blocking(move || app.raft.applied_page(from, to)).await?;
    Ok(Answer::bytes(BYTES, page.into()).read(index, level, &permit))
}
