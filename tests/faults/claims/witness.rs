//! The witness: each thing that it must not accept, and the legal neighbour.

use super::tale::evidence;
use super::{Claim, assert_green, assert_red, claim};

/// Claims of this file.
pub(crate) const ALL: &[Claim] = &[
    claim!(nodes_must_agree_on_every_index),
    claim!(a_node_may_be_behind_or_begin_late_but_not_skip),
    claim!(what_was_acknowledged_is_in_the_log_once),
    claim!(a_retry_is_recognised_and_answered_as_before),
    claim!(what_failed_is_in_no_log),
    claim!(what_is_unknown_is_there_at_most_once),
    claim!(the_log_carries_what_was_asked_and_nothing_else),
    claim!(an_answer_is_the_one_in_the_log),
    claim!(the_model_explains_every_result),
    claim!(the_order_of_the_log_is_not_against_real_time),
    claim!(a_fresh_read_is_not_below_what_was_shown_before_it_began),
    claim!(a_read_shows_exactly_its_prefix),
    claim!(no_read_sees_what_was_not_asked_yet),
    claim!(one_client_does_not_go_back_at_one_node),
    claim!(a_demanded_index_is_seen),
    claim!(a_bound_on_age_holds),
    claim!(several_commands_may_share_an_entry),
    claim!(the_bank_the_set_and_the_lists_are_replayed),
    claim!(without_logs_nothing_is_known),
];

fn red(tale: &str, logs: &[&str], words: &str) {
    assert_red("witness", &evidence(tale, logs), words);
}

fn green(tale: &str, logs: &[&str]) {
    assert_green("witness", &evidence(tale, logs));
}

const TWO_WRITES: &str = "0 > write k 1\n0 ok @1\n0 > write k 2\n0 ok @2";

fn nodes_must_agree_on_every_index() {
    green(TWO_WRITES, &["1 o0\n2 o1", "1 o0\n2 o1"]);
    red(
        TWO_WRITES,
        &["1 o0\n2 o1", "1 o1\n2 o0"],
        "log index 1: node 1 applied write k 1",
    );
}

fn a_node_may_be_behind_or_begin_late_but_not_skip() {
    let tale = format!("{TWO_WRITES}\n0 > write k 3\n0 ok @3");
    green(&tale, &["1 o0\n2 o1\n3 o2", "1 o0"]);
    green(&tale, &["1 o0\n2 o1\n3 o2", "3 o2"]);
    red(
        &tale,
        &["1 o0\n2 o1\n3 o2", "1 o0\n3 o2"],
        "log index 2: node 1 applied write k 2 (op o1, term 1), node 2 nothing",
    );
}

fn what_was_acknowledged_is_in_the_log_once() {
    red(
        TWO_WRITES,
        &["1 o0"],
        "write of 2 to k [ok at 0.003 s, history index 2-3, log 2] was acknowledged and is in no log: lost",
    );
    red(
        TWO_WRITES,
        &["1 o0\n2 o1\n3 o1"],
        "was applied twice, at log indexes 2 and 3",
    );
}

fn a_retry_is_recognised_and_answered_as_before() {
    green(TWO_WRITES, &["1 o0\n2 o1\n3 o1 dup"]);
    red(
        TWO_WRITES,
        &["1 o0 dup\n2 o1"],
        "of which there is no original",
    );
    let tale = "0 > cas k - 1\n0 ok yes @1";
    green(tale, &["1 o0 yes\n2 o0 yes dup"]);
    green(&tale.replace("@1", "@2"), &["1 o0 yes\n2 o0 yes dup"]);
    red(tale, &["1 o0 yes\n2 o0 no dup"], "but the original is");
}

fn what_failed_is_in_no_log() {
    let tale = "0 > write k 1\n0 END";
    red(
        &tale.replace("END", "fail"),
        &["1 o0"],
        "is said not to have happened, but was applied at log index 1",
    );
    green(&tale.replace("END", "info"), &["1 o0"]);
}

fn what_is_unknown_is_there_at_most_once() {
    let tale = "0 > write k 1\n0 info";
    green(tale, &["1 o0\n2 o0 dup"]);
    green(tale, &[""]);
    red(tale, &["1 o0\n2 o0"], "was applied twice");
}

fn the_log_carries_what_was_asked_and_nothing_else() {
    let mut other = evidence(TWO_WRITES, &["1 o0\n2 o1"]);
    other.logs[0].entries[1].value = 7.into();
    assert_red("witness", &other, "but asked was write of 2 to k");
    let mut stray = evidence(TWO_WRITES, &["1 o0\n2 o1"]);
    stray.logs[0].entries[1].op = "nobody".to_owned();
    assert_red("witness", &stray, "which nobody asked for");
}

fn an_answer_is_the_one_in_the_log() {
    red(
        "0 > cas k - 1\n0 ok no @1",
        &["1 o0 yes"],
        "was answered false, the log has",
    );
    red(
        &TWO_WRITES.replace("@2", "@3"),
        &["1 o0\n2 o1"],
        "was answered with log index 3, but it was applied at 2",
    );
}

fn the_model_explains_every_result() {
    let tale = "0 > write k 1\n0 ok @1\n0 > cas k 1 2\n0 ok ANSWER @2";
    green(&tale.replace("ANSWER", "yes"), &["1 o0\n2 o1 yes"]);
    red(
        &tale.replace("ANSWER", "no"),
        &["1 o0\n2 o1 no"],
        "the model says true",
    );
}

fn the_order_of_the_log_is_not_against_real_time() {
    let logs = &["1 o1\n2 o0"];
    red(
        "0 > write k 1\n0 ok @2\n0 > write k 2\n0 ok @1",
        logs,
        "which was over before it began",
    );
    green("0 > write k 1\n1 > write k 2\n0 ok @2\n1 ok @1", logs);
    // Keys of their own do not help: all together is one order.
    red(
        "0 > write j 1\n0 ok @2\n0 > write k 2\n0 ok @1",
        logs,
        "which was over before it began",
    );
}

fn a_fresh_read_is_not_below_what_was_shown_before_it_began() {
    let tale = "0 > write k 1\n0 ok @1\n0 > write j 2\n0 ok @2\n1 > read k LEVEL\n1 ok =1 @1";
    let logs = &["1 o0\n2 o1"];
    red(
        &tale.replace("LEVEL", "leader"),
        logs,
        "saw the state at 1, though write of 2 to j",
    );
    red(&tale.replace("LEVEL", "lease"), logs, "stale");
    green(&tale.replace("LEVEL", "follower"), logs);
    green(
        &tale.replace("LEVEL", "leader").replace("=1 @1", "=1 @2"),
        logs,
    );
    // What a follower has applied is committed, so a fresh read must not be behind it either.
    let shown =
        "0 > write k 1\n1 > read k follower\n1 ok =1 @1 n2\n1 > read k leader\n1 ok =SEEN\n0 ok @1";
    red(&shown.replace("SEEN", "- @0"), &["1 o0"], "stale");
    green(&shown.replace("SEEN", "1 @1"), &["1 o0"]);
}

fn a_read_shows_exactly_its_prefix() {
    let tale = "0 > write k 1\n0 ok @1\n0 > write k 2\n0 ok @2\n1 > read k follower\n1 ok =SEEN n1";
    let logs = &["1 o0\n2 o1"];
    green(&tale.replace("SEEN", "1 @1"), logs);
    green(&tale.replace("SEEN", "- @0"), logs);
    green(&tale.replace("SEEN", "2 @9"), logs);
    red(
        &tale.replace("SEEN", "2 @1"),
        logs,
        "but at that index k = 1",
    );
    red(
        &tale.replace("SEEN", "1 @2"),
        logs,
        "but at that index k = 2",
    );
    red(
        &tale.replace("SEEN", "1"),
        logs,
        "does not say which index it saw",
    );
    // Reordered: the second entry without the first.
    let two_keys =
        "0 > write a 1\n1 > write b 2\n0 ok @1\n1 ok @2\n2 > read b follower\n2 ok =SEEN @1 n3";
    red(
        &two_keys.replace("SEEN", "2"),
        logs,
        "but at that index b = absent",
    );
    green(&two_keys.replace("SEEN", "-"), logs);
}

fn no_read_sees_what_was_not_asked_yet() {
    let tale = "1 > read k follower\n1 ok =SEEN n1\n0 > write j 1\n0 ok @1";
    red(
        &tale.replace("SEEN", "- @1"),
        &["1 o0"],
        "which was not asked for yet",
    );
    green(&tale.replace("SEEN", "- @0"), &["1 o0"]);
}

fn one_client_does_not_go_back_at_one_node() {
    let tale = "0 > write k 1\n0 ok @1\n1 > read k follower\n1 ok =1 @1 n2\n1 > read k follower\n1 ok =- @0 n";
    red(&format!("{tale}2"), &["1 o0"], "process 1 at node 2");
    green(&format!("{tale}3"), &["1 o0"]);
}

fn a_demanded_index_is_seen() {
    let tale = "0 > write k 1\n0 ok @1\n0 > read k follower min=1\n0 ok =SEEN n2";
    red(
        &tale.replace("SEEN", "- @0"),
        &["1 o0"],
        "demanded to see index 1",
    );
    green(&tale.replace("SEEN", "1 @1"), &["1 o0"]);
}

fn a_bound_on_age_holds() {
    // Written at 1 ms, not seen by a read that begins at 4 ms: at least 3 ms old.
    let tale = "0 > write k 1\n0 ok @1\n-1 phase a\n-1 phase b\n1 > read k follower max=BOUND\n1 ok =- @0 n2";
    red(
        &tale.replace("BOUND", "2"),
        &["1 o0"],
        "is 3 ms old, its bound is 2 ms: it misses write of 1 to k",
    );
    green(&tale.replace("BOUND", "3"), &["1 o0"]);
}

fn several_commands_may_share_an_entry() {
    let tale = "0 > write k 1\n1 > write k 2\n0 ok @1\n1 ok @1\n2 > read k leader\n2 ok =SEEN @1";
    green(&tale.replace("SEEN", "2"), &["1 o0\n1 o1"]);
    red(
        &tale.replace("SEEN", "1"),
        &["1 o0\n1 o1"],
        "but at that index k = 2",
    );
}

fn the_bank_the_set_and_the_lists_are_replayed() {
    let bank = "-1 accounts {\"balances\":{\"a\":5,\"b\":0}}\n0 > transfer a b 4\n0 ok yes @1\n0 > transfer a b 4\n0 ok SECOND @2\n1 > read * leader\n1 ok =READ @2";
    let sound = bank
        .replace("SECOND", "no")
        .replace("READ", "{\"a\":1,\"b\":4}");
    green(&sound, &["1 o0 yes\n2 o1 no"]);
    red(
        &bank
            .replace("SECOND", "yes")
            .replace("READ", "{\"a\":-3,\"b\":8}"),
        &["1 o0 yes\n2 o1 yes"],
        "the model says false",
    );
    // Conserved, nobody owes, and yet wrong: what a transfer that was done twice looks like.
    red(
        &sound.replace("{\"a\":1,\"b\":4}", "{\"a\":5,\"b\":0}"),
        &["1 o0 yes\n2 o1 no"],
        "but at that index a = 1",
    );
    let set = "0 > add s 1\n0 ok @1\n1 > read s follower\n1 ok =SEEN @1 n1";
    green(&set.replace("SEEN", "[1]"), &["1 o0"]);
    red(&set.replace("SEEN", "[]"), &["1 o0"], "1 is in the set");
    red(
        &set.replace("SEEN", "[1,1]"),
        &["1 o0"],
        "each element once",
    );
    let list = "0 > txn [[\"append\",\"x\",1],[\"r\",\"x\",null]]\n0 ok =[[\"append\",\"x\",1],[\"r\",\"x\",SEEN]] @1";
    green(
        &list.replace("SEEN", "[1]"),
        &["1 o0 [[\"append\",\"x\",1],[\"r\",\"x\",[1]]]"],
    );
    red(
        &list.replace("SEEN", "[]"),
        &["1 o0 [[\"append\",\"x\",1],[\"r\",\"x\",[]]]"],
        "the model says",
    );
}

fn without_logs_nothing_is_known() {
    let verdict = super::verdict("witness", &evidence(TWO_WRITES, &[]));
    assert_eq!(verdict.name(), "unknown");
}
