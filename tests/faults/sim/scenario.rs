//! Steps taken on purpose, with everything that is left to chance drawn from the seed.

use super::clients::{Client, Planned};
use super::stage::{Stage, options};
use super::{Play, Played};
use crate::history::{Call, Level};
use crate::random::Random;

/// Every scenario.
const ALL: &[(&str, Play)] = &[("bridge-restart", bridge_restart)];

/// The scenario of that name.
pub(crate) fn named(name: &str) -> Option<Play> {
    ALL.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, play)| *play)
}

/// What all clients of a scenario read and write.
const KEY: &str = "p";

/// One voter is cut off and wants to lead; then the leader is cut off, and the voter that kept it from that restarts within
/// the lease. Nobody may read from the old leader what a new one has changed.
fn bridge_restart(seed: u64) -> Played {
    let mut stage = match Stage::new(seed, Random::new(seed), vec![(1_000, 0); 3]) {
        Ok(stage) => stage,
        Err(why) => return Played::nothing(why),
    };
    let mut is_set = false;
    let outcome = perform(&mut stage, &mut is_set);
    stage.played(outcome, is_set)
}

fn perform(stage: &mut Stage, is_set: &mut bool) -> Result<(), String> {
    let lease_ms = u64::try_from(options().election_max.as_millis()).expect("small");
    let leads = |stage: &Stage| {
        stage
            .world
            .ids()
            .into_iter()
            .find(|id| stage.world.leads(*id))
    };
    stage.until(5_000, |stage| leads(stage).is_some())?;
    let leader = leads(stage).ok_or("nobody leads")?;
    let mut others: Vec<u64> = stage.world.ids();
    others.retain(|id| *id != leader);
    if stage.random.percent(50) {
        others.reverse();
    }
    let (wants, restarts) = (others[0], others[1]);
    write(stage, leader)?;
    stage.pass(200)?;
    stage.install("bridge", &[leader, wants]);
    stage.set_cut(leader, wants, true);
    // It hears nobody for a lease, then asks for votes every half to whole one: how far it is with that is chance.
    let wait_ms = 2 * lease_ms + stage.random.below(lease_ms * 3 / 4);
    stage.pass(wait_ms)?;
    let still_leads = stage.world.leads(leader);
    for _ in 0..2 {
        let reader = Client::new(stage, Some(leader), true)
            .reading()
            .only(KEY, Level::Lease);
        stage.clients.push(reader);
    }
    for id in [wants, restarts] {
        let writer = Client::new(stage, Some(id), true).only(KEY, Level::Leader);
        stage.clients.push(writer);
    }
    stage.install("partition", &[leader]);
    stage.set_cut(leader, restarts, true);
    stage.install("kill", &[restarts]);
    stage.world.kill(restarts);
    let back_ms = stage.random.between(1, 100);
    stage.pass(back_ms)?;
    stage.world.start(restarts)?;
    *is_set = still_leads;
    let is_long = stage.random.percent(25);
    stage.pass(lease_ms * if is_long { 225 } else { 90 } / 100)?;
    stage.heal()?;
    stage.finish()
}

/// One write that is answered. An answer may be lost; some attempts will do.
fn write(stage: &mut Stage, node: u64) -> Result<(), String> {
    for _ in 0..5 {
        if attempt(stage, node)? {
            return Ok(());
        }
    }
    Err("no first write was answered".to_owned())
}

/// Whether a write was answered.
fn attempt(stage: &mut Stage, node: u64) -> Result<bool, String> {
    let value = stage.next_value;
    stage.next_value += 1;
    let mut client = Client::new(stage, Some(node), false);
    client.begin(stage, Planned::new(KEY, Call::Write(value), None));
    while !client.is_idle() {
        stage.tick()?;
        client.look(stage);
    }
    Ok(client.was_answered())
}
