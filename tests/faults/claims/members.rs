//! Who belongs to the cluster in the end: what the operator was told, and what the members say.

use serde_json::json;

use crate::harness::operator::membership;
use crate::history::Membership;
use crate::promises::Verdict;
use crate::run::Evidence;

use super::others::ended;
use super::tale::evidence;
use super::{Claim, assert_green, assert_red, claim, red, verdict};

/// Claims of this file.
pub(crate) const ALL: &[Claim] = &[
    claim!(every_node_ends_with_the_members_of_the_last_change),
    claim!(a_vote_that_may_be_taken_away_late_is_no_lie),
    claim!(a_run_without_a_change_proves_nothing),
    claim!(who_was_removed_says_nothing_in_the_end),
    claim!(a_change_that_is_half_done_is_no_answer),
];

/// A run that begins with nodes 1 to 3: `CHANGED` voters are what the operator was told, `N:VOTERS:LEARNERS` what node N says.
fn of_members(changed: &[&str], told: &[(u64, &str, &str)]) -> Evidence {
    let mut tale = String::new();
    for members in changed {
        tale.push_str(&format!("-1 changed {members}\n"));
    }
    for (node, voters, learners) in told {
        let members = format!("{{\"voters\":{voters},\"learners\":{learners}}}");
        tale.push_str(&format!(
            "-1 members {{\"node\":{node},\"members\":{members}}}\n"
        ));
    }
    let mut evidence = evidence(&tale, &[]);
    evidence.plan.nodes = vec![1, 2, 3];
    evidence
}

fn every_node_ends_with_the_members_of_the_last_change() {
    let now = r#"{"voters":[1,3,4]}"#;
    let says = |last: &'static str, learners: &'static str| {
        [
            (1, "[1,3,4]", "[]"),
            (3, "[1,3,4]", "[]"),
            (4, last, learners),
        ]
    };
    let first = r#"{"voters":[1,2,4]}"#;
    assert_green(
        "members",
        &of_members(&[first, now], &says("[1,3,4]", "[]")),
    );
    let cases = [
        ("[1,2,3]", "[]", "node 4 says that n1 n2 n3 belong"),
        ("[1,3]", "[]", "node 4 says that n1 n3 belong"),
        ("[1,3]", "[4]", "n1 n3, without a vote n4 belong"),
        ("[1,3,4]", "[5]", "without a vote n5 belong"),
    ];
    for (voters, learners, words) in cases {
        assert_red(
            "members",
            &of_members(&[now], &says(voters, learners)),
            words,
        );
    }
    // The harness believes in a change that was never made.
    let all = says("[1,3,4]", "[]");
    assert_red(
        "members",
        &of_members(&[now, first], &all),
        "the last change left n1 n2 n4",
    );
    assert_red(
        "members",
        &of_members(&[now], &all[..2]),
        "node 4 does not say",
    );
    // Without any change it is as it began, and nothing was proven.
    let began = of_members(&[], &[1, 2, 3].map(|node| (node, "[1,2,3]", "[]")));
    assert_eq!(verdict("members", &began), Verdict::valid(0));
    assert_red(
        "members",
        &of_members(&[], &all),
        "the last change left n1 n2 n3",
    );
}

fn a_vote_that_may_be_taken_away_late_is_no_lie() {
    let now = r#"{"voters":[1,2,3],"either":[2]}"#;
    let says = |voters, learners| [1, 2, 3].map(|node| (node, voters, learners));
    assert_green("members", &of_members(&[now], &says("[1,2,3]", "[]")));
    assert_green("members", &of_members(&[now], &says("[1,3]", "[2]")));
    assert_red(
        "members",
        &of_members(&[now], &says("[1,3]", "[]")),
        "node 1",
    );
    assert_red(
        "members",
        &of_members(&[now], &says("[1,2]", "[3]")),
        "node 1",
    );
}

fn who_was_removed_says_nothing_in_the_end() {
    let mut run = ended([2, 2], ["d", "d"]);
    (run.plan.nodes, run.plan.members) = (vec![1, 2, 3], vec![1, 2]);
    assert_green("durable", &run);
    run.plan.members = vec![1, 2, 4];
    assert_red("durable", &run, "node 4 does not say where it ended");
}

fn a_run_without_a_change_proves_nothing() {
    let mut began = of_members(&[], &[1, 2, 3].map(|node| (node, "[1,2,3]", "[]")));
    assert!(verdict("members", &began).is_green());
    began.plan.expect.promises = vec!["members".to_owned()];
    assert_eq!(red(&began), ["members"]);
    let now = r#"{"voters":[1,2,3]}"#;
    let mut changed = of_members(&[now], &[1, 2, 3].map(|node| (node, "[1,2,3]", "[]")));
    changed.plan.expect.promises = vec!["members".to_owned()];
    assert_eq!(red(&changed), [""; 0]);
}

fn a_change_that_is_half_done_is_no_answer() {
    let member = |id: u64, role: &str| json!({"id": id, "role": role});
    let members = json!([member(1, "voter"), member(2, "learner")]);
    let told = |changing: bool| membership(&json!({"changing": changing, "members": members}));
    let expected = Membership {
        learners: [2].into(),
        ..Membership::of_voters([1])
    };
    assert_eq!(told(false), Some(expected));
    assert_eq!(told(true), None);
    assert_eq!(membership(&json!({"code": "no_leader"})), None);
}
