//! No node dies of itself: nothing in its output looks like a crash, and no process ended that was not to end. Nor does one find its
//! own state damaged.

use crate::run::Evidence;

use super::{Fact, Limits, Promise, Verdict};

/// Nobody crashed.
pub(crate) const PROMISE: Promise = Promise {
    name: "crash",
    says: "no node panics, aborts, ends for no reason, or finds a state damaged that nobody harmed",
    check,
};

/// What a crash looks like in a line of output.
const SIGNS: &[&str] = &[
    "panicked at",
    "assertion failed",
    "assertion `",
    "stack overflow",
    "fatal runtime error",
    "memory allocation of",
    "SIGSEGV",
    "SIGABRT",
    "SIGBUS",
    "AddressSanitizer",
    "ThreadSanitizer",
    "core dumped",
    "double free",
    "corrupted size vs. prev_size",
    // A state that was found damaged, though nobody harmed it, and set aside: the node gets it back, and nothing else would show.
    "; it is kept as ",
];

/// What is no finding where disks fail on purpose: a read of the state that the device failed, for which a node sets the state aside.
/// Damage that it finds for any other reason stays one.
pub(crate) fn expected(disks_fail: bool) -> Vec<String> {
    let of_device = disks_fail.then(|| "Input/output error; it is kept as ".to_owned());
    of_device.into_iter().collect()
}

fn check(evidence: &Evidence, _: &Limits) -> Verdict {
    let expected = &evidence.plan.expect.crash_lines;
    let (mut facts, mut lines, mut excused) = (Vec::new(), 0, 0);
    for (name, text) in &evidence.output {
        for (number, line) in text.lines().enumerate() {
            lines += 1;
            if !SIGNS.iter().any(|sign| line.contains(sign)) {
                continue;
            }
            if expected
                .iter()
                .any(|expected| line.contains(expected.as_str()))
            {
                excused += 1;
            } else {
                let shown: String = line.trim().chars().take(200).collect();
                facts.push(Fact::new(format!("{name}:{}: {shown}", number + 1)));
            }
        }
    }
    let ends = evidence.plan.exits.iter().filter(|exit| !exit.expected);
    facts.extend(
        ends.map(|exit| Fact::new(format!("node {} ended with {}", exit.node, exit.status))),
    );
    match Verdict::of(lines, facts) {
        Verdict::Valid { checked, .. } if excused > 0 => Verdict::Valid {
            checked,
            notes: vec![format!("{excused} lines that the plan expected")],
        },
        verdict => verdict,
    }
}
