//! The leader's clock runs slow and the others' fast, a fifth each.
//!
//! The leader thinks its lease lasts when those who promised it are already free. So it must not use all of it.

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
            let (body, path) = (format!("{{\"to\":{SLOW}}}"), "/v1/cluster/leader/transfer");
            let limit = Duration::from_secs(5);
            // Whether that came to pass is seen at the next try.
            let _ = http::ask(stage.target(leader).1, "POST", path, &body, limit);
            return Ok(Tried::skipped("the node with the slow clock did not lead"));
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
