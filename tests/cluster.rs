//! Clusters of real processes, killed, frozen and stopped: what a client is promised must hold through all of it.

mod support;

#[path = "cluster/backup.rs"]
mod backup;
#[path = "cluster/client.rs"]
mod client;
#[path = "cluster/crowd.rs"]
mod crowd;
#[path = "cluster/formats.rs"]
mod formats;
#[path = "cluster/fsync.rs"]
mod fsync;
#[path = "cluster/hostile.rs"]
mod hostile;
#[path = "cluster/idempotency.rs"]
mod idempotency;
#[path = "cluster/identity.rs"]
mod identity;
#[path = "cluster/limits.rs"]
mod limits;
#[path = "cluster/overload.rs"]
mod overload;
#[path = "cluster/proxy.rs"]
mod proxy;
#[path = "cluster/recover.rs"]
mod recover;
#[path = "cluster/replace.rs"]
mod replace;
#[path = "cluster/snapshot.rs"]
mod snapshot;
#[path = "cluster/starting.rs"]
mod starting;
#[path = "cluster/writers.rs"]
mod writers;

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use support::cluster::{Cluster, PATIENCE};
use support::http::{Answer, Connection};
use support::load::{Book, Load, OnNotApplied, Verdict, verdict};
use support::wait::wait_for;

/// How often the leader is killed under load.
const KILLS: usize = 20;
/// How many transfers are acknowledged between two kills, at least.
const ACKS_PER_KILL: u64 = 100;

/// Sends a write that may be repeated to the nodes in turn until it is done.
fn write_until_done(cluster: &Cluster, method: &str, path: &str, body: &str) -> Answer {
    wait_for(&format!("{method} {path}"), PATIENCE, || {
        cluster.running().into_iter().find_map(|id| {
            let answer = cluster.ask(id, method, path, body).ok()?;
            (verdict(&answer) == Verdict::Done).then_some(answer)
        })
    })
}

/// A ledger with the two accounts that the load moves money between.
fn open_books(cluster: &Cluster) {
    let ledger = r#"{"id":"usd","asset":"USD","scale":2}"#;
    write_until_done(cluster, "POST", "/v1/ledgers", ledger);
    for id in ["debit", "credit"] {
        let account = format!(r#"{{"id":"{id}","ledger":"usd","code":1}}"#);
        write_until_done(cluster, "POST", "/v1/accounts", &account);
    }
}

/// One field of an account's balance, at `level`, as node `id` answers it.
fn balance(cluster: &Cluster, id: u64, account: &str, field: &str, level: &str) -> u64 {
    let path = format!("/v1/accounts/{account}?consistency={level}");
    let answer = cluster.ask(id, "GET", &path, "").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.json()["balance"][field].as_str().map(str::to_owned);
    text.expect("a balance is a text of digits")
        .parse()
        .expect("digits")
}

/// Fails unless every node holds each acknowledged transfer exactly once, and none that was certainly not applied.
fn assert_books_agree(cluster: &Cluster, book: &Book) {
    cluster.wait_applied(book.last_index);
    for id in cluster.running() {
        // Exactly once: each is there, and together they moved exactly what was acknowledged.
        let mut connection = Connection::open(cluster.addr(id)).expect("a connection");
        let mut status = |transfer: &str| {
            let path = format!("/v1/transfers/{transfer}?consistency=follower");
            connection
                .request("GET", &path, b"")
                .expect("an answer")
                .status
        };
        let lost: Vec<_> = book
            .acked
            .keys()
            .filter(|acked| status(acked) != 200)
            .collect();
        assert!(
            lost.is_empty(),
            "node {id} lost acknowledged transfers: {lost:?}"
        );
        let made_up: Vec<_> = book
            .abandoned
            .iter()
            .filter(|gone| status(gone) != 404)
            .collect();
        assert!(
            made_up.is_empty(),
            "node {id} holds transfers never applied: {made_up:?}"
        );
        for (account, field) in [("debit", "debits_posted"), ("credit", "credits_posted")] {
            let moved = balance(cluster, id, account, field, "follower");
            assert_eq!(moved, book.moved(), "node {id}, {field} of {account}");
        }
    }
}

#[test]
fn a_cluster_is_formed_once_however_often_and_from_wherever_it_is_asked_for() {
    let cluster = Cluster::unformed(3);
    let answers: Vec<Answer> = thread::scope(|scope| {
        let threads: Vec<_> = cluster
            .ids()
            .into_iter()
            .map(|id| (id, &cluster))
            .map(|(id, cluster)| scope.spawn(move || cluster.init(id, 3)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    for answer in &answers {
        assert!([200, 201].contains(&answer.status), "{}", answer.text());
    }
    assert!(
        answers.iter().any(|answer| answer.status == 201),
        "nobody formed it"
    );
    cluster.wait_all_ready();
    for id in cluster.ids() {
        assert_eq!(
            cluster.init(id, 3).status,
            200,
            "the same members again do nothing"
        );
    }
    let other = cluster.init(1, 2);
    assert_eq!(other.status, 409, "{}", other.text());
    assert_eq!(other.field("code"), "already_initialized");
    let cluster_ids: BTreeSet<String> = cluster
        .ids()
        .into_iter()
        .map(|id| {
            cluster
                .ask(id, "GET", "/v1/cluster", "")
                .expect("an answer")
                .field("cluster_id")
        })
        .collect();
    assert_eq!(cluster_ids.len(), 1, "one cluster: {cluster_ids:?}");
    assert!(!cluster_ids.contains(""), "and it has an id");
}

#[test]
fn a_write_through_any_node_is_read_through_any_node() {
    let cluster = Cluster::formed(3);
    open_books(&cluster);
    for via in cluster.ids() {
        let path = format!("/v1/kv/from-{via}");
        let written = cluster.ask(via, "PUT", &path, "hello").expect("an answer");
        assert_eq!(written.status, 201, "{}", written.text());
        let body = format!(
            r#"{{"id":"t-{via}","debit_account":"debit","credit_account":"credit","amount":"5","code":1}}"#
        );
        let sent = cluster
            .ask(via, "POST", "/v1/transfers", &body)
            .expect("an answer");
        assert_eq!(sent.status, 201, "{}", sent.text());
        let again = cluster
            .ask(via, "POST", "/v1/transfers", &body)
            .expect("an answer");
        assert_eq!(
            again.status,
            200,
            "sent again it is found done: {}",
            again.text()
        );
        for reader in cluster.ids() {
            let read = cluster.ask(reader, "GET", &path, "").expect("an answer");
            assert_eq!((read.status, read.text().as_str()), (200, "hello"));
            assert_eq!(read.header("consistency-effective"), Some("leader"));
            assert!(
                read.index() >= written.index(),
                "a read is at or after what it returns"
            );
            let moved = balance(&cluster, reader, "credit", "credits_posted", "leader");
            assert_eq!(moved, 5 * via, "read through {reader}");
        }
    }
}

#[test]
fn killing_the_leader_under_load_neither_loses_nor_doubles_nor_makes_up_a_transfer() {
    let mut cluster = Cluster::formed(3);
    open_books(&cluster);
    let load = Load::start(&cluster.addrs(), 4, OnNotApplied::Abandon);
    for round in 0..KILLS {
        let leader = cluster.wait_leader(&cluster.ids());
        cluster.kill(leader);
        // Sometimes a successor leads before it comes back, sometimes it stands for election with the others.
        if round % 2 == 0 {
            cluster.wait_leader(&cluster.running());
        }
        cluster.start(leader);
        cluster.wait_ready(leader);
        let before = load.acknowledged();
        wait_for("the load to go on", PATIENCE, || {
            (load.acknowledged() >= before + ACKS_PER_KILL).then_some(())
        });
    }
    cluster.wait_all_ready();
    let book = load.finish();
    eprintln!(
        "{KILLS} kills: {} acknowledged, {} unknown and resolved, {} not applied and left alone, longest gap {:?}",
        book.acked.len(),
        book.resolved,
        book.abandoned.len(),
        book.longest_gap(),
    );
    assert!(book.resolved > 0, "some kill caught a transfer in flight");
    assert!(
        !book.abandoned.is_empty(),
        "some transfer was refused for want of a leader"
    );
    assert_books_agree(&cluster, &book);
}

#[test]
fn a_minority_refuses_writes_at_once_and_still_answers_follower_reads() {
    // Once with a follower left alone, once with a leader.
    for leader_survives in [false, true] {
        let mut cluster = Cluster::formed(3);
        let last = cluster.ask(1, "PUT", "/v1/kv/a", "1").expect("an answer");
        cluster.wait_applied(last.index());
        let leader = cluster.wait_leader(&cluster.ids());
        let followers: Vec<u64> = cluster
            .ids()
            .into_iter()
            .filter(|id| *id != leader)
            .collect();
        let survivor = if leader_survives {
            leader
        } else {
            followers[0]
        };
        for id in cluster.ids().into_iter().filter(|id| *id != survivor) {
            cluster.kill(id);
        }
        // A leader needs a while to know that it is alone; until then a write may only be unknown, never acknowledged.
        let refused = wait_for("a refusal", PATIENCE, || {
            let path = "/v1/kv/b?timeout=1s";
            let answer = cluster.ask(survivor, "PUT", path, "2").expect("an answer");
            assert!(answer.status >= 500, "{}: {}", answer.status, answer.text());
            (answer.status == 503).then_some(answer)
        });
        assert_eq!(refused.field("code"), "no_leader", "{}", refused.text());
        assert_eq!(refused.field("outcome"), "not_applied");
        assert!(refused.header("retry-after").is_some());
        for level in ["leader", "lease"] {
            let path = format!("/v1/kv/a?timeout=1s&consistency={level}");
            let strong = cluster.ask(survivor, "GET", &path, "").expect("an answer");
            assert!(
                strong.status >= 500,
                "{level}: {} {}",
                strong.status,
                strong.text()
            );
        }
        let stale = cluster.ask(survivor, "GET", "/v1/kv/a?consistency=follower", "");
        let stale = stale.expect("an answer");
        assert_eq!((stale.status, stale.text().as_str()), (200, "1"));
        assert_eq!(stale.header("consistency-effective"), Some("follower"));
    }
}

#[test]
fn a_leader_frozen_past_its_time_never_serves_an_old_leader_or_lease_read() {
    let mut cluster = Cluster::formed(3);
    for round in 1..=5 {
        write_until_done(&cluster, "PUT", "/v1/kv/round", &(round - 1).to_string());
        let old = cluster.wait_leader(&cluster.ids());
        let others: Vec<u64> = cluster.ids().into_iter().filter(|id| *id != old).collect();
        // Connections made before: the requests wait in the frozen node's sockets and are its first work afterwards.
        let mut waiting: Vec<(&str, Connection)> = ["leader", "lease"]
            .repeat(8)
            .into_iter()
            .map(|level| {
                (
                    level,
                    Connection::open(cluster.addr(old)).expect("a connection"),
                )
            })
            .collect();
        cluster.pause(old);
        cluster.wait_leader(&others);
        wait_for("a write through the new leader", PATIENCE, || {
            let path = "/v1/kv/round?timeout=2s";
            let answer = cluster
                .ask(others[0], "PUT", path, &round.to_string())
                .ok()?;
            (verdict(&answer) == Verdict::Done).then_some(())
        });
        for (level, connection) in &mut waiting {
            let path = format!("/v1/kv/round?timeout=5s&consistency={level}");
            connection
                .send("GET", &path, b"")
                .expect("the kernel takes it");
        }
        cluster.resume(old);
        for (level, mut connection) in waiting {
            let answer = connection.receive().expect("an answer");
            let fresh = answer.status == 200 && answer.text() == round.to_string();
            assert!(
                fresh || answer.status >= 500 || answer.status == 421,
                "round {round}: the old leader answered a {level} read with {} {:?}",
                answer.status,
                answer.text()
            );
        }
        cluster.wait_all_ready();
    }
}

#[test]
fn a_node_told_to_stop_hands_over_and_no_retrying_client_sees_a_failure() {
    let mut cluster = Cluster::formed(3);
    open_books(&cluster);
    let load = Load::start(&cluster.addrs(), 3, OnNotApplied::Retry);
    for round in 0..3 {
        let leader = cluster.wait_leader(&cluster.ids());
        let start = Instant::now();
        let status = cluster.terminate(leader);
        assert!(status.success(), "node {leader} ended with {status}");
        let others = cluster.running();
        cluster.wait_leader(&others);
        eprintln!(
            "round {round}: stopped and handed over within {:?}",
            start.elapsed()
        );
        cluster.start(leader);
        cluster.wait_ready(leader);
    }
    let book = load.finish();
    eprintln!(
        "{} acknowledged, slowest {:?}, longest gap {:?}",
        book.acked.len(),
        book.slowest,
        book.longest_gap()
    );
    assert!(
        book.slowest < Duration::from_secs(3),
        "a client waited {:?}",
        book.slowest
    );
    assert_books_agree(&cluster, &book);
}

#[test]
fn five_nodes_go_on_writing_whichever_two_are_killed() {
    let mut cluster = Cluster::formed(5);
    open_books(&cluster);
    let load = Load::start(&cluster.addrs(), 2, OnNotApplied::Retry);
    for first in 1..=5 {
        for second in first + 1..=5 {
            cluster.kill(first);
            cluster.kill(second);
            let path = format!("/v1/kv/without-{first}-{second}");
            write_until_done(&cluster, "PUT", &path, "");
            cluster.start(first);
            cluster.start(second);
            cluster.wait_all_ready();
        }
    }
    assert_books_agree(&cluster, &load.finish());
}
