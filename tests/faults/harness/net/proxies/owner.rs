//! Whose socket it is, from what the system shows of its processes.
//!
//! One thread looks for all that wait: however many connections come at once, one look at the nodes' files is under way.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::oneshot;

use super::inode::Inodes;
use crate::harness::world::lock;

/// The processes of the nodes.
pub(super) type Processes = Arc<Mutex<BTreeMap<u64, u32>>>;

/// A question: who has the socket at the first address that is connected to the second.
type Question = ((SocketAddr, SocketAddr), oneshot::Sender<Option<u64>>);

/// Answers whose sockets are.
#[derive(Clone)]
pub(super) struct Finder {
    questions: mpsc::Sender<Question>,
}

impl Finder {
    /// Starts its thread, which ends with the last handle.
    ///
    /// # Errors
    /// When the system cannot be asked.
    pub(super) fn start(processes: Processes) -> io::Result<Finder> {
        let mut inodes = Inodes::open()?;
        let (questions, asked) = mpsc::channel::<Question>();
        thread::spawn(move || {
            while let Ok(first) = asked.recv() {
                let waiting: Vec<Question> =
                    std::iter::once(first).chain(asked.try_iter()).collect();
                answer(waiting, &mut inodes, &lock(&processes).clone());
            }
        });
        Ok(Finder { questions })
    }

    /// The node whose process has the socket at `local` that is connected to `remote`.
    pub(super) async fn find(&self, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
        let (sender, answer) = oneshot::channel();
        self.questions.send(((local, remote), sender)).ok()?;
        answer.await.ok()?
    }
}

fn answer(waiting: Vec<Question>, inodes: &mut Inodes, processes: &BTreeMap<u64, u32>) {
    let mut owners = None;
    for ((local, remote), sender) in waiting {
        // A line that fails is as good as a socket that is gone: the connection is closed, and made again.
        let inode = inodes.of(local, remote).ok().flatten();
        let owner = inode.and_then(|inode| {
            let owners = owners.get_or_insert_with(|| sockets(processes));
            owners.get(&inode.to_string()).copied()
        });
        // Who asked may be gone.
        let _ = sender.send(owner);
    }
}

/// Every socket of the nodes, by inode.
fn sockets(processes: &BTreeMap<u64, u32>) -> HashMap<String, u64> {
    let mut owners = HashMap::new();
    for (node, process) in processes {
        // A process that has ended has no files.
        let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else {
            continue;
        };
        let links = files
            .flatten()
            .filter_map(|file| fs::read_link(file.path()).ok());
        for link in links {
            let name = link.to_string_lossy();
            if let Some(inode) = name
                .strip_prefix("socket:[")
                .and_then(|name| name.strip_suffix(']'))
            {
                owners.insert(inode.to_owned(), *node);
            }
        }
    }
    owners
}
