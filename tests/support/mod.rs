//! What the tests on real processes share: clusters of the built binary, a small HTTP client, clients that keep honest
//! accounts of what they were told.

pub(crate) mod cluster;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod ports;
pub(crate) mod trace;
pub(crate) mod wait;
