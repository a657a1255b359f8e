//! How a node learns that it is no member any more.
//!
//! The leader stops talking to a node that was removed, so that seldom learns of it from its own log. It asks: a node that does
//! not lead and has not heard of a leader for a while says hello to the members it knows, and each says what it knows of the
//! asker. Being told by one of them is enough, for what it tells is committed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::is_removed;
use crate::raft::context::PeerContext;
use crate::raft::form::{UnaryCall, ask};
use crate::raft::hand_over::HandOver;
use crate::raft::handshake::{AboutYou, HelloRequest, HelloResponse};
use crate::raft::status::LastContact;
use crate::raft::types::Raft;
use crate::raft::{Call, Options, config};
use crate::storage::clock::now;
use crate::storage::watch;

/// Why this node is no member, once that is certain; clones share it.
#[derive(Clone)]
pub(in crate::raft) struct Removed(watch::Sender<Option<String>>);

impl Default for Removed {
    fn default() -> Removed {
        Removed(watch::Sender::new(None))
    }
}

impl Removed {
    pub(in crate::raft) fn get(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    fn set(&self, why: String) {
        tracing::error!("{why}");
        self.0.send_replace(Some(why));
    }
}

/// Watches over this node's own membership.
pub(in crate::raft) struct Farewell {
    pub(in crate::raft) context: Arc<PeerContext>,
    pub(in crate::raft) raft: Raft,
    pub(in crate::raft) call: UnaryCall,
    pub(in crate::raft) hand_over: HandOver,
    pub(in crate::raft) contact: LastContact,
    pub(in crate::raft) removed: Removed,
    pub(in crate::raft) options: Options,
}

impl Farewell {
    /// Looks now and then until it is certain, for as long as the core lives.
    pub(in crate::raft) async fn run(self) {
        let lease = config::lease(&self.options);
        loop {
            tokio::time::sleep(lease / 2).await;
            if let Some(why) = self.look(lease).await {
                self.removed.set(why);
                return std::future::pending().await;
            }
        }
    }

    /// Why this node is no member, if it is certainly none.
    async fn look(&self, lease: Duration) -> Option<String> {
        let seen = self.raft.metrics().borrow_watched().clone();
        let committed = &seen.committed_membership_config;
        let leads = seen.state == ServerState::Leader;
        if is_removed(committed, seen.id) {
            if leads {
                // It finished its own removal. Whoever takes over spares the others an election.
                let _ = self.hand_over.run(now() + lease).await;
            }
            return Some(was_removed(seen.id));
        }
        let is_silent = self.contact.get().is_none_or(|age| age > lease * 2);
        if leads || !is_silent {
            return None;
        }
        let others = seen
            .membership_config
            .nodes()
            .filter(|(id, _)| **id != seen.id);
        let others: Vec<(u64, String)> = others
            .map(|(id, member)| (*id, member.peer_addr.clone()))
            .collect();
        let asked = others.iter().map(|(id, addr)| self.ask(*id, addr));
        join_all(asked).await.into_iter().flatten().next()
    }

    async fn ask(&self, id: u64, addr: &str) -> Option<String> {
        let me = self.context.dir.identity();
        me.cluster_id.as_ref()?;
        let request = HelloRequest::of(&me, id);
        let hello: HelloResponse = ask(&self.call, addr, Call::Hello, &request).await.ok()?;
        let is_same = hello.node_id == id && hello.cluster_id == me.cluster_id;
        match hello.about_you {
            AboutYou::Removed if is_same => Some(was_removed(me.node_id)),
            AboutYou::OtherDirectory(uuid) if is_same => Some(format!(
                "node {} has data directory {uuid} in this cluster, not {}: this one is of before it was wiped, or another's. \
                 Keep it aside and join again under a new id (quorate node replace)",
                me.node_id, me.node_uuid
            )),
            _ => None,
        }
    }
}

fn was_removed(id: u64) -> String {
    format!(
        "node {id} was removed from the cluster for good: its data directory is of no use any more. To come back, it needs an \
         empty one and a new id (quorate node add)"
    )
}
