//! A run directory: what the harness leaves for the checkers, and where the checkers put what they found.
//!
//! | file | written by | what |
//! |---|---|---|
//! | `plan.json` | harness | [`Plan`]: seed, options, what must have happened for the run to count |
//! | `history.jsonl` | harness | the history, see [`crate::history`] |
//! | `logs/nN.applied.jsonl` | harness | what node N applied, as far as its log holds it in the end |
//! | `logs/nN-K.applied.jsonl` | harness | what it applied before, as it was collected while the run went on |
//! | `logs/nN.log` | nodes | what node N printed |
//! | `operator.txt` | harness | what was asked of the nodes to change the members, and answered, for people |
//! | `final.json` | harness | [`FinalState`] of every node after the last heal |
//! | `run.json`, `report.md`, `timeline.html`, `plots/*.svg`, `history.edn`, `keys/*.edn`, `nemesis.jsonl` | checkers | see [`crate::report`] |
//!
//! The checkers never write what they read, so a directory can be checked again and again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::history::History;
use crate::history::applied::NodeLog;

/// What was planned, by the harness.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// Of this file: 1.
    pub(crate) format: u32,
    /// Everything random in the run is drawn from it.
    pub(crate) seed: u64,
    /// What the clients did.
    pub(crate) workload: String,
    /// The nodes that the cluster began with.
    pub(crate) nodes: Vec<u64>,
    /// The nodes that it ended with, if that is known: the others were removed.
    #[serde(default)]
    pub(crate) members: Vec<u64>,
    /// Version control's name of the source, the hash of the binary, the kernel, and the like, for people.
    #[serde(default)]
    pub(crate) about: BTreeMap<String, String>,
    /// The options of the run, enough to repeat it.
    #[serde(default)]
    pub(crate) options: Map<String, Value>,
    /// What must have happened for the run to count.
    #[serde(default)]
    pub(crate) expect: Expect,
    /// Processes that ended.
    #[serde(default)]
    pub(crate) exits: Vec<Exit>,
}

/// Without this much a run proves nothing, and is red.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Expect {
    /// Promises that must have found something to check.
    pub(crate) promises: Vec<String>,
    /// Kinds of operation, each with an answer: `write`, `read/lease`.
    pub(crate) operations: Vec<String>,
    /// Answered operations a second, over the whole run.
    pub(crate) rate_min: f64,
    /// By class, how often a fault was installed at least.
    pub(crate) faults: BTreeMap<String, Installs>,
    /// Share, in percent, of lease reads in the phase without faults that a lease served.
    pub(crate) lease_served_min_percent: f64,
    /// Snapshots that the nodes must have made and installed, and whether the logs must have been purged.
    pub(crate) snapshots: Snapshots,
    /// A final phase in which every key was written, and read at every level in `operations`.
    pub(crate) final_phase: bool,
    /// Lines of the nodes' logs that contain one of these are no crash.
    pub(crate) crash_lines: Vec<String>,
}

/// How often a fault must have been installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Installs {
    /// In all.
    pub(crate) times: usize,
    /// On the leader.
    #[serde(default)]
    pub(crate) on_leader: usize,
}

/// What must have come of snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Snapshots {
    /// Made, by all nodes together.
    pub(crate) made: usize,
    /// Received and installed.
    pub(crate) installed: usize,
    /// Every log must begin after its first entry.
    pub(crate) purged: bool,
}

/// A process that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exit {
    /// Whose.
    pub(crate) node: u64,
    /// `signal 9`, `code 0`.
    pub(crate) status: String,
    /// Whether the nemesis or the end of the run did it, or a refused start was due.
    pub(crate) expected: bool,
}

/// A node after the last heal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FinalState {
    /// Whose.
    pub(crate) node: u64,
    /// The applied index.
    pub(crate) applied: u64,
    /// The digest of the state there.
    pub(crate) digest: String,
    /// The first index in its log: everything before is purged.
    #[serde(default)]
    pub(crate) first: u64,
    /// What it says of earlier indexes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) marks: Vec<Mark>,
}

/// The digest of a node's state at some index before the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    /// The index.
    pub(crate) index: u64,
    /// The digest there.
    pub(crate) digest: String,
    /// Which part of the node says so: `snapshot` or `journal`.
    pub(crate) by: String,
}

/// Everything that the checkers may look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Evidence {
    /// What was planned.
    pub(crate) plan: Plan,
    /// What the clients saw.
    pub(crate) history: History,
    /// What the nodes say: of each its log, and pieces of what that held before.
    pub(crate) logs: Vec<NodeLog>,
    /// Where the nodes ended.
    pub(crate) finals: Vec<FinalState>,
    /// What the nodes printed, by file name.
    pub(crate) output: BTreeMap<String, String>,
}

impl Evidence {
    /// Reads a run directory.
    ///
    /// # Errors
    /// A file that is missing or breaks its format; the applied logs, the final states and the output may be missing.
    pub(crate) fn load(dir: &Path) -> anyhow::Result<Evidence> {
        let plan: Plan = json_file(&dir.join("plan.json"))?;
        anyhow::ensure!(
            plan.format == 1,
            "plan.json has format {}, known is 1",
            plan.format
        );
        let mut evidence = Evidence {
            plan,
            history: History::load(&dir.join("history.jsonl"))?,
            ..Evidence::default()
        };
        let finals = dir.join("final.json");
        if finals.exists() {
            evidence.finals = json_file(&finals)?;
        }
        for path in files(&dir.join("logs"))? {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default()
                .to_owned();
            if let Some(node) = applied_log_of(&name) {
                evidence.logs.push(NodeLog::load(node, &path)?);
            } else if name.ends_with(".log") {
                let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
                evidence
                    .output
                    .insert(name, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(evidence)
    }
}

/// The node whose applied log, or a piece of it, has this name: 3 of `n3.applied.jsonl` and of `n3-1.applied.jsonl`.
fn applied_log_of(name: &str) -> Option<u64> {
    let named = name.strip_prefix('n')?.strip_suffix(".applied.jsonl")?;
    let (node, _) = named.split_once('-').unwrap_or((named, ""));
    node.parse().ok()
}

fn json_file<T: for<'a> Deserialize<'a>>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// The files of a folder in the order of their names; none if there is no such folder.
fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}
