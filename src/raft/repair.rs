//! Opening the state at the start of a node, and getting it back where it cannot be trusted.
//!
//! The state is disposable as long as the log is intact: whatever it held was committed, so it can be had again from a snapshot
//! and the log after it. One that is damaged, or does not fit the log, is set aside and made anew, from the first of these that
//! does: the log alone, if nothing of it is purged; this node's newest snapshot of which every byte is what its manifest says;
//! a snapshot of a peer ([`fetch`]).
//!
//! Why that is safe. All of it happens before the core is built: until then this node answers no peer and no client, as if it were
//! down. What consensus relies on is in the log and stays there, the vote and every entry that was acknowledged. A snapshot is
//! taken only if it ends where nothing of the log is missing after it: at the purge point or later. Whoever made it had applied
//! it, so all in it is committed, and where the log has another entry at its end, that entry and those after it can never be: they
//! alone are cut off. The core then finds what it also finds after a crash amid the installation of a snapshot, or what a node
//! finds that was killed long after its last flush. It serves no read before all that was committed when it first hears of a
//! leader is applied again, which is at least all that it ever showed.

mod fetch;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::sync::oneshot;

pub(super) use fetch::{Asked, Given};

use super::Options;
use super::blocking;
use super::digests::ALONE;
use super::form::UnaryCall;
use crate::storage::identity::DataDir;
use crate::storage::log::Log;
use crate::storage::snapshot::{self, Manifest};
use crate::storage::state::{self, State, Unusable};
use crate::storage::{Kind, LogEntry, LogId};

/// Bytes of log read at once.
const READ_BYTES: u64 = 8 << 20;

/// What is needed to open a state.
pub(super) struct Opening {
    pub(super) dir: Arc<DataDir>,
    pub(super) log: Log,
    pub(super) state: state::Options,
    pub(super) options: Options,
    /// Reaches other nodes.
    pub(super) call: UnaryCall,
    /// Nobody else is to be asked: there is nobody any more.
    pub(super) is_alone: bool,
}

/// How a state that is applied up to some entry fits a log.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fit {
    /// The log goes on from there.
    Good,
    /// What the log would have to go on from is purged, or the log has another entry there: why it cannot be used.
    Unfit(String),
    /// The log ends before it.
    Ahead,
}

impl Opening {
    /// The state, opened; got back from elsewhere if it cannot be used as it is.
    ///
    /// # Errors
    /// If it cannot be opened for a reason that may pass, if the log has lost entries, or if nobody else can have the state. The
    /// message says what to do.
    pub(super) async fn open(&self) -> anyhow::Result<State> {
        let state = match self.try_open().await? {
            Ok(state) => match self.fit(state.applied().log_id)? {
                Fit::Good => return Ok(state),
                // Nothing is lost with an empty one.
                Fit::Unfit(_) if state.applied().log_id.is_none() => state,
                Fit::Unfit(why) => {
                    drop(state);
                    self.renew(&why).await?
                }
                Fit::Ahead => return self.ahead(state),
            },
            Err(why) => {
                if why.contains(ALONE) {
                    self.empty_snapshots().await?;
                }
                self.renew(&why).await?
            }
        };
        self.fill(&state).await?;
        Ok(state)
    }

    /// Makes this node's snapshots useless: they may have been made when the state was wrong already. Before that is set aside, and
    /// durably, because afterwards nothing says any more what was wrong with it, and this start may end before another state is there.
    async fn empty_snapshots(&self) -> anyhow::Result<()> {
        let snapshots = self.own_snapshots()?;
        let emptied = blocking::io(move || {
            let mut all = snapshots.iter();
            all.try_for_each(|(path, _)| snapshot::empty(path))
        });
        emptied.await.context(
            "this node's snapshots, made of a state that is not that of a majority, cannot be deleted",
        )
    }

    /// Opens it; the inner error is why it must be set aside.
    async fn try_open(&self) -> anyhow::Result<Result<State, String>> {
        let (path, options) = (self.dir.state_dir(), self.state);
        match blocking::run(move || State::open_checked(&path, options)).await? {
            Ok(state) => Ok(Ok(state)),
            Err(Unusable::Damaged(why)) => Ok(Err(why)),
            Err(Unusable::Refused(error)) => Err(error.into()),
        }
    }

    /// Sets the state aside and makes an empty one.
    async fn renew(&self, why: &str) -> anyhow::Result<State> {
        let path = self.dir.state_dir();
        let aside = State::set_aside(&path, why)
            .with_context(|| format!("{why}; and it cannot be set aside"))?;
        tracing::error!("{why}; it is kept as {}", aside.display());
        match self.try_open().await? {
            Ok(state) => Ok(state),
            Err(why) => bail!("{why}, though it is new: does the disk work?"),
        }
    }

    /// Brings an empty state to where the log goes on, from a snapshot of this node if one will do.
    async fn fill(&self, state: &State) -> anyhow::Result<()> {
        let Some(purged) = self.log.state().purged else {
            tracing::warn!("the state is made again from the log, which holds everything");
            return Ok(());
        };
        let Some(useless) = self.fill_from_own(state).await? else {
            return Ok(());
        };
        let members = self.members().await?;
        let (path, manifest) = self.fetch(members, purged.index).await?;
        let last = self.make_way(&manifest).await?;
        self.install(state, path.clone())
            .await
            .with_context(|| format!("the snapshot in {} cannot be installed", path.display()))?;
        tracing::warn!(index = last.index, "the state is that of a peer's snapshot");
        Ok(delete(&useless)?)
    }

    /// Fills it from a snapshot of this node and gives `None`; or else those that are of no use. They name the members of the
    /// cluster, so they go only once the state is back.
    async fn fill_from_own(&self, state: &State) -> anyhow::Result<Option<Vec<PathBuf>>> {
        let mut useless = Vec::new();
        for (path, manifest) in self.own_snapshots()? {
            // One past the log was received, and a crash came before the log was purged for it.
            if let Fit::Unfit(_) = self.fit(manifest.applied.log_id)? {
                continue;
            }
            let checking = (path.clone(), manifest.clone());
            let checked = blocking::run(move || snapshot::verify(&checking.0, &checking.1)).await?;
            let installed = match checked {
                Ok(()) => self.install(state, path.clone()).await,
                Err(error) => Err(error.into()),
            };
            match installed {
                Ok(()) => {
                    let index = manifest.applied.log_id.map(|id| id.index);
                    tracing::warn!(index, "the state is that of this node's snapshot");
                    delete(&useless)?;
                    return Ok(None);
                }
                Err(why) => {
                    tracing::error!("a snapshot of this node is of no use: {why:#}");
                    useless.push(path);
                }
            }
        }
        Ok(Some(useless))
    }

    async fn install(&self, state: &State, path: PathBuf) -> anyhow::Result<()> {
        let state = state.clone();
        let installing = move || state.install(&snapshot::state_dir(&path)).map(drop);
        Ok(blocking::run(installing).await??)
    }

    /// The complete snapshots of this node, the newest first. Only names and sizes of their files are looked at.
    pub(super) fn own_snapshots(&self) -> io::Result<Vec<(PathBuf, Manifest)>> {
        let mut found = Vec::new();
        for path in entries(&self.dir.snapshots_dir())? {
            if let Ok(manifest) = snapshot::read(&path) {
                found.push((path, manifest));
            }
        }
        found.sort_by_key(|(_, manifest)| std::cmp::Reverse(manifest.applied.log_id));
        Ok(found)
    }

    /// A state that is past the log: as a crash leaves it between the installation of a snapshot and the purge of the log for it,
    /// and otherwise only a log that lost its end.
    fn ahead(&self, state: State) -> anyhow::Result<State> {
        let applied = state.applied().log_id;
        let mut snapshots = self.own_snapshots()?.into_iter();
        if snapshots.any(|(_, manifest)| manifest.applied.log_id == applied) {
            return Ok(state);
        }
        let last = self.log.state().last.map(|last| last.index);
        bail!(
            "the log in {} ends at index {last:?} and the state has applied {:?}: entries and votes that this node acknowledged \
             are lost, so it must not take part again as it is: keep {} aside and join this node again under a new id (quorate \
             node replace)",
            self.dir.log_dir().display(),
            applied.map(|applied| applied.index),
            self.dir
                .log_dir()
                .parent()
                .unwrap_or(Path::new("it"))
                .display(),
        )
    }

    /// How a state applied up to `applied` fits the log.
    fn fit(&self, applied: Option<LogId>) -> io::Result<Fit> {
        let held = self.log.state();
        let Some(applied) = applied else {
            return Ok(match held.purged {
                None => Fit::Good,
                Some(purged) => Fit::Unfit(format!(
                    "the state is empty and the log begins after index {}",
                    purged.index
                )),
            });
        };
        if held.last.is_none_or(|last| last.index < applied.index) {
            return Ok(Fit::Ahead);
        }
        if held
            .purged
            .is_some_and(|purged| applied.index < purged.index)
        {
            return Ok(Fit::Unfit(format!(
                "the state ends at index {} and the log begins after it, at {}",
                applied.index,
                held.purged.map_or(0, |purged| purged.index + 1)
            )));
        }
        let logged = entry_id(&self.log, applied.index)?;
        Ok(match logged == Some(applied) {
            true => Fit::Good,
            false => Fit::Unfit(format!(
                "the state was made of another log: it ends at {applied:?}, where this node's log has {logged:?}"
            )),
        })
    }

    /// Cuts off what of the log contradicts the snapshot of `manifest`, durably. Gives the snapshot's last entry.
    pub(super) async fn make_way(&self, manifest: &Manifest) -> anyhow::Result<LogId> {
        let last = manifest.applied.log_id.context("an empty snapshot")?;
        let logged = entry_id(&self.log, last.index)?;
        if logged.is_none_or(|logged| logged == last) {
            return Ok(last);
        }
        if self
            .log
            .state()
            .purged
            .is_some_and(|purged| last.index <= purged.index)
        {
            bail!(
                "a snapshot ends at {last:?}, which contradicts what this node has purged: {logged:?}"
            );
        }
        let before = last.index.checked_sub(1);
        let before = before
            .map(|before| entry_id(&self.log, before))
            .transpose()?;
        tracing::warn!(
            "the log's entries from index {} on were never committed",
            last.index
        );
        self.log.truncate_after(before.flatten());
        let (done, cut) = oneshot::channel();
        self.log
            .append(Vec::new(), Box::new(move |result| drop(done.send(result))));
        cut.await.context("the log is closed")??;
        Ok(last)
    }

    /// The newest membership among the entries of the log, or else in a manifest of a snapshot, whether that is whole or not.
    async fn members(&self) -> anyhow::Result<super::types::RaftStoredMembership> {
        let log = self.log.clone();
        let logged = blocking::run(move || last_membership(&log)).await??;
        let mut newest: Option<(Option<LogId>, bytes::Bytes)> = None;
        for path in entries(&self.dir.snapshots_dir())? {
            if let Ok(manifest) = snapshot::manifest(&path)
                && let Some(membership) = manifest.applied.membership
                && newest
                    .as_ref()
                    .is_none_or(|(known, _)| *known < manifest.applied.log_id)
            {
                newest = Some((manifest.applied.log_id, membership));
            }
        }
        let found = logged
            .map(|entry| entry.body)
            .or(newest.map(|(_, body)| body));
        let found = found.with_context(|| {
            format!(
                "the state is lost, and so is every snapshot, so that the other nodes of the cluster are not known: keep {} \
                 aside and join this node again under a new id (quorate node replace)",
                self.dir.log_dir().parent().unwrap_or(Path::new("it")).display()
            )
        })?;
        super::convert::decode_membership(&found).map_err(anyhow::Error::msg)
    }
}

/// The id of entry `index`, if the log holds it or was purged up to it.
fn entry_id(log: &Log, index: u64) -> io::Result<Option<LogId>> {
    let purged = log.state().purged;
    if purged.is_some_and(|purged| purged.index == index) {
        return Ok(purged);
    }
    let entry = log.read(index..index + 1, 1)?.pop();
    Ok(entry
        .filter(|entry| entry.id.index == index)
        .map(|entry| entry.id))
}

/// The last entry with a membership.
pub(super) fn last_membership(log: &Log) -> io::Result<Option<LogEntry>> {
    let held = log.state();
    let mut next = held.purged.map_or(0, |purged| purged.index + 1);
    let end = held.last.map_or(0, |last| last.index + 1);
    let mut found = None;
    while next < end {
        let read = log.read(next..end, READ_BYTES)?;
        let Some(last) = read.last() else { break };
        next = last.id.index + 1;
        let memberships = read
            .into_iter()
            .filter(|entry| entry.kind == Kind::Membership);
        found = memberships.last().or(found);
    }
    Ok(found)
}

fn delete(snapshots: &[PathBuf]) -> io::Result<()> {
    snapshots.iter().try_for_each(fs::remove_dir_all)
}

/// What is in `dir`, which need not be there.
fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
