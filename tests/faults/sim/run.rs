//! A run: clients at work while faults come and go as the seed has it; then all is healed, and the cluster must get on.

use super::Played;
use super::clients::Client;
use super::nemesis::Nemesis;
use super::stage::Stage;
use crate::history::Happening;
use crate::random::Random;

/// How long faults come and go, in simulated milliseconds.
const FAULTS_MS: u64 = 8_000;
/// How long clients work before.
const CALM_MS: u64 = 300;

/// Plays a seed.
pub(crate) fn play(seed: u64) -> Played {
    let mut random = Random::new(seed);
    let count = *random.pick(&[3_u64, 3, 3, 5]);
    let is_skewed = random.percent(50);
    let clocks = (0..count).map(|_| match is_skewed {
        // Any two of them apart by no more than lease reads allow for.
        true => (
            random.between(900, 1081),
            i64::try_from(random.below(8_000)).expect("small") - 4_000,
        ),
        false => (1_000, 0),
    });
    let clocks = clocks.collect();
    let mut stage = match Stage::new(seed, random, clocks) {
        Ok(stage) => stage,
        Err(why) => return Played::nothing(why),
    };
    let outcome = perform(&mut stage);
    stage.played(outcome, true)
}

fn perform(stage: &mut Stage) -> Result<(), String> {
    let ids = stage.world.ids();
    for id in &ids {
        let reader = Client::new(stage, Some(*id), true).reading();
        let writer = Client::new(stage, None, true);
        let settled = Client::new(stage, Some(*id), true);
        stage.clients.extend([reader, writer, settled]);
    }
    stage.pass(CALM_MS)?;
    stage.say(&Happening::Phase("faults".to_owned()));
    let mut nemesis = Nemesis::new(stage);
    let until = stage.now_ms() + FAULTS_MS;
    while stage.now_ms() < until {
        nemesis.look(stage)?;
        stage.tick()?;
    }
    nemesis.end(stage)?;
    stage.heal()?;
    stage.finish()
}
