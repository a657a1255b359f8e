//! Sessions: mostly follower reads on all nodes, between writes. What a client read on a node it never unreads there, and
//! what a read shows is a state that the log went through.

use super::{Planned, Workload, reads_at_every_level, register};
use crate::harness::world::World;
use crate::history::Level;
use crate::random::Random;

/// See the module.
pub(crate) struct Session;

impl Workload for Session {
    fn name(&self) -> &'static str {
        "session"
    }

    fn says(&self) -> &'static str {
        "follower reads of every node between writes"
    }

    fn expects(&self) -> Vec<String> {
        [reads_at_every_level(), vec!["write".to_owned()]].concat()
    }

    fn promises(&self) -> &'static [&'static str] {
        &["linear", "witness", "durable", "digests"]
    }

    fn next(&self, world: &World, random: &mut Random) -> Planned {
        let planned = register::operation(world, random, 60, 30);
        match planned.level {
            Some(_) if random.percent(80) => Planned::read(planned.key, Level::Follower),
            _ => planned,
        }
    }
}
