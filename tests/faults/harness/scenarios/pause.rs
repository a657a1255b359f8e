//! The leader is frozen for longer than its lease, while reads wait at its door.
//!
//! When it goes on it knows nothing of the leader that was elected meanwhile, and the first thing it finds is reads.

use std::thread;
use std::time::{Duration, Instant};

use super::probe::ms;
use super::{Scenario, Stage, Tried};
use crate::harness::http::Connection;
use crate::history::Level;

/// See the module.
pub(crate) struct PausedLeader;

/// Reads that wait at the door.
const WAITING: u32 = 12;
/// How long they wait.
const PATIENCE: Duration = Duration::from_secs(8);

impl Scenario for PausedLeader {
    fn name(&self) -> &'static str {
        "paused-leader"
    }

    fn says(&self) -> &'static str {
        "the leader is frozen beyond its lease, others lead and write, and it wakes up to reads that waited for it"
    }

    fn attempt(&self, stage: &mut Stage) -> anyhow::Result<Tried> {
        let (leader, others) = stage.cast()?;
        let probe = stage.probe(leader)?;
        let reader = stage.target(leader);
        let writers: Vec<_> = others.iter().map(|id| stage.target(*id)).collect();
        let frozen = stage.part(200) + stage.chance(stage.part(100));
        let probe_at = |level: Level, after: Duration| {
            let probe = &probe;
            move || {
                let mut connection = Connection::default();
                thread::sleep(after);
                probe.read(reader, &mut connection, level, PATIENCE);
            }
        };
        let woken = thread::scope(|scope| -> anyhow::Result<_> {
            for _ in 0..2 {
                scope.spawn(|| probe.keep_reading(reader, Level::Lease));
            }
            for writer in &writers {
                scope.spawn(|| probe.keep_writing(*writer));
            }
            let played = (|| {
                thread::sleep(Duration::from_millis(50));
                let began = Instant::now();
                stage.nodes.pause(leader, true)?;
                for number in 0..WAITING {
                    let after = frozen * number / WAITING;
                    let level = if number % 4 == 0 {
                        Level::Leader
                    } else {
                        Level::Lease
                    };
                    scope.spawn(probe_at(level, after));
                }
                thread::sleep(frozen.saturating_sub(began.elapsed()));
                let woken = probe.now();
                stage.nodes.pause(leader, false)?;
                thread::sleep(Duration::from_millis(400));
                Ok(woken)
            })();
            probe.stop();
            played
        })?;
        stage.heal()?;
        let seen = probe.seen();
        let led = seen.led_by_another(leader, Duration::ZERO);
        Ok(Tried {
            skipped: None,
            is_set: true,
            is_reached: led.is_some_and(|led| led < woken),
            told: format!("frozen for {}, {} reads answered", ms(frozen), seen.reads),
            stale: seen.stale,
        })
    }
}
