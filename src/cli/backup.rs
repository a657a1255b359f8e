//! `quorate backup` and `quorate restore`.

mod save;

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::cluster::member;
use super::format::{Format, show, table};
use super::output::{Exit, Failure, audited, note, print};
use super::{Global, asking};
use crate::client::cluster::NewMember;
use crate::http::rfc3339_now;
use crate::node::{Restored, restore};
use crate::storage::backup::{self, Checked, Manifest, Summary};

/// Bytes read from a file at once.
const READ_LEN: usize = 256 << 10;

/// Backups.
#[derive(Debug, Subcommand)]
pub(super) enum Backup {
    /// Take a backup of a running node into a file, verified on the way.
    #[command(after_help = "Examples:
  quorate backup save monday.tar
  quorate backup save monday.tar --endpoint http://127.0.0.1:7002 --consistency follower

Of the first endpoint that makes it; name one node only to have it of that one. It holds everything
acknowledged before the command began, or with --consistency follower what that node has applied.
While it comes it is FILE.SOMETHING.partial, another one for each command; FILE is there when all of
it is on the disk and every hash is right. Of a command that was killed, the .partial can be deleted.
--timeout is the longest silence. `quorate backup verify` says more, without a cluster.")]
    Save {
        /// Where it goes.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Even if there is a file of that name: it is replaced, once the backup is whole.
        #[arg(long)]
        force: bool,
    },
    /// Show what a backup says of itself: of which cluster, of which moment, and the sums of every ledger.
    #[command(after_help = "Example:
  quorate backup inspect monday.tar

Reads its beginning only: whether the rest is whole and right, `quorate backup verify` says.")]
    Inspect {
        /// The backup.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Check a backup: every byte, and the state that is made of it, derived again and compared.
    #[command(after_help = "Example:
  quorate backup verify monday.tar

Every hash must be right and nothing missing; the journal must lead to the digest of the manifest;
everything derived must be what the journal gives; in every ledger debits must equal credits; and
counts and sums must be those of the summary. No cluster is needed, but room for the state
beside FILE or in --scratch, which is given back. Ends with 0 if all is well, with 1 if not.")]
    Verify {
        /// The backup.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where the state is opened for a while [default: the directory of FILE].
        #[arg(long, value_name = "DIR")]
        scratch: Option<PathBuf>,
    },
}

/// Make a new cluster of a backup: the data directory of its first node.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  quorate restore monday.tar --data-dir data/node1 --member 1=127.0.0.1:7101,http://127.0.0.1:7001
  quorate serve --node-id 1 --data-dir data/node1 --listen 127.0.0.1:7001 --peer-listen 127.0.0.1:7101 &
  quorate serve --node-id 2 --data-dir data/node2 --listen 127.0.0.1:7002 --peer-listen 127.0.0.1:7102 &
  quorate node add 2=127.0.0.1:7102,http://127.0.0.1:7002
  quorate node promote 2

The backup is verified first, as `quorate backup verify` does. The cluster is a new one, with a new
id and an epoch that is one higher, and this node is its only member: add others, with empty
directories. Node ids begin afresh. Nodes of the old cluster are refused by it and refuse it, so
whoever still asks them is told other things than this cluster knows: stop them. All that the backup
holds is there, idempotency keys too, and log indexes go on from it.
DIR must be absent or empty. Cut off at any moment, this leaves a directory that no node starts on;
run it again.")]
pub(super) struct Restore {
    /// The backup.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory to make.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The node: its id, the address of its peer listener, the URL of its client listener.
    #[arg(long, value_name = "ID=PEER,URL", value_parser = member)]
    member: NewMember,
}

impl Backup {
    /// Does it.
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        match self {
            Backup::Save { file, force } => asking(save::save(global, &file, force)),
            Backup::Inspect { file } => inspect(global, &file),
            Backup::Verify { file, scratch } => verify(global, &file, scratch.as_deref()),
        }
    }
}

impl Restore {
    /// Does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let NewMember {
            id,
            peer_addr,
            client_url,
        } = self.member;
        let restored = restore(&self.file, &self.data_dir, id, (peer_addr, client_url)).await;
        let restored = restored.map_err(|why| Failure::refused(format!("{why:#}")))?;
        let Restored {
            cluster_id,
            epoch,
            node,
            manifest,
            summary,
        } = &restored;
        audited(
            &self.data_dir,
            &json!({
                "at": rfc3339_now(), "node": node, "command": "quorate restore", "cluster": cluster_id, "epoch": epoch,
                "backup_of": manifest.cluster, "last_index": manifest.index().to_string(),
            }),
        );
        match global.output {
            Format::Table => {
                print(&format!(
                    "node {node} is cluster {cluster_id}, epoch {epoch}, by itself, with what cluster {} held at index {}\n",
                    manifest.cluster,
                    manifest.index()
                ));
                note("start it, and add new nodes with `quorate node add`");
            }
            other => show(
                other,
                &json!({
                    "node": node, "cluster_id": cluster_id, "epoch": epoch, "backup": told(manifest, summary),
                }),
            ),
        }
        Ok(())
    }
}

fn inspect(global: &Global, path: &Path) -> Result<(), Failure> {
    let input = open(path)?;
    let (manifest, summary) = backup::head(input).map_err(|error| failed(path, &error))?;
    match global.output {
        Format::Table => print(&text(&manifest, &summary)),
        other => show(other, &told(&manifest, &summary)),
    }
    Ok(())
}

fn verify(global: &Global, path: &Path, scratch: Option<&Path>) -> Result<(), Failure> {
    let input = open(path)?;
    let beside = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let scratch = scratch.or(beside).unwrap_or(Path::new("."));
    let scratch = Scratch::new(scratch).map_err(|error| failed(scratch, &error))?;
    let root = scratch.0.join("state");
    let told = backup::unpack(input, &root).map_err(|error| failed(path, &error))?;
    let (manifest, summary) = told;
    let checked = backup::check(&root, &manifest, &summary)
        .map_err(|error| Failure::refused(error.to_string()))?;
    match global.output {
        Format::Table => print(&(text(&manifest, &summary) + &found(&checked))),
        other => show(other, &verified(&manifest, &summary, &checked)),
    }
    match checked.problems.is_empty() {
        true => Ok(()),
        false => Err(Failure::refused(checked.problems.join("\n  "))),
    }
}

/// A directory that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> io::Result<Scratch> {
        let name = format!(".quorate-verify-{}", std::process::id());
        let path = parent.join(name);
        fs::create_dir(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            note(&format!("{} is left: {error}", self.0.display()));
        }
    }
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::NotFound,
            format!("there is no file {}", path.display()),
        ),
        _ => failed(path, &error),
    })?;
    Ok(BufReader::with_capacity(READ_LEN, file))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::refused(format!("{}: {error}", path.display()))
}

fn text(manifest: &Manifest, summary: &Summary) -> String {
    let Summary {
        accounts,
        transfers,
        refused,
        keys,
        idempotency_keys,
        ledgers,
    } = summary;
    let (term, index) = manifest
        .applied
        .log_id
        .map_or((0, 0), |id| (id.term, id.index));
    let mut text = format!(
        "cluster   {}, epoch {}\nmoment    index {index}, term {term}\ndigest    {}\nfiles     {} ({} bytes)\n\
         holds     {transfers} transfers posted, {refused} refused for ever, {accounts} accounts, {keys} keys, {idempotency_keys} idempotency keys\n",
        manifest.cluster,
        manifest.epoch,
        hex(&manifest.applied.digest),
        manifest.files.len(),
        manifest.bytes(),
    );
    if !ledgers.is_empty() {
        let rows = ledgers.iter().map(|ledger| {
            vec![
                ledger.id.clone(),
                ledger.asset.clone(),
                ledger.accounts.to_string(),
                ledger.debits_posted.to_string(),
                ledger.credits_posted.to_string(),
            ]
        });
        let rows: Vec<_> = rows.collect();
        text += &table(&["LEDGER", "ASSET", "ACCOUNTS", "DEBITS", "CREDITS"], &rows);
    }
    text
}

fn found(checked: &Checked) -> String {
    match checked.problems.len() {
        0 => format!(
            "verified  every byte; {} journal entries, {} records; debits equal credits in every ledger\n",
            checked.report.entries, checked.report.records
        ),
        count => format!("verified  {count} problems\n"),
    }
}

fn told(manifest: &Manifest, summary: &Summary) -> Value {
    json!({
        "cluster_id": manifest.cluster, "epoch": manifest.epoch,
        "index": manifest.index().to_string(),
        "term": manifest.applied.log_id.map(|id| id.term.to_string()),
        "digest": hex(&manifest.applied.digest), "files": manifest.files.len(),
        "bytes": manifest.bytes().to_string(), "summary": summary,
    })
}

fn verified(manifest: &Manifest, summary: &Summary, checked: &Checked) -> Value {
    let mut told = told(manifest, summary);
    let members = told.as_object_mut().expect("made as an object above");
    members.insert("ok".to_owned(), checked.problems.is_empty().into());
    members.insert("problems".to_owned(), checked.problems.clone().into());
    told
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
