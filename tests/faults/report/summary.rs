//! `report.md`: a run in about ten lines, each red promise with its facts, and what to look at then.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::promises::{Judgement, Verdict};
use crate::run::Plan;
use crate::statistics::{FaultStatistics, Quantiles, Statistics};

use super::Report;

/// The text.
pub(crate) fn markdown(report: &Report) -> String {
    let plan = &report.plan;
    let mut out = String::new();
    let verdict = report.verdict.to_uppercase();
    let _ = writeln!(
        out,
        "# {verdict}: {} on {} nodes, seed {}\n",
        plan.workload,
        plan.nodes.len(),
        plan.seed
    );
    for (name, value) in &plan.about {
        let _ = writeln!(out, "- {name}: {value}");
    }
    happened(&mut out, &report.statistics);
    table(&mut out, &report.promises);
    latency(&mut out, &report.statistics);
    for judgement in &report.promises {
        facts(&mut out, judgement);
    }
    look(&mut out, report);
    let skipped = skipped(&report.statistics.faults);
    if !skipped.is_empty() {
        let _ = writeln!(out, "\nNot possible here: {skipped}");
    }
    out
}

/// What the clients and the cluster went through.
fn happened(out: &mut String, statistics: &Statistics) {
    let asked: usize = outcomes(statistics).map(|(_, _, count)| count).sum();
    let _ = writeln!(
        out,
        "- {asked} operations in {:.1} s: {} ({:.0} ok a second)",
        statistics.seconds,
        counts(statistics),
        statistics.rate
    );
    let _ = writeln!(
        out,
        "- latency before any fault: {}",
        slowest(&statistics.latency_calm)
    );
    let _ = writeln!(
        out,
        "- latency under faults and while recovering: {}",
        slowest(&statistics.latency_faulty)
    );
    let _ = writeln!(
        out,
        "- another leader {} times, highest term {}; follower reads {}",
        statistics.leader_changes,
        statistics.term_max,
        age(statistics.staleness),
    );
    let _ = writeln!(
        out,
        "- {} writes reached the log a second time, were known by their idempotency key and not done again",
        statistics.retries
    );
    let snapshots = statistics.snapshots;
    if snapshots.made > 0 {
        let _ = writeln!(
            out,
            "- {} snapshots made, {} begun to be sent, {} installed",
            snapshots.made, snapshots.sent, snapshots.installed
        );
    }
    let _ = writeln!(out, "- faults: {}", faults(&statistics.faults));
}

/// A row a promise; those that had nothing to check in one line.
fn table(out: &mut String, promises: &[Judgement]) {
    out.push_str("\n| promise | verdict | checked | what is promised |\n|---|---|---|---|\n");
    let mut idle = Vec::new();
    for judgement in promises {
        let (verdict, checked) = match &judgement.verdict {
            Verdict::Valid { checked: 0, .. } => {
                idle.push(judgement.promise);
                continue;
            }
            Verdict::Valid { checked, .. } => ("kept".to_owned(), checked.to_string()),
            Verdict::Violated { found, .. } => (format!("**VIOLATED** ({found})"), "-".to_owned()),
            Verdict::Unknown { .. } => ("**UNKNOWN**".to_owned(), "-".to_owned()),
        };
        let _ = writeln!(
            out,
            "| {} | {verdict} | {checked} | {} |",
            judgement.promise, judgement.says
        );
    }
    if !idle.is_empty() {
        let _ = writeln!(out, "\nNothing to check in this run: {}.", idle.join(", "));
    }
}

/// How long each kind of operation took, at each level, with a fault in force and without. What is left out was not answered.
fn latency(out: &mut String, statistics: &Statistics) {
    let (outside, inside) = (&statistics.latency_outside, &statistics.latency_inside);
    let rows = outside.iter().map(|row| ("outside", row));
    let rows = rows.chain(inside.iter().map(|row| ("inside", row)));
    let mut rows: Vec<_> = rows
        .map(|(place, (kind, times))| (kind, place, times))
        .collect();
    if rows.is_empty() {
        return;
    }
    // Stable: outside comes first.
    rows.sort_by_key(|(kind, ..)| *kind);
    out.push_str("\n| operation | faults | answered | p50 ms | p90 ms | p99 ms | max ms |\n|---|---|---|---|---|---|---|\n");
    for (kind, place, q) in rows {
        let _ = writeln!(
            out,
            "| {kind} | {place} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            q.count, q.p50, q.p90, q.p99, q.max
        );
    }
}

fn facts(out: &mut String, judgement: &Judgement) {
    let Judgement { promise, says, .. } = judgement;
    match &judgement.verdict {
        Verdict::Valid { notes, .. } => {
            for note in notes {
                let _ = writeln!(out, "\n{promise}: {note}.");
            }
        }
        Verdict::Unknown { reason } => {
            let _ = writeln!(out, "\n## {promise}: {says}\n\n- not decided: {reason}");
        }
        Verdict::Violated { facts, found } => {
            let _ = writeln!(out, "\n## {promise}: {says}\n");
            for fact in facts {
                let _ = writeln!(out, "- {}", fact.what);
            }
            if *found > facts.len() {
                let _ = writeln!(out, "- and {} more", found - facts.len());
            }
        }
    }
}

/// Where to go on, and how to do it again.
fn look(out: &mut String, report: &Report) {
    let click = match report.verdict {
        "red" => ": click a violation, and its operations are numbered and listed",
        _ => ", with the faults behind",
    };
    let _ = writeln!(
        out,
        "\n## What to look at\n\n- `timeline.html`: every operation{click}\n- `plots/`: latency, rate and leader over time; \
         `logs/`: what each node printed and applied; `history.jsonl`: all of it, by its index"
    );
    if let Some(command) = again(&report.plan) {
        let _ = writeln!(
            out,
            "- again: `{command}`, which draws the same faults only until timing or the leader differs"
        );
    }
    if let Some(mutant) = report.plan.about.get("mutant") {
        let _ = writeln!(
            out,
            "- the binary was broken on purpose: `scripts/faults.sh mutants {mutant}`"
        );
    }
}

/// The command with the same seed and options; none for what is no run of real processes.
fn again(plan: &Plan) -> Option<String> {
    let list = |name: &str| {
        let values = plan.options.get(name)?.as_array()?.iter();
        Some(values.filter_map(Value::as_str).collect::<Vec<_>>())
    };
    if plan.options.get("by_hand") == Some(&Value::Bool(true)) {
        return None;
    }
    let mut line = format!(
        "scripts/faults.sh run --seed {} --workload {} --nodes {} --faults {}",
        plan.seed,
        plan.workload,
        plan.nodes.len(),
        list("faults")?.join(",")
    );
    for name in ["clients", "seconds", "overlap", "every_ms", "lease_ms"] {
        let value = plan.options.get(name)?.as_u64()?;
        let _ = write!(line, " --{} {value}", name.replace('_', "-"));
    }
    if plan.options.get("snapshots") == Some(&Value::Bool(true)) {
        line.push_str(" --snapshots");
    }
    for flag in list("node_flags")? {
        let _ = write!(line, " --node-flag={flag}");
    }
    Some(line)
}

/// How often each kind of operation ended in each way.
fn outcomes(statistics: &Statistics) -> impl Iterator<Item = (&str, &str, usize)> {
    statistics.operations.iter().flat_map(|(kind, phases)| {
        let each = phases.values().flatten();
        each.map(|(outcome, count)| (kind.as_str(), *outcome, *count))
    })
}

/// `1641 ok, 187 not applied, 893 unknown: 185 writes, 708 reads`.
fn counts(statistics: &Statistics) -> String {
    let of = |outcome: &str, reads: bool, writes: bool| {
        let chosen = outcomes(statistics).filter(|(kind, ended, _)| {
            let is_read = kind.starts_with("read");
            *ended == outcome && (is_read && reads || !is_read && writes)
        });
        chosen.map(|(_, _, count)| count).sum::<usize>()
    };
    let (reads, writes) = (of("info", true, false), of("info", false, true));
    let mut text = format!(
        "{} ok, {} not applied, {} unknown",
        of("ok", true, true),
        of("fail", true, true),
        reads + writes
    );
    if reads + writes > 0 {
        let _ = write!(text, ": {writes} writes, {reads} reads");
    }
    text
}

/// The kind of operation with the highest p99.
fn slowest(latency: &BTreeMap<String, Quantiles>) -> String {
    let slowest = latency
        .iter()
        .max_by(|(_, a), (_, b)| a.p99.total_cmp(&b.p99));
    slowest.map_or("none was answered".to_owned(), |(kind, q)| {
        format!(
            "slowest {kind}, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            q.p50, q.p99, q.max
        )
    })
}

fn age(staleness: Quantiles) -> String {
    if staleness.count == 0 {
        return "none".to_owned();
    }
    format!(
        "at least {:.0} ms old at p99, {:.0} ms at most",
        staleness.p99, staleness.max
    )
}

fn faults(faults: &BTreeMap<String, FaultStatistics>) -> String {
    let told = faults
        .iter()
        .filter(|(_, fault)| fault.installed > 0)
        .map(|(name, fault)| {
            let shapes = fault.shapes.iter();
            let shapes: Vec<String> = shapes
                .map(|(shape, times)| format!("{times} {shape}"))
                .collect();
            let shapes = if shapes.is_empty() {
                String::new()
            } else {
                format!("{}; ", shapes.join(", "))
            };
            let first = fault.first_ok_after_install.max;
            format!(
                "{name} x{} ({shapes}{} met the leader; from its begin to the next answer {first:.0} ms at most)",
                fault.installed, fault.on_leader
            )
        });
    let told: Vec<String> = told.collect();
    if told.is_empty() {
        "none".to_owned()
    } else {
        told.join("; ")
    }
}

fn skipped(faults: &BTreeMap<String, FaultStatistics>) -> String {
    let told = faults
        .iter()
        .filter(|(_, fault)| fault.skipped > 0)
        .map(|(name, fault)| {
            let reasons: Vec<&str> = fault.reasons.iter().map(String::as_str).collect();
            format!("{name} x{} ({})", fault.skipped, reasons.join("; "))
        });
    told.collect::<Vec<_>>().join(", ")
}
