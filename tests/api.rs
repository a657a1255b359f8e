//! The HTTP API over real nodes in this process: every endpoint, every error that can be brought about, every header.

#![expect(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected is to fail"
)]

#[path = "api/audit.rs"]
mod audit;
#[path = "api/backup.rs"]
mod backup;
#[path = "api/cli.rs"]
mod cli;
#[path = "api/cluster.rs"]
mod cluster;
#[path = "api/headers.rs"]
mod headers;
#[path = "api/history.rs"]
mod history;
#[path = "api/idempotency.rs"]
mod idempotency;
#[path = "api/kv.rs"]
mod kv;
#[path = "api/ledger.rs"]
mod ledger;
#[path = "api/metrics.rs"]
mod metrics;
#[path = "api/nodes.rs"]
mod nodes;
#[path = "api/openapi.rs"]
mod openapi;
#[path = "api/problems.rs"]
mod problems;
#[path = "api/stop.rs"]
mod stop;
