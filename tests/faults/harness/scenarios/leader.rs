//! The leader is killed under load and starts again before anybody misses it.
//!
//! On its disk it finds that it leads. What it acknowledged last it may not have applied yet, and what it sent last it may
//! not have on its disk: whoever reads from it at once must see all that was acknowledged, and no log index may be given out twice.
//! If another leads instead, the same holds for whoever reads there before its first entry is committed.

use std::thread;
use std::time::{Duration, Instant};

use super::probe::ms;
use super::{Scenario, Stage, Tried};
use crate::history::Level;

/// See the module.
pub(crate) struct RestartedLeader;

impl Scenario for RestartedLeader {
    fn name(&self) -> &'static str {
        "restarted-leader"
    }

    fn says(&self) -> &'static str {
        "the leader is killed under load and starts again at once, and every node is asked to read at once"
    }

    fn attempt(&self, stage: &mut Stage) -> anyhow::Result<Tried> {
        let (leader, others) = stage.cast()?;
        let probe = stage.probe(leader)?;
        let restarted = stage.target(leader);
        let mut writers: Vec<_> = others.iter().map(|id| stage.target(*id)).collect();
        writers.extend([restarted; 4]);
        let load = Duration::from_millis(100) + stage.chance(Duration::from_millis(200));
        let is_long = stage.random.percent(25);
        let window = stage.part(if is_long { 225 } else { 75 });
        let back = thread::scope(|scope| -> anyhow::Result<_> {
            for level in [Level::Lease, Level::Leader] {
                for id in std::iter::once(&leader).chain(&others) {
                    let (probe, reader) = (&probe, stage.target(*id));
                    scope.spawn(move || probe.keep_reading(reader, level));
                }
            }
            for writer in &writers {
                scope.spawn(|| probe.keep_writing(*writer));
            }
            let played = (|| {
                thread::sleep(load);
                let since = Instant::now();
                stage.restart(&[leader])?;
                let back = stage.back(&[leader], since)?;
                thread::sleep(window.saturating_sub(since.elapsed()));
                Ok(back)
            })();
            probe.stop();
            played
        })?;
        stage.heal()?;
        let seen = probe.seen();
        Ok(Tried {
            skipped: None,
            is_set: back < stage.part(50),
            is_reached: back < stage.part(50),
            told: format!("back after {}, {} reads answered", ms(back), seen.reads),
            stale: seen.stale,
        })
    }
}
