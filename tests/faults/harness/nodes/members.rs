//! Who belongs to the cluster: nodes that come, and nodes that go.

use std::fs::{self, File};
use std::io::Write as _;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Addresses, Nodes, local};
use crate::harness::http;
use crate::harness::roster::Roster;
use crate::history::Membership;
use crate::ports::Ports;
use crate::run::Exit;

/// Nodes for which a block has ports.
const NODES_A_BLOCK: u64 = 7;

/// How long a node that came back with nothing may take to say what it is.
const GLANCE: Duration = Duration::from_secs(1);

/// How many removed nodes are started again. Those that were removed long before would find nobody whom they knew.
const AGAIN: usize = 2;

impl Nodes {
    /// The ids that the cluster began with.
    pub(crate) fn first_ids(&self) -> Vec<u64> {
        (1..=self.size).collect()
    }

    /// Who can be asked, for those who ask.
    pub(crate) fn roster(&self) -> Arc<Roster> {
        Arc::clone(&self.roster)
    }

    /// Gives a node its ports and its place in the network.
    pub(super) fn place(&mut self, id: u64) -> anyhow::Result<()> {
        let block = usize::try_from((id - 1) / NODES_A_BLOCK)?;
        while self.ports.len() <= block {
            self.ports.push(Ports::reserve());
        }
        let within = (id - 1) % NODES_A_BLOCK + 1;
        let client = local(self.ports[block].client(within));
        let peer = local(self.ports[block].peer(within));
        let placed = self.net.add(id, Addresses { peer, client });
        placed.context("the network")?;
        self.roster.join(id, self.net.listens(id).client);
        Ok(())
    }

    /// How others reach a node, as requests about members say it.
    pub(crate) fn member(&self, id: u64) -> Value {
        let Addresses { peer, client } = self.net.address(id);
        json!({
            "id": id, "peer_addr": peer.to_string(), "client_url": format!("http://{client}"),
        })
    }

    /// The body that forms the cluster.
    pub(crate) fn members(&self) -> String {
        let members = self.ids().into_iter().map(|id| self.member(id));
        json!({ "members": members.collect::<Vec<_>>() }).to_string()
    }

    /// Starts a node under an id that no other ever had, which belongs to no cluster yet.
    ///
    /// # Errors
    /// When there is no place for it or it cannot be started.
    pub(crate) fn join(&mut self) -> anyhow::Result<u64> {
        let last = self.roster.ever().into_iter().map(|(id, _)| id).max();
        let id = last.unwrap_or(0) + 1;
        if let Some(disks) = &mut self.disks {
            disks.add(id)?;
        }
        if let Some(clocks) = &self.clocks {
            clocks.set_ahead(id, 0)?;
        }
        if let Some(errors) = &self.errors {
            errors.add(id)?;
        }
        self.place(id)?;
        self.start(id)?;
        Ok(id)
    }

    /// Ends a node and removes its directory. It never comes back, or comes back with nothing: then nobody must take it for what
    /// it was.
    ///
    /// # Errors
    /// When it does not run, the directory cannot be removed, or it does not start.
    pub(crate) fn wipe(&mut self, id: u64, comes_back: bool) -> anyhow::Result<()> {
        self.kill(id)?;
        fs::remove_dir_all(self.data_dir(id)).context("a directory to wipe")?;
        if comes_back {
            self.hollow.insert(id);
            self.start(id)
        } else {
            self.wiped.insert(id);
            Ok(())
        }
    }

    /// Where the operator writes what he is told, from now on of a change that is told so.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn operator_log(&self, change: &str) -> anyhow::Result<File> {
        let path = self.dir.join("operator.txt");
        let mut log = File::options().create(true).append(true).open(path)?;
        writeln!(log, "\n{change}")?;
        Ok(log)
    }

    /// Who belongs to the cluster, as its operator was told last.
    pub(crate) fn membership(&self) -> &Membership {
        &self.membership
    }

    /// Whether no voter was wiped, or those that have their data are a majority without that one.
    pub(crate) fn can_lose(&self, id: u64) -> bool {
        let voters = &self.membership.voters;
        let mut whole = voters - &(&self.wiped | &self.hollow);
        let is_whole = whole.len() == voters.len();
        whole.remove(&id);
        is_whole || whole.len() > voters.len() / 2
    }

    /// These may be removed from now on, and end by themselves then.
    pub(crate) fn may_leave(&mut self, ids: &[u64]) {
        self.leaving.extend(ids);
    }

    /// A change of the members is completed: so it is now.
    ///
    /// # Errors
    /// When a node that came back with nothing cannot be ended: it was told nothing, and would run for ever.
    pub(crate) fn settle(&mut self, now: Membership) -> anyhow::Result<()> {
        let all = now.all();
        for hollow in std::mem::take(&mut self.hollow) {
            self.wiped.insert(hollow);
            if self.is_running(hollow) {
                if let Some(cluster) = self.cluster_of(hollow) {
                    self.exits.push(Exit {
                        node: hollow,
                        status: format!(
                            "SIGKILL, since it took part in {cluster} though its disk was wiped"
                        ),
                        expected: false,
                    });
                }
                self.kill(hollow)?;
            }
        }
        for gone in self.ids().into_iter().filter(|id| !all.contains(id)) {
            self.roster.leave(gone);
            self.leaving.insert(gone);
            self.removed.push(gone);
        }
        self.leaving.retain(|id| !all.contains(id));
        self.membership = now.clone();
        self.changed = Some(now);
        Ok(())
    }

    /// The cluster that a node says to belong to, if it answers and does.
    fn cluster_of(&self, id: u64) -> Option<String> {
        let reply = http::ask(self.addr(id), "GET", "/v1/cluster", "", GLANCE).ok()?;
        let cluster = reply.field("cluster_id");
        (!cluster.is_empty()).then_some(cluster)
    }

    /// Starts the nodes again that were removed last, a few: they must end by themselves once more.
    ///
    /// # Errors
    /// When one cannot be started.
    pub(crate) fn start_removed(&mut self) -> anyhow::Result<()> {
        let removed = self.removed.iter().rev().take(AGAIN).copied();
        let removed: Vec<u64> = removed.filter(|id| !self.is_running(*id)).collect();
        removed.into_iter().try_for_each(|id| self.start(id))
    }

    /// What became of the members, if that is news.
    pub(crate) fn take_changed(&mut self) -> Option<Membership> {
        self.changed.take()
    }

    /// Waits until every node that was removed has ended by itself.
    ///
    /// # Errors
    /// When one runs on, or another one ended.
    pub(crate) fn wait_gone(&mut self, limit: Duration) -> anyhow::Result<()> {
        let start = Instant::now();
        loop {
            let dead = self.look_for_dead()?;
            anyhow::ensure!(dead.is_empty(), "nodes {dead:?} ended by themselves");
            let running = self.running.keys().filter(|id| !self.roster.has(**id));
            let running: Vec<u64> = running.copied().collect();
            if running.is_empty() {
                return Ok(());
            }
            anyhow::ensure!(
                start.elapsed() < limit,
                "nodes {running:?} were removed and run on after {limit:?}"
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
}
