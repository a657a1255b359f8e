//! Plots over the time of a run, with the faults shaded behind: one file a plot, all drawn by [`chart`].
//!
//! To add a plot, write its file and add its line to [`ALL`].

pub(crate) mod chart;

pub(crate) mod latency;

pub(crate) mod rate;

pub(crate) mod staleness;

pub(crate) mod leader;

pub(crate) mod totals;

use crate::run::Evidence;

/// A plot and how to draw it.
pub(crate) struct Plot {
    /// Of the file.
    pub(crate) name: &'static str,
    /// The picture, if the run has anything to show in it.
    pub(crate) draw: fn(&Evidence) -> Option<String>,
}

/// Every plot.
pub(crate) const ALL: &[Plot] = &[
    Plot {
        name: "latency-raw",
        draw: latency::raw,
    },
    Plot {
        name: "latency-quantiles",
        draw: latency::quantiles,
    },
    Plot {
        name: "rate",
        draw: rate::draw,
    },
    Plot {
        name: "staleness",
        draw: staleness::draw,
    },
    Plot {
        name: "leader",
        draw: leader::draw,
    },
    Plot {
        name: "bank-totals",
        draw: totals::draw,
    },
];
