//! Three whole nodes of one process over real sockets and real disks, as the binary puts them together.

#![expect(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected is to fail"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::machine::{
    Command, Expect, Limits, NewAccount, NewLedger, NewTransfer, Reply, TransferResult,
};
use quorate::raft::{Client, Initialized, Member, Options, ReadLevel, Role, WriteError, Written};
use quorate::storage::identity::DataDir;
use quorate::storage::{log, state};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

struct Node {
    client: Client,
    stop: oneshot::Sender<()>,
}

fn options() -> Options {
    Options {
        heartbeat: Duration::from_millis(60),
        election_min: Duration::from_millis(500),
        election_max: Duration::from_millis(1000),
        quorum_loss_probe: Duration::from_millis(2000),
        ..Options::default()
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn start(root: &Path, id: u64, listener: TcpListener) -> Node {
    let path = root.join(id.to_string());
    let deadline = soon();
    let dir = loop {
        // The process before, in this test a task of this one, may still hold the lock.
        match DataDir::open(&path, id) {
            Ok(dir) => break dir,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let me = member(&listener);
    let state = state::Options {
        cache_bytes: 8 << 20,
        ..state::Options::default()
    };
    let (stage, _) = tokio::sync::watch::channel("");
    let started = quorate::raft::start(
        Arc::new(dir),
        log::Options::default(),
        state,
        options(),
        me,
        &stage,
    )
    .await;
    let (client, peer) = started.unwrap();
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(quorate::http::peer::serve(listener, peer, async {
        let _ = stopped.await;
    }));
    Node { client, stop }
}

fn member(listener: &TcpListener) -> Member {
    let addr = listener.local_addr().unwrap();
    Member {
        peer_addr: addr.to_string(),
        client_url: format!("http://{addr}/client"),
        ..Member::default()
    }
}

async fn formed(root: &Path) -> (BTreeMap<u64, Node>, BTreeMap<u64, Member>) {
    let (mut nodes, mut members) = (BTreeMap::new(), BTreeMap::new());
    for id in 1..=3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        members.insert(id, member(&listener));
        nodes.insert(id, start(root, id, listener).await);
    }
    let formed = nodes[&1].client.initialize(members.clone()).await;
    assert_eq!(formed.unwrap(), Initialized::Formed);
    (nodes, members)
}

async fn leader(nodes: &BTreeMap<u64, Node>) -> u64 {
    let deadline = soon();
    loop {
        let leads = |node: &Node| {
            let status = node.client.status();
            let fresh = |age| age < options().election_max;
            status.role == Role::Leader && status.quorum_ack_age.is_some_and(fresh)
        };
        if let Some((id, _)) = nodes.iter().find(|(_, node)| leads(node)) {
            return *id;
        }
        assert!(Instant::now() < deadline, "no leader");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn put(client: &Client, key: &str) -> Result<Written, WriteError> {
    let command = Command::KvPut {
        key,
        value: b"v",
        expect: Expect::Any,
    };
    client.write(&command, soon()).await
}

async fn write(client: &Client, command: Command<'_>) -> Reply {
    client.write(&command, soon()).await.unwrap().reply
}

fn transfer<'a>(id: &'a str, debit: &'a str, credit: &'a str) -> NewTransfer<'a> {
    NewTransfer {
        id,
        debit: quorate::machine::AccountRef::Id(debit),
        credit: quorate::machine::AccountRef::Id(credit),
        amount: 5,
        code: 1,
        linked: false,
        metadata: "",
    }
}

async fn converge(nodes: &BTreeMap<u64, Node>) {
    let deadline = soon();
    loop {
        let applied = |node: &Node| node.client.status().applied_index;
        let mut indexes = nodes.values().map(applied);
        let first = indexes.next().unwrap();
        if first.is_some() && indexes.all(|other| other == first) {
            return;
        }
        assert!(Instant::now() < deadline, "the nodes do not agree");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn money_moved_through_one_node_is_on_every_node() {
    let root = tempfile::tempdir().unwrap();
    let (nodes, _) = formed(root.path()).await;
    let client = &nodes[&leader(&nodes).await].client;
    let ledger = NewLedger {
        id: "main",
        asset: "USD",
        scale: 2,
    };
    write(client, Command::CreateLedger(ledger)).await;
    for id in ["alice", "bob"] {
        let account = NewAccount {
            id,
            ledger: "main",
            code: 1,
            limits: Limits::default(),
        };
        write(client, Command::CreateAccount(account)).await;
    }
    // The first names accounts that the leader resolves, the second one that does not exist.
    let batch = vec![
        transfer("t1", "alice", "bob"),
        transfer("t2", "alice", "carol"),
    ];
    let Reply::Transfers(results) = write(client, Command::Transfers(batch)).await else {
        panic!("transfers get transfer results");
    };
    assert!(
        matches!(results[0], TransferResult::Created(_)),
        "{results:?}"
    );
    assert!(
        matches!(results[1], TransferResult::Refused(_)),
        "{results:?}"
    );
    client.read(ReadLevel::Leader, soon()).await.unwrap();
    converge(&nodes).await;
    for node in nodes.values() {
        let bob = node.client.view().account("bob").unwrap().value.unwrap();
        assert_eq!(bob.balance.credits, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_get_their_answers_and_a_restarted_node_catches_up() {
    let root = tempfile::tempdir().unwrap();
    let (mut nodes, members) = formed(root.path()).await;
    let lead = leader(&nodes).await;
    let client = nodes[&lead].client.clone();
    let away = nodes.keys().copied().find(|id| *id != lead).unwrap();
    let (writers, each) = (256, 40);
    let start_at = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                for number in 0..each {
                    put(&client, &format!("{writer}-{number}")).await.unwrap();
                }
            })
        })
        .collect();
    let gone = nodes.remove(&away).unwrap();
    gone.client.shutdown(soon()).await.unwrap();
    let _ = gone.stop.send(());
    drop(gone.client);
    for task in tasks {
        task.await.unwrap();
    }
    let took = start_at.elapsed();
    println!("{} puts by {writers} writers took {took:?}", writers * each);
    let listener = listen_again(&members[&away]).await;
    nodes.insert(away, start(root.path(), away, listener).await);
    converge(&nodes).await;
    let back = nodes[&away].client.view();
    assert!(back.kv("255-39").unwrap().value.is_some());
}

async fn listen_again(member: &Member) -> TcpListener {
    let deadline = soon();
    loop {
        match TcpListener::bind(&member.peer_addr).await {
            Ok(listener) => return listener,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
