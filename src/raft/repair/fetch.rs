//! A snapshot asked of a peer, by a node that has no state to start from. Any member that runs will do: all that it applied is
//! committed.
//!
//! Question and answer are one unary call each, like those before a cluster is formed, because there is no core yet that could
//! take a transfer. First the manifest, then piece by piece what is not here already. Every file is held against the manifest; what
//! has arrived is kept if the peer goes away, and the next one asked gives the rest of the files that it has too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Opening, entries};
use crate::raft::members::{Verdict, ask_about_me, refuse};
use crate::raft::space::marks;
use crate::raft::types::RaftStoredMembership;
use crate::raft::wire::answer::Answer;
use crate::raft::wire::{self, Header, Segments, rare};
use crate::raft::{Call, Member, blocking};
use crate::storage::clock::now;
use crate::storage::snapshot::{Manifest, Missing, Staging};
use crate::storage::{LogId, Vote, space};

/// Where what comes in is staged, as of a snapshot that a leader sends.
const INCOMING: &str = "incoming";

/// How often a node that finds nobody says so.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What a node without a state asks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::raft) enum Asked {
    /// The manifest of a snapshot that ends at this index or later; to be made if there is none.
    Manifest {
        /// The index.
        reach: u64,
    },
    /// Bytes of a file of the snapshot whose manifest was given.
    Chunk {
        /// The last entry of that snapshot.
        last: LogId,
        /// The file's place in the manifest.
        file: u32,
        /// Where the bytes stand in it.
        offset: u64,
    },
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::raft) enum Given {
    /// The manifest.
    Manifest(Vec<u8>),
    /// Some of the bytes: at least one, unless the file ends there.
    Chunk(Vec<u8>),
    /// Not there, or not any more: ask for the manifest again, in a while.
    NotYet,
}

/// A peer that is asked.
struct Source<'a> {
    opening: &'a Opening,
    id: u64,
    member: &'a Member,
}

impl Opening {
    /// Gets a snapshot that ends at index `reach` or later from any of `members`, for as long as that takes. It is one of this
    /// node's snapshots then, whole and verified.
    ///
    /// # Errors
    /// If there is no other member, or none is to be asked; or if one says that this node is a member no more, or runs on a copy.
    pub(super) async fn fetch(
        &self,
        members: RaftStoredMembership,
        reach: u64,
    ) -> anyhow::Result<(PathBuf, Manifest)> {
        let me = self.dir.identity().node_id;
        let peers: Vec<(u64, Member)> = members
            .nodes()
            .filter(|(id, _)| **id != me)
            .map(|(id, member)| (*id, member.clone()))
            .collect();
        if peers.is_empty() || self.is_alone {
            bail!(
                "the state is lost, no snapshot of it is whole, and this is the only node left of its cluster: put back a copy of {} \
                 that fits its log, or make a new cluster from a backup",
                self.dir.state_dir().display()
            );
        }
        tracing::warn!(
            "this node has no state and asks its peers for a snapshot up to index {reach} or beyond"
        );
        let mut told = None;
        loop {
            for (id, member) in &peers {
                let source = Source {
                    opening: self,
                    id: *id,
                    member,
                };
                let why = match source.get(reach).await {
                    Ok(got) => return Ok(got),
                    Err(why) => why,
                };
                // Who knows that this node does not belong here any more gives it nothing, ever.
                self.check_still_member(*id, member).await?;
                let is_due = told.is_none_or(|told| now().duration_since(told) > TELL_EVERY);
                if is_due {
                    tracing::warn!(
                        "no snapshot from node {id} at {}: {why:#}",
                        member.peer_addr
                    );
                    told = Some(now());
                }
            }
            tokio::time::sleep(self.options.heartbeat).await;
        }
    }

    /// Asks node `id` whether this one may go on.
    ///
    /// # Errors
    /// If not: why.
    async fn check_still_member(&self, id: u64, member: &Member) -> anyhow::Result<()> {
        let verdict = ask_about_me(&self.dir, &self.call, id, &member.peer_addr).await;
        match verdict {
            None => Ok(()),
            Some(Verdict::NoMember(why)) => bail!(why),
            Some(Verdict::Copy(why)) => {
                refuse(&self.dir, &why).await?;
                bail!(why)
            }
        }
    }
}

impl Source<'_> {
    async fn get(&self, reach: u64) -> anyhow::Result<(PathBuf, Manifest)> {
        let bytes = match self.ask(Asked::Manifest { reach }).await? {
            Given::Manifest(bytes) => bytes,
            _ => bail!("it has none yet"),
        };
        let manifest = Manifest::decode(&bytes).map_err(anyhow::Error::msg)?;
        let last = self.check(&manifest, reach)?;
        let dir = self.opening.dir.snapshots_dir();
        let own = self.opening.own_snapshots()?.into_iter().next();
        let (staged, wanted) = (dir.join(INCOMING), manifest.clone());
        let begun = blocking::run(move || {
            let own = own.as_ref().map(|(path, own)| (path.as_path(), own));
            Staging::begin(&staged, wanted, own)
        });
        let (mut staging, missing) = begun.await??;
        let total = manifest.bytes();
        self.check_room(lacking(&manifest, &missing)).await?;
        tracing::info!(
            from = self.id,
            total,
            files = missing.len(),
            "a snapshot is fetched"
        );
        for missing in missing {
            staging = self.file(staging, last, missing).await?;
        }
        let path = fresh_path(&dir)?;
        let to = path.clone();
        blocking::run(move || {
            let made = staging.assemble(&to);
            match made {
                Ok(()) => Staging::clear(&dir.join(INCOMING)),
                Err(error) => {
                    let _ = std::fs::remove_dir_all(&to);
                    Err(error)
                }
            }
        })
        .await??;
        Ok((path, manifest))
    }

    /// Whether the snapshot of `manifest` will do. Gives its last entry.
    fn check(&self, manifest: &Manifest, reach: u64) -> anyhow::Result<LogId> {
        let mine = self.opening.dir.identity().cluster_id;
        ensure!(
            manifest.cluster == mine,
            "its snapshot is of another cluster"
        );
        let last = manifest.applied.log_id.context("its snapshot is empty")?;
        ensure!(last.index >= reach, "its snapshot ends at {}", last.index);
        Ok(last)
    }

    /// Whether `lacks` bytes more leave what a full disk is said to lack. States that were set aside stand beside what comes, so a
    /// disk that was large enough may be too small now; what may go is for a human to say.
    async fn check_room(&self, lacks: u64) -> anyhow::Result<()> {
        let (dir, options) = (self.opening.dir.clone(), self.opening.options.space);
        let (free, aside) = blocking::run(move || {
            let root = dir.state_dir();
            let beside = root.parent().unwrap_or(Path::new("."));
            Ok::<_, std::io::Error>((space::free(beside)?, set_aside(&root)?))
        })
        .await??;
        let reserve = marks(&options, free.size).full_bytes;
        match free.bytes >= lacks.saturating_add(reserve) {
            true => Ok(()),
            false => bail!(no_room(lacks, reserve, free.bytes, &aside)),
        }
    }

    /// Gets what is missing of a file.
    async fn file(
        &self,
        mut staging: Staging,
        last: LogId,
        missing: Missing,
    ) -> anyhow::Result<Staging> {
        let entry = staging.manifest().files[missing.file].clone();
        let (mut offset, place) = (missing.offset, missing.file);
        while offset < entry.size {
            let file = u32::try_from(place).context("too many files")?;
            let bytes = match self.ask(Asked::Chunk { last, file, offset }).await? {
                Given::Chunk(bytes) if !bytes.is_empty() => bytes,
                _ => bail!("it has that snapshot no more"),
            };
            self.keep_to_the_rate(bytes.len()).await;
            let put = move || {
                staging
                    .put(place, offset, &bytes)
                    .map(|_| (bytes.len(), staging))
            };
            let (len, back) = blocking::run(put).await??;
            (offset, staging) = (offset + len as u64, back);
        }
        Ok(staging)
    }

    /// Waits for as long as `len` bytes take at the rate at which snapshots are sent.
    async fn keep_to_the_rate(&self, len: usize) {
        let rate = self.opening.options.snapshots.rate;
        if rate > 0 {
            tokio::time::sleep(Duration::from_secs_f64(len as f64 / rate as f64)).await;
        }
    }

    async fn ask(&self, asked: Asked) -> anyhow::Result<Given> {
        let me = self.opening.dir.identity();
        let cluster = me.cluster_id.context("this node belongs to no cluster")?;
        let header = Header {
            call: Call::Fetch,
            cluster: wire::id_bytes(&cluster).map_err(anyhow::Error::msg)?,
            from: me.node_id,
            from_uuid: wire::id_bytes(&me.node_uuid).map_err(anyhow::Error::msg)?,
            boot: self.opening.dir.boot(),
            to: self.id,
            to_uuid: wire::known_id(&self.member.uuid).map_err(anyhow::Error::msg)?,
            // It is nobody's to vote with; a header names its sender.
            vote: Vote {
                term: 0,
                node: me.node_id,
                committed: false,
            },
            seq: 1,
        };
        let mut message = Segments::default();
        header.encode(&mut message);
        message.put(&rare::encode(&asked));
        let call = &self.opening.call;
        let answer: Bytes = call(
            self.member.peer_addr.clone(),
            Call::Fetch,
            message.into_bytes(),
        )
        .await
        .map_err(anyhow::Error::msg)?;
        match Answer::decode(answer)?.answer {
            Answer::Rare(given) => Ok(rare::decode(&given)?),
            Answer::Refused(why) => bail!("refused: {why}"),
            other => bail!("it answered with {other:?}"),
        }
    }
}

/// Bytes of the snapshot of `manifest` that are still to come.
fn lacking(manifest: &Manifest, missing: &[Missing]) -> u64 {
    let lacks = missing
        .iter()
        .map(|missing| manifest.files[missing.file].size - missing.offset);
    lacks.sum()
}

/// The states that were set aside beside the one in `root`.
fn set_aside(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let Some((beside, name)) = root.parent().zip(root.file_name()) else {
        return Ok(Vec::new());
    };
    let mut prefix = name.to_os_string();
    prefix.push(".damaged-");
    let is_one = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.as_encoded_bytes());
        name.is_some_and(|name| name.starts_with(prefix.as_encoded_bytes()))
    };
    let mut found: Vec<PathBuf> = entries(beside)?.into_iter().filter(is_one).collect();
    found.sort();
    Ok(found)
}

/// What is said where `lacks` bytes do not fit.
fn no_room(lacks: u64, reserve: u64, free: u64, aside: &[PathBuf]) -> String {
    let aside: Vec<String> = aside
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    let advice = match aside.is_empty() {
        true => "make room on its disk".to_owned(),
        false => format!(
            "make room on its disk; what was set aside is kept for you alone and can be deleted: {}",
            aside.join(", ")
        ),
    };
    format!("{lacks} bytes are to come, {reserve} must stay free and {free} are: {advice}")
}

/// A path for a snapshot in `dir` that was never used.
fn fresh_path(dir: &Path) -> anyhow::Result<PathBuf> {
    let number = |path: PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
    let last = entries(dir)?.into_iter().filter_map(number).max();
    Ok(dir.join(format!("{:010}", last.map_or(0, |last| last + 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_room_it_is_said_what_can_be_deleted() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("state");
        for name in ["state", "state.damaged-2", "state.damaged-1", "snapshots"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        let aside = set_aside(&state).unwrap();
        let both = ["state.damaged-1", "state.damaged-2"].map(|name| root.path().join(name));
        assert_eq!(aside, both);
        let why = no_room(9, 5, 7, &aside);
        assert!(why.contains("state.damaged-1, "), "{why}");
        assert!(!no_room(9, 5, 7, &[]).contains("set aside"));
    }
}
