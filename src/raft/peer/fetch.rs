//! A snapshot given to a node that has no state to start from: [`crate::raft::repair`].

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use openraft::storage::RaftStateMachine;

use super::fence::Refusal;
use super::serve::{Server, nonsense};
use crate::raft::blocking;
use crate::raft::repair::{Asked, Given};
use crate::raft::snapshots::SnapshotDir;
use crate::raft::types::Types;
use crate::raft::wire::answer::Answer;
use crate::raft::wire::snapshot::CHUNK_LEN_MAX;
use crate::raft::wire::{Cursor, Header, rare};
use crate::storage::snapshot;

impl<SM: RaftStateMachine<Types>> Server<SM> {
    /// The manifest of a snapshot, or a piece of one.
    pub(super) async fn fetch(
        &self,
        header: &Header,
        mut cursor: Cursor,
    ) -> Result<Answer, Refusal> {
        let asked: Asked = rare::decode(&cursor.take_rest()).map_err(nonsense)?;
        let snapshots = &self.context.snapshots;
        let given = match asked {
            Asked::Manifest { reach } => match snapshots.lend(header.from, reach) {
                Some(lent) => Given::Manifest(lent.manifest.encode().into_bytes()),
                None => Given::NotYet,
            },
            Asked::Chunk { last, file, offset } => match snapshots.lent(header.from, last) {
                Some(lent) => {
                    let read = blocking::io(move || read(&lent, file, offset)).await;
                    let bytes = read.map_err(|error| Refusal::new("disk", error.to_string()))?;
                    Given::Chunk(bytes)
                }
                None => Given::NotYet,
            },
        };
        Ok(Answer::Rare(rare::encode(&given).into()))
    }
}

/// Bytes of a file from `offset` on.
fn read(lent: &SnapshotDir, file: u32, offset: u64) -> io::Result<Vec<u8>> {
    let entry = usize::try_from(file)
        .ok()
        .and_then(|at| lent.manifest.files.get(at));
    let entry = entry.filter(|entry| offset <= entry.size);
    let entry = entry.ok_or_else(|| io::Error::other("there are no such bytes"))?;
    let len = usize::try_from(entry.size - offset).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len.min(CHUNK_LEN_MAX)];
    let path = snapshot::state_dir(&lent.path).join(&entry.name);
    File::open(path)?.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
