//! The run was worth something: enough happened, under the faults that were planned, for the other verdicts to mean it.
//!
//! What is enough is in the plan ([`crate::run::Expect`]); the rules are a table.

use std::collections::BTreeSet;

use crate::history::nemesis::Done;
use crate::history::{Answer, Call, Happening, Level, Operation};
use crate::run::Evidence;
use crate::statistics;

use super::{Fact, Limits, Promise, Verdict};

/// Enough happened.
pub(crate) const PROMISE: Promise = Promise {
    name: "coverage",
    says: "what was planned happened often enough to prove something",
    check,
};

/// What the bank is called, which has no key.
const BANK: &str = "the bank";

/// Says what is missing.
type Rule = fn(&Evidence) -> Vec<String>;

/// Every rule, with what it demands.
pub(crate) const RULES: &[(&str, Rule)] = &[
    ("the harness did not fail", harness_failures),
    ("each fault was installed as often as planned", installs),
    ("each fault met the leader as often as planned", on_leader),
    (
        "nobody is in doubt whether a fault was in force",
        indeterminate,
    ),
    ("each kind of operation was answered", answered),
    ("operations were answered at the least rate", rate),
    (
        "leases served enough of the lease reads while nothing was broken",
        lease_share,
    ),
    ("snapshots were made and installed as planned", snapshots),
    (
        "the final phase wrote every key and read everything at every level",
        final_phase,
    ),
];

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let missing = RULES.iter().flat_map(|(rule, missing)| {
        let missing = missing(evidence).into_iter();
        missing.map(move |what| Fact::new(format!("{what} ({rule})")))
    });
    Verdict::of(RULES.len(), missing.collect())
}

fn harness_failures(evidence: &Evidence) -> Vec<String> {
    let moments = evidence.history.moments.iter();
    moments
        .filter_map(|moment| match &moment.what {
            Happening::Failure(what) => Some(format!("history index {}: {what}", moment.index)),
            _ => None,
        })
        .collect()
}

fn installs(evidence: &Evidence) -> Vec<String> {
    let windows = evidence.history.windows();
    let planned = evidence.plan.expect.faults.iter();
    planned
        .filter_map(|(fault, due)| {
            let times = windows
                .iter()
                .filter(|window| window.fault == *fault)
                .count();
            (times < due.times)
                .then(|| format!("{fault}: installed {times} times of {}", due.times))
        })
        .collect()
}

fn on_leader(evidence: &Evidence) -> Vec<String> {
    let windows = evidence.history.windows();
    let planned = evidence.plan.expect.faults.iter();
    planned
        .filter_map(|(fault, due)| {
            let times = windows
                .iter()
                .filter(|window| window.fault == *fault && window.on_leader)
                .count();
            (times < due.on_leader)
                .then(|| format!("{fault}: met the leader {times} times of {}", due.on_leader))
        })
        .collect()
}

fn indeterminate(evidence: &Evidence) -> Vec<String> {
    let moments = evidence.history.moments.iter();
    moments
        .filter_map(|moment| match &moment.what {
            Happening::Install(fault, step) | Happening::Heal(fault, step)
                if step.outcome == Done::Indeterminate =>
            {
                let why = step.reason.as_deref().unwrap_or("nobody says why");
                Some(format!("history index {}: {fault}: {why}", moment.index))
            }
            _ => None,
        })
        .collect()
}

fn answered(evidence: &Evidence) -> Vec<String> {
    let answered = evidence
        .history
        .operations
        .iter()
        .filter(|operation| operation.answer().is_some());
    let kinds: BTreeSet<String> = answered.map(statistics::kind).collect();
    let due = evidence.plan.expect.operations.iter();
    due.filter(|kind| !kinds.contains(*kind))
        .map(|kind| format!("no {kind} was answered"))
        .collect()
}

fn rate(evidence: &Evidence) -> Vec<String> {
    let history = &evidence.history;
    let answered = history
        .operations
        .iter()
        .filter(|operation| operation.answer().is_some())
        .count();
    let seconds = history.end_time() as f64 / 1e9;
    let (rate, due) = (
        answered as f64 / seconds.max(1e-9),
        evidence.plan.expect.rate_min,
    );
    let is_short = rate < due;
    is_short
        .then(|| format!("{rate:.1} answers a second, due are {due:.1}"))
        .into_iter()
        .collect()
}

fn lease_share(evidence: &Evidence) -> Vec<String> {
    let due = evidence.plan.expect.lease_served_min_percent;
    let calm = statistics::phases(&evidence.history);
    let is_calm =
        |operation: &&Operation| statistics::phase_at(&calm, operation.invoked.time) == "calm";
    let lease: Vec<&Operation> = evidence
        .history
        .operations
        .iter()
        .filter(|operation| operation.level == Some(Level::Lease) && operation.answer().is_some())
        .filter(is_calm)
        .collect();
    if due <= 0.0 {
        return Vec::new();
    }
    let served = lease
        .iter()
        .filter(|operation| operation.reached == Some(Level::Lease))
        .count();
    let percent = 100.0 * served as f64 / lease.len().max(1) as f64;
    let is_short = percent < due;
    let what = || {
        format!(
            "{percent:.0} % of {} lease reads were served by a lease, due are {due:.0} %",
            lease.len()
        )
    };
    is_short.then(what).into_iter().collect()
}

fn snapshots(evidence: &Evidence) -> Vec<String> {
    let due = evidence.plan.expect.snapshots;
    let seen = statistics::Snapshots::of(&evidence.output);
    let few = |what: &str, seen: usize, due: usize| {
        (seen < due).then(|| format!("{seen} snapshots {what} of {due}"))
    };
    let mut missing = Vec::new();
    missing.extend(few("made", seen.made, due.made));
    missing.extend(few("installed", seen.installed, due.installed));
    let whole = evidence
        .finals
        .iter()
        .filter(|end| due.purged && end.first == 0);
    missing.extend(whole.map(|end| format!("the log of node {} was never purged", end.node)));
    missing
}

fn final_phase(evidence: &Evidence) -> Vec<String> {
    if !evidence.plan.expect.final_phase {
        return Vec::new();
    }
    let Some(start) = evidence.history.final_phase() else {
        return vec!["there was no final phase".to_owned()];
    };
    let levels: Vec<Level> = Level::ALL
        .into_iter()
        .filter(|level| {
            evidence
                .plan
                .expect
                .operations
                .contains(&format!("read/{level}"))
        })
        .collect();
    let mut missing = Vec::new();
    let mut subjects = evidence.history.by_key();
    let of_bank: Vec<&Operation> = (evidence.history.operations.iter())
        .filter(|operation| is_of_bank(operation))
        .collect();
    if !of_bank.is_empty() {
        subjects.insert(BANK, of_bank);
    }
    for (key, operations) in subjects {
        let last: Vec<&&Operation> = operations
            .iter()
            .filter(|operation| operation.invoked.index > start && operation.answer().is_some())
            .collect();
        // A read of the bank shows every account; a transfer would show no more of it.
        let is_due = key != BANK;
        if is_due && !last.iter().any(|operation| operation.call.is_write()) {
            missing.push(format!("{key} was not written"));
        }
        let unread = levels.iter().filter(|level| {
            !last
                .iter()
                .any(|operation| operation.level == Some(**level))
        });
        missing.extend(unread.map(|level| format!("{key} was not read at level {level}")));
    }
    missing
}

fn is_of_bank(operation: &Operation) -> bool {
    let is_read = matches!(operation.answer(), Some(Answer::Balances(_)));
    is_read || matches!(operation.call, Call::Transfer(_))
}
