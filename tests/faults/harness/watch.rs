//! Watches who leads, for the plots and for people.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::nodes::term_of_leader;
use super::world::World;
use crate::history::Happening;

/// Between two looks.
const PACE: Duration = Duration::from_millis(100);

/// A watcher.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Starts one, which asks the nodes in a thread of its own.
    pub(crate) fn start(world: Arc<World>) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut last = (0, 0);
            while !ends.load(Ordering::Relaxed) {
                for (node, addr) in &world.nodes {
                    look(&world, *node, *addr, &mut last);
                }
                thread::sleep(PACE);
            }
        });
        Watch { stop, thread }
    }

    /// Ends it.
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A watcher that died has nothing to say any more.
        let _ = self.thread.join();
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
