//! Probes for whoever starts, stops and balances nodes.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::accept::TEXT;
use super::answer::Answer;
use super::call::Input;
use super::doc::{Operation, schema};
use super::error::{ApiError, unhealthy};
use super::listener::Phase;
use super::routes::Routes;
use super::{App, Shared};
use crate::machine::entry;
use crate::raft::{Role, Status};

pub(super) fn routes() -> Routes {
    let about = |id, summary, description| Operation::new(id, "node", summary, description);
    let livez_about = about(
        "getLivez",
        "Whether this node lives",
        "Never depends on a majority, a leader or the disk: restarting every node of a cluster without a majority would not help.",
    );
    let readyz_about = about(
        "getReadyz",
        "Whether requests sent here will be served",
        "Here, or by a leader that this node hears of.",
    );
    let version_about = about("getVersion", "What runs here", "Program, API and formats.");
    Routes::new()
        .get("/livez", livez, probe(livez_about))
        .get("/readyz", readyz, probe(readyz_about))
        .get(
            "/version",
            version,
            version_about.answers::<Version>(200, "Versions."),
        )
}

fn probe(operation: Operation) -> Operation {
    let line = schema::pattern("^([[][+-][]][a-z]+ .*\n)+$");
    operation
        .makes(&[TEXT])
        .answers_in(
            200,
            "Yes. One line for each thing looked at.",
            &[(TEXT, line.clone())],
        )
        .answers_in(
            503,
            "No. Lines that start with `[-]` say why.",
            &[(TEXT, line)],
        )
}

/// One line of a probe: what was looked at, and what is wrong with it.
pub(super) type Check = (&'static str, Option<String>);

/// The answer of a probe.
pub(super) fn lines(checks: &[Check]) -> Answer {
    let mut text = String::new();
    for (name, wrong) in checks {
        match wrong {
            None => text.push_str(&format!("[+]{name} ok\n")),
            Some(why) => text.push_str(&format!("[-]{name} {why}\n")),
        }
    }
    let good = checks.iter().all(|(_, wrong)| wrong.is_none());
    let answer = Answer::bytes("text/plain; charset=utf-8", text.into());
    if good { answer } else { unhealthy(answer) }
}

/// Alive: the process answers and its core has not failed. Never depends on a quorum, a leader or the disk, because restarting
/// every node of a cluster that has lost its quorum is the last thing it needs.
async fn livez(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.params(&[]).problems.finish()?;
    Ok(lines(&[("core", app.raft.status().fault)]))
}

/// Ready: requests sent here will be served, here or by a leader that this node hears of.
async fn readyz(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.params(&[]).problems.finish()?;
    Ok(lines(&ready_checks(&app, &app.raft.status())))
}

fn ready_checks(app: &App, status: &Status) -> Vec<Check> {
    vec![
        ("core", status.fault.clone()),
        (
            "serving",
            (app.phase() > Phase::Serving).then(|| "stopping".to_owned()),
        ),
        (
            "member",
            status
                .members
                .is_empty()
                .then(|| "of no cluster yet".to_owned()),
        ),
        (
            "recovered",
            (!status.recovered)
                .then(|| "what was committed before its start is not yet applied here".to_owned()),
        ),
        ("leader", leader_missing(status, app.silence_max)),
    ]
}

/// Why nobody leads as far as this node can tell: one that is known may be dead since, and a follower without a majority elects none.
pub(super) fn leader_missing(status: &Status, silence_max: std::time::Duration) -> Option<String> {
    let (since, what) = match (&status.leader, status.role) {
        (None, _) => return Some("unknown".to_owned()),
        (Some(_), Role::Leader) => (status.quorum_ack_age, "a quorum acknowledged this leader"),
        (Some(_), _) if status.last_contact.is_none() => {
            return Some("not heard of since this node started".to_owned());
        }
        (Some(_), _) => (status.last_contact, "the leader was heard of"),
    };
    let age = since.filter(|age| *age > silence_max)?;
    Some(format!("missing: {} ms since {what}", age.as_millis()))
}

#[derive(Debug, Serialize, ToSchema)]
struct Version {
    /// Of the program.
    version: &'static str,
    /// Versions of the API it serves.
    api: [&'static str; 1],
    /// The format of the log's entries.
    entry_format: u8,
    /// The rules by which entries are applied.
    apply_rules: u8,
}

async fn version(_: State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.params(&[]).problems.finish()?;
    Ok(Answer::json(&Version {
        version: env!("CARGO_PKG_VERSION"),
        api: ["v1"],
        entry_format: entry::FORMAT,
        apply_rules: entry::RULES,
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::raft::Member;

    /// What a node in this part says: it knows a leader, and heard of it a second ago.
    pub(in crate::http) fn status(role: Role) -> Status {
        Status {
            node: 1,
            cluster_id: None,
            epoch: 1,
            role,
            leader: Some((1, Member::default())),
            term: 1,
            last_log_index: None,
            committed_index: None,
            applied_index: None,
            purged_index: None,
            quorum_ack_age: Some(Duration::from_secs(9)),
            leading: None,
            last_contact: Some(Duration::from_secs(1)),
            recovered: true,
            members: Vec::new(),
            clock_disputes: 0,
            receiving: None,
            changing: false,
            next_id: 4,
            writes_refused: None,
            removed: None,
            fault: None,
        }
    }

    #[test]
    fn a_leader_is_missing_if_it_is_silent_or_alone() {
        let max = Duration::from_secs(5);
        assert!(
            leader_missing(&status(Role::Leader), max)
                .unwrap()
                .contains("quorum")
        );
        assert_eq!(leader_missing(&status(Role::Follower), max), None);
        let half = Duration::from_millis(500);
        assert!(
            leader_missing(&status(Role::Follower), half)
                .unwrap()
                .contains("1000 ms")
        );
        let unheard = Status {
            last_contact: None,
            ..status(Role::Follower)
        };
        assert!(
            leader_missing(&unheard, max)
                .unwrap()
                .contains("not heard of")
        );
        let unknown = Status {
            leader: None,
            ..status(Role::Follower)
        };
        assert_eq!(leader_missing(&unknown, max).unwrap(), "unknown");
    }
}
