//! The leader hands its leadership over and does not hear that it was taken.
//!
//! A transfer is the one election that need not wait for the end of a lease: the leader itself asks for it. So it must give
//! its lease up before it asks.

use std::thread;
use std::time::Duration;

use super::{Scenario, Stage, Tried};
use crate::harness::http;
use crate::history::Level;

/// See the module.
pub(crate) struct DeafTransfer;

impl Scenario for DeafTransfer {
    fn name(&self) -> &'static str {
        "deaf-transfer"
    }

    fn says(&self) -> &'static str {
        "the leader hands over to a node that it does not hear any more, and is asked to read"
    }

    fn attempt(&self, stage: &mut Stage) -> anyhow::Result<Tried> {
        let (leader, others) = stage.cast()?;
        let heir = others[0];
        let probe = stage.probe(leader)?;
        let (reader, writer) = (stage.target(leader), stage.target(heir));
        let body = format!("{{\"to\":{heir}}}");
        let handed = thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| probe.keep_reading(reader, Level::Lease));
            }
            scope.spawn(|| probe.keep_writing(writer));
            thread::sleep(Duration::from_millis(30));
            stage.cut_ways(&[(heir, leader)]);
            let handed = probe.now();
            let path = "/v1/cluster/leader/transfer?timeout=1s";
            // It cannot hear how that ended.
            let _ = http::ask(reader.1, "POST", path, &body, Duration::from_secs(2));
            thread::sleep(
                stage
                    .part(75)
                    .saturating_sub(probe.now().saturating_sub(handed)),
            );
            probe.stop();
            handed
        });
        stage.heal()?;
        let seen = probe.seen();
        // Only the heir is written to.
        let led = seen.led_by_another(leader, handed);
        Ok(Tried {
            skipped: None,
            is_set: true,
            is_reached: led.is_some_and(|led| led < stage.part(60)),
            told: seen.told(leader, handed),
            stale: seen.stale,
        })
    }
}
