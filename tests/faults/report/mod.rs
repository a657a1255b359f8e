//! What a run leaves for people: `run.json`, `report.md`, `timeline.html`, `plots/*.svg`, `nemesis.jsonl`, and the history as EDN.

pub(crate) mod leads;

pub(crate) mod summary;

pub(crate) mod timeline;

pub(crate) mod plots;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::history::event::NEMESIS;
use crate::history::{History, edn};
use crate::promises::{Judgement, is_green};
use crate::run::{Evidence, Plan};
use crate::statistics::{Statistics, measure};

/// Everything that was found out about a run; `run.json` as it is.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Of `run.json`: 1.
    pub(crate) format: u32,
    /// `green` or `red`.
    pub(crate) verdict: &'static str,
    /// What was planned.
    pub(crate) plan: Plan,
    /// What became of each promise.
    pub(crate) promises: Vec<Judgement>,
    /// What happened.
    pub(crate) statistics: Statistics,
}

impl Report {
    /// From the evidence and the judgements on it.
    pub(crate) fn new(evidence: &Evidence, promises: Vec<Judgement>) -> Report {
        Report {
            format: 1,
            verdict: if is_green(&promises) { "green" } else { "red" },
            plan: evidence.plan.clone(),
            promises,
            statistics: measure(evidence),
        }
    }

    /// Writes every file into the run directory.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(&self, evidence: &Evidence, dir: &Path) -> anyhow::Result<()> {
        write(
            &dir.join("run.json"),
            &(serde_json::to_string_pretty(self)? + "\n"),
        )?;
        write(&dir.join("report.md"), &summary::markdown(self))?;
        write(&dir.join("timeline.html"), &timeline::html(self, evidence))?;
        write(&dir.join("history.edn"), &edn::history(&evidence.history))?;
        write(&dir.join("nemesis.jsonl"), &nemesis(&evidence.history))?;
        for (key, text) in edn::per_key(&evidence.history) {
            write(&dir.join("keys").join(file_name(&key)), &text)?;
        }
        for plot in plots::ALL {
            if let Some(svg) = (plot.draw)(evidence) {
                write(&dir.join("plots").join(format!("{}.svg", plot.name)), &svg)?;
            }
        }
        Ok(())
    }
}

/// What was done to the cluster and seen of it, without what the clients did: the lines of the history, each with its index there.
pub(crate) fn nemesis(history: &History) -> String {
    let events = history.events.iter();
    let events = events.filter(|event| event.process == NEMESIS);
    let lines = events.map(|event| serde_json::to_string(event).expect("an event is JSON"));
    lines.map(|line| line + "\n").collect()
}

/// A key as a file's name: anything but letters, digits and dashes is written as its number.
fn file_name(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let name: String = key
        .chars()
        .map(|c| {
            if plain(c) {
                c.to_string()
            } else {
                format!("_{:x}", u32::from(c))
            }
        })
        .collect();
    format!("{name}.edn")
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    let dir = path.parent().unwrap_or(path);
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    fs::write(path, text).with_context(|| path.display().to_string())
}
