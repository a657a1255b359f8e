//! Many runs, one table.
//!
//! Input: a line a run, tab-separated: round, workload, system, cores that others used, cores the hypervisor took, the
//! run's JSON. A ratio is the median of the rounds' own ratios: both sides of each were measured within the same minute.

use std::fmt::Write as _;
use std::io;

use serde_json::{Value, json};

use crate::drive::broken;

/// The system that the others are compared with.
const OURS: &str = "quorate";

#[derive(Debug)]
struct Run {
    round: u64,
    workload: String,
    system: String,
    other: f64,
    steal: f64,
    found: Value,
}

/// The table of the file in `args`, or JSON.
///
/// # Errors
/// If the file cannot be read or a line is not a run.
pub(crate) fn print(args: &[String]) -> io::Result<String> {
    let path = args.first().ok_or_else(|| broken("which file?"))?;
    let text = std::fs::read_to_string(path)?;
    let runs: Vec<Run> = text.lines().map(parse).collect::<io::Result<_>>()?;
    let rows = rows(&runs);
    if args.get(1).is_some_and(|flag| flag == "--json") {
        let conditions = args.get(2).map_or("", String::as_str);
        let each: Vec<Value> = runs.iter().map(Run::json).collect();
        let all = json!({ "conditions": conditions, "rows": rows, "runs": each });
        return Ok(format!("{all:#}\n"));
    }
    Ok(table(&rows))
}

fn parse(line: &str) -> io::Result<Run> {
    let parts: Vec<&str> = line.splitn(6, '\t').collect();
    let [round, workload, system, other, steal, found] = parts[..] else {
        return Err(broken("a line without six parts"));
    };
    Ok(Run {
        round: round.parse().map_err(io::Error::other)?,
        workload: workload.to_owned(),
        system: system.to_owned(),
        other: other.parse().map_err(io::Error::other)?,
        steal: steal.parse().map_err(io::Error::other)?,
        found: serde_json::from_str(found)?,
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

impl Run {
    fn number(&self, place: &str) -> f64 {
        self.found
            .pointer(place)
            .and_then(Value::as_f64)
            .unwrap_or(0.0)
    }

    fn json(&self) -> Value {
        json!({
            "round": self.round,
            "workload": self.workload,
            "system": self.system,
            "other_cores": self.other,
            "steal_cores": self.steal,
            "found": self.found,
        })
    }

    fn errors(&self) -> u64 {
        let errors = self.found["errors"].as_object();
        errors.map_or(0, |kinds| kinds.values().filter_map(Value::as_u64).sum())
    }
}

/// A row for each workload and system, in the order in which they first came.
fn rows(runs: &[Run]) -> Vec<Value> {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for run in runs {
        let pair = (run.workload.as_str(), run.system.as_str());
        if !seen.contains(&pair) {
            seen.push(pair);
        }
    }
    // Workloads stay together, whatever the order of the rounds was.
    let place = |name: &str| seen.iter().position(|(workload, _)| *workload == name);
    let mut order = seen.clone();
    order.sort_by_key(|(workload, _)| place(workload));
    order
        .iter()
        .map(|(workload, system)| row(runs, workload, system))
        .collect()
}

fn row(runs: &[Run], workload: &str, system: &str) -> Value {
    let of = |name: &str| -> Vec<&Run> {
        let matching = |run: &&Run| run.workload == workload && run.system == name;
        runs.iter().filter(matching).collect()
    };
    let (mine, ours) = (of(system), of(OURS));
    let all = |place: &str| -> Vec<f64> { mine.iter().map(|run| run.number(place)).collect() };
    let rates = all("/items_per_s");
    // How many times this system's rate, or its p99, ours was, round by round.
    let ratios = |place: &str| -> Vec<f64> {
        let pairs = mine.iter().filter_map(|run| {
            let ours = ours.iter().find(|our| our.round == run.round)?;
            Some(ours.number(place) / run.number(place).max(f64::MIN_POSITIVE))
        });
        pairs.collect()
    };
    let (rate_ratios, p99_ratios) = (ratios("/items_per_s"), ratios("/latency_us/p99"));
    json!({
        "workload": workload,
        "system": system,
        "clients": mine.first().map_or(Value::Null, |run| run.found["clients"].clone()),
        "runs": mine.len(),
        "per_s": median(rates.clone()),
        "per_s_min": rates.iter().copied().fold(f64::INFINITY, f64::min),
        "per_s_max": rates.iter().copied().fold(0.0, f64::max),
        "p50_us": median(all("/latency_us/p50")),
        "p99_us": median(all("/latency_us/p99")),
        "errors": mine.iter().map(|run| run.errors()).sum::<u64>(),
        "other_cores": median(mine.iter().map(|run| run.other).collect()),
        "steal_cores": median(mine.iter().map(|run| run.steal).collect()),
        "quorate_times": (system != OURS && !rate_ratios.is_empty()).then(|| json!({
            "rate": median(rate_ratios.clone()),
            "rate_min": rate_ratios.iter().copied().fold(f64::INFINITY, f64::min),
            "rate_max": rate_ratios.iter().copied().fold(0.0, f64::max),
            "p99": median(p99_ratios),
        })),
    })
}

fn table(rows: &[Value]) -> String {
    let mut text = String::from(
        "| workload | system | clients | a second, median (min-max) | p50 | p99 | errors | other load, cores | Quorate's rate | Quorate's p99 |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let number = |name: &str| row[name].as_f64().unwrap_or(0.0);
        let ratio = &row["quorate_times"];
        let times = |name: &str| ratio[name].as_f64().map(|value| format!("{value:.2}"));
        let rate = times("rate").map_or_else(String::new, |rate| {
            let (min, max) = (times("rate_min"), times("rate_max"));
            format!(
                "{rate} x ({}-{})",
                min.unwrap_or_default(),
                max.unwrap_or_default()
            )
        });
        let p99 = times("p99").map_or_else(String::new, |p99| format!("{p99} x"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.0} ({:.0}-{:.0}) | {:.2} ms | {:.2} ms | {} | {:.2} | {rate} | {p99} |",
            row["workload"].as_str().unwrap_or_default(),
            row["system"].as_str().unwrap_or_default(),
            row["clients"],
            number("per_s"),
            number("per_s_min"),
            number("per_s_max"),
            number("p50_us") / 1000.0,
            number("p99_us") / 1000.0,
            row["errors"],
            number("other_cores") + number("steal_cores"),
        );
    }
    text
}
