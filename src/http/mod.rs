//! The edge: everything that speaks HTTP and JSON, and the only folder that does.
//!
//! # Endpoints of the client listener
//! | Method, path | What | Success |
//! |---|---|---|
//! | POST `/v1/ledgers` | create a ledger | 201, 200 if it exists |
//! | GET `/v1/ledgers` | list, by id | 200 |
//! | GET `/v1/ledgers/{id}` | one ledger with its totals | 200 |
//! | GET `/v1/ledgers/{id}/trial-balance` | sums over its accounts | 200 |
//! | POST `/v1/accounts` | create an account | 201, 200 if it exists |
//! | GET `/v1/accounts?ledger&prefix&code` | list, by id | 200 |
//! | GET `/v1/accounts/{id}` | one account with its balance | 200 |
//! | GET `/v1/accounts/{id}/transfers?sort&side&code&from&to` | its posted transfers, in order of time | 200 |
//! | POST `/v1/transfers` | post a transfer | 201, 200 if it exists |
//! | POST `/v1/transfers/batch` | post up to 8190, in order, linked into chains at will | 200, 207 if some were refused |
//! | GET `/v1/transfers?account` | the same as of its account | 200 |
//! | GET `/v1/transfers/{id}` | one transfer, posted or refused for ever | 200 |
//! | GET `/v1/kv?prefix` | list keys with their values, in byte order | 200 |
//! | GET, PUT, DELETE `/v1/kv/{key}` | a value, as bytes; `If-Match`, `If-None-Match` | 200, 201 created, 304 |
//! | GET `/v1/idempotency/{key}` | what is held under an idempotency key | 200 |
//! | POST `/v1/cluster/init` | form a cluster, once | 201, 200 if formed before |
//! | POST `/v1/cluster/leader/transfer` | have another voter lead | 200 |
//! | POST `/v1/cluster/members` | add a node, without a vote | 201, 200 if it is there |
//! | PUT, DELETE `/v1/cluster/members/{id}` | say where a member is reached; remove it for good | 200 |
//! | POST `/v1/cluster/members/{id}/promote`, `/demote` | give it a vote, take it away | 200 |
//! | POST `/v1/cluster/members/{id}/replace` | put another member in a voter's place | 200 |
//! | GET `/v1/cluster` | this node's view of the cluster | 200 |
//! | GET `/v1/backup` | a backup of this node's state, streamed | 200 |
//! | GET `/v1/log/applied?from&to` | what this node applied, for `quorate log export` | 200 |
//! | GET `/livez`, `/readyz`, `/version` | probes | 200, 503 |
//! | GET `/metrics` | what this node measures, for Prometheus | 200 |
//! | GET `/openapi.json` | all of this, for programs | 200 |
//! | GET `/errors`, `/errors/{code}` | what the codes of problems mean | 200 |
//!
//! Every GET may be asked as HEAD; OPTIONS of every path lists its methods.
//!
//! Reads take `consistency=leader|lease|follower` and `timeout`, writes `timeout`, lists `limit` and `cursor`. A
//! write with an `Idempotency-Key` is done once ([`idempotency`]). Whatever a
//! request says beyond what is known is refused, because a typo must not weaken a guarantee.
//!
//! # How a request passes through
//! [`listener`] accepts, [`starting`] answers until the node has started, [`edge`] reads the whole body and gives the request an id, [`mod@routes`] finds its endpoint and checks what
//! the client accepts, a handler of the resource's file decodes it
//! ([`call`], [`json`]), calls [`crate::raft::Client`] once and encodes an [`answer`]. If the leader has to do it,
//! the edge forwards the request there ([`crate::client::Pool`]), one hop and no further. Errors become problems
//! ([`error`]) at the edge.

pub mod listener;

pub mod edge;

pub mod limits;

mod activity;

mod audit;

mod admission;

mod body;

mod door;

mod lag;

mod watched;

pub mod peer;

mod forward;

mod call;

mod json;

mod fields;

mod problems;

mod ledgers;

mod accounts;

mod accept;

mod doc;

mod errors;

mod metrics;

mod routes;

mod transfers;

mod batch;

mod kv;

mod idempotency;

mod cluster;
mod consistency;

mod leader;

mod members;

mod log;

mod history;

mod backup;

mod time;

mod probes;

pub mod starting;

mod page;

mod answer;

mod code;

mod error;

pub use call::parse_duration;
pub use edge::Edge;
pub use limits::Limits;
pub use listener::Phase;
pub use starting::Front;
pub use time::rfc3339_now;

use std::sync::Arc;

use tokio::sync::watch;

use crate::raft;

/// What handlers share.
#[derive(Clone)]
pub struct App {
    /// The door to everything below.
    pub raft: raft::Client,
    /// How far the node is with stopping.
    pub phase: watch::Receiver<Phase>,
    /// A leader not heard of for longer, or not hearing of its followers, makes this node not ready.
    pub silence_max: std::time::Duration,
    /// What bounds requests.
    pub limits: Arc<Limits>,
    /// What this node may take of memory by its settings, in bytes.
    pub memory_budget_bytes: u64,
}

impl App {
    /// How far the node is with stopping.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }
}

/// What handlers take out of the router's state.
type Shared = Arc<Served>;

/// What handlers share, and what counts their requests.
struct Served {
    app: App,
    meter: metrics::Meter,
    /// Asks other nodes what a handler needs to know of them.
    peers: crate::client::Pool,
}

impl std::ops::Deref for Served {
    type Target = App;

    fn deref(&self) -> &App {
        &self.app
    }
}

/// Runs a read that may wait for the disk off the async threads.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, crate::machine::Fault> + Send + 'static,
) -> Result<T, error::ApiError> {
    Ok(tokio::task::spawn_blocking(read)
        .await
        .expect("a read does not panic")?)
}

/// Every endpoint of the client listener.
fn routes() -> routes::Routes {
    ledgers::routes()
        .merge(accounts::routes())
        .merge(transfers::routes())
        .merge(batch::routes())
        .merge(history::routes())
        .merge(kv::routes())
        .merge(idempotency::routes())
        .merge(cluster::routes())
        .merge(consistency::routes())
        .merge(leader::routes())
        .merge(members::routes())
        .merge(log::routes())
        .merge(backup::routes())
        .merge(probes::routes())
        .merge(doc::routes())
        .merge(errors::routes())
        .merge(metrics::routes())
}
