//! A simulated store: a cluster with one log, clients, and faults, on a clock of its own and from one seed. It is correct,
//! or it has one [`Flaw`].
//!
//! It leaves the files that a real run leaves, so that everything from the format to the report is exercised. It knows
//! nothing of the checkers, and its state machine ([`state`]) is written apart from their model.

pub(crate) mod state;

pub(crate) mod flaw;

pub(crate) mod cluster;

pub(crate) mod clients;

pub(crate) mod effects;

pub(crate) mod finish;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::history::History;
use crate::history::applied::NodeLog;
use crate::run::{Evidence, FinalState, Plan};

pub(crate) use flaw::Flaw;

/// What to simulate.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Everything random is drawn from it.
    pub(crate) seed: u64,
    /// What the clients do: `register`, `bank`, `set`, `append` or `mixed`.
    pub(crate) workload: String,
    /// How many at a time.
    pub(crate) clients: u64,
    /// Of virtual time, before the final phase.
    pub(crate) seconds: u64,
    /// The pause of a client between two operations, in the mean.
    pub(crate) think_ms: u64,
    /// Whether nodes are killed, paused and cut off.
    pub(crate) has_faults: bool,
    /// What is wrong with the store.
    pub(crate) flaw: Option<Flaw>,
}

impl Options {
    /// A few hundred operations with faults, and no flaw.
    pub(crate) fn small(seed: u64, workload: &str) -> Options {
        Options {
            seed,
            workload: workload.to_owned(),
            clients: 6,
            seconds: 12,
            think_ms: 60,
            has_faults: true,
            flaw: None,
        }
    }
}

/// What a run leaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// `plan.json`
    pub(crate) plan: Plan,
    /// `history.jsonl`
    pub(crate) history: String,
    /// `logs/nN.applied.jsonl`
    pub(crate) logs: BTreeMap<u64, String>,
    /// `final.json`
    pub(crate) finals: Vec<FinalState>,
    /// `logs/nN.log`
    pub(crate) output: BTreeMap<String, String>,
}

impl Files {
    /// As the checkers see them.
    pub(crate) fn evidence(&self) -> Evidence {
        let log = |(node, text): (&u64, &String)| NodeLog::parse(*node, "applied", text);
        Evidence {
            plan: self.plan.clone(),
            history: History::parse("history", &self.history)
                .expect("the simulated store keeps the format"),
            logs: self
                .logs
                .iter()
                .map(log)
                .collect::<Result<_, _>>()
                .expect("the format of applied logs too"),
            finals: self.finals.clone(),
            output: self.output.clone(),
        }
    }

    /// Leaves a run directory.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        let write = |path: &str, text: &str| {
            let path = dir.join(path);
            fs::write(&path, text).with_context(|| path.display().to_string())
        };
        write(
            "plan.json",
            &(serde_json::to_string_pretty(&self.plan)? + "\n"),
        )?;
        write(
            "final.json",
            &(serde_json::to_string_pretty(&self.finals)? + "\n"),
        )?;
        write("history.jsonl", &self.history)?;
        for (node, text) in &self.logs {
            write(&format!("logs/n{node}.applied.jsonl"), text)?;
        }
        for (name, text) in &self.output {
            write(&format!("logs/{name}"), text)?;
        }
        Ok(())
    }
}

/// Runs to the end.
pub(crate) fn simulate(options: &Options) -> Files {
    let mut cluster = cluster::Cluster::new(options.clone());
    cluster.run();
    cluster.finish()
}
