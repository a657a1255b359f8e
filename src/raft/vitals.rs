//! What a node says of itself with each answer to a peer, and what it hears of others.

use std::time::Instant;

use super::clocks::Clocks;
use super::heard::Heard;
use super::space::{Room, Space};

/// The clocks and disks of this node and of those that answer it, and who they are; clones share them.
#[derive(Clone)]
pub(crate) struct Vitals {
    pub(crate) clocks: Clocks,
    pub(crate) space: Space,
    /// Which starts of others spoke, and what they acknowledged.
    pub(crate) heard: Heard,
}

/// What an answer says of who gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// Its wall clock, in nanoseconds since 1970.
    pub(crate) wall_ns: u64,
    /// How much room it has.
    pub(crate) room: Room,
}

impl Vitals {
    /// With the clock of this machine, and a disk without end.
    #[cfg(test)]
    pub(crate) fn healthy() -> Vitals {
        Vitals {
            clocks: Clocks::system(),
            space: Space::endless(),
            heard: Heard::default(),
        }
    }

    /// What this node says of itself now.
    pub(crate) fn signs(&self) -> Signs {
        Signs {
            wall_ns: self.clocks.wall_ns(),
            room: self.space.room(),
        }
    }

    /// Notes what `peer` said of itself in an answer to what was sent at `sent`, received now.
    pub(crate) fn hear(&self, peer: u64, sent: Instant, signs: Signs) {
        self.clocks.hear(peer, sent, signs.wall_ns);
        self.space.hear(peer, signs.room);
    }
}
