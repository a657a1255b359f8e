//! What nodes say to each other before they share a cluster, or when one wonders whether they still do: [`super::Call::Hello`]
//! and [`super::Call::Adopt`].
//!
//! Bodies are `postcard` of these types. The transport decodes a request, calls `answer_*` and encodes what it gives; it
//! checks no cluster id for these two calls, since there may be none yet.

use openraft::async_runtime::watch::WatchReceiver;
use openraft::storage::RaftStateMachine;
use serde::{Deserialize, Serialize};

use super::Member;
use super::context::PeerContext;
use super::members::is_removed;
use super::types::Types;
use super::wire;
use crate::mutants::{self, Mutant};
use crate::storage::identity::{Boot, DataDir, Identity};

/// Version of the handshake and of everything that follows it between peers.
///
/// | version | what is new |
/// |---|---|
/// | 1 | |
/// | 2 | answers carry the clock of who answers |
/// | 3 | who asks says which data directory it has, and is told what is known of it |
/// | 4 | requests say which start of the sender speaks, and which data directory is meant |
pub(crate) const PROTOCOL: u32 = 4;

/// Asks who is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelloRequest {
    /// The asker's [`PROTOCOL`].
    pub(crate) protocol: u32,
    /// The asker's node id.
    pub(crate) from: u64,
    /// The node id it expects to find.
    pub(crate) to: u64,
    /// The asker's data directory.
    pub(crate) uuid: String,
    /// The cluster it belongs to.
    pub(crate) cluster_id: Option<String>,
    /// Which start on its data directory it is.
    pub(crate) boot: (u64, u64),
}

impl HelloRequest {
    /// From the node on `dir`.
    pub(crate) fn of(dir: &DataDir, to: u64) -> HelloRequest {
        let (me, boot) = (dir.identity(), dir.boot());
        HelloRequest {
            protocol: PROTOCOL,
            from: me.node_id,
            to,
            uuid: me.node_uuid,
            cluster_id: me.cluster_id,
            boot: (boot.number, boot.nonce),
        }
    }
}

/// What the answerer knows of who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AboutYou {
    /// Nothing: they share no cluster, or it has not heard of the asker yet.
    Unknown,
    /// A member.
    Member,
    /// It was a member once and is none any more.
    Removed,
    /// The member of that id has this data directory, and the asker another.
    OtherDirectory(String),
    /// It has the member's data directory, or a copy of it, and must not go on: why.
    Copy(String),
}

/// Says who is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelloResponse {
    /// The answerer's [`PROTOCOL`].
    pub(crate) protocol: u32,
    /// Its node id.
    pub(crate) node_id: u64,
    /// Random identity of its data directory.
    pub(crate) node_uuid: String,
    /// Cluster it belongs to.
    pub(crate) cluster_id: Option<String>,
    /// Its log and vote are empty: it may still be adopted by another cluster.
    pub(crate) pristine: bool,
    /// How it says it is reached.
    pub(crate) me: Member,
    /// What it knows of the asker.
    pub(crate) about_you: AboutYou,
}

/// Asks a node to belong to a cluster from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AdoptRequest {
    /// The node id meant.
    pub(crate) to: u64,
    /// The data directory meant.
    pub(crate) node_uuid: String,
    /// The cluster.
    pub(crate) cluster_id: String,
}

/// The verdict on [`AdoptRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AdoptResponse {
    /// It belongs to that cluster now, durably.
    Adopted,
    /// It does not, and why.
    Refused(String),
}

/// Answers [`HelloRequest`]; `Err` if the asker means another node or speaks another protocol.
pub(crate) fn answer_hello<SM: RaftStateMachine<Types>>(
    context: &PeerContext<SM>,
    request: &HelloRequest,
) -> Result<HelloResponse, String> {
    let identity = context.dir.identity();
    if request.protocol != PROTOCOL {
        return Err(format!(
            "node {} speaks peer protocol {}, this node speaks {PROTOCOL}",
            request.from, request.protocol
        ));
    }
    if request.to != identity.node_id {
        return Err(format!(
            "node {} was expected here, this is node {}",
            request.to, identity.node_id
        ));
    }
    let about_you = about(context, &identity, request);
    Ok(HelloResponse {
        protocol: PROTOCOL,
        node_id: identity.node_id,
        node_uuid: identity.node_uuid,
        cluster_id: identity.cluster_id,
        pristine: (context.pristine)(),
        me: context.me.clone(),
        about_you,
    })
}

/// What is committed here of who asks.
fn about<SM: RaftStateMachine<Types>>(
    context: &PeerContext<SM>,
    me: &Identity,
    request: &HelloRequest,
) -> AboutYou {
    let Ok(raft) = context.raft() else {
        return AboutYou::Unknown;
    };
    if me.cluster_id.is_none() || me.cluster_id != request.cluster_id {
        return AboutYou::Unknown;
    }
    let server = raft.server_metrics().borrow_watched().clone();
    let committed = &server.committed_membership_config;
    match committed.get_node(&request.from) {
        Some(member)
            if !member.uuid.is_empty()
                && member.uuid != request.uuid
                && !mutants::on(Mutant::OldIdAfterWipe) =>
        {
            AboutYou::OtherDirectory(member.uuid.clone())
        }
        Some(_) => match copied(context, request) {
            Some(why) => AboutYou::Copy(why),
            None => AboutYou::Member,
        },
        None if is_removed(committed, request.from) => AboutYou::Removed,
        None => AboutYou::Unknown,
    }
}

/// Why the data directory of who asks is not what it was, or runs twice. If all is well, this start of it is known from now on.
fn copied<SM: RaftStateMachine<Types>>(
    context: &PeerContext<SM>,
    request: &HelloRequest,
) -> Option<String> {
    let (number, nonce) = request.boot;
    let uuid = wire::id_bytes(&request.uuid).ok()?;
    let boot = Boot { number, nonce };
    context.vitals.heard.start(request.from, uuid, boot).err()
}

/// Answers [`AdoptRequest`]. Blocking: the cluster id is on the disk when it returns.
pub(crate) fn answer_adopt<SM: RaftStateMachine<Types>>(
    context: &PeerContext<SM>,
    request: &AdoptRequest,
) -> AdoptResponse {
    let identity = context.dir.identity();
    if (request.to, &request.node_uuid) != (identity.node_id, &identity.node_uuid) {
        return AdoptResponse::Refused(format!(
            "node {} ({}) was meant, this is node {} ({})",
            request.to, request.node_uuid, identity.node_id, identity.node_uuid
        ));
    }
    if identity.cluster_id.as_ref() == Some(&request.cluster_id) {
        return AdoptResponse::Adopted;
    }
    match context
        .dir
        .set_cluster_id(&request.cluster_id, (context.pristine)())
    {
        Ok(()) => AdoptResponse::Adopted,
        Err(error) => AdoptResponse::Refused(error.to_string()),
    }
}
