//! The one door to consensus for everything above it: write, read, look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;

use super::backup;
use super::batcher::{self, Batcher};
use super::blocking;
use super::digests::{Compared, Consistency};
use super::form::Former;
use super::hand_over::HandOver;
use super::members::Members;
use super::read::Barriers;
use super::snapshots::Snapshots;
use super::space::Space;
use super::stats::{Counters, Stats};
use super::status::StatusSource;
use super::types::{Raft, Types};
use super::watchdog::Faults;
use super::{
    Changed, InitError, Initialized, Member, MemberChange, MemberError, Permit, ReadError,
    ReadLevel, Replica, Standing, Status, TransferError, Transferred, WriteError, Written,
};
use crate::machine::{AccountRef, Command, Fault, NewTransfer, Once, entry};
use crate::storage::applied;
use crate::storage::clock::now;
use crate::storage::identity::DataDir;
use crate::storage::log::Log;
use crate::storage::state::State;

/// How often a stopping node looks whether the writes in flight have their answers.
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// How long a stopping node waits for its core and its disk.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Handle to this node's consensus over a state; clones share it.
pub struct Client<S = State> {
    pub(super) node: Arc<Node<S>>,
}

impl<S> Clone for Client<S> {
    fn clone(&self) -> Client<S> {
        Client {
            node: self.node.clone(),
        }
    }
}

/// What a running node consists of.
pub(super) struct Node<S> {
    pub(super) dir: Arc<DataDir>,
    pub(super) raft: Raft,
    pub(super) server: WatchReceiverOf<Types, RaftServerMetrics<Types>>,
    pub(super) log: Log,
    pub(super) state: S,
    pub(super) snapshots: Snapshots,
    pub(super) space: Space,
    pub(super) batcher: Batcher,
    pub(super) barriers: Barriers,
    pub(super) former: Former,
    pub(super) hand_over: HandOver,
    pub(super) members: Members,
    pub(super) status: StatusSource,
    pub(super) faults: Faults,
    pub(super) counters: Counters,
    pub(super) scrubbed: super::scrub::Counters,
    pub(super) compared: Compared,
    pub(super) backups: backup::Turn,
}

impl<S: Replica + Clone> Client<S> {
    /// Has `command` committed by a majority and applied here. Resolves account ids, encodes and queues it before the first
    /// await, so the borrowed command may go away then; hence not an `async fn`.
    pub fn write(
        &self,
        command: &Command<'_>,
        deadline: Instant,
    ) -> impl Future<Output = Result<Written, WriteError>> + Send + use<S> {
        let ticket = self
            .node
            .check_may_write()
            .and_then(|()| self.node.check_agrees())
            .and_then(|()| self.node.check_space(Some(command)))
            .and_then(|()| self.node.encode(command))
            .and_then(|bytes| self.node.batcher.enter(bytes, deadline));
        let node = self.node.clone();
        async move {
            let result = match ticket {
                Ok(ticket) => batcher::answer(ticket, deadline).await,
                Err(error) => Err(error),
            };
            node.counters.wrote(&result);
            result
        }
    }

    /// Whether this node would take a command of about `bytes` now: asked before a large body is read and parsed in vain. A node
    /// that does not lead has room for whatever it hands on.
    ///
    /// # Errors
    /// As of [`Client::write`], and as certain.
    pub fn check_room(&self, bytes: usize, deadline: Instant) -> Result<(), WriteError> {
        match self.node.check_may_write() {
            Ok(()) => {
                self.node.check_agrees()?;
                self.node.check_space(None)?;
                self.node.batcher.check_room(bytes, deadline)
            }
            Err(_) => Ok(()),
        }
    }

    /// Waits until a read at `level` may be served by [`Client::view`]. Never weaker than asked.
    ///
    /// # Errors
    /// If this node cannot serve that level before `deadline`; nothing was read.
    pub async fn read(&self, level: ReadLevel, deadline: Instant) -> Result<Permit, ReadError> {
        self.node.check_runs().map_err(ReadError::NotReady)?;
        let result = self.node.barriers.read(level, deadline).await;
        self.node.counters.read(level, &result);
        result
    }

    /// Waits until this node has applied the entry at `index`; returns whether it has by `deadline`.
    pub async fn wait_applied(&self, index: u64, deadline: Instant) -> bool {
        self.node.barriers.wait_applied(index, deadline).await
    }

    /// How the states of the nodes compared when this node last looked.
    pub fn consistency(&self) -> Consistency {
        self.node.compared.get()
    }

    /// This node's view of itself and the cluster.
    pub fn status(&self) -> Status {
        Status {
            writes_refused: self.node.refuses_writes(),
            ..self.node.status.take()
        }
    }

    /// The little of it that every answer carries.
    pub fn standing(&self) -> Standing {
        self.node.status.standing()
    }

    /// Forms a cluster of `members` (this node among them) once in its life. Idempotent; safe to call on several nodes at once.
    ///
    /// # Errors
    /// If the list is wrong, a node cannot be reached or belongs elsewhere. Calling again with the same list goes on.
    pub async fn initialize(
        &self,
        members: BTreeMap<u64, Member>,
    ) -> Result<Initialized, InitError> {
        self.node.check_runs().map_err(InitError::Failed)?;
        self.node.former.run(members).await
    }

    /// Hands leadership to the most caught-up voter and waits until another node leads or `deadline` passes. Does nothing on a
    /// node that does not lead.
    ///
    /// # Errors
    /// Why no other node leads; this one may still do.
    pub async fn hand_over(&self, deadline: Instant) -> Result<(), TransferError> {
        self.node.hand_over.run(deadline).await
    }

    /// Has node `to` lead, or the most caught-up voter that does not yet; waits until another node leads. Idempotent if `to` is
    /// named.
    ///
    /// # Errors
    /// If this node does not lead, the other one cannot, or `deadline` passed without a verdict.
    pub async fn transfer(
        &self,
        to: Option<u64>,
        deadline: Instant,
    ) -> Result<Transferred, TransferError> {
        let node = &self.node;
        node.check_runs().map_err(TransferError::NotReady)?;
        let transferred = node.hand_over.transfer(to, deadline).await?;
        if transferred.moved {
            return Ok(transferred);
        }
        // It says that it leads already: others may know better.
        node.barriers.read(ReadLevel::Leader, deadline).await?;
        node.hand_over.transfer(to, deadline).await
    }

    /// Changes who belongs to the cluster, and waits until that is committed. Done only by the leader; idempotent.
    ///
    /// # Errors
    /// If this node does not lead, the change must not be, or `deadline` passed without a verdict.
    pub async fn change_members(
        &self,
        change: MemberChange,
        deadline: Instant,
    ) -> Result<Changed, MemberError> {
        let node = &self.node;
        node.check_runs().map_err(MemberError::NotReady)?;
        let changed = node.members.change(change.clone(), deadline).await?;
        if changed != Changed::Before {
            return Ok(changed);
        }
        // Whoever was deposed and has not heard of it knows the members of before: that it is so already is found by who leads now.
        node.barriers.read(ReadLevel::Leader, deadline).await?;
        node.members.change(change, deadline).await
    }

    /// Stops: refuses new writes, waits until `deadline` for the answers that somebody still waits for, stops the core, seals the state.
    /// A disk that does not finish is waited for ten seconds more.
    ///
    /// # Errors
    /// If the state could not be written down; nothing acknowledged is lost, the next start takes longer.
    pub async fn shutdown(&self, deadline: Instant) -> anyhow::Result<()> {
        let node = &self.node;
        const STOPPING: &str = "this node is stopping";
        node.batcher.close_for_good(STOPPING);
        while node.batcher.is_awaited() && now() < deadline {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        node.batcher.close(STOPPING);
        node.faults.stop();
        let closed = tokio::time::timeout(CLOSE_MAX, node.close()).await;
        closed.context("the disk did not finish while this node stopped")?
    }
}

impl Client {
    /// What this node counted since it started. Looks at files: not for an async thread.
    ///
    /// # Errors
    /// If the database cannot be asked.
    pub fn stats(&self) -> Result<Stats, Fault> {
        let node = &self.node;
        let backlog = node.batcher.backlog();
        Ok(Stats {
            writes: node.counters.writes(),
            reads: node.counters.reads(),
            reads_refused: node.counters.reads_refused(),
            waiting: backlog.commands,
            waiting_bytes: backlog.bytes,
            pending: node.batcher.pending(),
            log_writes: node.log.writes(),
            log_bytes: node.log.disk_bytes(),
            unflushed_bytes: node.log.unflushed_bytes(),
            oldest_unflushed: node.log.oldest_unflushed(),
            apply: node.state.stats(),
            state_bytes: node.state.disk_bytes()?,
            answers_held: node.state.answers_held()?,
            snapshots: node.snapshots.stats(),
            states_aside: State::count_aside(&node.dir.state_dir()).ok(),
            disk: node.space.get(),
            scrub: node.scrubbed.read(),
        })
    }

    /// What this node has applied.
    pub fn view(&self) -> super::View {
        self.node.state.view()
    }

    /// Notes what was asked of this node as of a part of its cluster, and what came of it: see [`crate::storage::audit`]. `object` is the
    /// text of a JSON object. A disk that does not take it is told of in the log only: what was asked for is done.
    pub async fn audit(&self, object: String) {
        let dir = self.node.dir.clone();
        match blocking::run(move || dir.audit(&object)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the audit file takes no line"),
            Err(error) => tracing::error!(%error, "the audit file takes no line"),
        }
    }

    /// A page of what this node applied, from log index `from` on: see [`applied::page`]. Looks at files: not for an async thread.
    ///
    /// # Errors
    /// If log or database cannot be read.
    pub fn applied_page(&self, from: u64, to: Option<u64>) -> Result<Vec<u8>, Fault> {
        applied::page(&self.node.log, &self.node.state, from, to)
    }
}

impl<S: Replica + Clone> Node<S> {
    async fn close(&self) -> anyhow::Result<()> {
        // What was handed over and has no answer is told "unknown" as the core goes.
        self.raft.shutdown().await?;
        let (state, log) = (self.state.clone(), self.log.clone());
        let closing = move || {
            let closed = state.close();
            log.close();
            closed
        };
        match blocking::run(closing).await? {
            Ok(_) => Ok(()),
            Err(fault) => Err(anyhow::anyhow!(fault.what)),
        }
    }

    /// Whether this node works at all.
    pub(super) fn check_runs(&self) -> Result<(), String> {
        if let Some(fault) = self.faults.get() {
            return Err(fault);
        }
        if self.faults.is_stopping() {
            return Err("this node is stopping".to_owned());
        }
        Ok(())
    }

    /// Spares a node that does not lead the work of encoding.
    fn check_may_write(&self) -> Result<(), WriteError> {
        self.check_runs().map_err(WriteError::NotReady)?;
        let server = self.server.borrow_watched();
        if server.state == ServerState::Leader {
            return Ok(());
        }
        if server.membership_config.log_id().is_none() {
            return Err(WriteError::NotReady(
                "this node is not a member of a cluster yet".to_owned(),
            ));
        }
        let leader = server.current_leader.and_then(|id| {
            let member = server.membership_config.get_node(&id)?;
            Some((id, member.clone()))
        });
        Err(WriteError::NotLeader(leader))
    }

    /// Why this node, if it leads, takes no writes whatever is asked for, or none that add anything.
    fn refuses_writes(&self) -> Option<String> {
        self.check_may_write().ok()?;
        let checked = self.check_agrees().and_then(|()| self.check_space(None));
        checked.err().map(|why| why.to_string())
    }

    /// Nothing is added to what may be wrong.
    fn check_agrees(&self) -> Result<(), WriteError> {
        self.compared.check().map_err(WriteError::NotReady)
    }

    /// Whether the disks of the cluster have room for `command`, which adds something if it is not known yet.
    fn check_space(&self, command: Option<&Command<'_>>) -> Result<(), WriteError> {
        let server = self.server.borrow_watched();
        let configs = server.membership_config.membership().get_joint_config();
        let checked = self.space.check(command, server.id, configs);
        checked.map_err(WriteError::NoRoom)
    }

    /// The command's bytes after room for an entry's header, its accounts resolved where this node knows them.
    fn encode(&self, command: &Command<'_>) -> Result<Vec<u8>, WriteError> {
        let mut bytes = vec![0; entry::HEADER_LEN];
        match command {
            Command::Transfers(transfers) => {
                entry::encode_command(&self.resolved(transfers)?, &mut bytes);
            }
            Command::Once(once) if let Command::Transfers(transfers) = &*once.command => {
                let once = Once {
                    command: Box::new(self.resolved(transfers)?),
                    ..*once
                };
                entry::encode_command(&Command::Once(once), &mut bytes);
            }
            Command::KvPut { .. }
            | Command::KvDelete { .. }
            | Command::CreateLedger(_)
            | Command::CreateAccount(_)
            | Command::Once(_) => entry::encode_command(command, &mut bytes),
        }
        Ok(bytes)
    }

    fn resolved<'a>(&self, transfers: &[NewTransfer<'a>]) -> Result<Command<'a>, WriteError> {
        let resolved = resolve(&self.state, transfers).map_err(|fault| {
            self.faults.report(&fault.what);
            WriteError::NotReady(fault.what)
        })?;
        Ok(Command::Transfers(resolved))
    }
}

/// `transfers` with the numbers of their accounts in place of ids. Numbers never change, so what is known here is right on
/// every node and for ever; what is not known is looked up by apply.
fn resolve<'a>(
    state: &impl Replica,
    transfers: &[NewTransfer<'a>],
) -> Result<Vec<NewTransfer<'a>>, Fault> {
    let id = |account: &AccountRef<'a>| match account {
        AccountRef::Id(id) => Some(*id),
        AccountRef::Number(_) => None,
    };
    let mut ids = transfers
        .iter()
        .flat_map(|transfer| [id(&transfer.debit), id(&transfer.credit)])
        .flatten();
    let mut numbers = state.resolve(&mut ids)?.into_iter();
    let mut known = |account: AccountRef<'a>| match account {
        AccountRef::Id(_) => match numbers.next().flatten() {
            Some(number) => AccountRef::Number(number),
            None => account,
        },
        AccountRef::Number(_) => account,
    };
    let resolved = transfers.iter().map(|transfer| NewTransfer {
        debit: known(transfer.debit),
        credit: known(transfer.credit),
        ..*transfer
    });
    Ok(resolved.collect())
}
