//! Changing who belongs to the cluster.

use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::Object;

use super::Shared;
use super::answer::{Answer, Text};
use super::call::{Call, Input, Params};
use super::cluster::{Cluster, read_addresses};
use super::doc::{Operation, schema};
use super::error::{ApiError, Code};
use super::fields::{Fields, describe};
use super::json::read_object;
use super::problems::{Place, Problems};
use super::routes::Routes;
use crate::raft::{Changed, Member, MemberChange};

const MEMBERS: &str = "/v1/cluster/members/";

pub(super) fn routes() -> Routes {
    joining(votes(Routes::new()))
}

/// What every change of a member has in common.
fn about(
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    problems: &[Code],
) -> Operation {
    Operation::new(id, "cluster", summary, description)
        .waits()
        .answers::<MembersChanged>(200, "It is so, as of the index.")
        .sends(&["Quorate-Index"])
        .fails(&[
            Code::MemberNotFound,
            Code::MembershipChangeInProgress,
            Code::NoLeader,
            Code::NotReady,
            Code::ShuttingDown,
            Code::CommitTimeout,
        ])
        .fails(problems)
}

/// About one member, named by the path.
fn of_one(operation: Operation) -> Operation {
    operation.path("id", "The member.", schema::integer(0, u32::MAX as usize))
}

fn joining(routes: Routes) -> Routes {
    let addresses = json!({ "peer_addr": "127.0.0.1:7104", "client_url": "http://127.0.0.1:7004" });
    let mut joins = addresses.clone();
    joins["id"] = json!(4);
    let dialled = [
        Code::PeerUnreachable,
        Code::PeerInOtherCluster,
        Code::NodeIdUsed,
        Code::ExistsWithDifferentFields,
    ];
    let add_about = about(
        "addMember",
        "Add a node",
        "It joins without a vote, once it has answered at its address as a node of no other cluster, and begins to catch up. Its id \
         must be above all that were ever used. Again with the same addresses it does nothing.",
        &dialled,
    );
    let move_about = about(
        "moveMember",
        "Say where a member is reached",
        "Once it has answered there, from the same data directory as before.",
        &dialled,
    );
    let remove_about = about(
        "removeMember",
        "Remove a member for good",
        "Its id is never used again, and the node stops. If it leads, another voter does first. Refused if too few of the voters \
         left answer, unless `force` is true.",
        &[Code::LastVoter, Code::QuorumWouldBeLost, Code::NoHeir],
    );
    routes
        .post(
            "/v1/cluster/members",
            add,
            add_about
                .takes(describe(read_member), joins)
                .answers::<MembersChanged>(201, "It was added."),
        )
        .put(
            "/v1/cluster/members/{id}",
            relocate,
            of_one(move_about).takes(describe(read_place), addresses),
        )
        .delete(
            "/v1/cluster/members/{id}",
            remove,
            of_one(remove_about).query("force", "Do it all the same.", schema::flag()),
        )
}

fn votes(routes: Routes) -> Routes {
    let promote_about = about(
        "promoteMember",
        "Give a member a vote",
        "Refused until it answers and lacks no more than `max_lag_entries` of the log (1024 if not given), and if too few of the \
         voters would answer, unless `force` is true.",
        &[Code::LearnerNotCaughtUp, Code::QuorumWouldBeLost],
    );
    let demote_about = about(
        "demoteMember",
        "Take a member's vote away",
        "It stays and goes on following. If it leads, another voter does first. Refused if too few of the voters left answer, \
         unless `force` is true.",
        &[Code::LastVoter, Code::QuorumWouldBeLost, Code::NoHeir],
    );
    let replace_about = about(
        "replaceMember",
        "Put a member without a vote in the place of a voter",
        "In one change: at no time do fewer voters decide. The voter is removed for good. Refused as giving a vote is.",
        &[
            Code::NotAVoter,
            Code::LearnerNotCaughtUp,
            Code::QuorumWouldBeLost,
            Code::ExistsWithDifferentFields,
            Code::NoHeir,
        ],
    );
    routes
        .post(
            "/v1/cluster/members/{id}/promote",
            promote,
            of_one(promote_about).takes(describe(read_promotion), json!({})),
        )
        .post(
            "/v1/cluster/members/{id}/demote",
            demote,
            of_one(demote_about).takes(describe(read_force), json!({})),
        )
        .post(
            "/v1/cluster/members/{id}/replace",
            replace,
            of_one(replace_about).takes(describe(read_replacement), json!({ "by": 4 })),
        )
}

/// The members as they are now.
#[derive(Debug, Serialize, ToSchema)]
struct MembersChanged {
    /// `changed` now, or `unchanged` because it was so before.
    #[schema(schema_with = results)]
    result: &'static str,
    /// Log index of the change; null if nothing was changed.
    #[schema(schema_with = schema::maybe_digits)]
    membership_index: Option<Text<u64>>,
    #[serde(flatten)]
    cluster: Cluster,
}

fn results() -> Object {
    schema::one_of(&["changed", "unchanged"])
}

fn read_member(fields: &mut Fields<'_, '_>) -> (u64, Member) {
    let id = fields.integer("id", u32::MAX);
    let member = read_addresses(fields);
    fields.done(&["id", "peer_addr", "client_url"]);
    (u64::from(id), member)
}

fn read_place(fields: &mut Fields<'_, '_>) -> Member {
    let member = read_addresses(fields);
    fields.done(&["peer_addr", "client_url"]);
    member
}

fn read_force(fields: &mut Fields<'_, '_>) -> bool {
    let force = fields.flag("force");
    fields.done(&["force"]);
    force
}

fn read_promotion(fields: &mut Fields<'_, '_>) -> (Option<u64>, bool) {
    let lag_max = fields.node("max_lag_entries");
    let force = fields.flag("force");
    fields.done(&["max_lag_entries", "force"]);
    (lag_max, force)
}

fn read_replacement(fields: &mut Fields<'_, '_>) -> (u64, Option<u64>, bool) {
    let by = fields.integer("by", u32::MAX);
    let lag_max = fields.node("max_lag_entries");
    let force = fields.flag("force");
    fields.done(&["by", "max_lag_entries", "force"]);
    (u64::from(by), lag_max, force)
}

/// The node that the path names.
fn node_id(call: &Call) -> Result<u64, ApiError> {
    let text = call.path_id(MEMBERS)?;
    let mut problems = Problems::default();
    match text.parse::<u32>() {
        Ok(id) => return Ok(id.into()),
        Err(_) => {
            let place = Place::Parameter("id".to_owned());
            let detail = format!("{text:?} is not a node id: a number up to {}", u32::MAX);
            problems.add(place, Code::InvalidValue, detail);
        }
    }
    problems.finish()?;
    unreachable!("a problem was added above")
}

fn flag(params: &mut Params<'_>, name: &str) -> bool {
    let parse = |text: &str| text.parse().ok();
    let chosen = params.choice(name, Code::InvalidValue, &["true", "false"], parse);
    chosen.unwrap_or(false)
}

async fn add(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let deadline = of_body(&call)?;
    let (id, member) = read_object(&call.body, read_member)?;
    let (changed, answer) = change(&app, MemberChange::Add { id, member }, deadline).await?;
    Ok(match changed {
        Changed::Now(_) => answer.status(StatusCode::CREATED),
        Changed::Before => answer,
    })
}

async fn relocate(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let (id, deadline) = (node_id(&call)?, of_body(&call)?);
    let member = read_object(&call.body, read_place)?;
    Ok(change(&app, MemberChange::Move { id, member }, deadline)
        .await?
        .1)
}

async fn promote(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let (id, deadline) = (node_id(&call)?, of_body(&call)?);
    let (lag_max, force) = read_object(&call.body, read_promotion)?;
    let promotion = MemberChange::Promote { id, lag_max, force };
    Ok(change(&app, promotion, deadline).await?.1)
}

async fn demote(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let (id, deadline) = (node_id(&call)?, of_body(&call)?);
    let force = read_object(&call.body, read_force)?;
    Ok(change(&app, MemberChange::Demote { id, force }, deadline)
        .await?
        .1)
}

async fn replace(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let (old, deadline) = (node_id(&call)?, of_body(&call)?);
    let (new, lag_max, force) = read_object(&call.body, read_replacement)?;
    let replacement = MemberChange::Replace {
        old,
        new,
        lag_max,
        force,
    };
    Ok(change(&app, replacement, deadline).await?.1)
}

async fn remove(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    let id = node_id(&call)?;
    let mut params = call.params(&["timeout", "force"]);
    let deadline = call.deadline(&mut params);
    let force = flag(&mut params, "force");
    params.problems.finish()?;
    Ok(change(&app, MemberChange::Remove { id, force }, deadline)
        .await?
        .1)
}

/// The deadline of a request with a body.
fn of_body(call: &Call) -> Result<Instant, ApiError> {
    call.expect_json()?;
    let mut params = call.params(&["timeout"]);
    let deadline = call.deadline(&mut params);
    params.problems.finish()?;
    Ok(deadline)
}

async fn change(
    app: &Shared,
    change: MemberChange,
    deadline: Instant,
) -> Result<(Changed, Answer), ApiError> {
    let raft = app.raft.clone();
    // In a task of its own: a client that goes away must not leave it half done.
    let changing = tokio::spawn(async move { raft.change_members(change, deadline).await });
    let changed = changing.await.expect("changing members does not panic")?;
    let index = app.raft.view().index();
    let (result, at) = match changed {
        Changed::Now(at) => ("changed", Some(Text(at))),
        Changed::Before => ("unchanged", None),
    };
    let body = MembersChanged {
        result,
        membership_index: at,
        cluster: Cluster::new(app.raft.status(), index),
    };
    Ok((changed, Answer::json(&body).index(index)))
}
