//! What the checkers are told of a run: what it was, and what must have happened for it to count.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::faults::{self, Fault};
use super::nodes::Nodes;
use super::options::Options;
use super::workloads::Workload;
use crate::promises::crash;
use crate::run::{Expect, Installs, Plan, Snapshots};

/// Answered operations a second that a run must have had at least.
const RATE_MIN: f64 = 5.0;
/// Of lease reads without faults, the share that a lease must have served at least, in percent.
const LEASE_MIN: f64 = 20.0;
/// Seconds in which each class of faults must have been installed once.
const SECONDS_AN_INSTALL: u64 = 12;
/// No fewer than so many for each class there is.
const SECONDS_IN_A_TURN: u64 = 2;
/// The same where the members change, which now and then leaves nobody to lead, and others to wait for that.
const SECONDS_AN_INSTALL_BESIDE: u64 = 15;

/// Writes `plan.json`.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(
    options: &Options,
    seed: u64,
    nodes: &Nodes,
    workloads: &[&'static dyn Workload],
    faults: &[&'static dyn Fault],
    binary: &Path,
    dir: &Path,
) -> anyhow::Result<()> {
    let plan = Plan {
        format: 1,
        seed,
        workload: options.workload.join(","),
        nodes: nodes.first_ids(),
        members: nodes.ids(),
        about: about(binary),
        options: described(options),
        expect: expect(
            options,
            workloads,
            &possible(nodes, faults),
            nodes.has_errors(),
        ),
        exits: nodes.exits().to_vec(),
    };
    let text = serde_json::to_string_pretty(&plan)? + "\n";
    fs::write(dir.join("plan.json"), text)?;
    Ok(())
}

/// Faults that can be installed here; the others are skipped, which the report says.
fn possible(nodes: &Nodes, faults: &[&'static dyn Fault]) -> Vec<&'static dyn Fault> {
    let possible = faults.iter().copied();
    possible
        .filter(|fault| faults::is_possible(*fault, nodes))
        .collect()
}

fn expect(
    options: &Options,
    workloads: &[&'static dyn Workload],
    faults: &[&'static dyn Fault],
    disks_fail: bool,
) -> Expect {
    let mut promises: Vec<String> = Vec::new();
    let mut operations = Vec::new();
    for workload in workloads {
        promises.extend(workload.promises().iter().map(|name| (*name).to_owned()));
        operations.extend(workload.expects());
    }
    promises.extend(["crash", "coverage"].map(str::to_owned));
    if faults.iter().any(|fault| fault.name() == "members") {
        promises.push("members".to_owned());
    }
    for list in [&mut promises, &mut operations] {
        list.sort();
        list.dedup();
    }
    let is_idle = workloads.iter().all(|workload| workload.name() == "idle");
    // Classes come by turns, and a turn of many takes longer.
    let turn = SECONDS_IN_A_TURN * faults.len() as u64;
    let each = match faults.iter().any(|fault| fault.is_beside()) {
        true => SECONDS_AN_INSTALL_BESIDE,
        false => SECONDS_AN_INSTALL,
    };
    let times = usize::try_from(options.seconds / each.max(turn)).unwrap_or(usize::MAX);
    let installs = Installs {
        times: times.max(1),
        on_leader: (times / 3).max(1),
    };
    let named = faults.iter().map(|fault| {
        // What goes on beside the others takes its time: it waits for a majority that they keep from working.
        let share = |times: usize| match fault.is_beside() {
            true => times.div_ceil(3),
            false => times,
        };
        let due = Installs {
            times: share(installs.times),
            on_leader: share(installs.on_leader),
        };
        (fault.name().to_owned(), due)
    });
    Expect {
        promises,
        operations,
        rate_min: if is_idle { 1.0 } else { RATE_MIN },
        faults: named.collect(),
        lease_served_min_percent: if is_idle { 0.0 } else { LEASE_MIN },
        snapshots: snapshots(options, faults),
        final_phase: true,
        crash_lines: crash::expected(disks_fail),
    }
}

/// Every node makes more than one in the time; who was away for long enough gets one.
fn snapshots(options: &Options, faults: &[&'static dyn Fault]) -> Snapshots {
    if !options.snapshots {
        return Snapshots::default();
    }
    let installed = faults.iter().any(|fault| fault.needs_snapshots());
    Snapshots {
        made: usize::try_from(2 * options.nodes).unwrap_or(usize::MAX),
        installed: usize::from(installed),
        purged: true,
    }
}

fn described(options: &Options) -> Map<String, Value> {
    let described = json!({
        "faults": options.faults, "by_hand": options.by_hand, "clients": options.clients, "seconds": options.seconds,
        "snapshots": options.snapshots, "overlap": options.overlap, "every_ms": options.every_ms, "lease_ms": options.lease_ms, "node_flags": options.node_flag, "network": options.network.name(),
    });
    match described {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// For people: which source, which binary, which system. What cannot be found out is left out.
pub(crate) fn about(binary: &Path) -> BTreeMap<String, String> {
    let said = |command: &str, args: &[&str]| {
        let mut asked = Command::new(command);
        let asked = asked.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
        let output = asked.output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let hash = fs::read(binary).map(|bytes| blake3::hash(&bytes).to_string());
    let found = [
        ("source", said("git", &["describe", "--always", "--dirty"])),
        // What is tested, without what tests it.
        (
            "product",
            said("git", &["rev-parse", "--short", "HEAD:src"]),
        ),
        ("kernel", said("uname", &["-sr"])),
        ("binary", hash.ok()),
        // Of a binary that was built with mutants.
        ("mutant", std::env::var(quorate::mutants::VARIABLE).ok()),
    ];
    let found = found.into_iter();
    found
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect()
}
