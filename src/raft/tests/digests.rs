//! States that differ: who finds out, and what becomes of the node that is wrong.

use futures_util::FutureExt;

use super::cluster::{Cluster, eventually, put, put_by_any, soon, until};
use crate::raft::{Agreement, BackupError, Client, WriteError};

impl Cluster {
    /// From now on the state of node `id` is another one than it should be.
    async fn falsify(&self, id: u64) {
        self.converge().await;
        self.nodes[&id].state().falsify();
        let clients: Vec<Client> = self.clients();
        put_by_any(&clients, "falsified", "1").await;
    }

    /// Waits until node `id` says why it cannot go on, and starts it again.
    async fn wait_quarantined(&mut self, id: u64) {
        let fault = until("it stops", || {
            let faults = self.nodes[&id].faults.lock().unwrap().clone();
            faults.into_iter().next()
        })
        .await;
        assert!(
            fault.contains("not that of a majority") && fault.contains("next start"),
            "{fault}"
        );
        let read = self
            .client(id)
            .read(crate::raft::ReadLevel::Follower, soon());
        assert!(read.await.is_err(), "it serves nothing more");
        self.crash(id).await;
        self.start(id).await;
    }

    /// How node `of` compares in the eyes of node `by`.
    fn agreement(&self, by: u64, of: u64) -> Option<Agreement> {
        let seen = self.client(by).consistency();
        seen.nodes.get(&of).map(|node| node.agreement)
    }

    /// Makes a snapshot of node `id` and purges its log for it.
    async fn snapshot(&self, id: u64) {
        let node = self.client(id).node.clone();
        let applied = node.state.applied().log_id.unwrap();
        node.snapshots.make(&node.state).unwrap();
        eventually("the log is purged", || {
            let _ = node.raft.trigger().purge_log(applied.index).now_or_never();
            node.log.state().purged >= Some(applied)
        })
        .await;
    }

    async fn wait_agreed(&self) {
        eventually("all agree", || {
            let all = self.nodes.keys();
            all.clone().all(|by| {
                let mut others = all.clone();
                others.all(|of| self.agreement(*by, *of) == Some(Agreement::Agrees))
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_state_differs_from_that_of_a_majority_stops_and_gets_it_back() {
    let mut cluster = Cluster::formed().await;
    cluster.wait_agreed().await;
    for id in [3, cluster.leader().await] {
        cluster.falsify(id).await;
        cluster.wait_quarantined(id).await;
        assert!(cluster.dir(id).join("state.damaged-1").exists());
        put_by_any(&cluster.clients(), "after", "1").await;
        cluster.converge().await;
        cluster.wait_agreed().await;
    }
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_own_snapshots_are_as_wrong_as_the_state_they_were_made_of() {
    let mut cluster = Cluster::formed().await;
    cluster.wait_agreed().await;
    // There is time until the next comparison.
    let compared = || cluster.client(3).consistency().at;
    let before = compared();
    eventually("they are compared", || compared() > before).await;
    cluster.falsify(3).await;
    let has = || cluster.nodes[&3].get("falsified").is_some();
    eventually("it applied something else", has).await;
    cluster.snapshot(3).await;
    cluster.wait_quarantined(3).await;
    put_by_any(&cluster.clients(), "after", "1").await;
    cluster.converge().await;
    cluster.wait_agreed().await;
    assert!(!cluster.dir(3).join("state.damaged-2").exists());
    assert_eq!(cluster.faults(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_majority_has_the_same_state_no_writes_are_taken_until_one_has() {
    let mut cluster = Cluster::formed().await;
    let leader = cluster.leader().await;
    let (wrong, third) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.converge().await;
    cluster.stop(third).await;
    cluster.falsify(wrong).await;
    eventually("both see that they differ", || {
        [leader, wrong].map(|by| cluster.agreement(by, wrong)) == [Some(Agreement::Disputed); 2]
    })
    .await;
    let before = cluster.client(leader).status().last_log_index;
    for id in [leader, wrong] {
        // Nobody is to keep what may be wrong.
        match cluster.client(id).backup().await {
            Err(BackupError::NotReady(why)) => assert!(why.contains("no majority"), "{why}"),
            other => panic!("{:?}", other.map(|backup| backup.index())),
        }
        match put(cluster.client(id), "k", "v", soon()).await {
            Err(WriteError::NotReady(why)) => assert!(why.contains("no majority"), "{why}"),
            Err(WriteError::NotLeader(_)) if id == wrong => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cluster.client(leader).status().last_log_index, before);
    assert_eq!(cluster.faults(), [""; 0], "nobody knows who is wrong");
    // The third was never where they differ, and gets there.
    cluster.start(third).await;
    cluster.wait_quarantined(wrong).await;
    put_by_any(&cluster.clients(), "after", "1").await;
    cluster.converge().await;
    cluster.wait_agreed().await;
}
