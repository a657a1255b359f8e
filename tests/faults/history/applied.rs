//! What the nodes say that they applied.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::operation::Call;
use super::read::{FormatError, parse_lines, read_text};

/// One command that a node applied. A log entry may carry several commands: then several lines share an index, in the
/// order of application. Entries of Raft itself are left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Log index.
    pub(crate) index: u64,
    /// Term of the leader that proposed it.
    pub(crate) term: u64,
    /// Idempotency key.
    pub(crate) op: String,
    /// As in the history.
    pub(crate) f: String,
    /// As in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// The argument, as in an invoke.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) value: Value,
    /// `cas`, `transfer`: whether it was applied; `txn`: its steps with what they read; otherwise absent.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) result: Value,
    /// The state machine recognised a retry and answered from its table.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) dup: bool,
}

/// The applied log of one node.
#[derive(Clone, Debug)]
pub(crate) struct NodeLog {
    /// Whose.
    pub(crate) node: u64,
    /// In the order of application.
    pub(crate) entries: Vec<Entry>,
}

impl NodeLog {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// The first line that breaks a rule of the format.
    pub(crate) fn load(node: u64, path: &Path) -> Result<NodeLog, FormatError> {
        NodeLog::parse(node, &path.display().to_string(), &read_text(path)?)
    }

    /// Reads and validates a text.
    ///
    /// # Errors
    /// The first line that breaks a rule of the format.
    pub(crate) fn parse(node: u64, name: &str, text: &str) -> Result<NodeLog, FormatError> {
        let entries: Vec<Entry> = parse_lines(name, text)?;
        let mut last: Option<&Entry> = None;
        for (number, entry) in entries.iter().enumerate() {
            check(last, entry).map_err(|reason| FormatError {
                name: name.to_owned(),
                line: number + 1,
                reason,
            })?;
            last = Some(entry);
        }
        Ok(NodeLog { node, entries })
    }

    /// The commands of each index.
    pub(crate) fn by_index(&self) -> BTreeMap<u64, &[Entry]> {
        self.entries
            .chunk_by(|a, b| a.index == b.index)
            .map(|chunk| (chunk[0].index, chunk))
            .collect()
    }
}

fn check(last: Option<&Entry>, entry: &Entry) -> Result<(), String> {
    Call::parse(&entry.f, &entry.value)?;
    if entry.f == "read" {
        return Err("a read is in the log".to_owned());
    }
    let Some(last) = last else { return Ok(()) };
    if entry.index < last.index {
        return Err(format!(
            "index {} is below the line above, {}",
            entry.index, last.index
        ));
    }
    if entry.term < last.term || (entry.index == last.index && entry.term != last.term) {
        return Err(format!("term {} after term {}", entry.term, last.term));
    }
    Ok(())
}
