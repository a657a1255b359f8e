//! Transfers, of which many that were answered are sent again, to another node, up to seconds later: each has its effect
//! once and its answer for ever.

use super::{Planned, Workload, any_level, bank, reads_at_every_level};
use crate::harness::world::World;
use crate::random::Random;

/// See the module.
pub(crate) struct Ledger;

impl Workload for Ledger {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn says(&self) -> &'static str {
        "transfers, three of ten sent again to another node after they were answered"
    }

    fn needs_bank(&self) -> bool {
        true
    }

    fn resent(&self) -> u64 {
        30
    }

    fn expects(&self) -> Vec<String> {
        [reads_at_every_level(), vec!["transfer".to_owned()]].concat()
    }

    fn promises(&self) -> &'static [&'static str] {
        &["witness", "bank", "once", "durable", "digests"]
    }

    fn next(&self, _: &World, random: &mut Random) -> Planned {
        if random.percent(25) {
            Planned::read(None, any_level(random))
        } else {
            Planned::write(None, bank::transfer(random))
        }
    }
}
