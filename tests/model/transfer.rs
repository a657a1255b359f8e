//! Steps of a leadership transfer, as the product prepares it and as openraft does it.

use crate::promises::serves_lease_reads;
use crate::protocol::{Cluster, Flaw};
use crate::state::{Handover, Reads, Role, Since, State, bit};

/// Each step returns `None` where it is not possible.
impl Cluster {
    /// First step of a transfer, the product's: no check begins any more and the cached deadline is gone.
    pub(crate) fn revoke(
        &self,
        state: &mut State,
        leader: usize,
        to: usize,
        check_in_flight: bool,
    ) -> Option<()> {
        if state.transfers == self.bounds.transfers {
            return None;
        }
        let node = &mut state.nodes[leader];
        let has_passed = serves_lease_reads(self, node);
        let Role::Leader { reads, .. } = &mut node.role else {
            return None;
        };
        if *reads != Reads::Serving || (check_in_flight && !has_passed) {
            return None;
        }
        *reads = Reads::Revoked {
            to,
            check_in_flight,
        };
        state.transfers += 1;
        Some(())
    }

    /// A check that passed before the revocation ends after it: its deadline is thrown away.
    pub(crate) fn end_check(&self, state: &mut State, leader: usize) -> Option<()> {
        let Role::Leader { reads, .. } = &mut state.nodes[leader].role else {
            return None;
        };
        *reads = match *reads {
            Reads::Revoked {
                to,
                check_in_flight: true,
            } => Reads::Revoked {
                to,
                check_in_flight: false,
            },
            Reads::Transferring {
                check_in_flight: true,
                ..
            } => Reads::Transferring {
                check_in_flight: false,
                cached: true,
            },
            Reads::Serving | Reads::Revoked { .. } | Reads::Transferring { .. } => return None,
        };
        Some(())
    }

    /// Second step, once checks are drained: openraft marks the leader as transferring (no writes, no heartbeats, no
    /// lease check passes) and tells every other voter.
    pub(crate) fn hand_over(&self, state: &mut State, leader: usize) -> Option<()> {
        let node = &mut state.nodes[leader];
        let Role::Leader { reads, .. } = &mut node.role else {
            return None;
        };
        let Reads::Revoked {
            to,
            check_in_flight,
        } = *reads
        else {
            return None;
        };
        if check_in_flight && self.flaw != Flaw::ChecksNotDrained {
            return None;
        }
        *reads = Reads::Transferring {
            check_in_flight,
            cached: false,
        };
        let pending = 0b111 & !bit(leader);
        let last_id = node.log.last_id();
        state.handover = Some(Handover {
            from: node.vote,
            to,
            last_id,
            pending,
        });
        Some(())
    }

    /// A node that still has the vote of the leader gives up its promise to it; the node that shall lead stands at
    /// once if it has the leader's log. The gate refuses the whole message.
    pub(crate) fn take_over(&self, state: &mut State, id: usize) -> Option<()> {
        let handover = state
            .handover
            .filter(|handover| handover.pending & bit(id) != 0)?;
        let node = &mut state.nodes[id];
        let is_behind = node.log.last_id() < handover.last_id;
        let is_to_lead = id == handover.to;
        if node.is_gated(&self.limits) || node.vote != handover.from || (is_to_lead && is_behind) {
            return None;
        }
        node.heard = Since::LONG;
        node.promises = false;
        let pending = handover.pending & !bit(id);
        state.handover = Some(Handover {
            pending,
            ..handover
        });
        if is_to_lead {
            self.campaign(state, id, true)
        } else {
            Some(())
        }
    }
}
