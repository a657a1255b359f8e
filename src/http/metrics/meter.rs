//! Counting requests: by endpoint and class of status, and how long they took.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::{Method, StatusCode};

use super::families::{Families, Labels, Sample};
use crate::raft::Histogram;

/// Classes of status: the first digit, from 1.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

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
