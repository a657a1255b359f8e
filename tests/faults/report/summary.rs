//! `report.md`: a run in about ten lines, and each red promise with its facts.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::promises::Verdict;
use crate::statistics::{FaultStatistics, Quantiles, Statistics};

use super::Report;

/// The text.
pub(crate) fn markdown(report: &Report) -> String {
    let Report {
        plan, statistics, ..
    } = report;
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
    let (asked, answered) = counts(statistics);
    let _ = writeln!(
        out,
        "- {asked} operations in {:.1} s, {answered} answered ({:.0} a second), {:.1} % unknown",
        statistics.seconds, statistics.rate, statistics.info_percent
    );
    let _ = writeln!(
        out,
        "- latency without faults: {}",
        slowest(&statistics.latency_calm)
    );
    let _ = writeln!(
        out,
        "- latency under faults: {}",
        slowest(&statistics.latency_faulty)
    );
    let _ = writeln!(
        out,
        "- {} changes of leader, highest term {}; follower reads {}; {} retries recognised",
        statistics.leader_changes,
        statistics.term_max,
        age(statistics.staleness),
        statistics.retries
    );
    let _ = writeln!(out, "- faults: {}", faults(&statistics.faults));
    let skipped = skipped(&statistics.faults);
    out.push_str("\n| promise | verdict | checked | ms |\n|---|---|---|---|\n");
    for judgement in &report.promises {
        let (verdict, checked) = match &judgement.verdict {
            Verdict::Valid { checked: 0, .. } => ("nothing to check".to_owned(), "0".to_owned()),
            Verdict::Valid { checked, .. } => ("valid".to_owned(), checked.to_string()),
            Verdict::Violated { found, .. } => (format!("**VIOLATED** ({found})"), "-".to_owned()),
            Verdict::Unknown { .. } => ("**UNKNOWN**".to_owned(), "-".to_owned()),
        };
        let _ = writeln!(
            out,
            "| {} | {verdict} | {checked} | {} |",
            judgement.promise, judgement.took_ms
        );
    }
    for judgement in &report.promises {
        facts(
            &mut out,
            judgement.promise,
            judgement.says,
            &judgement.verdict,
        );
    }
    if !skipped.is_empty() {
        let _ = writeln!(out, "\nNot possible here: {skipped}");
    }
    out
}

fn facts(out: &mut String, promise: &str, says: &str, verdict: &Verdict) {
    match verdict {
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

fn counts(statistics: &Statistics) -> (usize, usize) {
    let outcomes = statistics.operations.values().flat_map(BTreeMap::values);
    let of = |outcomes: &BTreeMap<&'static str, usize>, name: &str| {
        outcomes.get(name).copied().unwrap_or(0)
    };
    outcomes.fold((0, 0), |(asked, answered), outcomes| {
        (
            asked + outcomes.values().sum::<usize>(),
            answered + of(outcomes, "ok"),
        )
    })
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
            let first = fault.first_ok_after_install.max;
            format!(
                "{name} x{} ({} on the leader, answers again after {first:.0} ms at most)",
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
