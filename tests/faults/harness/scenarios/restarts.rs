//! Voters restart inside the lease of a leader that is cut off from them.
//!
//! A leader answers lease reads because a majority promised to help nobody else to lead before its lease ends. The promise
//! lives in memory. A voter that is killed and comes back within the lease has forgotten it, and unless something else keeps
//! it from voting, a second leader takes writes while the first still answers reads.

use std::thread;
use std::time::Instant;

use super::probe::ms;
use super::{Scenario, Stage, Tried};
use crate::history::Level;

/// One voter was cut off first and wants to be elected; the other one, whose promise kept it from that, restarts.
pub(crate) struct BridgeRestart;

/// Both voters restart.
pub(crate) struct BothRestart;

impl Scenario for BridgeRestart {
    fn name(&self) -> &'static str {
        "bridge-restart"
    }

    fn says(&self) -> &'static str {
        "one voter is cut off and wants to lead; then the leader is cut off and the voter that kept it from that restarts"
    }

    fn attempt(&self, stage: &mut Stage) -> anyhow::Result<Tried> {
        let (leader, others) = stage.cast()?;
        stage_restart(stage, leader, &others, &others[1..])
    }
}

impl Scenario for BothRestart {
    fn name(&self) -> &'static str {
        "both-restart"
    }

    fn says(&self) -> &'static str {
        "the leader is cut off and both voters restart"
    }

    fn attempt(&self, stage: &mut Stage) -> anyhow::Result<Tried> {
        let (leader, others) = stage.cast()?;
        stage_restart(stage, leader, &others, &others)
    }
}

/// Cuts `leader` off and restarts some of the `others`. Those that are not restarted were cut from it long before.
///
/// Nothing is written in between: a voter that lacks entries of the one that restarts would not be elected by it.
fn stage_restart(
    stage: &mut Stage,
    leader: u64,
    others: &[u64],
    restarted: &[u64],
) -> anyhow::Result<Tried> {
    let probe = stage.probe(leader)?;
    let early = others.iter().filter(|id| !restarted.contains(id));
    let early: Vec<(u64, u64)> = early.map(|id| (leader, *id)).collect();
    if !early.is_empty() {
        stage.cut(&early);
        // It hears nobody for a lease, then asks for votes every half to whole one: how far it is with that is chance.
        let wait = stage.part(200) + stage.chance(stage.part(75));
        thread::sleep(wait);
    }
    if stage.nodes.leader().map(|(id, _)| id) != Some(leader) {
        return Ok(Tried::skipped("another node leads before it began"));
    }
    let rest: Vec<(u64, u64)> = restarted.iter().map(|id| (leader, *id)).collect();
    let reader = stage.target(leader);
    let writers: Vec<_> = others.iter().map(|id| stage.target(*id)).collect();
    // Now and then on until another may lead in any case.
    let is_long = stage.random.percent(25);
    let window = stage.part(if is_long { 225 } else { 90 });
    let (cut, back) = thread::scope(|scope| -> anyhow::Result<_> {
        for _ in 0..2 {
            scope.spawn(|| probe.keep_reading(reader, Level::Lease));
        }
        for writer in &writers {
            scope.spawn(|| probe.keep_writing(*writer));
        }
        let played = (|| {
            let (cut, since) = (probe.now(), Instant::now());
            stage.cut(&rest);
            stage.restart(restarted)?;
            let back = stage.back(restarted, since)?;
            thread::sleep(window.saturating_sub(since.elapsed()));
            Ok((cut, back))
        })();
        probe.stop();
        played
    })?;
    stage.heal()?;
    let seen = probe.seen();
    let led = seen.led_by_another(leader, cut);
    Ok(Tried {
        skipped: None,
        is_set: back < stage.part(60),
        is_reached: led.is_some_and(|led| led < stage.part(60)),
        told: format!("back after {}, {}", ms(back), seen.told(leader, cut)),
        stale: seen.stale,
    })
}
