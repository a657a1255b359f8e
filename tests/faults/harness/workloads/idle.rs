//! Hardly anything: leases and confirmations of a leader that has nothing to do.

use std::time::Duration;

use super::{Planned, Workload, reads_at_every_level, register};
use crate::harness::world::World;
use crate::random::Random;

/// See the module.
pub(crate) struct Idle;

impl Workload for Idle {
    fn name(&self) -> &'static str {
        "idle"
    }

    fn says(&self) -> &'static str {
        "an operation now and then, mostly reads"
    }

    fn think(&self) -> Duration {
        Duration::from_millis(600)
    }

    fn expects(&self) -> Vec<String> {
        reads_at_every_level()
    }

    fn promises(&self) -> &'static [&'static str] {
        &["linear", "witness", "durable", "digests"]
    }

    fn next(&self, world: &World, random: &mut Random) -> Planned {
        register::operation(world, random, 80, 15)
    }
}
