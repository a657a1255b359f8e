//! Sets: elements are added, each a key of its own, and all of them are read at once at each level.

use super::{Planned, Workload, any_level, reads_at_every_level};
use crate::harness::world::World;
use crate::history::Call;
use crate::random::Random;

/// Operations on a set before another takes its place: a read of it is one page.
const ROTATE: u64 = 800;

/// See the module.
pub(crate) struct Set;

impl Workload for Set {
    fn name(&self) -> &'static str {
        "set"
    }

    fn says(&self) -> &'static str {
        "elements are added to a set, all of it is read at each level"
    }

    fn expects(&self) -> Vec<String> {
        [reads_at_every_level(), vec!["add".to_owned()]].concat()
    }

    fn promises(&self) -> &'static [&'static str] {
        &["witness", "set", "durable", "digests"]
    }

    fn next(&self, world: &World, random: &mut Random) -> Planned {
        let key = (0..)
            .map(|round| format!("s{round}"))
            .find(|key| world.is_used_less(key, ROTATE))
            .expect("there is always another");
        if random.percent(40) {
            Planned::read(Some(key), any_level(random))
        } else {
            Planned::write(Some(key), Call::Add(world.value()))
        }
    }
}
