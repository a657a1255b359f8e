//! More work than the cluster can carry: what is too much is refused at once and for certain, everything else goes on.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::cluster::Cluster;
use crate::support::http::{Answer, Connection};

/// How long the load goes on.
const SIEGE: Duration = Duration::from_secs(12);
/// Clients that write without a pause, far more than the queue takes.
const WRITERS: usize = 150;
/// Bytes of a value: large enough for a write to be refused before its body is read.
const VALUE: usize = 20 << 10;
/// Deadline of a write, and what its answer may come later on a busy machine.
const DEADLINE: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(2);
/// What overload may cost a node, in bytes, on a machine whose disk or processors are behind: four memory tables each of 64 MiB
/// for the journal and of 32 MiB for keys, the caches below and the bodies of all writers, and as much again that the
/// allocator keeps for reuse.
const MEMORY_MAX: u64 = (2 * (4 * (64 + 32) + 32 + 16 + 16)) << 20;

/// A queue that is soon full, and timeouts that leave what is to be seen to overload alone: not to how long the disk of a
/// machine that runs many tests may take.
const FLAGS: &[&str] = &[
    "--heartbeat",
    "500ms",
    "--election-min",
    "6s",
    "--election-max",
    "12s",
    "--queue-commands-max",
    "32",
    "--queue-bytes-max",
    "1MiB",
];

#[derive(Default)]
struct Count {
    done: AtomicU64,
    refused: AtomicU64,
}

fn check_refusal(answer: &Answer) {
    assert_eq!(answer.status, 429, "{}", answer.text());
    assert_eq!(answer.field("code"), "overloaded", "{}", answer.text());
    assert_eq!(answer.field("outcome"), "not_applied");
    let after = answer.header("retry-after").expect("when to try again");
    assert!(after.parse::<u32>().is_ok_and(|seconds| seconds > 0));
}

fn write_on(addr: SocketAddr, writer: usize, stop: &AtomicBool, count: &Count) {
    let mut connection = Connection::open(addr).expect("a connection");
    let value = vec![b'a'; VALUE];
    let path = format!("/v1/kv/writer{writer}?timeout={}ms", DEADLINE.as_millis());
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = connection.request("PUT", &path, &value).expect("an answer");
        let took = begun.elapsed();
        assert!(took < DEADLINE + SLACK, "{took:?} for {}", answer.text());
        match answer.status {
            200 | 201 => count.done.fetch_add(1, Ordering::Relaxed),
            _ => {
                check_refusal(&answer);
                count.refused.fetch_add(1, Ordering::Relaxed)
            }
        };
    }
}

fn term(cluster: &Cluster, id: u64) -> String {
    let answer = cluster.ask(id, "GET", "/livez", "").expect("an answer");
    answer.header("quorate-term").expect("a term").to_owned()
}

#[test]
fn too_much_is_refused_at_once_and_nothing_else_suffers() {
    let mut cluster = Cluster::formed_with(3, FLAGS);
    let leader = cluster.wait_leader(&[1, 2, 3]);
    let term_before = term(&cluster, leader);
    let memory_before: Vec<u64> = [1, 2, 3].map(|id| cluster.memory(id)).into();
    let (stop, count) = (AtomicBool::new(false), Count::default());
    let mut probes = 0;
    thread::scope(|scope| {
        let addrs = cluster.addrs();
        for writer in 0..WRITERS {
            // Most ask the leader, some a node that passes the request on.
            let addr = match writer % 10 {
                0 => addrs[writer / 10 % 3],
                _ => cluster.addr(leader),
            };
            let (stop, count) = (&stop, &count);
            scope.spawn(move || write_on(addr, writer, stop, count));
        }
        let until = Instant::now() + SIEGE;
        while Instant::now() < until {
            for id in [1, 2, 3] {
                for (path, fine) in [
                    ("/livez", &[200][..]),
                    ("/readyz", &[200]),
                    ("/v1/kv/writer0?consistency=follower", &[200, 404]),
                    ("/v1/kv/writer0?consistency=leader", &[200, 404]),
                ] {
                    let answer = cluster.ask(id, "GET", path, "").expect("an answer");
                    let status = answer.status;
                    assert!(fine.contains(&status), "{path} of {id}: {}", answer.text());
                    probes += 1;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (done, refused) = (count.done.into_inner(), count.refused.into_inner());
    assert!(done > 100, "{done} writes were done");
    assert!(refused > 100, "{refused} writes were refused");
    assert!(probes > 20, "{probes} probes and reads were answered");
    assert_eq!(term(&cluster, leader), term_before, "there was an election");
    for (id, before) in [1, 2, 3].into_iter().zip(memory_before) {
        let grown = cluster.memory(id).saturating_sub(before);
        assert!(grown < MEMORY_MAX, "node {id} grew by {grown} bytes");
    }
    let after = cluster.ask(leader, "PUT", "/v1/kv/after", "1");
    assert_eq!(after.expect("an answer").status, 201);
}
