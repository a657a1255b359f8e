//! Counting requests: by endpoint and class of status, and how long they took.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::{Method, StatusCode};

use super::families::{Families, Labels, Sample};
use crate::raft::Histogram;

/// Classes of status: the first digit, from 1.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What may be short when a request is refused as overloaded: the setting that bounds it, or the request's own deadline.
const SHORT: [&str; 9] = [
    "connections_max",
    "connections_per_address_max",
    "bodies_bytes_max",
    "lag_max",
    "writes_max",
    "queue_commands_max",
    "queue_bytes_max",
    "queue_wait_max",
    "timeout",
];

/// Requests to one endpoint.
#[derive(Debug)]
pub(in crate::http) struct Endpoint {
    method: &'static str,
    route: &'static str,
    classes: [AtomicU64; CLASSES.len()],
    times: Histogram,
}

/// Requests to this node. Relaxed throughout: the numbers are read for people.
#[derive(Debug)]
pub(in crate::http) struct Meter {
    endpoints: Vec<Arc<Endpoint>>,
    /// Requests that reached no endpoint.
    elsewhere: Endpoint,
    in_flight: AtomicI64,
    /// Refusals as overloaded, by what was [`SHORT`].
    overloads: [AtomicU64; SHORT.len()],
}

/// A request that is being answered; not any more once this is dropped.
#[derive(Debug)]
pub(in crate::http) struct InFlight<'a>(&'a AtomicI64);

impl Endpoint {
    /// Nothing counted yet. HEAD counts as the GET it stands for.
    pub(in crate::http) fn new(method: &Method, route: &'static str) -> Endpoint {
        let method = match method.as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "DELETE" => "DELETE",
            _ => "other",
        };
        Endpoint {
            method,
            route,
            classes: Default::default(),
            times: Histogram::default(),
        }
    }

    fn count(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.classes[class].fetch_add(1, Relaxed);
        self.times.record(took);
    }

    fn labels(&self) -> Labels {
        vec![
            ("route", self.route.to_owned()),
            ("method", self.method.to_owned()),
        ]
    }
}

impl Meter {
    /// Counts requests to `endpoints`, and to none of them.
    pub(in crate::http) fn new(endpoints: Vec<Arc<Endpoint>>) -> Meter {
        Meter {
            endpoints,
            elsewhere: Endpoint::new(&Method::OPTIONS, "none"),
            in_flight: AtomicI64::new(0),
            overloads: Default::default(),
        }
    }

    /// Notes that a request is being answered.
    pub(in crate::http) fn begin(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        InFlight(&self.in_flight)
    }

    /// Counts an answer.
    pub(in crate::http) fn count(
        &self,
        endpoint: Option<&Endpoint>,
        status: StatusCode,
        took: Duration,
    ) {
        endpoint.unwrap_or(&self.elsewhere).count(status, took);
    }

    /// Counts a refusal as overloaded, for want of what `setting` bounds; without one, of time.
    pub(in crate::http) fn overloaded(&self, setting: Option<&str>) {
        let place = SHORT.iter().position(|short| Some(*short) == setting);
        self.overloads[place.unwrap_or(SHORT.len() - 1)].fetch_add(1, Relaxed);
    }

    /// What was counted. An endpoint nobody asked is left out.
    pub(super) fn show(&self, page: &mut Families) {
        let (mut requests, mut times) = (Vec::new(), Vec::new());
        for endpoint in self
            .endpoints
            .iter()
            .map(AsRef::as_ref)
            .chain([&self.elsewhere])
        {
            let counted = endpoint.times.read();
            if counted.count == 0 {
                continue;
            }
            for (class, count) in CLASSES.iter().zip(&endpoint.classes) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let sample = Sample::of(count)
                        .with("route", endpoint.route)
                        .with("method", endpoint.method);
                    requests.push(sample.with("status", class));
                }
            }
            times.push((endpoint.labels(), counted));
        }
        page.counters(
            "quorate_http_requests_total",
            "Requests answered, by class of status.",
            requests,
        );
        page.histograms(
            "quorate_http_request_seconds",
            "Time from the head of a request to its answer.",
            times,
        );
        let overloads = SHORT
            .iter()
            .zip(&self.overloads)
            .map(|(setting, count)| Sample::of(count.load(Relaxed)).with("setting", setting));
        page.counters(
            "quorate_overload_rejections_total",
            "Requests that this node refused as overloaded, by the setting that bounds what was short; timeout: the time they had.",
            overloads.collect(),
        );
        let in_flight = u64::try_from(self.in_flight.load(Relaxed)).unwrap_or(0);
        page.gauge(
            "quorate_http_in_flight",
            "Requests being answered, this one among them.",
            in_flight,
        );
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_counted_by_what_was_short() {
        let meter = Meter::new(Vec::new());
        for setting in [
            Some("lag_max"),
            Some("lag_max"),
            Some("queue_bytes_max"),
            None,
        ] {
            meter.overloaded(setting);
        }
        let mut page = Families::default();
        meter.show(&mut page);
        let page = page.text();
        for (setting, count) in [
            ("lag_max", 2),
            ("queue_bytes_max", 1),
            ("timeout", 1),
            ("writes_max", 0),
        ] {
            let line =
                format!("quorate_overload_rejections_total{{setting=\"{setting}\"}} {count}");
            assert!(page.lines().any(|shown| shown == line), "{line}\n{page}");
        }
    }
}
