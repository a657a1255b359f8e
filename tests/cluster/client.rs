//! The client library against real nodes behind proxies that lose what passes, while leaders are killed and frozen: each
//! write has its effect once or not at all, and the client said which.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quorate::client::{Client, Error, Options};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::proxy::Proxy;
use super::support::cluster::{Cluster, PATIENCE};
use super::support::http::Connection;
use super::support::wait::wait_for;
use super::writers::{SHARE, Tally, WORKERS, WRITES, Worker, new_transfer};

/// How often a leader is killed or frozen.
const ROUNDS: u64 = 6;

/// Nodes behind proxies, and the threads those run on.
struct Lossy {
    cluster: Cluster,
    proxies: Vec<Proxy>,
    _runtime: Runtime,
}

impl Lossy {
    /// Three nodes that know each other, for clients and for forwarding, by their proxies only.
    fn start(seed: u64) -> Lossy {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads");
        let cluster = Cluster::unformed(3);
        let mut members = cluster.members(3);
        let mut proxies = Vec::new();
        for (number, address) in (0..).zip(cluster.addrs()) {
            let proxy = Proxy::start(runtime.handle(), address, seed + number);
            members = members.replace(&address.to_string(), &proxy.address.to_string());
            proxies.push(proxy);
        }
        wait_for("the listener", PATIENCE, || {
            Connection::open(cluster.addr(1)).ok()
        });
        let formed = cluster.ask(1, "POST", "/v1/cluster/init", &members);
        let formed = formed.expect("an answer");
        assert_eq!(formed.status, 201, "{}", formed.text());
        cluster.wait_all_ready();
        Lossy {
            cluster,
            proxies,
            _runtime: runtime,
        }
    }

    fn urls(&self) -> Vec<String> {
        let url = |proxy: &Proxy| format!("http://{}", proxy.address);
        self.proxies.iter().map(url).collect()
    }

    fn set_faulty(&self, faulty: bool) {
        for proxy in &self.proxies {
            proxy.set_faulty(faulty);
        }
    }

    fn faults(&self) -> u64 {
        self.proxies.iter().map(Proxy::faults).sum()
    }
}

/// A ledger with the accounts, and the counters at nought.
fn prepare(cluster: &Cluster) {
    let done = |method: &str, path: &str, body: &str| {
        let answer = cluster.ask(1, method, path, body).expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text());
    };
    done(
        "POST",
        "/v1/ledgers",
        r#"{"id":"usd","asset":"USD","scale":2}"#,
    );
    for id in ["debit", "credit"] {
        done(
            "POST",
            "/v1/accounts",
            &format!(r#"{{"id":"{id}","ledger":"usd"}}"#),
        );
    }
    let limits = r#"{"debits_must_not_exceed_credits":true}"#;
    let poor = format!(r#"{{"id":"poor","ledger":"usd","limits":{limits}}}"#);
    done("POST", "/v1/accounts", &poor);
    for counter in 0..WORKERS / SHARE {
        done("PUT", &format!("/v1/kv/counter-{counter}"), "0");
    }
}

/// Kills and freezes leaders in turn, each after some more writes.
fn disturb(cluster: &mut Cluster, progress: &AtomicU64) {
    for round in 1..=ROUNDS {
        wait_for("the writes to go on", PATIENCE, || {
            let done = progress.load(Ordering::Relaxed);
            (done >= WRITES * round / (ROUNDS + 2)).then_some(())
        });
        let leader = cluster.wait_leader(&cluster.ids());
        let others: Vec<u64> = cluster
            .ids()
            .into_iter()
            .filter(|id| *id != leader)
            .collect();
        if round % 2 == 0 {
            cluster.pause(leader);
            cluster.wait_leader(&others);
            cluster.resume(leader);
        } else {
            cluster.kill(leader);
            cluster.wait_leader(&others);
            cluster.start(leader);
        }
        cluster.wait_all_ready();
    }
}

/// Takes the majority away and asks for transfers that nobody can do: they are not applied, and called so.
fn ask_without_a_majority(lossy: &mut Lossy) {
    // The leader stays: a follower would forward to the proxy of the one it followed, which takes what nobody answers.
    let alone = lossy.cluster.wait_leader(&lossy.cluster.ids());
    let others: Vec<u64> = lossy
        .cluster
        .ids()
        .into_iter()
        .filter(|id| *id != alone)
        .collect();
    for id in &others {
        lossy.cluster.kill(*id);
    }
    wait_for("the last node to know that it is alone", PATIENCE, || {
        let path = "/v1/kv/alone?timeout=1s";
        let answer = lossy.cluster.ask(alone, "PUT", path, "").ok()?;
        (answer.status == 503).then_some(())
    });
    let place = usize::try_from(alone - 1).expect("few nodes");
    let options = Options {
        timeout: Duration::from_millis(100),
        ..Options::default()
    };
    let client = Client::new(&lossy.urls()[place..=place], options).expect("an endpoint");
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        for sequence in 1..20 {
            let id = format!("alone-{sequence}");
            let told = client.transfer(&new_transfer(id, "debit", 1)).await;
            assert!(matches!(told, Err(Error::Unavailable(_))), "{told:?}");
        }
    });
    for id in others {
        lossy.cluster.start(id);
    }
    lossy.cluster.wait_all_ready();
}

/// Everything posted to an account, as one node has it.
fn posted(cluster: &Cluster, id: u64, account: &str) -> BTreeMap<String, u128> {
    let mut connection = Connection::open(cluster.addr(id)).expect("a connection");
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let path =
            format!("/v1/accounts/{account}/transfers?consistency=follower&limit=1000{cursor}");
        let answer = connection.request("GET", &path, b"").expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let page = answer.json();
        for row in page["data"].as_array().expect("rows") {
            let text = |name: &str| row[name].as_str().expect("a text").to_owned();
            let amount = text("amount").parse().expect("digits");
            let before = found.insert(text("id"), amount);
            assert_eq!(before, None, "a transfer is listed once");
        }
        match &page["next_cursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => return found,
        }
    }
}

/// Fails unless node `id` holds exactly what the client was told, each once.
fn assert_as_told(cluster: &Cluster, id: u64, tally: &Tally) {
    let found = posted(cluster, id, "credit");
    let lost: Vec<_> = tally
        .posted
        .keys()
        .filter(|t| !found.contains_key(*t))
        .collect();
    assert!(
        lost.is_empty(),
        "node {id}: told as posted and not there: {lost:?}"
    );
    let made_up: Vec<_> = found
        .keys()
        .filter(|t| !tally.posted.contains_key(*t))
        .collect();
    assert!(
        made_up.is_empty(),
        "node {id}: there, and told as not applied: {made_up:?}"
    );
    assert_eq!(found, tally.posted);
    let sum: u128 = tally.posted.values().sum();
    let path = "/v1/accounts/credit?consistency=follower";
    let account = cluster.ask(id, "GET", path, "").expect("an answer").json();
    assert_eq!(
        account["balance"]["credits_posted"],
        sum.to_string(),
        "node {id}"
    );
    let keys = tally
        .increments
        .iter()
        .map(|(key, count)| (key, count + 1, count.to_string()));
    for (key, version, value) in keys {
        let answer = cluster.ask(id, "GET", &format!("/v1/kv/{key}?consistency=follower"), "");
        let answer = answer.expect("an answer");
        assert_eq!(
            answer.text(),
            value,
            "node {id}: {key} was not incremented as told"
        );
        assert_eq!(
            answer.header("kv-version"),
            Some(&*version.to_string()),
            "{key}"
        );
    }
    for (key, version) in &tally.puts {
        let answer = cluster.ask(id, "GET", &format!("/v1/kv/{key}?consistency=follower"), "");
        let answer = answer.expect("an answer");
        assert_eq!(
            answer.header("kv-version"),
            Some(&*version.to_string()),
            "{key}"
        );
    }
}

#[test]
fn ten_thousand_writes_over_lossy_connections_have_their_effect_once_and_are_reported_truly() {
    let seed = u64::from(std::process::id());
    let begun = Instant::now();
    let mut lossy = Lossy::start(seed);
    prepare(&lossy.cluster);
    lossy.set_faulty(true);
    let progress = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| {
            let worker = Worker::new(&lossy.urls(), number, Arc::clone(&progress));
            thread::spawn(move || worker.run())
        })
        .collect();
    disturb(&mut lossy.cluster, &progress);
    let mut tally = Tally::default();
    for worker in workers {
        tally.add(worker.join().expect("a worker was told the truth"));
    }
    lossy.set_faulty(false);
    ask_without_a_majority(&mut lossy);
    // Past whatever a proxy still held back when the last answer came.
    let last = lossy
        .cluster
        .ask(1, "PUT", "/v1/kv/end", "")
        .expect("an answer");
    lossy
        .cluster
        .wait_applied(last.index().max(tally.last_index));
    eprintln!(
        "seed {seed}: {} calls in {:?}, {} faults; {} took more than one attempt, {} were replayed; {} rejected, \
         {} unavailable, {} unknown and resolved; {} transfers posted",
        tally.calls,
        begun.elapsed(),
        lossy.faults(),
        tally.retried,
        tally.replayed,
        tally.rejected,
        tally.unavailable,
        tally.unknown,
        tally.posted.len(),
    );
    for id in lossy.cluster.ids() {
        assert_as_told(&lossy.cluster, id, &tally);
    }
    assert!(tally.calls >= WRITES, "{}", tally.calls);
    let seen = [tally.retried, tally.replayed, tally.rejected, tally.unknown];
    assert!(
        seen.iter().all(|count| *count > 0),
        "every outcome was met: {seen:?}"
    );
}
