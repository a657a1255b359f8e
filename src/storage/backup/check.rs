//! Whether the state in a backup is one that a cluster could have had, and the one that manifest and summary tell of.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::Path;

use super::{Content, Manifest, Summary, damaged, read};
use crate::storage::identity::OpenError;
use crate::storage::state::{State, VerifyReport};

/// What [`check()`] found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the state says when it is derived from its journal again.
    pub report: VerifyReport,
    /// All that is wrong; empty if all is well.
    pub problems: Vec<String>,
}

/// Reads the whole backup and leaves its state in `root`, which must be absent or empty. Durable when it returns; what is there after
/// an error is no state. Blocking.
///
/// # Errors
/// If the backup is refused ([`read()`]), or the disk fails.
pub fn unpack(input: impl Read, root: &Path) -> io::Result<(Manifest, Summary)> {
    let dir = State::first_dir(root);
    fs::create_dir_all(&dir)?;
    let mut open: Option<File> = None;
    let told = read(input, |content| {
        match content {
            Content::Head(..) => {}
            Content::File(file) => open = Some(File::create_new(dir.join(&file.name))?),
            Content::Piece(bytes) => file(&mut open)?.write_all(bytes)?,
            Content::Whole => file(&mut open)?.sync_all()?,
        }
        Ok(())
    })?;
    State::adopt(root)?;
    Ok(told)
}

fn file(open: &mut Option<File>) -> io::Result<&mut File> {
    open.as_mut().ok_or_else(|| damaged("a piece of no file"))
}

/// Derives the state in `root`, which was unpacked there, from its journal again, and holds it against what its backup says. Changes
/// nothing. Blocking, for as long as reading everything takes.
///
/// # Errors
/// If it cannot even be opened.
pub fn check(root: &Path, manifest: &Manifest, summary: &Summary) -> Result<Checked, OpenError> {
    let held = State::inspect_checkpoint(&State::first_dir(root));
    let held = held.map_err(|fault| OpenError(fault.what))?;
    let report = State::verify(root)?;
    let mut problems = report.problems.clone();
    if held.applied != manifest.applied {
        problems.push(format!(
            "the state is of {:?}, the manifest says {:?}",
            held.applied.log_id, manifest.applied.log_id
        ));
    }
    if report.digest != manifest.applied.digest {
        problems.push(format!(
            "the journal leads to digest {}, the manifest says {}",
            blake3::Hash::from_bytes(report.digest),
            blake3::Hash::from_bytes(manifest.applied.digest)
        ));
    }
    let found = report.summary();
    if found != *summary {
        problems.extend(differences(&found, summary));
    }
    Ok(Checked { report, problems })
}

/// Where a state differs from its summary.
fn differences(found: &Summary, told: &Summary) -> Vec<String> {
    let counts = [
        ("accounts", found.accounts, told.accounts),
        ("transfers", found.transfers, told.transfers),
        ("transfers refused for ever", found.refused, told.refused),
        ("keys", found.keys, told.keys),
        (
            "idempotency keys",
            found.idempotency_keys,
            told.idempotency_keys,
        ),
    ];
    let differ = counts.iter().filter(|(_, found, told)| found != told);
    let mut problems: Vec<String> = differ
        .map(|(what, found, told)| format!("the state has {found} {what}, the summary says {told}"))
        .collect();
    if found.ledgers != told.ledgers {
        problems.push(format!(
            "the state has the ledgers {:?}, the summary says {:?}",
            found.ledgers, told.ledgers
        ));
    }
    problems
}
