//! What the books say in the end, against what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use super::Finding;
use super::load::Load;
use crate::harness::nodes::Nodes;
use crate::harness::{api, finish, http};
use crate::promises::{self, Verdict};
use crate::run::Evidence;

/// How long stopping may take.
const STOPPED: Duration = Duration::from_secs(60);

/// Debits and credits, by account.
type Sums = BTreeMap<String, (u128, u128)>;

/// Sends every batch once more, then holds the accounts on every node against what all batches come to.
///
/// # Errors
/// When a node does not answer.
pub(super) fn of_books(nodes: &Nodes, load: &Load, sent: &[u64]) -> anyhow::Result<Vec<Finding>> {
    let due = load.sums(sent);
    // What is there now: sending a batch again would put back what was lost.
    finish::converge(nodes)?;
    let mut findings = Vec::new();
    for id in nodes.ids() {
        let shown = shown(nodes, id).with_context(|| format!("the accounts of node {id}"))?;
        let differs = due
            .iter()
            .find(|(account, sums)| shown.get(*account) != Some(sums));
        if let Some((account, sums)) = differs {
            let has = shown.get(account);
            findings.push(Finding::new(
                "books",
                format!("node {id}: {account} has debits and credits {has:?}, all batches come to {sums:?}"),
            ));
        }
    }
    thread::scope(|scope| {
        for (client, count) in (0..).zip(sent) {
            scope.spawn(move || load.all_again(client, *count));
        }
    });
    findings.extend(load.findings());
    Ok(findings)
}

/// The accounts as a node has applied them.
pub(super) fn shown(nodes: &Nodes, id: u64) -> anyhow::Result<Sums> {
    let path = format!(
        "/v1/accounts?ledger={}&limit=100&consistency=follower",
        api::BANK
    );
    let reply = http::ask(nodes.addr(id), "GET", &path, "", Duration::from_secs(10));
    let page = reply.map_err(|lost| anyhow::anyhow!("{lost:?}"))?.json();
    let account = |row: &Value| {
        let sum = |name: &str| row["balance"][name].as_str()?.parse().ok();
        let sums = (sum("debits_posted")?, sum("credits_posted")?);
        Some((row["id"].as_str()?.to_owned(), sums))
    };
    let rows = page["data"].as_array().context("no list of accounts")?;
    let sums: Option<Sums> = rows.iter().map(account).collect();
    sums.context("an account without a balance")
}

/// Stops the nodes, has each directory verified, compares digests, and looks for crashes.
///
/// # Errors
/// When a node does not stop.
pub(super) fn of_nodes(nodes: &mut Nodes, binary: &Path) -> anyhow::Result<Vec<Finding>> {
    let stopped = nodes.stop_all(STOPPED);
    let mut evidence = Evidence {
        output: super::outputs(nodes),
        ..Evidence::default()
    };
    evidence.plan.exits = nodes.exits().to_vec();
    evidence.plan.expect.crash_lines = promises::crash::expected(nodes.has_errors());
    let mut findings = Vec::new();
    let crash = (promises::crash::PROMISE.check)(&evidence, &promises::Limits::default());
    if let Verdict::Violated { facts, .. } = crash {
        findings.extend(
            facts
                .into_iter()
                .map(|fact| Finding::new("crash", fact.what)),
        );
    }
    stopped?;
    match finish::digests(nodes, binary) {
        Ok(ends) if ends.iter().collect::<BTreeSet<_>>().len() > 1 => findings.push(Finding::new(
            "books",
            format!("index and digest of the nodes differ: {ends:?}"),
        )),
        Ok(_) => {}
        // What was found before is not to be lost for it.
        Err(error) => findings.push(Finding::new("failure", format!("{error:#}"))),
    }
    Ok(findings)
}
