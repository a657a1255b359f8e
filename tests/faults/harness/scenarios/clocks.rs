//! The leader's clock runs slow and the others' fast, a fifth each.
//!
//! The leader thinks its lease lasts when those who promised it are already free. So it must not use all of it, and count it from
//! when it asked, not from when the answer came.

use std::thread;
use std::time::{Duration, Instant};

use super::{Scenario, Stage, Tried};
use crate::harness::http;
use crate::history::Level;

/// One voter was cut off first and wants to be elected; the other one's promise ends early by its fast clock.
pub(crate) struct FastFollowers;

/// The node whose clock is slow.
const SLOW: u64 = 1;

impl Scenario for FastFollowers {
    fn name(&self) -> &'static str {
        "fast-followers"
    }

    fn says(&self) -> &'static str {
        "a leader with a slow clock is cut off from voters with fast ones, of whom one wanted to lead before (libfaketime)"
    }

    fn rates(&self) -> &'static [u64] {
        &[81, 119, 119]
    }

    fn attempt(&self, stage: &mut Stage) -> anyhow::Result<Tried> {
        let (leader, others) = stage.cast()?;
        if leader != SLOW {
            return Ok(let_slow_lead(stage, leader));
        }
        let probe = stage.probe(leader)?;
        let (early, late) = (others[0], others[1]);
        stage.cut(&[(leader, early)]);
        // It hears nobody for a lease, then asks for votes every half to whole one: how far it is with that is chance.
        let wait = stage.part(200) + stage.chance(stage.part(75));
        thread::sleep(wait);
        if stage.nodes.leader().map(|(id, _)| id) != Some(leader) {
            stage.heal()?;
            return Ok(Tried::skipped("another node leads before it began"));
        }
        let reader = stage.target(leader);
        let writers = [stage.target(early), stage.target(late)];
        let window = stage.part(160);
        let cut = thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| probe.keep_reading(reader, Level::Lease));
            }
            for writer in writers {
                let probe = &probe;
                scope.spawn(move || probe.keep_writing(writer));
            }
            let (cut, since) = (probe.now(), Instant::now());
            stage.cut(&[(leader, late)]);
            thread::sleep(window.saturating_sub(since.elapsed()));
            probe.stop();
            cut
        });
        stage.heal()?;
        let seen = probe.seen();
        let led = seen.led_by_another(leader, cut);
        Ok(Tried {
            skipped: None,
            is_set: true,
            // By the leader's clock its lease was not over.
            is_reached: led.is_some_and(|led| led < stage.lease() * 100 / 81),
            told: seen.told(leader, cut),
            stale: seen.stale,
        })
    }
}

/// As [`FastFollowers`], and the other one's last answers come late.
pub(crate) struct LateAnswers;

impl Scenario for LateAnswers {
    fn name(&self) -> &'static str {
        "late-answers"
    }

    fn says(&self) -> &'static str {
        "the same, and the last promise of a voter reaches the leader late (libfaketime)"
    }

    fn rates(&self) -> &'static [u64] {
        // All that the margin of the lease allows, and no more.
        &[76, 124, 124]
    }

    fn heartbeat(&self) -> u32 {
        25
    }

    fn attempt(&self, stage: &mut Stage) -> anyhow::Result<Tried> {
        let (leader, others) = stage.cast()?;
        if leader != SLOW {
            return Ok(let_slow_lead(stage, leader));
        }
        let probe = stage.probe(leader)?;
        let (early, late) = (others[0], others[1]);
        stage.cut(&[(leader, early)]);
        let wait = stage.part(200) + stage.chance(stage.part(75));
        thread::sleep(wait);
        if stage.nodes.leader().map(|(id, _)| id) != Some(leader) {
            stage.heal()?;
            return Ok(Tried::skipped("another node leads before it began"));
        }
        let reader = stage.target(leader);
        let writers = [stage.target(early), stage.target(late)];
        // As long as that, by its slow clock, a leader waits for an answer.
        let patience = stage.nodes.pace().heartbeat;
        let cut = thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| probe.keep_reading(reader, Level::Lease));
            }
            for writer in writers {
                let probe = &probe;
                scope.spawn(move || probe.keep_writing(writer));
            }
            let since = Instant::now();
            stage.cut_ways(&[(late, leader)]);
            thread::sleep(patience * 7 / 10);
            let cut = probe.now();
            stage.cut_ways(&[(leader, late)]);
            thread::sleep(patience * 45 / 100);
            let healed = stage.nodes.net.heal(&[(late, leader)], false);
            healed.expect("proxies take every change");
            // What the voter says from now on is not to be heard.
            thread::sleep(Duration::from_millis(20));
            stage.cut_ways(&[(late, leader)]);
            thread::sleep(stage.part(160).saturating_sub(since.elapsed()));
            probe.stop();
            cut
        });
        stage.heal()?;
        let seen = probe.seen();
        let led = seen.led_by_another(leader, cut);
        Ok(Tried {
            skipped: None,
            is_set: true,
            is_reached: led.is_some_and(|led| led < stage.lease()),
            told: seen.told(leader, cut),
            stale: seen.stale,
        })
    }
}

/// Has the node with the slow clock lead at the next try.
fn let_slow_lead(stage: &Stage, leader: u64) -> Tried {
    let (body, path) = (format!("{{\"to\":{SLOW}}}"), "/v1/cluster/leader/transfer");
    let limit = Duration::from_secs(5);
    // Whether that came to pass is seen at the next try.
    let _ = http::ask(stage.target(leader).1, "POST", path, &body, limit);
    Tried::skipped("the node with the slow clock did not lead")
}
