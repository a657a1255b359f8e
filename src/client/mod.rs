//! The client of the HTTP API: what programs, the command line and forwarding nodes use to ask nodes.
//!
//! A leaf: it knows the server by its API only, and names nothing of it but the limits in [`crate::machine`]. The edge
//! takes its [`Pool`] from here, because a node that forwards is a client of the leader.

mod pool;

pub use pool::{Pool, SendError, authority};
