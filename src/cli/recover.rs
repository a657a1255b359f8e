//! `quorate recover`: go on with what is left when the majority is gone for good.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::Global;
use super::format::{Format, show};
use super::output::{Exit, Failure, audited, note, print};
use crate::http::rfc3339_now;
use crate::node::{Remains, remains};

/// Make a new cluster of one stopped node, because the majority of its old one is gone for good.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  quorate recover data/node1 --force-new-cluster
  quorate recover data/node1 --force-new-cluster --confirm 966cd10c367f2c0442b44e141a92a711

The last resort: while a majority can still be brought back, bring it back. The node goes on with
all that it holds. LOST is every write that was acknowledged after its last entry; so ask for this
without --confirm on each node that is left, and take the one whose last entry is the highest (by
term, then by index). Made valid is what it holds without knowing whether it was acknowledged.

Without --confirm it only says all that, and ends with 2. With it, the node is a cluster of its
own with a new id: start it, and add new nodes (quorate node add). Nodes of the old cluster are
refused from then on, and their node ids are never used again. Cut off at any moment, it leaves
the old cluster or the new one; run again, it says that it was done.")]
pub(super) struct Recover {
    /// The data directory of a stopped node.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The only way there is, to be named because it may give up acknowledged writes.
    #[arg(long, required = true)]
    force_new_cluster: bool,
    /// Do it. The id of the cluster that is given up, so that it is the one that is meant.
    #[arg(long, value_name = "CLUSTER")]
    confirm: Option<String>,
}

impl Recover {
    /// Says what would be lost, or does it.
    pub(super) async fn run(self, global: &Global) -> Result<(), Failure> {
        let remains = remains(&self.dir).await.map_err(|why| failed(&why))?;
        let told = self.decide(&remains, global).await;
        let closed = remains.close().await.map_err(|why| failed(&why));
        told.and(closed)
    }

    async fn decide(&self, remains: &Remains, global: &Global) -> Result<(), Failure> {
        let (old, node) = (&remains.cluster_id, remains.node);
        if self.confirm.is_some() && self.confirm == remains.recovered_from {
            done(remains, old, global);
            return Ok(());
        }
        if remains.is_alone() {
            return Err(Failure::refused(format!(
                "node {node} has the only vote of cluster {old}: it needs nobody else, so start it"
            )));
        }
        match &self.confirm {
            None => {
                match global.output {
                    Format::Table => print(&text(remains)),
                    other => show(other, &json(remains)),
                }
                Err(Failure::new(
                    Exit::Usage,
                    format!("nothing was done: to do it, add --confirm {old}"),
                ))
            }
            Some(confirmed) if confirmed != old => Err(Failure::usage(format!(
                "this is a data directory of cluster {old}, not of {confirmed}"
            ))),
            Some(_) => {
                let made = remains
                    .force_new_cluster()
                    .await
                    .map_err(|why| failed(&why))?;
                let act = json!({
                    "at": rfc3339_now(), "node": node, "command": "quorate recover --force-new-cluster", "cluster": made,
                    "given_up": old, "last_index": remains.last.index.to_string(),
                });
                audited(&self.dir, &act);
                done(remains, &made, global);
                note("start it, and add new nodes with `quorate node add`");
                Ok(())
            }
        }
    }
}

fn failed(why: &anyhow::Error) -> Failure {
    Failure::refused(format!("{why:#}"))
}

/// Says that cluster `made` is made.
fn done(remains: &Remains, made: &str, global: &Global) {
    let node = remains.node;
    match global.output {
        Format::Table => print(&format!(
            "node {node} is cluster {made} now, by itself, with all that it held\n"
        )),
        other => show(other, &json!({ "node": node, "cluster_id": made })),
    }
}

fn text(remains: &Remains) -> String {
    let Remains {
        node,
        cluster_id,
        others,
        last,
        committed,
        ..
    } = remains;
    let (term, index) = (last.term, last.index);
    let mut text =
        format!("node {node} of cluster {cluster_id}: its last entry is {index}, of term {term}\n");
    for (id, member) in others {
        let _ = writeln!(text, "left behind for good: node {id} ({member})");
    }
    let _ = writeln!(
        text,
        "LOST: every write that was acknowledged after entry {index}, which this node does not have"
    );
    if *committed < index {
        let _ = writeln!(
            text,
            "made valid: entries {} to {index}, of which it does not know whether they were acknowledged",
            committed + 1
        );
    }
    text
}

fn json(remains: &Remains) -> Value {
    json!({
        "node": remains.node,
        "cluster_id": remains.cluster_id,
        "last_term": remains.last.term.to_string(),
        "last_index": remains.last.index.to_string(),
        "committed_index": remains.committed.to_string(),
        "left_behind": remains.others.keys().collect::<Vec<_>>(),
    })
}
