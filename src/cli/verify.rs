//! `quorate verify`: check a stopped node's data directory.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Global;
use super::format::{Format, show};
use super::output::{Failure, print};
use crate::storage::LogId;
use crate::storage::audit::{self, Checked};
use crate::storage::identity::{DataDir, Identity, OpenError};
use crate::storage::log::{self, Report};
use crate::storage::snapshot::{self, Found};
use crate::storage::state::{State, VerifyReport};

/// Check a stopped node's data directory: every record of its log; its state, rebuilt from the journal and compared; that the
/// two fit together; every file of its snapshots; and that no line of its audit file was changed or taken out.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  quorate verify data/node1

Changes nothing. Ends with 0 if all is well, and with 1 if something is damaged or the directory
cannot be opened, for instance because a running node has it locked.")]
pub(super) struct Verify {
    /// The data directory.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// What was found in each part; an error is a part that cannot be opened.
struct Findings {
    identity: Identity,
    log: Result<Report, OpenError>,
    state: Result<VerifyReport, OpenError>,
    snapshots: Result<Found, io::Error>,
    audit: Result<Checked, io::Error>,
}

impl Verify {
    /// Checks it and prints what was checked.
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        // Held to the end: the lock keeps nodes out.
        let dir =
            DataDir::inspect(&self.dir).map_err(|error| Failure::refused(error.to_string()))?;
        let findings = Findings {
            identity: dir.identity(),
            log: log::verify(&dir.log_dir()),
            state: State::verify(&dir.state_dir()),
            snapshots: snapshot::verify_all(&dir.snapshots_dir()),
            audit: audit::verify(&self.dir),
        };
        let problems = findings.problems();
        match global.output {
            Format::Table => print(&findings.text()),
            other => show(other, &findings.json(&problems)),
        }
        match problems.is_empty() {
            true => Ok(()),
            false => Err(Failure::refused(problems.join("\n  "))),
        }
    }
}

impl Findings {
    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        match &self.log {
            Err(error) => found.push(format!("log: {error}")),
            Ok(report) => {
                let owner = report.node_uuid.as_ref();
                if owner.is_some_and(|uuid| *uuid != self.identity.node_uuid) {
                    found.push("log: it belongs to another node".to_owned());
                }
            }
        }
        match &self.state {
            Err(error) => found.push(format!("state: {error}")),
            Ok(report) => {
                found.extend(
                    report
                        .problems
                        .iter()
                        .map(|problem| format!("state: {problem}")),
                );
            }
        }
        if let (Ok(log), Ok(state)) = (&self.log, &self.state) {
            let snapshot = self.snapshots.as_ref().ok().and_then(|found| found.last);
            found.extend(gap(log, state.applied, snapshot));
        }
        match &self.snapshots {
            Err(error) => found.push(format!("snapshots: {error}")),
            Ok(snapshots) => {
                let problems = snapshots.problems.iter();
                found.extend(problems.map(|problem| format!("snapshot: {problem}")));
            }
        }
        match &self.audit {
            Err(error) => found.push(format!("audit: {error}")),
            Ok(audit) => {
                let problems = audit.problems.iter();
                found.extend(problems.map(|problem| format!("audit: {problem}")));
            }
        }
        found
    }

    fn text(&self) -> String {
        let identity = &self.identity;
        let cluster = identity.cluster_id.as_deref().unwrap_or("no cluster yet");
        let mut text = format!("identity  node {} of {cluster}", identity.node_id);
        if let Some(recovered) = &identity.recovered {
            let (from, at) = (&recovered.from, recovered.at.index);
            let _ = write!(text, ", made of it alone at index {at}, {from} before");
        }
        text.push('\n');
        let _ = match &self.log {
            Err(_) => writeln!(text, "log       cannot be opened"),
            Ok(log) => writeln!(
                text,
                "log       {} entries from index {} in {} segments ({} bytes), {}",
                log.entries,
                log.first,
                log.segments,
                log.segment_bytes,
                match (log.is_clean, log.torn_bytes) {
                    (true, _) => "closed in good order".to_owned(),
                    (false, 0) => "not closed, tail whole".to_owned(),
                    (false, torn) =>
                        format!("not closed, {torn} bytes of torn tail, acknowledged to nobody"),
                }
            ),
        };
        let _ = match &self.state {
            Err(_) => writeln!(text, "state     cannot be opened"),
            Ok(state) => writeln!(
                text,
                "state     applied {}; {} journal entries, {} records: {} transfers, {} accounts, {} ledgers, {} keys; {}",
                state
                    .applied
                    .map_or("nothing".to_owned(), |at| format!("index {}", at.index)),
                state.entries,
                state.records,
                state.transfers,
                state.accounts,
                state.ledgers,
                state.keys,
                match state.problem_count {
                    0 => format!("digest {}", hex(&state.digest)),
                    count => format!("{count} problems"),
                }
            ),
        };
        let _ = match &self.snapshots {
            Err(_) => writeln!(text, "snapshots cannot be read"),
            Ok(found) => writeln!(text, "snapshots {} ({} bytes)", found.count, found.bytes),
        };
        let _ = match &self.audit {
            Err(_) => writeln!(text, "audit     cannot be read"),
            Ok(audit) => writeln!(text, "audit     {} lines", audit.lines),
        };
        text
    }

    fn json(&self, problems: &[String]) -> Value {
        let log = self.log.as_ref().ok().map(|log| {
            json!({
                "entries": log.entries.to_string(), "first": log.first.to_string(),
                "segments": log.segments, "bytes": log.segment_bytes.to_string(),
                "clean": log.is_clean, "torn_bytes": log.torn_bytes.to_string(),
            })
        });
        let state = self.state.as_ref().ok().map(|state| {
            json!({
                "applied_index": state.applied.map(|at| at.index.to_string()),
                "digest": hex(&state.digest), "entries": state.entries.to_string(),
                "records": state.records.to_string(), "transfers": state.transfers.to_string(),
                "accounts": state.accounts.to_string(), "ledgers": state.ledgers.to_string(),
                "keys": state.keys.to_string(), "problem_count": state.problem_count.to_string(),
            })
        });
        let snapshots = self.snapshots.as_ref().ok().map(|found| {
            json!({
                "count": found.count, "bytes": found.bytes.to_string(),
                "last_index": found.last.map(|at| at.index.to_string()),
            })
        });
        let audit = self.audit.as_ref().ok();
        json!({
            "ok": problems.is_empty(), "node": self.identity.node_id,
            "cluster_id": self.identity.cluster_id, "log": log, "state": state, "snapshots": snapshots,
            "audit": audit.map(|audit| json!({ "lines": audit.lines.to_string() })),
            "problems": problems,
        })
    }
}

/// What is missing between a log and the state that is to be continued from it. A log that ends before the state does is purged
/// at the next start if a snapshot took the state that far.
fn gap(log: &Report, applied: Option<LogId>, snapshot: Option<LogId>) -> Option<String> {
    let is_snapshot = applied.is_some() && applied == snapshot;
    let applied = applied.map(|at| at.index);
    let durable = log.state.last.map(|last| last.index);
    if applied > durable && !is_snapshot {
        return Some(format!(
            "the state has applied index {applied:?}, the log ends at {durable:?}: entries were lost"
        ));
    }
    let next = applied.map_or(0, |index| index + 1);
    (log.entries > 0 && log.first > next).then(|| {
        format!(
            "the state needs index {next} next, the log begins at {}: entries were lost",
            log.first
        )
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::log::LogState;

    fn log(first: u64, last: Option<u64>) -> Report {
        let id = |index| LogId {
            term: 1,
            node: 1,
            index,
        };
        Report {
            first,
            entries: last.map_or(0, |last| last + 1 - first),
            state: LogState {
                last: last.map(id),
                ..LogState::default()
            },
            ..Report::default()
        }
    }

    #[test]
    fn the_log_must_begin_where_the_state_ends() {
        let applied = |index| {
            Some(LogId {
                term: 1,
                node: 1,
                index,
            })
        };
        assert_eq!(gap(&log(0, Some(9)), None, None), None);
        assert_eq!(gap(&log(5, Some(9)), applied(4), None), None);
        assert_eq!(gap(&log(5, Some(9)), applied(9), None), None);
        assert!(gap(&log(5, Some(9)), applied(3), None).is_some());
        assert!(gap(&log(5, Some(9)), None, None).is_some());
        assert!(gap(&log(0, Some(9)), applied(10), None).is_some());
        assert!(gap(&log(0, Some(9)), applied(10), applied(9)).is_some());
        assert_eq!(gap(&log(0, Some(9)), applied(10), applied(10)), None);
    }
}
