//! Sessions: mostly follower reads on all nodes, between writes. What a client read on a node it never unreads there, what a
//! read shows is a state that the log went through, and a client that wants to see its own writes sees them on every node: it
//! asks again until the answer's index is at least that of its last write.

use super::{Planned, Workload, reads_at_every_level, register};
use crate::harness::world::World;
use crate::history::Level;
use crate::random::Random;
use crate::statistics::OWN;

/// See the module.
pub(crate) struct Session;

impl Workload for Session {
    fn name(&self) -> &'static str {
        "session"
    }

    fn says(&self) -> &'static str {
        "follower reads of every node between writes, half of them until they show the client's own"
    }

    fn expects(&self) -> Vec<String> {
        let more = ["write", OWN].map(str::to_owned);
        [reads_at_every_level(), more.to_vec()].concat()
    }

    fn promises(&self) -> &'static [&'static str] {
        &["linear", "witness", "durable", "digests"]
    }

    fn next(&self, world: &World, random: &mut Random) -> Planned {
        let planned = register::operation(world, random, 60, 30);
        match planned.level {
            Some(_) if random.percent(80) => Planned {
                own: random.percent(50),
                ..Planned::read(planned.key, Level::Follower)
            },
            _ => planned,
        }
    }
}
