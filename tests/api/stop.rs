//! Stopping a node in good order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate::client::SendError;

use crate::nodes::{Nodes, run};

/// Writes to a key through every node in turn until told to stop, as a client would that may never send twice: only what was
/// certainly not applied is asked of the next node. Gives how many writes there were.
async fn write(nodes: &Nodes, client: u64, done: &AtomicBool, gone: &AtomicU64) -> u64 {
    let mut writes = 0;
    let mut id = client % 3 + 1;
    while !done.load(Ordering::SeqCst) {
        let value = writes.to_string();
        let target = format!("/v1/kv/client-{client}");
        loop {
            let sent = nodes
                .try_ask(id, "PUT", &target, &[], Bytes::from(value.clone()))
                .await;
            match sent {
                Ok(answer) if answer.status < 300 => break,
                Ok(answer) => {
                    assert_eq!(answer.json()["outcome"], "not_applied", "{answer:?}");
                }
                Err(SendError::NotSent(_)) => {}
                Err(SendError::NoAnswer(why)) => panic!("write {writes} of {client}: {why}"),
            }
            id = id % 3 + 1;
            if id == gone.load(Ordering::SeqCst) {
                id = id % 3 + 1;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        writes += 1;
    }
    writes
}

#[test]
fn no_request_fails_while_the_leader_stops() {
    run(async {
        let mut nodes = Nodes::formed(3).await;
        let leader = nodes.leader().await;
        let place = usize::try_from(leader).unwrap() - 1;
        let node = nodes.nodes[place].take().unwrap();
        let nodes = Arc::new(nodes);
        let (done, gone) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let clients: Vec<_> = (0..8)
            .map(|client| {
                let (nodes, done, gone) = (nodes.clone(), done.clone(), gone.clone());
                tokio::spawn(async move { write(&nodes, client, &done, &gone).await })
            })
            .collect();
        let written = || async { nodes.get(leader % 3 + 1, "/v1/kv/client-0").await.status == 200 };
        nodes.wait_for(written).await;
        node.stop().await.expect("it stops");
        gone.store(leader, Ordering::SeqCst);
        let successor = nodes.leader().await;
        assert_ne!(successor, leader);
        done.store(true, Ordering::SeqCst);
        let mut total = 0;
        for (client, task) in clients.into_iter().enumerate() {
            let writes = task.await.expect("no write failed");
            assert!(writes > 0);
            total += writes;
            let last = nodes
                .get(successor, &format!("/v1/kv/client-{client}"))
                .await;
            assert_eq!(last.body, (writes - 1).to_string(), "client {client}");
            assert_eq!(
                last.header("kv-version"),
                writes.to_string(),
                "client {client}"
            );
        }
        println!("{total} writes");
        let nodes = Arc::into_inner(nodes).expect("the clients are done");
        nodes.end().await;
    });
}

#[test]
fn a_stopped_node_leaves_a_directory_that_verifies() {
    run(async {
        let mut nodes = Nodes::formed(1).await;
        for place in 0..10 {
            nodes.put(1, &format!("/v1/kv/{place}"), &[], "v").await;
        }
        nodes.stop(1).await;
        let verified = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"))
            .arg("verify")
            .arg(nodes.data_dir(1))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&verified.stdout);
        assert!(
            verified.status.success(),
            "{text} {}",
            String::from_utf8_lossy(&verified.stderr)
        );
        assert!(text.contains("10 keys"), "{text}");
        nodes.end().await;
    });
}
