//! How a node learns that it is no member any more.
//!
//! The leader stops talking to a node that was removed, so that seldom learns of it from its own log. It asks: a node that does
//! not lead and has not heard of a leader for a while says hello to the members it knows, and each says what it knows of the
//! asker. Being told by one of them is enough, for what it tells is committed.
//!
//! It asks when it starts, too, before it may take part in an election: so they know which start of it speaks, and tell it if another
//! one is known, which means that its data directory is a copy, or was put back from one.

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
use crate::raft::watchdog::Faults;
use crate::raft::{Call, Options, blocking, config};
use crate::storage::clock::now;
use crate::storage::identity::DataDir;
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
    pub(in crate::raft) faults: Faults,
    pub(in crate::raft) options: Options,
}

impl Farewell {
    /// Looks now and then until it is certain, for as long as the core lives.
    pub(in crate::raft) async fn run(self) {
        let lease = config::lease(&self.options);
        let began = now();
        loop {
            let is_new = began.elapsed() < lease * 2;
            if let Some(why) = self.look(lease, is_new).await {
                self.removed.set(why);
                return std::future::pending().await;
            }
            tokio::time::sleep(lease / 2).await;
        }
    }

    /// Why this node is no member, if it is certainly none. One that has just started asks even if it hears of a leader.
    async fn look(&self, lease: Duration, is_new: bool) -> Option<String> {
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
        if leads || !(is_silent || is_new) {
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
        match ask_about_me(&self.context.dir, &self.call, id, addr).await? {
            Verdict::NoMember(why) => Some(why),
            Verdict::Copy(why) => {
                self.stop_for_ever(why).await;
                None
            }
        }
    }

    /// Stops this node at once.
    async fn stop_for_ever(&self, why: String) {
        if let Err(error) = refuse(&self.context.dir, &why).await {
            tracing::error!("{error}");
        }
        self.faults.report(&why);
    }
}

/// Why a node must not take part, as another one told it.
pub(in crate::raft) enum Verdict {
    /// It was removed, or another data directory is the member.
    NoMember(String),
    /// It runs on a copy of its directory, or one that was put back: to be noted there ([`refuse`]).
    Copy(String),
}

/// Asks node `id` at `addr` what it knows of the node on `dir`. `None` if it does not answer, or nothing is wrong.
pub(in crate::raft) async fn ask_about_me(
    dir: &DataDir,
    call: &UnaryCall,
    id: u64,
    addr: &str,
) -> Option<Verdict> {
    let me = dir.identity();
    me.cluster_id.as_ref()?;
    let request = HelloRequest::of(dir, id);
    let hello: HelloResponse = ask(call, addr, Call::Hello, &request).await.ok()?;
    if hello.node_id != id || hello.cluster_id != me.cluster_id {
        return None;
    }
    match hello.about_you {
        AboutYou::Removed => Some(Verdict::NoMember(was_removed(me.node_id))),
        AboutYou::OtherDirectory(uuid) => Some(Verdict::NoMember(format!(
            "node {} has data directory {uuid} in this cluster, not {}: this one is of before it was wiped, or another's. \
             Keep it aside and join again under a new id (quorate node replace)",
            me.node_id, me.node_uuid
        ))),
        AboutYou::Copy(why) => Some(Verdict::Copy(why)),
        AboutYou::Unknown | AboutYou::Member => None,
    }
}

/// Notes in the directory why no node may start on it again: its next start would look like the newest one.
pub(in crate::raft) async fn refuse(dir: &Arc<DataDir>, why: &str) -> anyhow::Result<()> {
    let (dir, why) = (dir.clone(), why.to_owned());
    Ok(blocking::run(move || dir.refuse(&why)).await??)
}

fn was_removed(id: u64) -> String {
    format!(
        "node {id} was removed from the cluster for good: its data directory is of no use any more. To come back, it needs an \
         empty one and a new id (quorate node add)"
    )
}
