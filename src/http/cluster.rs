//! Forming the cluster, and what this node sees of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::Object;

use super::Shared;
use super::answer::{Answer, Text};
use super::call::Input;
use super::doc::{Operation, schema};
use super::edge::role_name;
use super::error::{ApiError, Code, Problem};
use super::fields::{Fields, describe};
use super::json::read_object;
use super::routes::Routes;
use crate::client::authority;
use crate::raft::{Initialized, Member, MemberStatus, Progress, Status};

pub(super) fn routes() -> Routes {
    let show_about = Operation::new(
        "getCluster",
        "cluster",
        "The cluster, as this node sees it",
        "Always answered, whether or not there is a cluster. What only the leader knows is null elsewhere.",
    );
    let init_about = Operation::new(
        "initCluster",
        "cluster",
        "Form a cluster",
        "Once in the life of its nodes; again with the same members it does nothing. Its deadline is 60s if none is given.",
    );
    let member = |id: u32| {
        json!({
            "id": id, "peer_addr": format!("127.0.0.1:710{id}"), "client_url": format!("http://127.0.0.1:700{id}"),
        })
    };
    let example = json!({ "members": [member(1), member(2), member(3)] });
    Routes::new()
        .get(
            "/v1/cluster",
            show,
            show_about
                .answers::<Cluster>(200, "What this node sees.")
                .sends(&["Quorate-Index"]),
        )
        .post(
            "/v1/cluster/init",
            init,
            init_about
                .waits()
                .takes(describe(read_members), example)
                .answers::<Formed>(201, "It was formed.")
                .answers::<Formed>(200, "It was formed before, of the same members.")
                .sends(&["Quorate-Index"])
                .fails(&[
                    Code::AlreadyInitialized,
                    Code::InvalidMembers,
                    Code::PeerUnreachable,
                    Code::PeerInOtherCluster,
                    Code::CommitTimeout,
                ]),
        )
}

fn roles() -> Object {
    schema::one_of(&["leader", "follower", "candidate", "learner", "stopped"])
}

fn member_roles() -> Object {
    schema::one_of(&["voter", "learner"])
}

fn peer_addr() -> Object {
    schema::pattern("^[^:/ ]+:[0-9]{1,5}$")
}

fn client_url() -> Object {
    schema::pattern("^http://[A-Za-z0-9.-]+:[0-9]{1,5}$")
}

fn results() -> Object {
    schema::one_of(&["formed", "exists"])
}

/// The cluster as this node sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Cluster {
    /// Null until one is formed.
    cluster_id: Option<String>,
    /// 1 for a cluster that was formed of new nodes, and one more after each recovery and restore. Null until one is formed.
    epoch: Option<u64>,
    /// This node.
    node: u64,
    /// Its part.
    #[schema(schema_with = roles)]
    role: &'static str,
    #[schema(schema_with = schema::digits)]
    term: Text<u64>,
    leader: Option<Leader>,
    members: Vec<MemberView>,
    /// How many voters decide.
    quorum: usize,
    /// Whether one set of voters is being replaced by another; until that is finished a majority of each decides.
    changing: bool,
    /// The smallest id that a new node may have: ids are never used twice. Null without a cluster.
    next_node_id: Option<u64>,
    #[schema(schema_with = schema::maybe_digits)]
    last_log_index: Option<Text<u64>>,
    #[schema(schema_with = schema::maybe_digits)]
    commit_index: Option<Text<u64>>,
    #[schema(schema_with = schema::maybe_digits)]
    applied_index: Option<Text<u64>>,
    /// On the leader: milliseconds since a majority last acknowledged it.
    quorum_ack_ms: Option<u64>,
    /// Milliseconds since a leader was last heard of; 0 on the leader.
    last_contact_ms: Option<u64>,
    /// Whether everything that was committed before the start is applied.
    recovered: bool,
    /// The snapshot that this node is getting because it was too far behind; null if none is.
    receiving_snapshot: Option<Incoming>,
    /// On the leader: why it takes no writes, or none that add anything: a disk is full, or the states of the nodes differ.
    writes_refused: Option<String>,
    /// Why the node is no member any more; it stops.
    removed: Option<String>,
    /// Why the node cannot go on.
    fault: Option<String>,
    /// The applied index.
    #[schema(schema_with = schema::digits)]
    index: Text<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Leader {
    id: u64,
    client_url: String,
}

/// A snapshot on its way to this node.
#[derive(Debug, Serialize, ToSchema)]
struct Incoming {
    /// The leader that sends it.
    from: u64,
    /// Bytes of it that are here.
    #[schema(schema_with = schema::digits)]
    done_bytes: Text<u64>,
    /// Bytes of all of it.
    #[schema(schema_with = schema::digits)]
    total_bytes: Text<u64>,
}

/// A member; how far it is only the leader knows.
#[derive(Debug, Serialize, ToSchema)]
struct MemberView {
    id: u64,
    #[schema(schema_with = member_roles)]
    role: &'static str,
    peer_addr: String,
    client_url: String,
    /// The last entry known to be on its disk.
    #[schema(schema_with = schema::maybe_digits)]
    matched_index: Option<Text<u64>>,
    /// How many entries it lacks.
    #[schema(schema_with = schema::maybe_digits)]
    lag_entries: Option<Text<u64>>,
    /// Milliseconds since it last acknowledged anything.
    last_ack_ms: Option<u64>,
    /// How much it has of the snapshot that it is sent because it was too far behind, in per cent; null if none is.
    snapshot_percent: Option<u64>,
}

fn millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
}

/// An empty snapshot is there at once.
fn percent(progress: &Progress) -> u64 {
    let percent = u128::from(progress.done) * 100 / u128::from(progress.total.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX).min(100)
}

impl MemberView {
    fn new(member: MemberStatus, last: Option<u64>) -> MemberView {
        let lag = member
            .matched
            .zip(last)
            .map(|(matched, last)| last.saturating_sub(matched));
        MemberView {
            id: member.id,
            role: if member.voter { "voter" } else { "learner" },
            peer_addr: member.member.peer_addr,
            client_url: member.member.client_url,
            matched_index: member.matched.map(Text),
            lag_entries: lag.map(Text),
            last_ack_ms: member.last_ack.map(millis),
            snapshot_percent: member.snapshot.as_ref().map(percent),
        }
    }
}

impl Cluster {
    pub(super) fn new(status: Status, index: u64) -> Cluster {
        let voters = status.members.iter().filter(|member| member.voter).count();
        let last = status.last_log_index;
        Cluster {
            cluster_id: status.cluster_id,
            epoch: Some(status.epoch).filter(|epoch| *epoch > 0),
            node: status.node,
            role: role_name(status.role),
            term: Text(status.term),
            leader: status.leader.map(|(id, member)| Leader {
                id,
                client_url: member.client_url,
            }),
            quorum: if voters == 0 { 0 } else { voters / 2 + 1 },
            changing: status.changing,
            next_node_id: Some(status.next_id).filter(|id| *id > 0),
            members: status
                .members
                .into_iter()
                .map(|member| MemberView::new(member, last))
                .collect(),
            last_log_index: last.map(Text),
            commit_index: status.committed_index.map(Text),
            applied_index: status.applied_index.map(Text),
            quorum_ack_ms: status.quorum_ack_age.map(millis),
            last_contact_ms: status.last_contact.map(millis),
            recovered: status.recovered,
            receiving_snapshot: status.receiving.map(|progress| Incoming {
                from: progress.peer,
                done_bytes: Text(progress.done),
                total_bytes: Text(progress.total),
            }),
            writes_refused: status.writes_refused,
            removed: status.removed,
            fault: status.fault,
            index: Text(index),
        }
    }
}

/// Always answered, from what this node knows, whether or not there is a cluster: it is what one looks at when there is none.
async fn show(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.params(&[]).problems.finish()?;
    let index = app.raft.view().index();
    Ok(Answer::json(&Cluster::new(app.raft.status(), index)).index(index))
}

async fn init(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.expect_json()?;
    let mut params = call.params(&["timeout"]);
    // Members are asked one after the other: more time than for a write unless the request says otherwise.
    let deadline = match params.get("timeout") {
        Some(_) => call.deadline(&mut params),
        None => call.received + call.limits.timeout_max,
    };
    params.problems.finish()?;
    let members = members(&call.body)?;
    let raft = app.raft.clone();
    // In a task of its own: a client that goes away must not leave it half done.
    let forming = tokio::spawn(async move { raft.initialize(members).await });
    let left = deadline.saturating_duration_since(Instant::now());
    let formed = tokio::time::timeout(left, forming)
        .await
        .map_err(|_| ApiError::new(Code::CommitTimeout, "the cluster is still being formed"))?
        .expect("forming a cluster does not panic")?;
    let index = app.raft.view().index();
    let (status, result) = match formed {
        Initialized::Formed => (StatusCode::CREATED, "formed"),
        Initialized::Already => (StatusCode::OK, "exists"),
    };
    let body = Formed {
        result,
        cluster: Cluster::new(app.raft.status(), index),
    };
    Ok(Answer::json(&body).status(status).index(index))
}

#[derive(Debug, Serialize, ToSchema)]
struct Formed {
    /// `formed` now, or `exists`.
    #[schema(schema_with = results)]
    result: &'static str,
    #[serde(flatten)]
    cluster: Cluster,
}

fn members(body: &[u8]) -> Result<BTreeMap<u64, Member>, ApiError> {
    let listed = read_object(body, read_members)?;
    let count = listed.len();
    let members: BTreeMap<_, _> = listed.into_iter().collect();
    if members.len() < count {
        return Err(Problem::new(Code::InvalidMembers, "two members have the same id").into());
    }
    Ok(members)
}

fn read_members(fields: &mut Fields<'_, '_>) -> Vec<(u64, Member)> {
    let listed = fields.objects("members", |fields| {
        let id = fields.integer("id", u32::MAX);
        let member = read_addresses(fields);
        fields.done(&["id", "peer_addr", "client_url"]);
        (u64::from(id), member)
    });
    fields.done(&["members"]);
    listed
}

/// How a member is reached.
pub(super) fn read_addresses(fields: &mut Fields<'_, '_>) -> Member {
    let peer_addr = fields.text("peer_addr", "host:port", peer_addr, is_address);
    let client_url = fields.text("client_url", "http://host:port", client_url, |url| {
        url.starts_with("http://") && authority(url).is_ok()
    });
    Member {
        peer_addr: peer_addr.into_owned(),
        client_url: client_url.into_owned(),
        ..Member::default()
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_checked_before_anyone_is_asked() {
        let one = r#"{"id":1,"peer_addr":"127.0.0.1:7101","client_url":"http://127.0.0.1:7001"}"#;
        let read = members(format!("{{\"members\":[{one}]}}").as_bytes()).unwrap();
        assert_eq!(read[&1].peer_addr, "127.0.0.1:7101");
        for bad in [
            format!("{{\"members\":[{one},{one}]}}"),
            "{}".to_owned(),
            r#"{"members":[{"id":1,"peer_addr":"a","client_url":"http://a:1"}]}"#.to_owned(),
            r#"{"members":[{"id":1,"peer_addr":"a:1","client_url":"a:1"}]}"#.to_owned(),
            r#"{"members":[{"id":"1","peer_addr":"a:1","client_url":"http://a:1"}]}"#.to_owned(),
        ] {
            assert!(members(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_quorum_is_a_majority_of_the_voters() {
        let member = |id, voter| MemberStatus {
            id,
            member: Member::default(),
            voter,
            matched: Some(7),
            last_ack: None,
            snapshot: (id == 4).then_some(Progress {
                peer: 4,
                done: 3,
                total: 7,
            }),
        };
        let status = Status {
            node: 1,
            cluster_id: None,
            epoch: 0,
            role: crate::raft::Role::Leader,
            leader: None,
            term: 1,
            last_log_index: Some(9),
            committed_index: None,
            applied_index: None,
            purged_index: None,
            quorum_ack_age: None,
            leading: None,
            last_contact: None,
            recovered: true,
            members: vec![
                member(1, true),
                member(2, true),
                member(3, true),
                member(4, false),
            ],
            clock_disputes: 0,
            receiving: None,
            changing: false,
            next_id: 4,
            writes_refused: Some("full".to_owned()),
            removed: None,
            fault: None,
        };
        let cluster = Cluster::new(status, 9);
        assert_eq!(cluster.quorum, 2);
        assert_eq!(cluster.members[3].role, "learner");
        assert_eq!(cluster.members[0].lag_entries.map(|lag| lag.0), Some(2));
        assert_eq!(cluster.members[3].snapshot_percent, Some(42));
        assert_eq!(cluster.members[0].snapshot_percent, None);
        assert_eq!(cluster.writes_refused.as_deref(), Some("full"));
    }
}
