//! What is done to a simulated cluster: faults of every kind, drawn from the seed, one beside the other.

use super::stage::{Stage, options};
use quorate::raft::sim::Ask;

/// A fault that is in force.
#[derive(Clone, Debug)]
enum Fault {
    /// The process is killed; healed, it is started again.
    Kill(u64),
    /// The power of these machines fails at once.
    Power(Vec<u64>),
    /// Nothing passes on these ways, each from a node to another.
    Cut(&'static str, Vec<(u64, u64)>),
    /// Everything from and to a node takes long.
    Slow(u64),
    /// Its disk takes long.
    Disk(u64),
}

impl Fault {
    fn name(&self) -> &'static str {
        match self {
            Fault::Kill(_) => "kill",
            Fault::Power(_) => "power",
            Fault::Cut(name, _) => name,
            Fault::Slow(_) => "slow",
            Fault::Disk(_) => "disk",
        }
    }

    fn nodes(&self) -> Vec<u64> {
        match self {
            Fault::Kill(id) | Fault::Slow(id) | Fault::Disk(id) => vec![*id],
            Fault::Power(ids) => ids.clone(),
            Fault::Cut(_, ways) => ways.iter().map(|(from, _)| *from).collect(),
        }
    }
}

/// The faults that are in force, and when the next one comes.
pub(crate) struct Nemesis {
    next_ms: u64,
    /// How often faults come.
    every_ms: u64,
    /// When each is over, its number, and what it is.
    on: Vec<(u64, u64, Fault)>,
}

impl Nemesis {
    pub(crate) fn new(stage: &mut Stage) -> Nemesis {
        Nemesis {
            next_ms: stage.now_ms() + stage.random.below(500),
            every_ms: *stage.random.pick(&[200, 500, 1_200]),
            on: Vec::new(),
        }
    }

    /// Ends what is over and begins what is due.
    pub(crate) fn look(&mut self, stage: &mut Stage) -> Result<(), String> {
        let now_ms = stage.now_ms();
        while let Some(at) = self.on.iter().position(|(until, ..)| *until <= now_ms) {
            let (_, id, fault) = self.on.remove(at);
            heal(stage, id, &fault)?;
        }
        if now_ms < self.next_ms {
            return Ok(());
        }
        self.next_ms = now_ms + stage.random.between(self.every_ms / 2, self.every_ms * 2);
        let Some((fault, lasts_ms)) = draw(stage) else {
            return Ok(());
        };
        let id = stage.install(fault.name(), &fault.nodes());
        match &fault {
            Fault::Kill(id) => {
                stage.world.kill(*id);
            }
            Fault::Power(ids) => {
                for id in ids {
                    stage.world.cut_power(*id);
                }
            }
            Fault::Cut(_, ways) => set_cut(stage, ways, true),
            Fault::Slow(id) => set_slow(stage, *id, true),
            Fault::Disk(id) => stage.world.set_slow_disk(*id, true),
        }
        self.on.push((now_ms + lasts_ms, id, fault));
        Ok(())
    }

    /// Ends everything.
    pub(crate) fn end(self, stage: &mut Stage) -> Result<(), String> {
        for (_, id, fault) in self.on {
            heal(stage, id, &fault)?;
        }
        Ok(())
    }
}

fn heal(stage: &mut Stage, number: u64, fault: &Fault) -> Result<(), String> {
    match fault {
        Fault::Kill(id) if !stage.world.is_up(*id) => stage.world.start(*id)?,
        Fault::Kill(_) => {}
        Fault::Power(ids) => {
            for id in ids {
                if !stage.world.is_up(*id) {
                    stage.world.start(*id)?;
                }
            }
        }
        Fault::Cut(_, ways) => set_cut(stage, ways, false),
        Fault::Slow(id) => set_slow(stage, *id, false),
        Fault::Disk(id) => stage.world.set_slow_disk(*id, false),
    }
    stage.healed(fault.name(), number, &fault.nodes());
    Ok(())
}

fn set_cut(stage: &Stage, ways: &[(u64, u64)], is_cut: bool) {
    for (from, to) in ways {
        stage.world.set_cut(*from, *to, is_cut);
    }
}

fn set_slow(stage: &Stage, id: u64, is_slow: bool) {
    let latency_us = if is_slow { (1_000, 150_000) } else { (50, 900) };
    for other in stage.world.ids().into_iter().filter(|other| *other != id) {
        stage.world.set_latency(id, other, latency_us);
        stage.world.set_latency(other, id, latency_us);
    }
}

/// A fault and how long it lasts. Some are over as they are done.
fn draw(stage: &mut Stage) -> Option<(Fault, u64)> {
    let ids = stage.world.ids();
    let leader = ids.iter().copied().find(|id| stage.world.leads(*id));
    let anyone = *stage.random.pick(&ids);
    let target = leader
        .filter(|_| stage.random.percent(50))
        .unwrap_or(anyone);
    let others: Vec<u64> = ids.iter().copied().filter(|id| *id != target).collect();
    let other = *stage.random.pick(&others);
    let lasts_ms = stage.random.between(50, 3_000);
    let fault = match stage.random.below(100) {
        0..22 => return Some((Fault::Kill(target), down_ms(stage))),
        22..34 => return Some((Fault::Power(vec![target]), down_ms(stage))),
        34..42 => return Some((Fault::Power(ids), down_ms(stage))),
        42..54 => {
            let both = |other: &u64| [(target, *other), (*other, target)];
            Fault::Cut("partition", others.iter().flat_map(both).collect())
        }
        54..66 => Fault::Cut("bridge", vec![(target, other), (other, target)]),
        66..76 => Fault::Cut("one-way", vec![(target, other)]),
        76..82 => Fault::Slow(target),
        82..88 => Fault::Disk(target),
        88..94 => {
            stage.world.reset(target, other);
            return None;
        }
        _ => {
            let leader = leader?;
            let patience = options().election_max * 2;
            drop(stage.world.ask(leader, Ask::HandOver, patience));
            return None;
        }
    };
    Some((fault, lasts_ms))
}

/// How long a node is down: not at all, within the lease, or beyond it.
fn down_ms(stage: &mut Stage) -> u64 {
    let (low, high) = *stage
        .random
        .pick(&[(1, 5), (5, 60), (60, 900), (900, 2_500)]);
    stage.random.between(low, high)
}
