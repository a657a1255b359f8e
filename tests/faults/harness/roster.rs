//! Who can be asked: the nodes that belong to the cluster or are about to, and the addresses of all that ever did.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use super::world::lock;

/// Shared by the one who starts and removes nodes and those who ask them.
#[derive(Debug, Default)]
pub(crate) struct Roster(Mutex<BTreeMap<u64, Entry>>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    addr: SocketAddr,
    is_present: bool,
}

impl Roster {
    /// A node comes, and serves clients there.
    pub(crate) fn join(&self, node: u64, addr: SocketAddr) {
        let is_present = true;
        lock(&self.0).insert(node, Entry { addr, is_present });
    }

    /// A node is gone for good.
    pub(crate) fn leave(&self, node: u64) {
        if let Some(entry) = lock(&self.0).get_mut(&node) {
            entry.is_present = false;
        }
    }

    /// Whether it is there.
    pub(crate) fn has(&self, node: u64) -> bool {
        lock(&self.0)
            .get(&node)
            .is_some_and(|entry| entry.is_present)
    }

    /// Who is there, by id, with its address.
    pub(crate) fn present(&self) -> Vec<(u64, SocketAddr)> {
        let all = lock(&self.0);
        let present = all.iter().filter(|(_, entry)| entry.is_present);
        present.map(|(id, entry)| (*id, entry.addr)).collect()
    }

    /// Who was ever there, by id, with its address.
    pub(crate) fn ever(&self) -> Vec<(u64, SocketAddr)> {
        let all = lock(&self.0);
        all.iter().map(|(id, entry)| (*id, entry.addr)).collect()
    }

    /// Where a node serves clients, or did.
    pub(crate) fn addr(&self, node: u64) -> SocketAddr {
        lock(&self.0).get(&node).expect("a node of this run").addr
    }
}
