//! Whose socket it is, from what the system shows of its processes.
//!
//! The system's table of connections is long on a busy machine and each look at it costs milliseconds, so one thread looks
//! for all that wait: however many connections come at once, one look is under way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::oneshot;

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
    pub(super) fn start(processes: Processes) -> Finder {
        let (questions, asked) = mpsc::channel::<Question>();
        thread::spawn(move || {
            while let Ok(first) = asked.recv() {
                let waiting: Vec<Question> =
                    std::iter::once(first).chain(asked.try_iter()).collect();
                answer(waiting, &lock(&processes).clone());
            }
        });
        Finder { questions }
    }

    /// The node whose process has the socket at `local` that is connected to `remote`.
    pub(super) async fn find(&self, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
        let (sender, answer) = oneshot::channel();
        self.questions.send(((local, remote), sender)).ok()?;
        answer.await.ok()?
    }
}

fn answer(waiting: Vec<Question>, processes: &BTreeMap<u64, u32>) {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let wanted: HashSet<String> = waiting
        .iter()
        .filter_map(|((local, remote), _)| {
            Some(format!("{} {}", spelled(*local)?, spelled(*remote)?))
        })
        .collect();
    let inodes: HashMap<&str, &str> = table
        .lines()
        .filter_map(|row| {
            // After the row's number, the two addresses, one space between.
            let pair = row.split_once(": ")?.1.get(..27)?;
            let inode = wanted
                .contains(pair)
                .then(|| row.split_whitespace().nth(9))??;
            (inode != "0").then_some((pair, inode))
        })
        .collect();
    let owners = if inodes.is_empty() {
        HashMap::new()
    } else {
        sockets(processes)
    };
    for ((local, remote), sender) in waiting {
        let pair = spelled(local).zip(spelled(remote));
        let inode = pair.and_then(|(local, remote)| inodes.get(&*format!("{local} {remote}")));
        let owner = inode.and_then(|inode| owners.get(*inode).copied());
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

/// An address as the table spells it: the four bytes as one number of this machine, then the port, in hexadecimal.
fn spelled(address: SocketAddr) -> Option<String> {
    let IpAddr::V4(ip) = address.ip() else {
        return None;
    };
    let number = u32::from_ne_bytes(ip.octets());
    Some(format!("{number:08X}:{:04X}", address.port()))
}
