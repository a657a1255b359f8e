//! Whether the nodes' states are the same, as this node saw when it last compared them.

use std::time::{Duration, Instant};

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::Object;

use super::Shared;
use super::answer::{Answer, Text};
use super::call::Input;
use super::doc::{Operation, schema};
use super::error::ApiError;
use super::routes::Routes;
use crate::raft::{Agreement, Consistency, NodeDigest};

pub(super) fn routes() -> Routes {
    let about = Operation::new(
        "getConsistency",
        "cluster",
        "Whether the nodes' states are the same",
        "Nodes compare the digests of their states every few seconds, at log indexes that several of them were at. One that differs \
         from a majority of the voters stops and gets its state back; where no majority has the same, no writes are taken.",
    );
    Routes::new().get(
        "/v1/cluster/consistency",
        show,
        about
            .answers::<View>(200, "What this node saw when it last compared.")
            .sends(&["Quorate-Index"]),
    )
}

fn agreements() -> Object {
    schema::one_of(&["agrees", "differs", "disputed", "unknown"])
}

fn maybe_digest() -> Object {
    let mut digest = schema::maybe_digits();
    digest.pattern = Some("^[0-9a-f]{64}$".to_owned());
    digest
}

/// The states of the nodes, compared.
#[derive(Debug, Serialize, ToSchema)]
struct View {
    /// Whether every member was compared and all had the same. Null before the first comparison, and while one is not reached.
    agree: Option<bool>,
    /// Milliseconds since they were compared; null before.
    age_ms: Option<u64>,
    nodes: Vec<NodeView>,
    /// Why no writes are taken, if nobody knows which state is right.
    disputed: Option<String>,
    /// The applied index of this node.
    #[schema(schema_with = schema::digits)]
    index: Text<u64>,
}

/// The state of a member.
#[derive(Debug, Serialize, ToSchema)]
struct NodeView {
    id: u64,
    /// `differs`: from a majority of the voters. `disputed`: from another node, and no majority has the same. `unknown`: it was not
    /// reached, or at no index at which another was.
    #[schema(schema_with = agreements)]
    agreement: &'static str,
    /// Up to where its digest was known; null if it was not reached.
    #[schema(schema_with = schema::maybe_digits)]
    digest_index: Option<Text<u64>>,
    /// The digest of everything that it had applied up to there.
    #[schema(schema_with = maybe_digest)]
    digest: Option<String>,
}

impl View {
    fn new(seen: Consistency, now: Instant, index: u64) -> View {
        let differ =
            |node: &NodeDigest| matches!(node.agreement, Agreement::Differs | Agreement::Disputed);
        let is_unknown = |node: &NodeDigest| node.agreement == Agreement::Unknown;
        let agree = if seen.nodes.values().any(differ) {
            Some(false)
        } else if seen.nodes.is_empty() || seen.nodes.values().any(is_unknown) {
            None
        } else {
            Some(true)
        };
        let age = seen.at.map(|at| now.saturating_duration_since(at));
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let nodes = seen.nodes.into_iter().map(|(id, node)| NodeView {
            id,
            agreement: name(node.agreement),
            digest_index: node.mark.map(|(index, _)| Text(index)),
            digest: node.mark.map(|(_, digest)| hex(&digest)),
        });
        View {
            agree,
            age_ms: age.map(millis),
            nodes: nodes.collect(),
            disputed: seen.disputed,
            index: Text(index),
        }
    }
}

/// Its name in JSON and in metrics.
pub(super) fn name(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::Agrees => "agrees",
        Agreement::Differs => "differs",
        Agreement::Disputed => "disputed",
        Agreement::Unknown => "unknown",
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Always answered, from what this node knows.
async fn show(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.params(&[]).problems.finish()?;
    let index = app.raft.view().index();
    let view = View::new(app.raft.consistency(), Instant::now(), index);
    Ok(Answer::json(&view).index(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_agree_only_if_every_member_was_compared() {
        let seen = |agreements: &[Agreement]| {
            let nodes = agreements.iter().zip(1..).map(|(agreement, id)| {
                let mark = Some((7, [0xab; 32]));
                let agreement = *agreement;
                (id, NodeDigest { mark, agreement })
            });
            Consistency {
                nodes: nodes.collect(),
                ..Consistency::default()
            }
        };
        let agree = |agreements: &[Agreement]| View::new(seen(agreements), Instant::now(), 9).agree;
        use Agreement::{Agrees, Differs, Disputed, Unknown};
        assert_eq!(agree(&[]), None);
        assert_eq!(agree(&[Agrees, Agrees, Unknown]), None);
        assert_eq!(agree(&[Agrees, Agrees, Agrees]), Some(true));
        assert_eq!(agree(&[Agrees, Differs, Unknown]), Some(false));
        assert_eq!(agree(&[Disputed, Disputed, Agrees]), Some(false));
        let view = View::new(seen(&[Agrees]), Instant::now(), 9);
        assert_eq!(view.nodes[0].digest.as_deref(), Some(&*"ab".repeat(32)));
    }
}
