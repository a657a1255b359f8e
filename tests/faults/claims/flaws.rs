//! The simulated store, correct and with each flaw in turn, through every checker.

use std::collections::BTreeSet;

use super::store::{Flaw, Options, simulate};
use super::{Claim, claim, red};

/// Claims of this file.
pub(crate) const ALL: &[Claim] = &[
    claim!(a_correct_store_is_green),
    claim!(each_flaw_turns_its_promises_red_and_no_other),
    claim!(a_run_is_its_seed),
];

const SEEDS: u64 = 3;

fn a_correct_store_is_green() {
    for workload in ["register", "bank", "set", "append", "mixed"] {
        for seed in 1..=SEEDS {
            let evidence = simulate(&Options::small(seed, workload)).evidence();
            let none: [&str; 0] = [];
            assert_eq!(
                red(&evidence),
                none,
                "{workload}, seed {seed}: {}",
                shown(&evidence)
            );
            let outcomes: BTreeSet<&str> = evidence
                .history
                .operations
                .iter()
                .map(|o| o.outcome.name())
                .collect();
            assert_eq!(
                outcomes.len(),
                3,
                "{workload}, seed {seed}: only {outcomes:?}"
            );
        }
    }
}

fn each_flaw_turns_its_promises_red_and_no_other() {
    for (flaw, workload, broken) in Flaw::ALL {
        let mut turned = BTreeSet::new();
        for seed in 1..=SEEDS {
            let options = Options {
                flaw: Some(*flaw),
                ..Options::small(seed, workload)
            };
            let evidence = simulate(&options).evidence();
            let red = red(&evidence);
            turned.extend(red);
        }
        let expected: BTreeSet<&str> = broken.iter().copied().collect();
        assert_eq!(turned, expected, "{flaw:?}");
    }
}

fn a_run_is_its_seed() {
    let run = |seed: u64| simulate(&Options::small(seed, "mixed"));
    assert_eq!(run(7).history, run(7).history);
    assert_eq!(run(7).logs, run(7).logs);
    assert_ne!(run(7).history, run(8).history);
}

fn shown(evidence: &crate::run::Evidence) -> String {
    let judgements = crate::promises::judge(evidence, &crate::promises::Limits::default());
    let red = judgements
        .into_iter()
        .filter(|judgement| !judgement.verdict.is_green());
    red.map(|judgement| format!("{judgement:#?}")).collect()
}
