//! What a benchmark found.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies in nanoseconds, and what went wrong, by kind.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    latencies: Histogram<u64>,
    failures: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    skipped: u64,
}

impl Tally {
    /// An empty one.
    pub(super) fn new() -> Tally {
        let empty = || Histogram::new(3).expect("three significant digits are allowed");
        Tally {
            latencies: empty(),
            failures: empty(),
            errors: BTreeMap::new(),
            skipped: 0,
        }
    }

    /// A success.
    pub(super) fn success(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.record(nanos).expect("the histogram grows");
    }

    /// A failure, and how long that took.
    pub(super) fn error(&mut self, kind: String, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.failures.record(nanos).expect("the histogram grows");
        *self.errors.entry(kind).or_default() += 1;
    }

    /// Requests that were due and not sent, because their client was waiting.
    pub(super) fn skipped(&mut self, count: u64) {
        self.skipped += count;
    }

    /// Adds what another client found.
    pub(super) fn add(&mut self, other: &Tally) {
        self.latencies
            .add(&other.latencies)
            .expect("the histogram grows");
        self.failures
            .add(&other.failures)
            .expect("the histogram grows");
        self.skipped += other.skipped;
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
    }
}

/// A finished run.
#[derive(Debug)]
pub(super) struct Report {
    /// Name of the workload.
    pub(super) workload: &'static str,
    /// Clients at once.
    pub(super) clients: u64,
    /// Items in a request: transfers of a batch, else 1.
    pub(super) items: u64,
    /// Requests a second that were asked for, if any rate was.
    pub(super) rate: Option<u64>,
    /// Time measured.
    pub(super) elapsed: Duration,
    /// What was found.
    pub(super) tally: Tally,
}

impl Report {
    fn per_second(&self) -> f64 {
        // Exact far beyond any count that could be reached.
        self.tally.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn micros(&self, quantile: f64) -> f64 {
        self.tally.latencies.value_at_quantile(quantile) as f64 / 1000.0
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let latencies = &self.tally.latencies;
        json!({
            "workload": self.workload,
            "clients": self.clients,
            "seconds": self.elapsed.as_secs_f64(),
            "ops": latencies.len(),
            "ops_per_s": self.per_second(),
            "items_per_s": self.per_second() * self.items as f64,
            "latency_us": {
                "mean": latencies.mean() / 1000.0,
                "p50": self.micros(0.5),
                "p90": self.micros(0.9),
                "p99": self.micros(0.99),
                "p99.9": self.micros(0.999),
                "max": latencies.max() as f64 / 1000.0,
            },
            "rate": self.rate,
            "skipped": self.tally.skipped,
            "errors": self.tally.errors,
            "refused_latency_us": {
                "p50": self.tally.failures.value_at_quantile(0.5) as f64 / 1000.0,
                "p99": self.tally.failures.value_at_quantile(0.99) as f64 / 1000.0,
            },
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let latencies = &self.tally.latencies;
        let mut text = format!(
            "{}: {} clients, {:.1} s, {} requests\n",
            self.workload,
            self.clients,
            self.elapsed.as_secs_f64(),
            latencies.len()
        );
        let _ = writeln!(text, "  throughput  {:>12.0} requests/s", self.per_second());
        if self.items > 1 {
            let items = self.per_second() * self.items as f64;
            let _ = writeln!(text, "              {items:>12.0} transfers/s");
        }
        let quantiles = [
            ("p50", 0.5),
            ("p90", 0.9),
            ("p99", 0.99),
            ("p99.9", 0.999),
            ("max", 1.0),
        ];
        for (name, quantile) in quantiles {
            let _ = writeln!(text, "  {name:<10}  {:>12.1} us", self.micros(quantile));
        }
        if let Some(rate) = self.rate {
            let skipped = self.tally.skipped;
            let _ = writeln!(
                text,
                "  rate        {rate:>12} requests/s asked for, {skipped} not sent"
            );
        }
        if self.tally.errors.is_empty() {
            text.push_str("  no errors\n");
        }
        for (kind, count) in &self.tally.errors {
            let _ = writeln!(text, "  error       {count:>12} x {kind}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_added_up() {
        let (mut all, mut one) = (Tally::new(), Tally::new());
        for micros in 1..=100 {
            one.success(Duration::from_micros(micros));
        }
        one.error("503 no_leader".to_owned(), Duration::from_millis(1));
        one.skipped(3);
        all.add(&one);
        all.add(&one);
        let elapsed = Duration::from_secs(2);
        let report = Report {
            workload: "transfer-batch",
            clients: 2,
            items: 10,
            rate: Some(1000),
            elapsed,
            tally: all,
        };
        let json = report.json();
        assert_eq!(json["ops"], 200);
        assert_eq!(json["items_per_s"], 1000.0);
        assert_eq!(json["errors"]["503 no_leader"], 2);
        let p99 = json["latency_us"]["p99"].as_f64().unwrap();
        assert!((98.0..101.0).contains(&p99), "{p99}");
        assert!(report.text().contains("2 x 503 no_leader"));
        assert_eq!(json["skipped"], 6);
        assert!(
            report
                .text()
                .contains("1000 requests/s asked for, 6 not sent")
        );
    }
}
