//! What is claimed of the checkers, and the runner that asks: every checker is red on a violation and green on its
//! nearest legal neighbour.
//!
//! The runner stands in for the usual one because this binary is also a program. It takes the usual arguments of
//! `cargo test` that make sense here.

pub(crate) mod store;

pub(crate) mod tale;

pub(crate) mod second;

pub(crate) mod format;

pub(crate) mod linear;

pub(crate) mod witness;

pub(crate) mod isolation;

pub(crate) mod others;

pub(crate) mod members;

pub(crate) mod flaws;

pub(crate) mod reports;

pub(crate) mod harness;

use std::panic::catch_unwind;
use std::time::Instant;

use crate::run::Evidence;

/// Something that must be true, and how to find out.
#[derive(Clone, Copy)]
pub(crate) struct Claim {
    /// The claim, with underscores.
    pub(crate) name: &'static str,
    /// Panics if it is not true.
    pub(crate) test: fn(),
}

/// Names a claim as its function is named.
macro_rules! claim {
    ($test:ident) => {
        $crate::claims::Claim {
            name: stringify!($test),
            test: $test,
        }
    };
}
pub(crate) use claim;

/// Every claim, by file.
const ALL: &[(&str, &[Claim])] = &[
    ("format", format::ALL),
    ("linear", linear::ALL),
    ("witness", witness::ALL),
    ("isolation", isolation::ALL),
    ("others", others::ALL),
    ("members", members::ALL),
    ("flaws", flaws::ALL),
    ("reports", reports::ALL),
    ("harness", harness::ALL),
];

/// The claims whose full name contains one of the filters, or is one of them; all if there are none.
fn chosen(filters: &[String], is_exact: bool) -> Vec<(String, Claim)> {
    let named = ALL.iter().flat_map(|(file, claims)| {
        claims
            .iter()
            .map(move |claim| (format!("{file}::{}", claim.name), *claim))
    });
    let fits = |name: &str| {
        let fits = |filter: &String| {
            if is_exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        filters.is_empty() || filters.iter().any(fits)
    };
    named.filter(|(name, _)| fits(name)).collect()
}

/// Prints the claims, as test runners want to have them listed.
#[expect(clippy::print_stdout, reason = "a test runner speaks to a terminal")]
pub(crate) fn list(filters: &[String], is_exact: bool) {
    for (name, _) in chosen(filters, is_exact) {
        println!("{name}: test");
    }
}

/// Asks all that are chosen; whether all are true.
#[expect(clippy::print_stdout, reason = "a test runner speaks to a terminal")]
pub(crate) fn run(filters: &[String], is_exact: bool) -> bool {
    let claims = chosen(filters, is_exact);
    println!("\nrunning {} claims", claims.len());
    let start = Instant::now();
    let mut failed = Vec::new();
    for (name, claim) in &claims {
        let begin = Instant::now();
        let is_true = catch_unwind(claim.test).is_ok();
        let said = if is_true { "ok" } else { "FAILED" };
        println!(
            "claim {name} ... {said} ({:.2} s)",
            begin.elapsed().as_secs_f64()
        );
        if !is_true {
            failed.push(name);
        }
    }
    let said = if failed.is_empty() { "ok" } else { "FAILED" };
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "\nclaims: {said}. {} true, {} false; {seconds:.2} s\n",
        claims.len() - failed.len(),
        failed.len()
    );
    for name in &failed {
        println!("    {name}");
    }
    failed.is_empty()
}

/// The names of the promises that are not kept.
pub(crate) fn red(evidence: &Evidence) -> Vec<&'static str> {
    let judgements = crate::promises::judge(evidence, &crate::promises::Limits::default());
    let red = judgements
        .iter()
        .filter(|judgement| !judgement.verdict.is_green());
    red.map(|judgement| judgement.promise).collect()
}

/// What one promise says of the evidence.
pub(crate) fn verdict(promise: &str, evidence: &Evidence) -> crate::promises::Verdict {
    let promise = crate::promises::ALL
        .iter()
        .find(|known| known.name == promise)
        .expect("a known promise");
    (promise.check)(evidence, &crate::promises::Limits::default())
}

/// Fails unless the promise is kept, and there was something to check.
#[track_caller]
pub(crate) fn assert_green(promise: &str, evidence: &Evidence) {
    let verdict = verdict(promise, evidence);
    let is_green =
        matches!(verdict, crate::promises::Verdict::Valid { checked, .. } if checked > 0);
    assert!(is_green, "{promise} must be green: {verdict:#?}");
}

/// Fails unless the promise is broken, and one of the facts says so in these words.
#[track_caller]
pub(crate) fn assert_red(promise: &str, evidence: &Evidence, words: &str) {
    let verdict = verdict(promise, evidence);
    let crate::promises::Verdict::Violated { facts, .. } = &verdict else {
        panic!("{promise} must be red: {verdict:#?}");
    };
    assert!(
        facts.iter().any(|fact| fact.what.contains(words)),
        "{promise} must say {words:?}: {verdict:#?}"
    );
}
