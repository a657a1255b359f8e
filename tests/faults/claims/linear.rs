//! Linearizability: by hand, and against a second search.

use std::cell::Cell;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::history::{Answer, Event, History, Kind, Level, Operation};
use crate::promises::linear::{OfKey, of_key};
use crate::promises::{Limits, Verdict, linear};
use crate::run::Evidence;

use super::reports::sample;
use super::tale::{evidence, history};
use super::{Claim, assert_green, assert_red, claim, second};

/// Claims of this file.
pub(crate) const ALL: &[Claim] = &[
    claim!(a_read_may_see_a_write_that_overlaps_it_or_not),
    claim!(a_lost_write_is_caught),
    claim!(a_stale_read_is_caught_at_each_level_that_promises_it),
    claim!(a_value_from_nowhere_is_caught_at_every_level),
    claim!(a_write_that_failed_must_not_be_seen),
    claim!(reads_must_not_go_back_and_forth),
    claim!(a_refused_cas_observes_too),
    claim!(an_unknown_write_may_come_late_but_not_twice),
    claim!(absent_is_a_value),
    claim!(levels_are_judged_alone_and_together),
    claim!(a_search_out_of_time_is_unknown_and_red),
    claim!(three_searches_agree_on_small_histories),
    claim!(the_other_searches_agree_on_real_runs),
    claim!(follower_reads_of_real_runs_are_prefixes_of_the_log),
];

fn red(tale: &str, words: &str) {
    assert_red("linear", &evidence(tale, &[]), words);
}

fn green(tale: &str) {
    assert_green("linear", &evidence(tale, &[]));
}

fn a_read_may_see_a_write_that_overlaps_it_or_not() {
    for seen in ["1", "2"] {
        green(&format!(
            "0 > write k 1\n0 ok\n0 > write k 2\n1 > read k leader\n1 ok ={seen}\n0 ok"
        ));
    }
    red(
        "0 > write k 1\n0 ok\n0 > write k 2\n1 > read k leader\n1 ok =-\n0 ok",
        "after write of 1 to k",
    );
}

fn a_lost_write_is_caught() {
    let tale = "0 > write k 1\n0 ok\n0 > write k 2\n0 ok @2\n1 > read k leader\n1 ok =1";
    red(
        tale,
        "read of k = 1 [ok at 0.005 s, history index 4-5], after write of 2 to k [ok at 0.003 s, history index 2-3, log 2] was \
         acknowledged",
    );
    green(&tale.replace("=1", "=2"));
}

fn a_stale_read_is_caught_at_each_level_that_promises_it() {
    let tale = "0 > write k 1\n0 ok\n0 > write k 2\n0 ok\n1 > read k LEVEL\n1 ok =1";
    red(&tale.replace("LEVEL", "leader"), "leader read of k = 1");
    red(&tale.replace("LEVEL", "lease"), "lease read of k = 1");
    green(&tale.replace("LEVEL", "follower"));
}

fn a_value_from_nowhere_is_caught_at_every_level() {
    for level in Level::ALL {
        red(
            &format!("0 > write k 1\n0 ok\n1 > read k {level}\n1 ok =3"),
            "nobody wrote",
        );
        red(
            &format!("1 > read k {level}\n1 ok =3\n0 > write k 3\n0 ok"),
            "was not asked yet",
        );
        green(&format!("1 > read k {level}\n0 > write k 3\n1 ok =3\n0 ok"));
    }
}

fn a_write_that_failed_must_not_be_seen() {
    let tale = "0 > write k 1\n1 > read k leader\n1 ok =1\n0 END";
    red(&tale.replace("END", "fail"), "did not happen");
    green(&tale.replace("END", "info"));
    red(
        "0 > write k 1\n0 ok\n0 > cas k 2 3\n0 ok no\n1 > read k leader\n1 ok =3",
        "did not happen",
    );
}

fn reads_must_not_go_back_and_forth() {
    let tale = "0 > write k 1\n0 ok\n1 > write k 2\n0 > read k leader\n0 ok =2\n0 > read k leader\n0 ok =SECOND\n1 ok";
    red(&tale.replace("SECOND", "1"), "leader read of k = 1");
    green(&tale.replace("SECOND", "2"));
}

fn a_refused_cas_observes_too() {
    red(
        "0 > write k 1\n0 ok\n0 > cas k 1 2\n0 ok no",
        "no order explains cas of k from 1 to 2, refused",
    );
    green("0 > write k 1\n0 ok\n1 > write k 3\n0 > cas k 1 2\n0 ok no\n1 ok");
    // An unknown write, never seen, is what the cas met; but one cannot be there for two that expect its predecessors.
    green("0 > write k 1\n0 ok\n1 > write k 3\n1 info\n0 > cas k 1 2\n0 ok no");
    red(
        "0 > write k 1\n0 ok\n1 > write k 3\n1 info\n0 > cas k 1 2\n0 ok no\n0 > read k leader\n0 ok =1",
        "= 1",
    );
}

fn an_unknown_write_may_come_late_but_not_twice() {
    let tale = "1 > write k 9\n1 info\n0 > write k 1\n0 ok\n0 > read k leader\n0 ok =1\n0 > read k leader\n0 ok =9";
    green(tale);
    red(
        &format!("{tale}\n0 > write k 2\n0 ok\n0 > read k leader\n0 ok =9"),
        "leader read of k = 9",
    );
}

fn absent_is_a_value() {
    green("0 > read k leader\n0 ok =-\n0 > cas k - 1\n0 ok yes\n0 > read k leader\n0 ok =1");
    red(
        "0 > cas k - 1\n0 ok yes\n0 > read k leader\n0 ok =-",
        "read of k = absent",
    );
    red("0 > cas k - 1\n0 ok no", "refused");
}

/// Each of the two reads is right by itself; together they are not.
fn levels_are_judged_alone_and_together() {
    let tale = "0 > write k 1\n0 ok\n1 > write k 2\n0 > read k leader\n0 ok =2\n0 > read k lease\n0 ok =1\n1 ok";
    let history = history(tale);
    let operations: Vec<&Operation> = history.operations.iter().collect();
    let of =
        |levels: &[Level]| of_key(&operations, levels, Instant::now() + Duration::from_secs(9));
    assert!(matches!(of(&[Level::Leader]), OfKey::Linear));
    assert!(matches!(of(&[Level::Lease]), OfKey::Linear));
    assert!(matches!(
        of(&[Level::Leader, Level::Lease]),
        OfKey::Broken(_)
    ));
    red(tale, "lease read of k = 1");
}

/// Sixteen writes at once and a read of what none of them can have left: every order has to be tried.
fn a_search_out_of_time_is_unknown_and_red() {
    let mut tale: String = (0..16)
        .map(|process| format!("{process} > write k {process}\n"))
        .collect();
    tale.push_str("16 > cas k 90 91\n16 ok no\n");
    tale.extend((0..16).map(|process| format!("{process} ok\n")));
    tale.push_str("20 > write k 90\n20 ok\n21 > read k leader\n21 ok =3\n");
    let evidence = evidence(&tale, &[]);
    let verdict = (linear::PROMISE.check)(
        &evidence,
        &Limits {
            time: Duration::ZERO,
        },
    );
    assert!(
        matches!(&verdict, Verdict::Unknown { reason } if reason.contains("out of time")),
        "{verdict:?}"
    );
    assert!(!verdict.is_green());
}

/// Histories of one register from bytes: who moves, what it does, when it takes effect, and what it is told.
fn small_history(moves: &[(u8, u8, u8, u8)]) -> History {
    let mut writer = Writer::default();
    for (who, what, when, told) in moves {
        writer.step(i64::from(who % 4), *what, *when, *told);
    }
    History::from_events("drawn", writer.events).expect("drawn histories keep the format")
}

#[derive(Default)]
struct Writer {
    events: Vec<Event>,
    state: Option<i64>,
    /// Every value asked to be written, 0 standing for absent.
    values: Vec<i64>,
    /// By lane: its process, and the open operation with what it was told when it took effect early.
    lanes: [Lane; 4],
    retired: i64,
}

#[derive(Default, Clone)]
struct Lane {
    generation: i64,
    open: Option<(Event, Option<Event>)>,
}

impl Writer {
    fn step(&mut self, lane: i64, what: u8, when: u8, told: u8) {
        let at = usize::try_from(lane).expect("below four");
        let process = lane + 4 * self.lanes[at].generation;
        match self.lanes[at].open.take() {
            None => {
                let begun = self.begin(process, what);
                // A part takes effect at once, the others when they end.
                let early = when.is_multiple_of(2).then(|| self.effect(&begun, told));
                self.push(begun.clone());
                self.lanes[at].open = Some((begun, early));
            }
            Some((begun, early)) => {
                let end = match when % 16 {
                    0..3 => {
                        self.lanes[at].generation += 1;
                        self.retired += 1;
                        Event {
                            kind: Kind::Info,
                            ..bare(&begun)
                        }
                    }
                    3 if early.is_none() => Event {
                        kind: Kind::Fail,
                        ..bare(&begun)
                    },
                    _ => early.unwrap_or_else(|| self.effect(&begun, told)),
                };
                self.push(end);
            }
        }
    }

    fn push(&mut self, mut event: Event) {
        event.index = self.events.len() as u64;
        event.time = event.index;
        self.events.push(event);
    }

    fn begin(&mut self, process: i64, what: u8) -> Event {
        let new = i64::try_from(self.values.len()).expect("few") + 1;
        let f = ["read", "write", "cas", "cas", "read"][usize::from(what % 5)];
        let mut event = Event::new(process, Kind::Invoke, f);
        event.key = Some("k".to_owned());
        match f {
            "read" => event.level = Some(Level::Leader),
            "write" => event.value = new.into(),
            _ => {
                let old = match what / 5 % 4 {
                    0 | 1 => self.state,
                    2 => self.values.last().copied(),
                    _ => self.values.first().copied(),
                };
                event.value = serde_json::json!([old, new]);
            }
        }
        if f != "read" {
            event.op = Some(format!("o{new}"));
            self.values.push(new);
        }
        event
    }

    /// The effect, and the answer, which is now and then a lie.
    fn effect(&mut self, begun: &Event, told: u8) -> Event {
        let mut end = Event {
            kind: Kind::Ok,
            ..bare(begun)
        };
        let is_lie = told.is_multiple_of(12);
        match begun.f.as_str() {
            "read" => {
                let other = self
                    .values
                    .get(usize::from(told / 12) % self.values.len().max(1))
                    .copied();
                end.value = serde_json::json!(if is_lie { other } else { self.state });
            }
            "write" => self.state = begun.value.as_i64().filter(|_| !is_lie).or(self.state),
            _ => {
                let is_met = begun.value[0].as_i64() == self.state;
                if is_met {
                    self.state = begun.value[1].as_i64();
                }
                end.result = Some(is_met != is_lie);
            }
        }
        end
    }
}

fn bare(begun: &Event) -> Event {
    Event {
        value: serde_json::Value::Null,
        level: None,
        ..begun.clone()
    }
}

/// A read at level follower answers what the log has at the index it names; of the mutant, which says the index that it has then, too.
/// What the checkers say of such reads is not looked at.
fn follower_reads_of_real_runs_are_prefixes_of_the_log() {
    for name in ["real", "mutant"] {
        let mut evidence = Evidence::load(&sample(name)).expect("the sample keeps the format");
        let (right, wrong) = second::prefixes(&evidence);
        assert_eq!(wrong, Vec::<String>::new(), "{name}");
        assert!(right >= 100, "{name}: {right} reads");
        let reads = evidence.history.operations.iter_mut();
        let mut reads = reads.filter(|read| read.level == Some(Level::Follower));
        let saw = reads.find(|read| matches!(read.answer(), Some(Answer::Register(Some(_)))));
        saw.expect("a read that saw something").applied = Some(0);
        assert!(!second::prefixes(&evidence).1.is_empty(), "{name}");
    }
}

/// Real runs: `real` of the program as it is, `mutant` of one that answers every read at once, from any node.
fn the_other_searches_agree_on_real_runs() {
    for (name, is_green) in [("real", true), ("mutant", false)] {
        let evidence = Evidence::load(&sample(name)).expect("the sample keeps the format");
        let (mut judged, mut broken) = (0, 0);
        for (key, operations) in evidence.history.by_key() {
            let operations: Vec<&Operation> = operations
                .into_iter()
                .filter(|operation| linear::is_of_register(operation))
                .collect();
            for levels in linear::levels_of(&operations) {
                let chosen = linear::at_levels(&operations, &levels);
                let deadline = Instant::now() + Limits::default().time;
                let ours = match of_key(&operations, &levels, deadline) {
                    OfKey::Linear => true,
                    OfKey::Broken(_) => false,
                    OfKey::Unknown => panic!("{name}: no verdict about {key}"),
                };
                let theirs = second::is_linear_by_another(&chosen);
                assert_eq!(ours, theirs, "{name}: key {key}, {levels:?}");
                let second = second::is_linear(&chosen);
                assert_eq!(ours, second, "{name}: key {key}, {levels:?}, the second");
                judged += 1;
                broken += usize::from(!ours);
            }
        }
        assert!(judged >= 6, "{name}: {judged} judged");
        assert_eq!(broken == 0, is_green, "{name}: {broken} of {judged} broken");
    }
}

fn three_searches_agree_on_small_histories() {
    let config = Config {
        cases: 6000,
        failure_persistence: None,
        ..Config::default()
    };
    let counts = Cell::new((0, 0));
    let moves = vec((any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>()), 4..26);
    let result = TestRunner::new(config).run(&moves, |moves| {
        let history = small_history(&moves);
        let operations: Vec<&Operation> = history.operations.iter().collect();
        let evidence = Evidence {
            history: history.clone(),
            ..Default::default()
        };
        let ours = (linear::PROMISE.check)(&evidence, &Limits::default()).is_green();
        let theirs = second::is_linear(&operations);
        if second::is_linear_by_another(&operations) != theirs {
            return Err(TestCaseError::fail("the two others do not agree"));
        }
        let (linear, broken) = counts.get();
        counts.set(if theirs {
            (linear + 1, broken)
        } else {
            (linear, broken + 1)
        });
        if ours == theirs {
            Ok(())
        } else {
            let told: Vec<String> = history.operations.iter().map(Operation::told).collect();
            Err(TestCaseError::fail(format!("we say {ours}: {told:#?}")))
        }
    });
    assert!(result.is_ok(), "{}", result.expect_err("it is not ok"));
    let (linear, broken) = counts.get();
    // About a sixth is not, as the dice fall.
    assert!(
        linear > 500 && broken > 500,
        "one-sided: {linear} linear, {broken} not"
    );
}
