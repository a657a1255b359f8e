//! Registers: reads at each level, writes, compare-and-set. The basic claim.

use super::{Planned, Workload, any_level, reads_at_every_level};
use crate::harness::world::World;
use crate::history::Call;
use crate::random::Random;

/// Registers in use at once.
const ACTIVE: u64 = 4;
/// Operations on a register before another takes its place: what unknown outcomes cost grows with it.
const ROTATE: u64 = 300;

/// See the module.
pub(crate) struct Register;

/// A register in use: slots go on to another one each after so many uses.
pub(super) fn register(world: &World, random: &mut Random) -> String {
    let slot = random.below(ACTIVE);
    (0..)
        .map(|round| format!("r{slot}-{round}"))
        .find(|key| world.is_used_less(key, ROTATE))
        .expect("there is always another")
}

/// Reads, writes and conditional writes in these parts, in percent; the rest are conditional.
pub(super) fn operation(world: &World, random: &mut Random, reads: u64, writes: u64) -> Planned {
    let key = register(world, random);
    let drawn = random.below(100);
    if drawn < reads {
        return Planned::read(Some(key), any_level(random));
    }
    if drawn < reads + writes {
        return Planned::write(Some(key), Call::Write(world.value()));
    }
    let seen = world.seen(&key);
    // Mostly from the value that was seen last, now and then from one that was there once.
    let expected = match (seen.as_slice(), random.percent(70)) {
        ([], _) => (None, None),
        ([.., last], true) => last.clone(),
        (some, false) => random.pick(some).clone(),
    };
    let (value, tag) = expected;
    let call = Call::Cas(value.filter(|_| tag.is_some()), world.value());
    Planned {
        tag,
        ..Planned::write(Some(key), call)
    }
}

impl Workload for Register {
    fn name(&self) -> &'static str {
        "register"
    }

    fn says(&self) -> &'static str {
        "registers: reads at each level, writes, compare-and-set"
    }

    fn expects(&self) -> Vec<String> {
        let writes = ["write", "cas"].map(str::to_owned);
        [reads_at_every_level(), writes.to_vec()].concat()
    }

    fn promises(&self) -> &'static [&'static str] {
        &["linear", "witness", "durable", "digests"]
    }

    fn next(&self, world: &World, random: &mut Random) -> Planned {
        operation(world, random, 45, 30)
    }
}
