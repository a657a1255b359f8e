//! The checkers of one rule each: bank, set, the end of a run, crashes, coverage.

use crate::promises::{Judgement, coverage, crash, is_green, judge};
use crate::run::{Evidence, Exit, FinalState, Installs, Mark, Snapshots};

use super::tale::evidence;
use super::{Claim, assert_green, assert_red, claim, verdict};

/// Claims of this file.
pub(crate) const ALL: &[Claim] = &[
    claim!(a_bank_keeps_its_money_its_accounts_and_its_limits),
    claim!(an_element_that_was_added_stays),
    claim!(a_set_has_nothing_twice_and_nothing_strange),
    claim!(a_write_sent_again_is_answered_as_before),
    claim!(every_node_ends_with_everything_acknowledged),
    claim!(every_node_ends_with_one_digest),
    claim!(a_snapshot_has_the_digest_of_its_index),
    claim!(what_came_by_snapshot_is_in_no_log),
    claim!(a_crash_is_seen_unless_it_was_planned),
    claim!(each_rule_of_coverage_can_fail),
    claim!(a_promise_with_nothing_to_check_is_unknown),
];

fn a_bank_keeps_its_money_its_accounts_and_its_limits() {
    let tale = "-1 accounts {\"balances\":{\"a\":5,\"b\":0,\"mint\":0},\"overdraft\":[\"mint\"]}\n1 > read * follower\n1 ok =READ @1 n2";
    let of = |read: &str| evidence(&tale.replace("READ", read), &[]);
    assert_green("bank", &of(r#"{"a":1,"b":5,"mint":-1}"#));
    assert_red(
        "bank",
        &of(r#"{"a":1,"b":5,"mint":0}"#),
        "at node 2: the total is 6, it was 5 when the bank opened",
    );
    assert_red("bank", &of(r#"{"a":-1,"b":6,"mint":0}"#), "a has -1");
    assert_red("bank", &of(r#"{"a":5,"b":0}"#), "account mint is missing");
    assert_red(
        "bank",
        &of(r#"{"a":5,"b":0,"mint":0,"x":0}"#),
        "account x was never opened",
    );
    let unopened = evidence("1 > read * leader\n1 ok ={\"a\":1} @1", &[]);
    assert_eq!(verdict("bank", &unopened).name(), "unknown");
}

fn an_element_that_was_added_stays() {
    let tale = "0 > add s 1\n0 ok\n1 > read s LEVEL\n1 ok =[]\n1 > read s leader\n1 ok =LAST";
    let of = |level: &str, last: &str| {
        evidence(&tale.replace("LEVEL", level).replace("LAST", last), &[])
    };
    assert_red("set", &of("leader", "[1]"), "stale: leader read of s");
    assert_red("set", &of("lease", "[1]"), "stale: lease read of s");
    assert_red("set", &of("leader", "[]"), "lost: ");
    assert_green("set", &of("follower", "[1]"));
    // Seen once, an unknown add is as good as acknowledged.
    let seen = "0 > add s 1\n0 info\n1 > read s leader\n1 ok =[1]\n1 > read s leader\n1 ok =LAST";
    assert_red("set", &evidence(&seen.replace("LAST", "[]"), &[]), "lost: ");
    assert_green("set", &evidence(&seen.replace("LAST", "[1]"), &[]));
    let overlapping =
        "0 > add s 1\n1 > read s leader\n1 ok =[]\n0 ok\n1 > read s leader\n1 ok =[1]";
    assert_green("set", &evidence(overlapping, &[]));
}

fn a_set_has_nothing_twice_and_nothing_strange() {
    let tale = "0 > add s 1\n0 END\n1 > read s follower\n1 ok =READ";
    let of = |end: &str, read: &str| evidence(&tale.replace("END", end).replace("READ", read), &[]);
    assert_green("set", &of("ok", "[1]"));
    assert_red("set", &of("ok", "[1,1]"), "1 is there twice");
    assert_red("set", &of("ok", "[1,2]"), "has 2, which nobody added");
    assert_red("set", &of("fail", "[1]"), "has 1, but add of 1 to s [fail");
    assert_green("set", &of("info", "[1]"));
}

fn a_write_sent_again_is_answered_as_before() {
    let tale = "0 > cas k - 1\n0 ok FIRST @1\n1 > again o0\n1 ok SECOND @1 n2";
    let of = |first: &str, second: &str| {
        let tale = tale.replace("FIRST", first).replace("SECOND", second);
        evidence(&tale, &["1 o0 yes\n2 o0 yes dup"])
    };
    assert_green("once", &of("yes", "yes"));
    assert_green("once", &of("no", "no"));
    for (first, second) in [("yes", "no"), ("no", "yes")] {
        assert_red("once", &of(first, second), "sent again, was answered");
    }
    // It is no operation of its own: nobody else takes it for a second one.
    for promise in ["linear", "witness"] {
        assert_green(promise, &of("yes", "yes"));
    }
    // Without an answer the second time it says nothing.
    let silent = "0 > write k 1\n0 ok @1\n1 > again o0\n1 info";
    assert!(verdict("once", &evidence(silent, &["1 o0"])).is_green());
    let twice = evidence(
        &tale.replace("FIRST", "yes").replace("SECOND", "yes"),
        &["1 o0 yes\n2 o0 yes"],
    );
    assert_red("witness", &twice, "was applied twice");
}

pub(super) fn ended(applied: [u64; 2], digests: [&str; 2]) -> Evidence {
    let mut evidence = evidence(
        "0 > write k 1\n0 ok @1\n0 > write k 2\n0 ok @2",
        &["1 o0\n2 o1", "1 o0\n2 o1"],
    );
    let ends = (1..).zip(applied.into_iter().zip(digests));
    let state = |(node, (applied, digest)): (u64, (u64, &str))| FinalState {
        node,
        applied,
        digest: digest.to_owned(),
        first: 0,
        marks: Vec::new(),
    };
    evidence.finals = ends.map(state).collect();
    evidence
}

fn every_node_ends_with_everything_acknowledged() {
    assert_green("durable", &ended([2, 2], ["d", "d"]));
    assert_red(
        "durable",
        &ended([2, 1], ["d", "d"]),
        "node 2 ended at index 1, without write of 2 to k",
    );
    let mut short = ended([2, 2], ["d", "d"]);
    short.logs[1].entries.pop();
    assert_red("durable", &short, "node 2 ended at index 1");
    let mut silent = ended([2, 2], ["d", "d"]);
    silent.plan.nodes = vec![1, 2, 3];
    assert_red("durable", &silent, "node 3 does not say where it ended");
}

fn every_node_ends_with_one_digest() {
    assert_green("digests", &ended([2, 2], ["d", "d"]));
    assert_red(
        "digests",
        &ended([2, 2], ["d", "e"]),
        "node 1 is at index 2 with digest d, node 2 at 2 with e",
    );
    assert_red("digests", &ended([2, 3], ["d", "d"]), "node 2 at 3");
    let mut none = ended([2, 2], ["d", "d"]);
    none.finals.clear();
    none.plan.expect.final_phase = true;
    assert_eq!(verdict("digests", &none).name(), "unknown");
    assert_eq!(verdict("durable", &none).name(), "unknown");
}

fn a_snapshot_has_the_digest_of_its_index() {
    let with = |marks: &[(usize, u64, &str, &str)]| {
        let mut run = ended([2, 2], ["d", "d"]);
        for (at, index, digest, by) in marks {
            run.finals[*at].marks.push(Mark {
                index: *index,
                digest: (*digest).to_owned(),
                by: (*by).to_owned(),
            });
        }
        run
    };
    let alike = [(0, 1, "c", "snapshot"), (1, 1, "c", "journal")];
    assert_green("digests", &with(&alike));
    let elsewhere = [(0, 1, "c", "snapshot"), (1, 2, "d", "journal")];
    assert_green("digests", &with(&elsewhere));
    assert_red(
        "digests",
        &with(&[(0, 1, "c", "snapshot"), (1, 1, "x", "journal")]),
        "at index 1 the snapshot of node 1 has digest c, the journal of node 2 x",
    );
}

fn what_came_by_snapshot_is_in_no_log() {
    // Node 2 has nothing in its log but what comes after the last write; only its state shows that it has that.
    let mut purged = ended([2, 2], ["d", "d"]);
    purged.logs[1].entries.clear();
    assert_red("durable", &purged, "node 2 ended at index 0");
    purged.finals[1].first = 3;
    assert_green("durable", &purged);
    purged.finals[1].applied = 1;
    assert_red("durable", &purged, "node 2 ended at index 1");
    // A piece of its log that was collected before counts as its log.
    let mut pieces = ended([2, 2], ["d", "d"]);
    let mut early = pieces.logs[1].clone();
    early.entries.pop();
    pieces.logs[1].entries.remove(0);
    pieces.logs.push(early);
    assert_green("durable", &pieces);
    assert_green("witness", &pieces);
    pieces.logs[2].entries[0].value = 9.into();
    assert_red("witness", &pieces, "log index 1");
}

fn a_crash_is_seen_unless_it_was_planned() {
    let with = |line: &str| {
        let mut evidence = Evidence::default();
        evidence
            .output
            .insert("n1.log".to_owned(), format!("listens\n{line}\n"));
        evidence
    };
    assert_green("crash", &with("the word panic alone is no crash"));
    assert_red(
        "crash",
        &with("table journal is damaged: no record; it is kept as n1/state.damaged-1"),
        "it is kept as",
    );
    assert_red(
        "crash",
        &with("thread 'x' panicked at src/a.rs:1:1"),
        "n1.log:2: thread 'x' panicked",
    );
    let mut planned = with("thread 'x' panicked at src/a.rs:1:1");
    planned.plan.expect.crash_lines = vec!["src/a.rs".to_owned()];
    assert_green("crash", &planned);
    // A disk that failed on purpose explains what it failed, and nothing else.
    let unread = "state is damaged: While pread of 000012.sst: Input/output error; it is kept as n1/state.damaged-1";
    let rotten = "state is damaged: block checksum mismatch; it is kept as n1/state.damaged-1";
    for (line, disks_fail, is_green) in [
        (unread, true, true),
        (unread, false, false),
        (rotten, true, false),
    ] {
        let mut failing = with(line);
        failing.plan.expect.crash_lines = crash::expected(disks_fail);
        match is_green {
            true => assert_green("crash", &failing),
            false => assert_red("crash", &failing, "it is kept as"),
        }
    }
    let mut gone = with("");
    gone.plan.exits = vec![Exit {
        node: 1,
        status: "signal 11".to_owned(),
        expected: false,
    }];
    assert_red("crash", &gone, "node 1 ended with signal 11");
}

/// A run that has just enough of everything.
fn covered() -> String {
    let step = "{\"id\":1,\"nodes\":[1],\"on_leader\":true,\"outcome\":\"installed\"}";
    format!(
        "-1 phase calm\n0 > read k lease\n0 ok =- @0 n1\n-1 install kill {step}\n-1 heal kill {step}\n\
         -1 phase final\n0 > write k 1\n0 ok @1\n0 > read k lease\n0 ok =1 @1"
    )
}

/// The run of a tale, under a plan that demands all that [`covered`] has.
fn planned(tale: &str) -> Evidence {
    let mut run = evidence(tale, &[]);
    // A tale's words have no place for the level that was reached.
    for operation in &mut run.history.operations {
        operation.reached = operation.level.filter(|_| operation.answer().is_some());
    }
    let expect = &mut run.plan.expect;
    expect.operations = vec!["write".to_owned(), "read/lease".to_owned()];
    let once = Installs {
        times: 1,
        on_leader: 1,
    };
    expect.faults.insert("kill".to_owned(), once);
    expect.final_phase = true;
    expect.lease_served_min_percent = 50.0;
    expect.rate_min = 100.0;
    run
}

fn each_rule_of_coverage_can_fail() {
    let (tale, of) = (covered(), planned);
    assert_green("coverage", &of(&tale));
    let mut upgraded = of(&tale);
    upgraded.history.operations[0].reached = None;
    let with_snapshots = |output: &str, due: Snapshots| {
        let mut run = of(&tale);
        run.output.insert("n1.log".to_owned(), output.to_owned());
        run.plan.expect.snapshots = due;
        run.finals = ended([2, 2], ["d", "d"]).finals;
        run.finals[0].first = 1;
        run
    };
    let said = "made a snapshot in 3 ms\na snapshot comes in\nthe snapshot is installed\n";
    let due = |made, installed, purged| Snapshots {
        made,
        installed,
        purged,
    };
    assert_green("coverage", &with_snapshots(said, due(1, 1, false)));
    let mut slow = of(&tale);
    slow.plan.expect.rate_min = 1e6;
    let cases = [
        (of(&format!("{tale}\n-1 failure disk")), "disk"),
        (
            of(&tale.replace("installed", "skipped")),
            "kill: installed 0 times of 1",
        ),
        (
            of(&tale.replace("\"on_leader\":true", "\"on_leader\":false")),
            "kill: met the leader 0 times of 1",
        ),
        (
            of(&tale.replace("installed", "indeterminate")),
            "history index 3: kill",
        ),
        (
            of(&tale
                .replace("0 ok @1", "0 info")
                .replace("0 > read k lease\n0 ok =1", "7 > read k lease\n7 ok =1")),
            "no write was answered",
        ),
        (slow, "answers a second, due are 1000000.0"),
        (
            with_snapshots(said, due(2, 1, false)),
            "1 snapshots made of 2",
        ),
        (
            with_snapshots("", due(0, 1, false)),
            "0 snapshots installed of 1",
        ),
        (
            with_snapshots(said, due(1, 1, true)),
            "the log of node 2 was never purged",
        ),
        (upgraded, "0 % of 1 lease reads were served by a lease"),
        (
            of(&tale.replace("phase final", "phase other")),
            "there was no final phase",
        ),
        (
            of(&tale.replace("0 > read k lease\n0 ok =1 @1", "")),
            "k was not read at level lease",
        ),
    ];
    for (run, words) in &cases {
        assert_red("coverage", run, words);
    }
    assert!(
        cases.len() > coverage::RULES.len() + 2,
        "a rule without a case"
    );
}

fn a_promise_with_nothing_to_check_is_unknown() {
    let mut evidence = Evidence::default();
    let of = |evidence: &Evidence| judge(evidence, &crate::promises::Limits::default());
    assert!(is_green(&of(&evidence)));
    evidence.plan.expect.promises = vec!["bank".to_owned()];
    let judged: Vec<Judgement> = of(&evidence);
    assert!(!is_green(&judged));
    let bank = judged
        .iter()
        .find(|judgement| judgement.promise == "bank")
        .expect("it is asked");
    assert_eq!(bank.verdict.name(), "unknown");
}
