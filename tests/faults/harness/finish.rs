//! The end of a run: everything healed, every key written and read once more at every level, the nodes stopped, and their
//! applied logs and digests taken from their directories.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;

use super::client::Client;
use super::follow::{Piece, holes};
use super::nodes::Nodes;
use super::operator::membership;
use super::workloads::{Planned, bank};
use super::world::World;
use super::{api, applied, http};
use crate::history::{Call, Happening, Level, Membership};
use crate::random::Random;
use crate::run::{FinalState, Mark};

/// How long a healed cluster may take to be ready.
const HEALED: Duration = Duration::from_secs(30);
/// How long one operation of the final phase may take, all its attempts together.
const ANSWERED: Duration = Duration::from_secs(15);
/// How long a removed node may take to end: up to 27 s for its leadership, its clients and its disk (the settings `stop_*`), and to hear of it.
const GONE: Duration = Duration::from_secs(45);
/// How long it may take until every node knows who belongs to the cluster.
const TOLD: Duration = Duration::from_secs(5);
/// How long stopping may take.
const STOPPED: Duration = Duration::from_secs(60);

/// Heals everything and waits until the cluster is ready; how long that took.
///
/// # Errors
/// When it does not come back.
pub(crate) fn heal(nodes: &mut Nodes) -> anyhow::Result<Duration> {
    nodes.net.heal_all()?;
    for id in nodes.ids() {
        if !nodes.is_running(id) {
            nodes.start(id)?;
        } else if nodes.is_paused(id) {
            nodes.pause(id, false)?;
        }
    }
    let start = Instant::now();
    wait_ready(nodes)?;
    Ok(start.elapsed())
}

/// Waits until every node that was removed has ended by itself, and the last ones once more after another start.
///
/// # Errors
/// When one runs on.
pub(crate) fn farewell(nodes: &mut Nodes) -> anyhow::Result<()> {
    nodes.wait_gone(GONE)?;
    nodes.start_removed()?;
    nodes.wait_gone(GONE)
}

/// Waits until every node is ready and one leads.
///
/// # Errors
/// When that takes too long.
pub(crate) fn wait_ready(nodes: &Nodes) -> anyhow::Result<()> {
    let glance = Duration::from_millis(500);
    let is_ready = |id: &u64| {
        let reply = http::ask(nodes.addr(*id), "GET", "/readyz", "", glance);
        reply.is_ok_and(|reply| reply.status == 200)
    };
    let start = Instant::now();
    while !(nodes.ids().iter().all(is_ready) && nodes.leader().is_some()) {
        let waited = start.elapsed();
        anyhow::ensure!(waited < HEALED, "the cluster is not ready after {waited:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until every node has applied at least `index`.
///
/// # Errors
/// When that takes too long.
pub(crate) fn wait_applied(nodes: &Nodes, index: u64) -> anyhow::Result<()> {
    let has_applied = |id: &u64| applied_by(nodes, *id).is_some_and(|applied| applied >= index);
    let start = Instant::now();
    while !nodes.ids().iter().all(has_applied) {
        let waited = start.elapsed();
        anyhow::ensure!(
            waited < HEALED,
            "not everybody has applied {index} after {waited:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until every node has applied the same, and so all that was acknowledged: a node that is stopped before it heard that
/// the last entries are committed would leave a shorter log than the others.
///
/// # Errors
/// When that takes too long.
pub(crate) fn converge(nodes: &Nodes) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let ids = nodes.ids().into_iter();
        let applied: BTreeSet<Option<u64>> = ids.map(|id| applied_by(nodes, id)).collect();
        if applied.len() == 1 && !applied.contains(&None) {
            return Ok(());
        }
        let waited = start.elapsed();
        anyhow::ensure!(
            waited < HEALED,
            "the nodes have applied {applied:?} after {waited:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes down who belongs to the cluster, as each node says it: as soon as it is what the operator was told, or after a while.
pub(crate) fn members(world: &World, nodes: &Nodes) {
    let start = Instant::now();
    let glance = Duration::from_millis(500);
    let said = |id: u64| {
        let reply = http::ask(nodes.addr(id), "GET", "/v1/cluster", "", glance);
        reply.ok().and_then(|reply| membership(&reply.json()))
    };
    for node in nodes.ids() {
        let mut told = said(node);
        let is_so = |told: &Membership| nodes.membership().fits(told);
        while !told.as_ref().is_some_and(is_so) && start.elapsed() < TOLD {
            std::thread::sleep(Duration::from_millis(20));
            told = said(node);
        }
        if let Some(members) = told {
            world.say(&Happening::Members { node, members });
        }
    }
}

/// The applied index of a node, if it says.
fn applied_by(nodes: &Nodes, id: u64) -> Option<u64> {
    let glance = Duration::from_millis(500);
    let reply = http::ask(nodes.addr(id), "GET", "/livez", "", glance).ok()?;
    reply.number("quorate-applied-index")
}

/// Writes every key once more and reads it at every level.
pub(crate) fn final_phase(world: &Arc<World>, has_bank: bool, seed: u64) {
    world.say(&Happening::Phase("final".to_owned()));
    let mut random = Random::new(seed);
    let mut client = Client::new(Arc::clone(world), 1, seed, 0);
    let mut keys: Vec<Option<String>> = world.keys().into_iter().map(Some).collect();
    if has_bank {
        keys.push(None);
    }
    for key in keys {
        let call = match &key {
            None => bank::transfer(&mut random),
            Some(key) if api::is_set(key) => Call::Add(world.value()),
            Some(_) => Call::Write(world.value()),
        };
        answered(world, &mut client, &Planned::write(key.clone(), call));
        for level in Level::ALL {
            answered(world, &mut client, &Planned::read(key.clone(), level));
        }
    }
}

/// Does an operation until it is answered; a write is a new one each time.
fn answered(world: &World, client: &mut Client, planned: &Planned) {
    let start = Instant::now();
    let mut planned = planned.clone();
    while client.perform(planned.clone(), None).is_none() {
        if start.elapsed() > ANSWERED {
            world.fail(format!("in the final phase {planned:?} is not answered"));
            return;
        }
        planned.call = match planned.call {
            Call::Write(_) => Call::Write(world.value()),
            Call::Add(_) => Call::Add(world.value()),
            other => other,
        };
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stops every node and leaves what they applied in `dir`: what is in their logs, and the pieces that were collected before.
///
/// # Errors
/// When a node does not stop in good order, its directory does not verify, or cannot be exported; and when the pieces leave
/// something out.
pub(crate) fn collect(
    nodes: &mut Nodes,
    dir: &Path,
    binary: &Path,
    mut pieces: Vec<Piece>,
) -> anyhow::Result<()> {
    nodes.stop_all(STOPPED)?;
    let mut ends = Vec::new();
    for id in nodes.ids() {
        let verified = verify(binary, &nodes.data_dir(id));
        let (applied, first) = verified.with_context(|| format!("node {id}"))?;
        ends.push((id, applied, first));
    }
    // While they stop, one may apply an entry more than another: compared is what all have.
    let until = ends.iter().map(|(_, applied, _)| *applied).min();
    let until = until.context("a cluster without nodes")?;
    let mut finals = Vec::new();
    let mut last_pieces = Vec::new();
    for (id, _, first) in &ends {
        let exported = export(binary, &nodes.data_dir(*id), until);
        let (lines, digest) = exported.with_context(|| format!("node {id}"))?;
        last_pieces.push(Piece {
            node: *id,
            from: *first,
            upto: until,
            lines,
        });
        finals.push(FinalState {
            node: *id,
            applied: until,
            digest,
            first: *first,
            marks: Vec::new(),
        });
    }
    mark_snapshots(nodes, binary, &mut finals)?;
    let finals = serde_json::to_string_pretty(&finals)? + "\n";
    fs::write(dir.join("final.json"), finals)?;
    last_pieces.append(&mut pieces);
    leave_logs(dir, &last_pieces)?;
    let holes = holes(&last_pieces, until);
    anyhow::ensure!(
        holes.is_empty(),
        "every node purged log indexes {holes:?} before they were collected"
    );
    Ok(())
}

/// Has every stopped node's directory verified; index and digest of each, at the last index that all have applied.
///
/// # Errors
/// When a directory does not verify, or cannot be exported.
pub(crate) fn digests(nodes: &Nodes, binary: &Path) -> anyhow::Result<Vec<(u64, String)>> {
    let ids = nodes.ids();
    let verified = ids.iter().map(|id| {
        let verified = verify(binary, &nodes.data_dir(*id));
        Ok(verified.with_context(|| format!("node {id}"))?.0)
    });
    let applied = verified.collect::<anyhow::Result<Vec<u64>>>()?;
    let until = applied
        .into_iter()
        .min()
        .context("a cluster without nodes")?;
    let at = |id: &u64| Ok((until, export(binary, &nodes.data_dir(*id), until)?.1));
    ids.iter().map(at).collect()
}

/// The log of each node in a file of its own, and each further piece of it in one more.
fn leave_logs(dir: &Path, pieces: &[Piece]) -> anyhow::Result<()> {
    let lines = pieces.iter().map(|piece| applied::parse(&piece.lines));
    let lines: Vec<Vec<applied::Line>> = lines.collect::<Result<_, _>>()?;
    let tags = applied::tags(lines.iter().flatten())?;
    let mut written: BTreeMap<u64, u64> = BTreeMap::new();
    for (piece, lines) in pieces.iter().zip(&lines) {
        let log = applied::translate_piece(lines, &tags);
        let log = log.with_context(|| format!("node {}", piece.node))?;
        let number = written.entry(piece.node).or_default();
        let name = match *number {
            0 => format!("n{}.applied.jsonl", piece.node),
            more => format!("n{}-{more}.applied.jsonl", piece.node),
        };
        *number += 1;
        fs::write(dir.join("logs").join(name), log)?;
    }
    Ok(())
}

/// Has the newest snapshot of each node say at which index it has which digest, and another node what its journal says of that.
fn mark_snapshots(nodes: &Nodes, binary: &Path, finals: &mut [FinalState]) -> anyhow::Result<()> {
    for at in 0..finals.len() {
        let (id, until) = (finals[at].node, finals[at].applied);
        let Some((index, digest)) = newest_snapshot(&nodes.data_dir(id).join("snapshots"))? else {
            continue;
        };
        if index > until {
            continue;
        }
        let mark = |by: &str, digest: String| Mark {
            index,
            digest,
            by: by.to_owned(),
        };
        finals[at].marks.push(mark("snapshot", digest));
        let other = (at + 1) % finals.len();
        let (_, digest) = export(binary, &nodes.data_dir(finals[other].node), index)?;
        finals[other].marks.push(mark("journal", digest));
    }
    Ok(())
}

/// Index and digest of the newest complete snapshot in a directory of them.
fn newest_snapshot(dir: &Path) -> anyhow::Result<Option<(u64, String)>> {
    let mut newest = None;
    for entry in fs::read_dir(dir)? {
        // What was not finished is none.
        let Ok(manifest) = quorate::storage::snapshot::read(&entry?.path()) else {
            continue;
        };
        let index = manifest.applied.log_id.map_or(0, |id| id.index);
        let digest = manifest.applied.digest.iter();
        newest = newest.max(Some((
            index,
            digest.map(|byte| format!("{byte:02x}")).collect(),
        )));
    }
    Ok(newest)
}

/// Has the binary check a directory; gives its applied index, and the first one in its log.
fn verify(binary: &Path, data: &Path) -> anyhow::Result<(u64, u64)> {
    let output = Command::new(binary)
        .args(["verify", "-o", "json"])
        .arg(data)
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "verify: {told}");
    let found: Value = serde_json::from_slice(&output.stdout).context("verify")?;
    let number = |value: &Value, what: &'static str| -> anyhow::Result<u64> {
        Ok(value.as_str().context(what)?.parse()?)
    };
    Ok((
        number(&found["state"]["applied_index"], "nothing is applied")?,
        number(&found["log"]["first"], "no log")?,
    ))
}

/// The applied log up to `until`, and the digest there.
fn export(binary: &Path, data: &Path, until: u64) -> anyhow::Result<(String, String)> {
    let output = Command::new(binary)
        .args(["log", "export", "--until", &until.to_string(), "--data-dir"])
        .arg(data)
        .output()?;
    let told = String::from_utf8(output.stderr)?;
    anyhow::ensure!(output.status.success(), "log export: {told}");
    let digest = told.trim().rsplit_once("digest ").context("no digest")?.1;
    Ok((String::from_utf8(output.stdout)?, digest.to_owned()))
}
