//! A backup made the data directory of the first node of a new cluster.

use std::path::Path;

pub use crate::raft::Restored;
use crate::raft::{self, Member};

/// Restores the backup in `file` into `dir`, for node `node`, whose peer listener others reach at `peer_addr` and whose client listener
/// at `client_url`. See [`raft::restore()`].
///
/// # Errors
/// If the backup is refused, the directory is not empty, or the disk fails.
pub async fn restore(
    file: &Path,
    dir: &Path,
    node: u64,
    (peer_addr, client_url): (String, String),
) -> anyhow::Result<Restored> {
    let me = Member {
        peer_addr,
        client_url,
        ..Member::default()
    };
    raft::restore(file, dir, node, me).await
}
