//! The text format: families of series, each with its help and type.

use std::time::Duration;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

use crate::raft::{BOUNDS_US, Counted};

/// Families in the order they were added. One without a series is left out.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

/// Labels of a series.
pub(super) type Labels = Vec<(&'static str, String)>;

/// One value, and its labels.
pub(super) struct Sample {
    labels: Labels,
    value: f64,
}

/// A number as Prometheus has it: times are seconds, and whole numbers above 2^53 lose their last digits.
pub(super) trait Number {
    /// It.
    fn number(self) -> f64;
}

impl Sample {
    /// A value without labels.
    pub(super) fn of(value: impl Number) -> Sample {
        Sample {
            labels: Vec::new(),
            value: value.number(),
        }
    }

    /// One more label.
    pub(super) fn with(mut self, name: &'static str, value: &str) -> Sample {
        self.labels.push((name, value.to_owned()));
        self
    }
}

#[expect(clippy::cast_precision_loss, reason = "as the trait says")]
impl Number for u64 {
    fn number(self) -> f64 {
        self as f64
    }
}

#[expect(clippy::cast_precision_loss, reason = "as the trait says")]
impl Number for usize {
    fn number(self) -> f64 {
        self as f64
    }
}

impl Number for u8 {
    fn number(self) -> f64 {
        self.into()
    }
}

impl Number for bool {
    fn number(self) -> f64 {
        u8::from(self).into()
    }
}

impl Number for Duration {
    fn number(self) -> f64 {
        self.as_secs_f64()
    }
}

impl Families {
    /// A value that goes up and down.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Number) {
        self.gauges(name, help, vec![Sample::of(value)]);
    }

    /// The same, with labels.
    pub(super) fn gauges(&mut self, name: &str, help: &str, samples: Vec<Sample>) {
        let metrics = samples.into_iter().map(|sample| {
            let mut gauge = Gauge::default();
            gauge.set_value(sample.value);
            let mut metric = labelled(sample.labels);
            metric.set_gauge(gauge);
            metric
        });
        self.add(name, help, MetricType::GAUGE, metrics.collect());
    }

    /// A value that only goes up.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Number) {
        self.counters(name, help, vec![Sample::of(value)]);
    }

    /// The same, with labels.
    pub(super) fn counters(&mut self, name: &str, help: &str, samples: Vec<Sample>) {
        let metrics = samples.into_iter().map(|sample| {
            let mut counter = Counter::default();
            counter.set_value(sample.value);
            let mut metric = labelled(sample.labels);
            metric.set_counter(counter);
            metric
        });
        self.add(name, help, MetricType::COUNTER, metrics.collect());
    }

    /// Durations by size.
    pub(super) fn histograms(&mut self, name: &str, help: &str, counted: Vec<(Labels, Counted)>) {
        let metrics = counted.into_iter().map(|(labels, counted)| {
            let mut metric = labelled(labels);
            metric.set_histogram(histogram(&counted));
            metric
        });
        self.add(name, help, MetricType::HISTOGRAM, metrics.collect());
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    /// The page.
    pub(super) fn text(&self) -> String {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.0, &mut text)
            .expect("families have names and series, and memory takes any text");
        String::from_utf8(text).expect("made of texts")
    }
}

fn labelled(labels: Labels) -> Metric {
    let pair = |(name, value): (&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    };
    Metric::from_label(labels.into_iter().map(pair).collect())
}

fn histogram(counted: &Counted) -> Histogram {
    let buckets = BOUNDS_US.iter().zip(counted.up_to).map(|(bound, count)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(Duration::from_micros(*bound).as_secs_f64());
        bucket.set_cumulative_count(count);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counted.count);
    histogram.set_sample_sum(counted.sum.as_secs_f64());
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut page = Families::default();
        page.gauge("a_bytes", "Some \"help\".", 3_u64);
        page.counters(
            "b_total",
            "More.",
            vec![Sample::of(true).with("kind", "x\"y")],
        );
        page.gauges("c", "Nothing is known of it.", Vec::new());
        let mut counted = Counted {
            count: 2,
            sum: Duration::from_millis(1500),
            ..Counted::default()
        };
        counted.up_to[15] = 1;
        page.histograms(
            "d_seconds",
            "Times.",
            vec![(vec![("route", "/".to_owned())], counted)],
        );
        let text = page.text();
        for line in [
            "# HELP a_bytes Some \"help\".",
            "# TYPE a_bytes gauge",
            "a_bytes 3",
            "# TYPE b_total counter",
            "b_total{kind=\"x\\\"y\"} 1",
            "# TYPE d_seconds histogram",
            "d_seconds_bucket{route=\"/\",le=\"0.0001\"} 0",
            "d_seconds_bucket{route=\"/\",le=\"10\"} 1",
            "d_seconds_bucket{route=\"/\",le=\"+Inf\"} 2",
            "d_seconds_sum{route=\"/\"} 1.5",
            "d_seconds_count{route=\"/\"} 2",
        ] {
            assert!(text.lines().any(|known| known == line), "{line}\n{text}");
        }
        assert!(!text.contains(" c "), "{text}");
    }
}
