//! Forming a cluster: once in the life of its nodes, by a command to any of them, or to several at once.
//!
//! Every node of the list is asked who it is, then told the cluster's id, which it writes down; only then does the first
//! entry go into the log here. The id is computed from the list and from the random identities of the nodes' data
//! directories, so several nodes told to form the same cluster agree without talking about it, and a node can never end up
//! in two. A crash in between leaves nodes that know an id and have an empty log: the same command again completes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::context::PeerContext;
use super::handshake::{
    AdoptRequest, AdoptResponse, HelloRequest, HelloResponse, PROTOCOL, answer_adopt,
};
use super::members::LEAP_MAX;
use super::types::{Raft, RaftStoredMembership};
use super::{Call, InitError, Initialized, Member, blocking};

/// Election times that forming may take after the first entry is written.
const ELECTIONS_MAX: u32 = 10;

/// Sends a unary call to a peer listener: address, call, body.
pub(crate) type UnaryCall =
    Arc<dyn Fn(String, Call, Bytes) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

/// Forms clusters; clones are the same.
#[derive(Clone)]
pub(super) struct Former {
    context: Arc<PeerContext>,
    raft: Raft,
    call: UnaryCall,
}

/// A listed node that answered.
struct Found {
    id: u64,
    addr: String,
    hello: HelloResponse,
}

impl Former {
    pub(super) fn new(context: Arc<PeerContext>, raft: Raft, call: UnaryCall) -> Former {
        Former {
            context,
            raft,
            call,
        }
    }

    /// See [`super::Client::initialize`].
    pub(super) async fn run(
        &self,
        members: BTreeMap<u64, Member>,
    ) -> Result<Initialized, InitError> {
        let me = self.context.dir.identity().node_id;
        check_list(me, &members)?;
        if let Some(verdict) = self.already(&members) {
            return verdict;
        }
        let found = self.find(me, &members).await?;
        let cluster_id = cluster_id(&members, &found);
        check_free(&found, &cluster_id)?;
        self.adopt(me, &found, &cluster_id).await?;
        match self
            .raft
            .initialize(with_directories(&members, &found))
            .await
        {
            Ok(()) => {}
            // Another node told to do the same was faster and its log is here already.
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(InitError::Failed(error.to_string())),
        }
        self.wait(&members).await?;
        // A log that was there says that somebody formed it before, though this node had not heard of it.
        Ok(if found.iter().all(|node| node.hello.pristine) {
            Initialized::Formed
        } else {
            Initialized::Already
        })
    }

    /// Whether this node has a membership, and whether it is the one asked for.
    fn already(&self, members: &BTreeMap<u64, Member>) -> Option<Result<Initialized, InitError>> {
        let stored = self
            .raft
            .metrics()
            .borrow_watched()
            .membership_config
            .clone();
        stored.log_id().as_ref()?;
        if is_membership(&stored, members) {
            return Some(Ok(Initialized::Already));
        }
        let cluster = self.context.dir.identity().cluster_id;
        Some(Err(InitError::AlreadyInitialized(format!(
            "cluster {} with {}",
            cluster.unwrap_or_default(),
            stored.membership()
        ))))
    }

    /// Asks every listed node who it is, this one too: the address listed for it must lead here.
    async fn find(
        &self,
        me: u64,
        members: &BTreeMap<u64, Member>,
    ) -> Result<Vec<Found>, InitError> {
        let asked = members.iter().map(|(id, member)| async move {
            let addr = member.peer_addr.clone();
            let request = HelloRequest::of(&self.context.dir, *id);
            let hello: HelloResponse = ask(&self.call, &addr, Call::Hello, &request)
                .await
                .map_err(|why| unreachable(*id, &addr, &why))?;
            if (hello.node_id, hello.protocol) != (*id, PROTOCOL) {
                let why = format!("node {} answers there", hello.node_id);
                return Err(unreachable(*id, &addr, &why));
            }
            Ok(Found {
                id: *id,
                addr,
                hello,
            })
        });
        let found: Vec<Found> = join_all(asked)
            .await
            .into_iter()
            .collect::<Result<_, _>>()?;
        let uuid = self.context.dir.identity().node_uuid;
        for node in &found {
            if (node.id == me) != (node.hello.node_uuid == uuid) {
                let why = "the address leads to another data directory than this node's".to_owned();
                return Err(unreachable(node.id, &node.addr, &why));
            }
        }
        Ok(found)
    }

    /// Has every node write the cluster's id down; this one last, so that it is not alone in a cluster if one refuses.
    async fn adopt(&self, me: u64, found: &[Found], cluster_id: &str) -> Result<(), InitError> {
        let request = |node: &Found| AdoptRequest {
            to: node.id,
            node_uuid: node.hello.node_uuid.clone(),
            cluster_id: cluster_id.to_owned(),
        };
        let others = found.iter().filter(|node| node.id != me);
        let asked = others.map(|node| async move {
            let answer = ask(&self.call, &node.addr, Call::Adopt, &request(node)).await;
            match answer.map_err(|why| unreachable(node.id, &node.addr, &why))? {
                AdoptResponse::Adopted => Ok(()),
                AdoptResponse::Refused(why) => Err(InitError::PeerInOtherCluster(format!(
                    "node {} at {} refused: {why}",
                    node.id, node.addr
                ))),
            }
        });
        join_all(asked)
            .await
            .into_iter()
            .collect::<Result<(), _>>()?;
        let here = found.iter().find(|node| node.id == me);
        let own = request(here.expect("the list was checked to hold this node"));
        let context = self.context.clone();
        let adopted = blocking::run(move || answer_adopt(&context, &own)).await;
        match adopted {
            Ok(AdoptResponse::Adopted) => Ok(()),
            Ok(AdoptResponse::Refused(why)) => Err(InitError::AlreadyInitialized(why)),
            Err(error) => Err(InitError::Failed(error.to_string())),
        }
    }

    /// Waits until a leader has committed the membership.
    async fn wait(&self, members: &BTreeMap<u64, Member>) -> Result<(), InitError> {
        let within = self.context.options.election_max * ELECTIONS_MAX + Duration::from_secs(1);
        let formed = |metrics: &openraft::RaftMetrics<super::types::Types>| {
            metrics.current_leader.is_some()
                && metrics.committed_membership_config.log_id().is_some()
        };
        let waited = self
            .raft
            .wait(Some(within))
            .metrics(formed, "a leader")
            .await;
        waited.map_err(|error| {
            InitError::Failed(format!(
                "the cluster is formed but has no leader yet: {error}"
            ))
        })?;
        match self.already(members) {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Asks the node at `addr` over `over`. `Err` is why there is no answer.
pub(super) async fn ask<A: Serialize, B: DeserializeOwned>(
    over: &UnaryCall,
    addr: &str,
    call: Call,
    request: &A,
) -> Result<B, String> {
    let body = postcard::to_stdvec(request).expect("plain data into memory");
    let answer = over(addr.to_owned(), call, body.into()).await?;
    postcard::from_bytes(&answer).map_err(|error| format!("a malformed answer: {error}"))
}

fn unreachable(id: u64, addr: &str, why: &str) -> InitError {
    InitError::PeerUnreachable(format!("node {id} at {addr}: {why}"))
}

/// Whether the list can be a cluster at all.
fn check_list(me: u64, members: &BTreeMap<u64, Member>) -> Result<(), InitError> {
    if members.is_empty() {
        return Err(InitError::Invalid(
            "the list of members is empty".to_owned(),
        ));
    }
    if !members.contains_key(&me) {
        return Err(InitError::Invalid(format!(
            "this node, {me}, is not in the list of members"
        )));
    }
    let least = members.keys().next().copied().unwrap_or(me);
    let (mut peers, mut clients) = (BTreeSet::new(), BTreeSet::new());
    for (id, member) in members {
        if id - least > LEAP_MAX {
            return Err(InitError::Invalid(format!(
                "node id {id} is far above {least}: ids only grow, so none below it could ever be given to another node"
            )));
        }
        if member.peer_addr.is_empty() || member.client_url.is_empty() {
            return Err(InitError::Invalid(format!("node {id} has no address")));
        }
        if !peers.insert(&member.peer_addr) || !clients.insert(&member.client_url) {
            return Err(InitError::Invalid(format!(
                "node {id} has an address that another node has too"
            )));
        }
    }
    Ok(())
}

/// Whether every node may join: in no cluster, in this one, or in one that never had an entry.
fn check_free(found: &[Found], cluster_id: &str) -> Result<(), InitError> {
    for node in found {
        let Some(other) = &node.hello.cluster_id else {
            continue;
        };
        if other != cluster_id && !node.hello.pristine {
            return Err(InitError::PeerInOtherCluster(format!(
                "node {} at {} belongs to cluster {other}",
                node.id, node.addr
            )));
        }
    }
    Ok(())
}

/// 32 hex digits that depend on the list and on the data directories, and on nothing else.
fn cluster_id(members: &BTreeMap<u64, Member>, found: &[Found]) -> String {
    let uuids: BTreeMap<u64, &str> = found
        .iter()
        .map(|node| (node.id, node.hello.node_uuid.as_str()))
        .collect();
    let identity: Vec<(u64, &str, &str, &str)> = members
        .iter()
        .map(|(id, member)| {
            let uuid = uuids.get(id).expect("every listed node was found");
            (*id, &*member.peer_addr, &*member.client_url, *uuid)
        })
        .collect();
    let bytes = postcard::to_stdvec(&identity).expect("plain data into memory");
    let mut hex = blake3::hash(&bytes).to_hex().to_string();
    hex.truncate(32);
    hex
}

/// `members` with the data directory of each.
fn with_directories(members: &BTreeMap<u64, Member>, found: &[Found]) -> BTreeMap<u64, Member> {
    let mut members = members.clone();
    for node in found {
        if let Some(member) = members.get_mut(&node.id) {
            member.uuid.clone_from(&node.hello.node_uuid);
        }
    }
    members
}

/// Whether `stored` is exactly `members`, all of them voters.
fn is_membership(stored: &RaftStoredMembership, members: &BTreeMap<u64, Member>) -> bool {
    let voters: BTreeSet<u64> = stored.voter_ids().collect();
    let same = |((id, known), (other, member)): ((&u64, &Member), (&u64, &Member))| {
        id == other && known.is_reached_as(member)
    };
    voters.iter().eq(members.keys())
        && stored.nodes().count() == members.len()
        && stored.nodes().zip(members).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::handshake::AboutYou;

    fn member(name: &str) -> Member {
        Member {
            peer_addr: format!("{name}:1"),
            client_url: format!("http://{name}:2"),
            ..Member::default()
        }
    }

    fn found(id: u64, uuid: &str) -> Found {
        Found {
            id,
            addr: String::new(),
            hello: HelloResponse {
                protocol: PROTOCOL,
                node_id: id,
                node_uuid: uuid.to_owned(),
                cluster_id: None,
                pristine: true,
                me: Member::default(),
                about_you: AboutYou::Unknown,
            },
        }
    }

    #[test]
    fn the_cluster_id_depends_on_members_and_directories_and_not_on_the_order_of_answers() {
        let members = BTreeMap::from([(1, member("a")), (2, member("b"))]);
        let id = cluster_id(&members, &[found(1, "x"), found(2, "y")]);
        assert_eq!(id.len(), 32);
        assert_eq!(id, cluster_id(&members, &[found(2, "y"), found(1, "x")]));
        assert_ne!(id, cluster_id(&members, &[found(1, "x"), found(2, "z")]));
        let moved = BTreeMap::from([(1, member("a")), (2, member("c"))]);
        assert_ne!(id, cluster_id(&moved, &[found(1, "x"), found(2, "y")]));
    }

    #[test]
    fn a_list_without_this_node_or_with_an_address_twice_is_invalid() {
        let good = BTreeMap::from([(1, member("a")), (2, member("b"))]);
        check_list(1, &good).unwrap();
        assert!(check_list(3, &good).is_err());
        assert!(check_list(1, &BTreeMap::new()).is_err());
        let twice = BTreeMap::from([(1, member("a")), (2, member("a"))]);
        assert!(check_list(1, &twice).is_err());
        for (id, is_fine) in [(1 + LEAP_MAX, true), (2 + LEAP_MAX, false)] {
            let list = BTreeMap::from([(1, member("a")), (id, member("b"))]);
            assert_eq!(check_list(1, &list).is_ok(), is_fine, "{id}");
        }
    }

    #[test]
    fn a_node_with_a_past_in_another_cluster_is_not_adopted() {
        let mut node = found(1, "x");
        node.hello.cluster_id = Some("other".to_owned());
        check_free(&[node], "this").unwrap();
        let mut node = found(1, "x");
        node.hello.cluster_id = Some("other".to_owned());
        node.hello.pristine = false;
        assert!(check_free(&[node], "this").is_err());
    }
}
