//! What happened in a run, in numbers.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::history::nemesis::Done;
use crate::history::{Answer, Happening, History, Level, Operation, Window};
use crate::promises::witness::merge::merge;
use crate::promises::witness::sessions::Ages;
use crate::run::Evidence;

/// Everything that `run.json` says about the run apart from the verdicts.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Statistics {
    /// Seconds from the first line to the last.
    pub(crate) seconds: f64,
    /// Answered operations a second.
    pub(crate) rate: f64,
    /// Operations, by kind, phase and outcome.
    pub(crate) operations: BTreeMap<String, BTreeMap<String, BTreeMap<&'static str, usize>>>,
    /// Share of operations whose outcome is unknown, in percent.
    pub(crate) info_percent: f64,
    /// By kind, latency of what was answered before any fault.
    pub(crate) latency_calm: BTreeMap<String, Quantiles>,
    /// By kind, latency of all other answers: under faults, and while the cluster recovered.
    pub(crate) latency_faulty: BTreeMap<String, Quantiles>,
    /// By kind, latency of what overlapped a fault in force.
    pub(crate) latency_inside: BTreeMap<String, Quantiles>,
    /// By kind, latency of what overlapped none.
    pub(crate) latency_outside: BTreeMap<String, Quantiles>,
    /// By class.
    pub(crate) faults: BTreeMap<String, FaultStatistics>,
    /// Times that another node was seen to lead than before.
    pub(crate) leader_changes: usize,
    /// The highest term seen.
    pub(crate) term_max: u64,
    /// Lease reads by the level that they reached.
    pub(crate) lease_reads: BTreeMap<String, usize>,
    /// How old follower reads certainly were.
    pub(crate) staleness: Quantiles,
    /// By the level that they reached, answered reads that overlapped a fault on the leader.
    pub(crate) reads_on_faulty_leader: BTreeMap<&'static str, usize>,
    /// Retries that the state machine recognised.
    pub(crate) retries: usize,
    /// What the nodes said of snapshots.
    pub(crate) snapshots: Snapshots,
}

/// What came of snapshots, on all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Snapshots {
    /// Made.
    pub(crate) made: usize,
    /// Transfers that began, as the receivers say.
    pub(crate) sent: usize,
    /// Installed.
    pub(crate) installed: usize,
}

impl Snapshots {
    /// As the nodes' output says.
    pub(crate) fn of(output: &BTreeMap<String, String>) -> Snapshots {
        let count = |words: &str| {
            let lines = output.values().flat_map(|text| text.lines());
            lines.filter(|line| line.contains(words)).count()
        };
        Snapshots {
            made: count("made a snapshot in"),
            sent: count("a snapshot comes in"),
            installed: count("the snapshot is installed"),
        }
    }
}

/// A distribution of times, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    /// How many.
    pub(crate) count: u64,
    /// The median.
    pub(crate) p50: f64,
    /// Nine of ten are not above.
    pub(crate) p90: f64,
    /// 99 of 100 are not above.
    pub(crate) p99: f64,
    /// The largest.
    pub(crate) max: f64,
}

/// What a class of faults did.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct FaultStatistics {
    /// Times that it came into force.
    pub(crate) installed: usize,
    /// Of those, on a leader.
    pub(crate) on_leader: usize,
    /// Of those, by their shape if they have one: `halves`.
    pub(crate) shapes: BTreeMap<String, usize>,
    /// Times that it was not possible.
    pub(crate) skipped: usize,
    /// Why.
    pub(crate) reasons: BTreeSet<String>,
    /// Operations under way at an install, in the mean.
    pub(crate) in_flight: f64,
    /// From install to the first answer to something asked after.
    pub(crate) first_ok_after_install: Quantiles,
    /// From heal to the first answer to something asked after.
    pub(crate) first_ok_after_heal: Quantiles,
    /// The longest time without an answer that began in the window.
    pub(crate) longest_gap_ms: f64,
}

impl Quantiles {
    /// Of times in nanoseconds.
    pub(crate) fn of(nanos: impl IntoIterator<Item = u64>) -> Quantiles {
        let mut histogram = Histogram::<u64>::new(3).expect("three digits are allowed");
        for value in nanos {
            // The histogram grows with what it is given.
            histogram.record(value / 1000).expect("it grows");
        }
        let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Quantiles {
            count: histogram.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: histogram.max() as f64 / 1000.0,
        }
    }
}

/// The kind of follower reads that demand to see what their client wrote.
pub(crate) const OWN: &str = "read/own";

/// The kind of an operation: `write`, `read/lease`.
pub(crate) fn kind(operation: &Operation) -> String {
    match operation.level {
        Some(Level::Follower) if operation.min_index.is_some() => OWN.to_owned(),
        Some(level) => format!("{}/{level}", operation.call.name()),
        None => operation.call.name().to_owned(),
    }
}

/// The phases with their beginnings, in nanoseconds.
pub(crate) fn phases(history: &History) -> Vec<(u64, &str)> {
    let moments = history.moments.iter();
    moments
        .filter_map(|moment| match &moment.what {
            Happening::Phase(name) => Some((moment.time, name.as_str())),
            _ => None,
        })
        .collect()
}

/// The phase at a time; before the first, `start`.
pub(crate) fn phase_at<'a>(phases: &[(u64, &'a str)], time: u64) -> &'a str {
    let at = phases.partition_point(|(start, _)| *start <= time);
    at.checked_sub(1).map_or("start", |at| phases[at].1)
}

/// Counts and measures.
pub(crate) fn measure(evidence: &Evidence) -> Statistics {
    let history = &evidence.history;
    let operations = &history.operations;
    let windows = history.windows();
    let answered = operations
        .iter()
        .filter(|operation| operation.answer().is_some())
        .count();
    let unknown = operations
        .iter()
        .filter(|operation| operation.outcome.name() == "info")
        .count();
    let seconds = history.end_time() as f64 / 1e9;
    let leaders = leaders(history);
    let first_fault = windows.first().map_or(u64::MAX, |window| window.start);
    let is_before = |operation: &Operation| {
        let end = operation.ended.map_or(u64::MAX, |end| end.time);
        end < first_fault
    };
    let latencies = |calm: bool| {
        let chosen = operations.iter();
        latencies(chosen.filter(|operation| is_before(operation) == calm))
    };
    let is_inside = |operation: &Operation| windows.iter().any(|one| overlaps(operation, one));
    let around = |inside: bool| {
        let chosen = operations.iter();
        self::latencies(chosen.filter(|operation| is_inside(operation) == inside))
    };
    let changes = leaders
        .windows(2)
        .filter(|pair| pair[0].1 != pair[1].1)
        .count();
    let (log, _) = merge(&evidence.logs);
    Statistics {
        seconds,
        rate: answered as f64 / seconds.max(1e-9),
        operations: counted(history),
        info_percent: 100.0 * unknown as f64 / operations.len().max(1) as f64,
        latency_calm: latencies(true),
        latency_faulty: latencies(false),
        latency_inside: around(true),
        latency_outside: around(false),
        faults: faults(history, &windows),
        leader_changes: changes,
        term_max: leaders
            .iter()
            .map(|(_, _, term)| *term)
            .max()
            .unwrap_or_default(),
        lease_reads: lease_reads(operations),
        staleness: Quantiles::of(staleness(history).into_iter().map(|(_, age, _)| age)),
        reads_on_faulty_leader: reads_on_faulty_leader(operations, &windows),
        retries: log.iter().filter(|entry| entry.dup).count(),
        snapshots: Snapshots::of(&evidence.output),
    }
}

/// Who was seen to lead: time, node, term.
pub(crate) fn leaders(history: &History) -> Vec<(u64, u64, u64)> {
    let moments = history.moments.iter();
    moments
        .filter_map(|moment| match &moment.what {
            Happening::Leader { node, term } => Some((moment.time, *node, *term)),
            _ => None,
        })
        .collect()
}

/// Every answered follower read: its end, how old it certainly was (zero if nobody had shown more), its node.
pub(crate) fn staleness(history: &History) -> Vec<(u64, u64, u64)> {
    let ages = Ages::new(&history.operations);
    let reads = history.operations.iter();
    reads
        .filter(|read| read.level == Some(Level::Follower) && read.answer().is_some())
        .filter_map(|read| {
            let age = ages.of(read).map_or(0, |(age, _)| age);
            Some((read.ended?.time, age, read.node.unwrap_or_default()))
        })
        .collect()
}

/// The total of every read of the bank: its end, the total, its node.
pub(crate) fn bank_totals(history: &History) -> Vec<(u64, i64, u64)> {
    let total = |operation: &Operation| match operation.answer()? {
        Answer::Balances(balances) => Some(balances.values().sum()),
        _ => None,
    };
    let reads = history.operations.iter();
    reads
        .filter_map(|read| {
            Some((
                read.ended?.time,
                total(read)?,
                read.node.unwrap_or_default(),
            ))
        })
        .collect()
}

fn overlaps(operation: &Operation, window: &Window) -> bool {
    let end = operation.ended.map_or(u64::MAX, |end| end.time);
    operation.invoked.time <= window.end && end >= window.start
}

fn counted(history: &History) -> BTreeMap<String, BTreeMap<String, BTreeMap<&'static str, usize>>> {
    let phases = phases(history);
    let mut counted: BTreeMap<String, BTreeMap<String, BTreeMap<&str, usize>>> = BTreeMap::new();
    for operation in &history.operations {
        let phase = phase_at(&phases, operation.invoked.time).to_owned();
        let by_phase = counted.entry(kind(operation)).or_default();
        *by_phase
            .entry(phase)
            .or_default()
            .entry(operation.outcome.name())
            .or_default() += 1;
    }
    counted
}

fn latencies<'a>(operations: impl Iterator<Item = &'a Operation>) -> BTreeMap<String, Quantiles> {
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for operation in operations.filter(|operation| operation.answer().is_some()) {
        times
            .entry(kind(operation))
            .or_default()
            .extend(operation.latency());
    }
    times
        .into_iter()
        .map(|(kind, times)| (kind, Quantiles::of(times)))
        .collect()
}

fn lease_reads(operations: &[Operation]) -> BTreeMap<String, usize> {
    let mut reached: BTreeMap<String, usize> = BTreeMap::new();
    for operation in operations
        .iter()
        .filter(|operation| operation.level == Some(Level::Lease))
    {
        let name = match (operation.answer(), operation.reached) {
            (None, _) => "not answered",
            (Some(_), None) => "not said",
            (Some(_), Some(level)) => level.name(),
        };
        *reached.entry(name.to_owned()).or_default() += 1;
    }
    reached
}

fn reads_on_faulty_leader(
    operations: &[Operation],
    windows: &[Window],
) -> BTreeMap<&'static str, usize> {
    let hits: Vec<&Window> = windows.iter().filter(|window| window.on_leader).collect();
    let mut counted = BTreeMap::new();
    for operation in operations
        .iter()
        .filter(|operation| operation.answer().is_some())
    {
        let Some(asked) = operation.level else {
            continue;
        };
        let level = operation.reached.unwrap_or(asked);
        if hits.iter().any(|window| overlaps(operation, window)) {
            *counted.entry(level.name()).or_default() += 1;
        }
    }
    counted
}

fn faults(history: &History, windows: &[Window]) -> BTreeMap<String, FaultStatistics> {
    let mut faults: BTreeMap<String, FaultStatistics> = BTreeMap::new();
    for moment in &history.moments {
        if let Happening::Install(fault, step) = &moment.what
            && step.outcome == Done::Skipped
        {
            let statistics = faults.entry(fault.clone()).or_default();
            statistics.skipped += 1;
            statistics.reasons.extend(step.reason.clone());
        }
    }
    let mut by_class: BTreeMap<&str, Vec<&Window>> = BTreeMap::new();
    for window in windows {
        by_class.entry(&window.fault).or_default().push(window);
    }
    for (fault, windows) in by_class {
        let statistics = faults.entry(fault.to_owned()).or_default();
        of_class(history, &windows, statistics);
    }
    faults
}

fn of_class(history: &History, windows: &[&Window], statistics: &mut FaultStatistics) {
    // Answers by their end; the answers to what was asked after a moment are found by looking on from it.
    let mut answers: Vec<(u64, u64)> = history
        .operations
        .iter()
        .filter(|operation| operation.answer().is_some())
        .filter_map(|operation| Some((operation.ended?.time, operation.invoked.time)))
        .collect();
    answers.sort_unstable();
    let first_after = |time: u64| {
        let from = answers.partition_point(|(end, _)| *end < time);
        let answer = answers[from..].iter().find(|(_, begin)| *begin >= time);
        answer.map(|(end, _)| end - time)
    };
    let in_flight = |time: u64| {
        let open = |operation: &&Operation| {
            operation.invoked.time <= time && operation.ended.is_none_or(|end| end.time >= time)
        };
        history.operations.iter().filter(open).count()
    };
    let gap = |window: &&Window| {
        let from = answers
            .partition_point(|(end, _)| *end < window.start)
            .saturating_sub(1);
        let ends: Vec<u64> = answers[from..].iter().map(|(end, _)| *end).collect();
        let pairs = ends.windows(2).take_while(|pair| pair[0] <= window.end);
        pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    };
    statistics.installed = windows.len();
    for window in windows {
        let shape = window
            .shape
            .as_deref()
            .and_then(|shape| shape.split_once(": "));
        if let Some((name, _)) = shape {
            *statistics.shapes.entry(name.to_owned()).or_default() += 1;
        }
    }
    statistics.on_leader = windows.iter().filter(|window| window.on_leader).count();
    let open: usize = windows.iter().map(|window| in_flight(window.start)).sum();
    statistics.in_flight = open as f64 / windows.len().max(1) as f64;
    statistics.first_ok_after_install = Quantiles::of(
        windows
            .iter()
            .filter_map(|window| first_after(window.start)),
    );
    let healed = windows.iter().filter(|window| window.healed);
    statistics.first_ok_after_heal =
        Quantiles::of(healed.filter_map(|window| first_after(window.end)));
    statistics.longest_gap_ms = windows.iter().map(gap).max().unwrap_or(0) as f64 / 1e6;
}
