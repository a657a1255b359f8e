//! Watches who leads, and when a healed node serves again, for the plots and for people.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::glance::term_of_leader;
use super::http;
use super::world::World;
use crate::history::Happening;

/// Between two looks.
const PACE: Duration = Duration::from_millis(100);

/// Between two looks at nodes that are awaited.
const AWAITED: Duration = Duration::from_millis(20);

/// How long a node may take to say that it is ready.
const GLANCE: Duration = Duration::from_millis(300);

/// A watcher.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    threads: [JoinHandle<()>; 2],
}

impl Watch {
    /// Starts one, which asks the nodes in threads of its own.
    pub(crate) fn start(world: Arc<World>) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, ends) = (Arc::clone(&world), Arc::clone(&stop));
        // A thread of its own: a frozen node keeps whoever asks it waiting.
        let awaiting = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                shared
                    .awaited()
                    .into_iter()
                    .for_each(|node| see(&shared, node));
                thread::sleep(AWAITED);
            }
        });
        let ends = Arc::clone(&stop);
        let leading = thread::spawn(move || {
            let mut last = (0, 0);
            while !ends.load(Ordering::Relaxed) {
                for (node, addr) in world.roster.present() {
                    look(&world, node, addr, &mut last);
                }
                thread::sleep(PACE);
            }
        });
        Watch {
            stop,
            threads: [awaiting, leading],
        }
    }

    /// Ends it.
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A watcher that died has nothing to say any more.
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// A leader of a term that is not behind is news once.
fn look(world: &World, node: u64, addr: SocketAddr, last: &mut (u64, u64)) {
    let Some(term) = term_of_leader(addr) else {
        return;
    };
    if (term, node) > *last {
        *last = (term, node);
        world.say(&Happening::Leader { node, term });
    }
}

/// That an awaited node is ready is news once.
fn see(world: &World, node: u64) {
    let reply = http::ask(world.addr(node), "GET", "/readyz", "", GLANCE);
    if reply.is_ok_and(|reply| reply.status == 200) {
        world.serves(node);
    }
}
