//! What the cluster promises, one file a promise, and the judge that asks each whether it was kept.
//!
//! To add a promise, write its file and add its line to [`ALL`].
//!
//! A verdict rests on evidence alone. What could not be decided is *unknown*, and unknown is red like a violation: a
//! checker that ran out of time, one that crashed, or one that should have found something to check and did not.

pub(crate) mod linear;

pub(crate) mod witness;

pub(crate) mod bank;

pub(crate) mod set;

pub(crate) mod once;

pub(crate) mod isolation;

pub(crate) mod durable;

pub(crate) mod digests;

pub(crate) mod members;

pub(crate) mod crash;

pub(crate) mod coverage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::run::Evidence;

/// A promise and how to check it.
pub(crate) struct Promise {
    /// A word.
    pub(crate) name: &'static str,
    /// A sentence.
    pub(crate) says: &'static str,
    /// Judges the evidence. Must give up after [`Limits::time`].
    pub(crate) check: fn(&Evidence, &Limits) -> Verdict,
}

/// Every promise, in the order of the report.
pub(crate) const ALL: &[Promise] = &[
    linear::PROMISE,
    witness::PROMISE,
    bank::PROMISE,
    set::PROMISE,
    once::PROMISE,
    isolation::PROMISE,
    durable::PROMISE,
    digests::PROMISE,
    members::PROMISE,
    crash::PROMISE,
    coverage::PROMISE,
];

/// How much a checker may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For one checker.
    pub(crate) time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            time: Duration::from_secs(60),
        }
    }
}

/// One reason for a red verdict, short and exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Fact {
    /// What was read, what was acknowledged before, which log index.
    pub(crate) what: String,
    /// The lines of the history it speaks of.
    pub(crate) lines: Vec<u64>,
}

impl Fact {
    /// A fact about no line in particular.
    pub(crate) fn new(what: impl Into<String>) -> Fact {
        Fact {
            what: what.into(),
            lines: Vec::new(),
        }
    }

    /// The same fact, about these operations.
    pub(crate) fn about<'a>(
        mut self,
        operations: impl IntoIterator<Item = &'a crate::history::Operation>,
    ) -> Fact {
        self.lines.extend(
            operations
                .into_iter()
                .map(|operation| operation.invoked.index),
        );
        self
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// Kept, in so many cases.
    Valid {
        /// How much was looked at: operations, reads, lines. Zero says nothing.
        checked: usize,
        /// What else is worth knowing.
        notes: Vec<String>,
    },
    /// Broken.
    Violated {
        /// The shortest first; at most [`FACTS_MAX`].
        facts: Vec<Fact>,
        /// How many were found.
        found: usize,
    },
    /// Not decided.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// So many facts of one promise are reported.
pub(crate) const FACTS_MAX: usize = 8;

impl Verdict {
    /// Kept.
    pub(crate) fn valid(checked: usize) -> Verdict {
        Verdict::Valid {
            checked,
            notes: Vec::new(),
        }
    }

    /// Not decided.
    pub(crate) fn unknown(reason: impl Into<String>) -> Verdict {
        Verdict::Unknown {
            reason: reason.into(),
        }
    }

    /// Kept if there is nothing against it.
    pub(crate) fn of(checked: usize, facts: Vec<Fact>) -> Verdict {
        if facts.is_empty() {
            Verdict::valid(checked)
        } else {
            Verdict::violated(facts)
        }
    }

    /// Broken. The facts come in the order in which they were found, of which only the first few are kept.
    pub(crate) fn violated(mut facts: Vec<Fact>) -> Verdict {
        let found = facts.len();
        facts.truncate(FACTS_MAX);
        Verdict::Violated { facts, found }
    }

    /// Whether it is good news.
    pub(crate) fn is_green(&self) -> bool {
        matches!(self, Verdict::Valid { .. })
    }

    /// A word for reports.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Verdict::Valid { .. } => "valid",
            Verdict::Violated { .. } => "violated",
            Verdict::Unknown { .. } => "unknown",
        }
    }
}

/// A promise's verdict.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Judgement {
    /// Of the promise.
    pub(crate) promise: &'static str,
    /// Of the promise, in a sentence.
    pub(crate) says: &'static str,
    /// What came of it.
    #[serde(flatten)]
    pub(crate) verdict: Verdict,
    /// How long it took, in milliseconds.
    pub(crate) took_ms: u64,
}

/// Asks every promise.
pub(crate) fn judge(evidence: &Evidence, limits: &Limits) -> Vec<Judgement> {
    ALL.iter()
        .map(|promise| ask(promise, evidence, limits))
        .collect()
}

/// Whether a run with these judgements is green: every promise kept.
pub(crate) fn is_green(judgements: &[Judgement]) -> bool {
    judgements
        .iter()
        .all(|judgement| judgement.verdict.is_green())
}

fn ask(promise: &Promise, evidence: &Evidence, limits: &Limits) -> Judgement {
    let start = Instant::now();
    let checked = catch_unwind(AssertUnwindSafe(|| (promise.check)(evidence, limits)));
    let verdict = checked.unwrap_or_else(|_| Verdict::unknown("the checker crashed"));
    let is_due = evidence
        .plan
        .expect
        .promises
        .iter()
        .any(|name| name == promise.name);
    let verdict = match verdict {
        Verdict::Valid { checked: 0, .. } if is_due => {
            Verdict::unknown("the run left nothing to check")
        }
        verdict => verdict,
    };
    Judgement {
        promise: promise.name,
        says: promise.says,
        verdict,
        took_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}
