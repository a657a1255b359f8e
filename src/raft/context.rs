//! What the tasks of one node share: the seam between consensus and its transport.

use std::sync::{Arc, OnceLock};

use openraft::storage::RaftStateMachine;

use super::digests::Marks;
use super::snapshots::Snapshots;
use super::state_machine::StateMachine;
use super::types::Types;
use super::vitals::Vitals;
use super::{Gate, Member, Options};
use crate::storage::identity::DataDir;

/// Shared by the core, the client handle, the outgoing network and the peer listener of one node. Generic over the state
/// machine so that the same listener serves a core on plain memory in tests and simulations.
pub(crate) struct PeerContext<SM = StateMachine>
where
    SM: RaftStateMachine<Types>,
{
    /// Data directory: who this node is and which cluster it belongs to.
    pub(crate) dir: Arc<DataDir>,
    /// How others reach this node, as it tells them when a cluster is formed.
    pub(crate) me: Member,
    /// To be asked before a vote, a pre-vote or a leadership transfer is answered.
    pub(crate) gate: Gate,
    /// This node's clock and disk, of which its answers tell, and what is known of those of others.
    pub(crate) vitals: Vitals,
    /// Settings.
    pub(crate) options: Options,
    /// The core, set right after it is built and before it runs. A peer that calls earlier is told to try again.
    pub(crate) raft: OnceLock<openraft::Raft<Types, SM>>,
    /// Whether log and vote are empty: only then may a cluster id be replaced.
    pub(crate) pristine: Box<dyn Fn() -> bool + Send + Sync>,
    /// Where its state was with which digest, of which it tells others.
    pub(crate) marks: Marks,
    /// Its snapshots, beside which those of others come in.
    pub(crate) snapshots: Snapshots,
}

impl<SM: RaftStateMachine<Types>> PeerContext<SM> {
    /// The core, or why a call cannot be answered yet.
    pub(crate) fn raft(&self) -> Result<&openraft::Raft<Types, SM>, String> {
        self.raft
            .get()
            .ok_or_else(|| "this node is still starting".to_owned())
    }
}

impl<SM: RaftStateMachine<Types>> std::fmt::Debug for PeerContext<SM> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerContext")
            .field("me", &self.me)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
