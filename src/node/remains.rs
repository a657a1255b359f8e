//! What a stopped node left on its disk, when the majority of its cluster is gone for good.

use std::path::Path;

pub use crate::raft::Remains;
use crate::storage::identity::DataDir;
use crate::storage::{log, state};

/// Opens the data directory at `path`, whoever's it is.
///
/// # Errors
/// If it is none, is in use, or a node would not start on it; the message says what to do.
pub async fn remains(path: &Path) -> anyhow::Result<Remains> {
    let node = DataDir::inspect(path)?.identity().node_id;
    let dir = DataDir::open(path, node)?;
    Remains::open(dir, log::Options::default(), state::Options::default()).await
}
