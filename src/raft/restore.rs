//! A backup made a new cluster: of one node, with all that the backup holds.
//!
//! It is another cluster than the one that was backed up, and says so: with an id that nobody had before, and a higher epoch. Nodes of
//! the old one are refused by it and refuse it, so both may go on without ever meeting. That is why node ids begin afresh: nobody who
//! knows what one of them promised in the old cluster listens to the new one.
//!
//! Everything is put into a directory that no node starts on ([`Restoring`]): the state, verified; the entry that makes this node the
//! only member, as the next one after the last of the backup, applied; and a log that holds this entry alone. The identity comes last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, bail};

use super::members::epoch;
use super::recover::written;
use super::snapshots::meta_of;
use super::types::RaftMembership;
use super::{Member, blocking, convert};
use crate::storage::backup::{self, Manifest, Summary};
use crate::storage::identity::Restoring;
use crate::storage::log::Log;
use crate::storage::state::State;
use crate::storage::{Kind, LogEntry, LogId, Vote, log, state};

/// Bytes read from the backup at once.
const READ_LEN: usize = 256 << 10;

/// What came of a restore.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The new cluster.
    pub cluster_id: String,
    /// Its epoch.
    pub epoch: u64,
    /// Its only node.
    pub node: u64,
    /// What the backup says of itself.
    pub manifest: Manifest,
    /// What there is, counted.
    pub summary: Summary,
}

/// Makes the directory at `dir`, which must be absent or empty, one of node `node` of a new cluster, reached as `me` says, that has what
/// the backup in `file` holds. All or nothing: cut off at any moment it leaves a directory that no node starts on, and that the next
/// attempt clears away.
///
/// # Errors
/// If the backup is refused in any way, the directory is in use or not empty, or the disk fails. Then there is nothing in it.
pub async fn restore(file: &Path, dir: &Path, node: u64, me: Member) -> anyhow::Result<Restored> {
    let input = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let path = dir.to_owned();
    let restoring = blocking::run(move || Restoring::begin(&path, node)).await??;
    let root = restoring.state_dir();
    let unpacked = blocking::run(move || unpacked(input, &root)).await?;
    let (manifest, summary) = unpacked.with_context(|| format!("backup {}", file.display()))?;
    let before = manifest
        .applied
        .log_id
        .context("the backup is of nothing")?;
    let stored = meta_of(&manifest.applied)?.last_membership;
    let epoch = epoch(&stored).max(manifest.epoch) + 1;
    let me = Member {
        uuid: restoring.node_uuid().to_owned(),
        ids_upto: 0,
        leaving: false,
        epoch,
        ..me
    };
    let at = LogId {
        term: before.term + 1,
        node,
        index: before.index + 1,
    };
    let entry = LogEntry {
        id: at,
        kind: Kind::Membership,
        body: alone(at, me)?,
    };
    apply(&restoring, entry.clone(), manifest.applied.digest).await?;
    write_log(&restoring, before, entry).await?;
    let cluster_id = restoring.finish(&manifest.cluster, at)?;
    Ok(Restored {
        cluster_id,
        epoch,
        node,
        manifest,
        summary,
    })
}

/// Leaves the state of the backup in `root`, verified.
fn unpacked(input: File, root: &Path) -> anyhow::Result<(Manifest, Summary)> {
    let input = BufReader::with_capacity(READ_LEN, input);
    let (manifest, summary) = backup::unpack(input, root)?;
    let checked = backup::check(root, &manifest, &summary)?;
    match checked.problems.is_empty() {
        true => Ok((manifest, summary)),
        false => bail!("{}", checked.problems.join("\n  ")),
    }
}

/// The membership of one node.
fn alone(at: LogId, me: Member) -> anyhow::Result<bytes::Bytes> {
    let (voters, nodes) = (BTreeSet::from([at.node]), BTreeMap::from([(at.node, me)]));
    let membership = RaftMembership::new(vec![voters], nodes)?;
    Ok(convert::encode_membership(Some(at), &membership))
}

/// Has the state apply `entry`: whoever opens it knows of no other members than this node.
async fn apply(restoring: &Restoring, entry: LogEntry, digest: [u8; 32]) -> anyhow::Result<()> {
    let root = restoring.state_dir();
    let applied = blocking::run(move || {
        let state = State::open(&root, state::Options::default())?;
        state.apply(&[entry])?;
        state.close()?;
        anyhow::Ok(state.applied())
    });
    let applied = applied.await??;
    if applied.digest != digest {
        bail!("a change of the members changed the digest of the state");
    }
    Ok(())
}

/// Makes a log that goes on after `before` and holds `entry`, in the term in which this node led.
async fn write_log(restoring: &Restoring, before: LogId, entry: LogEntry) -> anyhow::Result<()> {
    let (path, uuid) = (restoring.log_dir(), restoring.node_uuid().to_owned());
    let open = move || Log::open(&path, &uuid, log::Options::default());
    let log = blocking::run(open).await??;
    let vote = Vote {
        term: entry.id.term,
        node: entry.id.node,
        committed: true,
    };
    log.purge(before);
    written(|done| log.save_vote(vote, done)).await?;
    written(|done| log.append(vec![entry], done)).await?;
    blocking::run(move || log.close()).await?;
    Ok(())
}
