//! Ports for nodes that are killed and started again: nobody else may take them in between.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Ports in a block: a guard and two for each of up to seven nodes.
const BLOCK: u16 = 16;
/// Below the range from which systems take the ports of outgoing connections, or a client's own socket might sit on the
/// port of a node that is being restarted.
const FIRST: u16 = 12_000;
const LAST: u16 = 31_000;

/// A block of ports, ours as long as this lives.
pub(crate) struct Ports {
    /// Bound to the block's first port for all its life: how other test processes see that the block is taken.
    _guard: TcpListener,
    first: u16,
}

impl Ports {
    /// Takes a free block.
    pub(crate) fn reserve() -> Ports {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let blocks = (LAST - FIRST) / BLOCK;
        // Test processes start at different blocks, so that they rarely meet.
        let start = u16::try_from(std::process::id() % u32::from(blocks)).expect("fewer blocks");
        for _ in 0..blocks {
            let block = (start + NEXT.fetch_add(1, Ordering::Relaxed)) % blocks;
            let first = FIRST + block * BLOCK;
            let Ok(guard) = TcpListener::bind(("127.0.0.1", first)) else {
                continue;
            };
            let others_free = (first + 1..first + BLOCK)
                .all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
            if others_free {
                return Ports {
                    _guard: guard,
                    first,
                };
            }
        }
        panic!("no block of {BLOCK} free ports between {FIRST} and {LAST}");
    }

    /// Where node `id` (from 1) serves clients.
    pub(crate) fn client(&self, id: u64) -> u16 {
        self.port(2 * id - 1)
    }

    /// Where node `id` (from 1) serves peers.
    pub(crate) fn peer(&self, id: u64) -> u16 {
        self.port(2 * id)
    }

    fn port(&self, offset: u64) -> u16 {
        let offset = u16::try_from(offset).expect("a small id");
        assert!(
            (1..BLOCK).contains(&offset),
            "too many nodes for a block of ports"
        );
        self.first + offset
    }
}
