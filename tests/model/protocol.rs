//! What a cluster can do: the steps, and the rules that the mutants leave out.

use stateright::{Model, Property};

use crate::log::{Entry, LOG_MAX, Log, Vote};
use crate::promises;
use crate::settings::{Bounds, Grid, Limits, PRODUCT, Settings};
use crate::state::{Append, IN_FLIGHT_MAX, NODES, Node, Reads, Role, Since, State, WRITES_MAX};

/// A rule that a mutant leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing is left out.
    None,
    /// A restarted voter votes at once.
    NoVoteGate,
    /// A follower votes although it has just heard its leader.
    NoPromise,
    /// A node stands although it has just heard its leader: `trigger().elect(false)`.
    ForcedElection,
    /// The lease counts from the receipt of the acknowledgement.
    LeaseFromReceipt,
    /// A leader serves lease reads before its first entry is applied.
    FirstEntryNotAwaited,
    /// The cached deadline stays when a transfer begins.
    CacheOutlivesTransfer,
    /// A transfer begins while a check that passed before it still has its deadline to store.
    ChecksNotDrained,
    /// The cached deadline stays when the leader takes another vote.
    CacheOutlivesStepDown,
    /// `enable_leader_restore` is on: a restarted leader leads on, in the same term.
    LeaderRestore,
    /// The log completes a flush before the sync: a crash takes the last entry with it.
    FlushBeforeSync,
    /// A vote is answered before it is on disk: a crash takes it back to that of the last entry.
    VoteBeforeSync,
}

/// What of its past a search tells states apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// What can still have an effect: see `reduce.rs`.
    Alive,
    /// Everything but timers whose time is over: many more states, and nothing else.
    AllButTime,
}

/// The model: a cluster under given settings, rules and bounds.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// The rule left out.
    pub(crate) flaw: Flaw,
    /// The settings, in ticks.
    pub(crate) limits: Limits,
    /// Where the search ends.
    pub(crate) bounds: Bounds,
    /// What states are told apart by.
    pub(crate) memory: Memory,
}

impl Cluster {
    /// The product, on `grid` within `bounds`.
    pub(crate) fn new(grid: Grid, bounds: Bounds) -> Cluster {
        let log_max = 1 + usize::from(bounds.writes) + usize::from(bounds.campaigns);
        assert!(log_max <= LOG_MAX, "a log holds what all leaders propose");
        assert!(usize::from(bounds.writes) <= WRITES_MAX);
        assert!(usize::from(bounds.in_flight) <= IN_FLIGHT_MAX);
        Cluster {
            flaw: Flaw::None,
            limits: Limits::new(PRODUCT, grid),
            bounds,
            memory: Memory::Alive,
        }
    }

    /// The same without a rule.
    pub(crate) fn with_flaw(self, flaw: Flaw) -> Cluster {
        Cluster { flaw, ..self }
    }

    /// The same, told apart by more.
    pub(crate) fn remembering(self, memory: Memory) -> Cluster {
        Cluster { memory, ..self }
    }

    /// The same with other settings.
    pub(crate) fn with_settings(self, settings: Settings, grid: Grid) -> Cluster {
        Cluster {
            limits: Limits::new(settings, grid),
            ..self
        }
    }

    /// A cluster just formed: node `leader` leads in term 1, its first entry is everywhere.
    fn formed(&self, leader: usize) -> State {
        let vote = Vote::new(1, leader).committed();
        let mut log = Log::default();
        log.push(Entry::new(vote, 0));
        let node = |id: usize| Node {
            vote,
            log,
            flushed: 1,
            committed: u8::from(id == leader),
            role: if id == leader {
                leading(1, [1; NODES], false)
            } else {
                Role::Follower
            },
            heard: Since::LONG,
            promises: true,
            started: Since::LONG,
            acknowledged: Since::LONG,
        };
        State {
            nodes: std::array::from_fn(node),
            appends: [None; IN_FLIGHT_MAX],
            ballots: [None; NODES],
            handover: None,
            acknowledged: [0; WRITES_MAX],
            established: 1 << vote.leader_id(),
            established_twice: false,
            campaigns: 0,
            writes: 0,
            restarts: 0,
            transfers: 0,
        }
    }
}

/// One step of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A tick of true time passes.
    Tick,
    /// A leader proposes the next client write.
    Write(usize),
    /// The disk of a leader completes a flush.
    Flush(usize),
    /// A leader sends a follower its log or, without news, a heartbeat, and has the answer within the tick.
    Call { leader: usize, follower: usize },
    /// The same, but request and answer take their time.
    Send { leader: usize, follower: usize },
    /// The request in this place arrives at the follower, or the answer at the leader.
    Arrive(usize),
    /// The request or answer in this place is lost.
    Lose(usize),
    /// A node stands for election.
    Stand(usize),
    /// A voter gets a candidate's request, and the candidate its answer.
    Poll { candidate: usize, voter: usize },
    /// A node learns of a higher vote.
    Learn { node: usize, of: usize },
    /// A candidate with a quorum of votes begins to lead.
    Lead(usize),
    /// A process crashes and starts again.
    Restart(usize),
    /// A leader that shall hand over stops serving lease reads, perhaps with a check still under way.
    Revoke {
        leader: usize,
        to: usize,
        check_in_flight: bool,
    },
    /// That check ends.
    EndCheck(usize),
    /// The leader sends the transfer to all.
    HandOver(usize),
    /// A node gets the transfer.
    TakeOver(usize),
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        (0..usize::from(self.bounds.first_leaders))
            .map(|leader| self.formed(leader))
            .collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions.push(Action::Tick);
        for place in 0..IN_FLIGHT_MAX {
            actions.extend([Action::Arrive(place), Action::Lose(place)]);
        }
        for (id, node) in state.nodes.iter().enumerate() {
            let others = (0..NODES).filter(|other| *other != id);
            actions.extend([Action::Flush(id), Action::Restart(id)]);
            if node.leads() {
                actions.extend([
                    Action::Write(id),
                    Action::HandOver(id),
                    Action::EndCheck(id),
                ]);
            } else {
                actions.extend([Action::Stand(id), Action::Lead(id), Action::TakeOver(id)]);
            }
            for other in others {
                if node.leads() {
                    actions.push(Action::Call {
                        leader: id,
                        follower: other,
                    });
                    actions.push(Action::Send {
                        leader: id,
                        follower: other,
                    });
                    for check_in_flight in [false, true] {
                        actions.push(Action::Revoke {
                            leader: id,
                            to: other,
                            check_in_flight,
                        });
                    }
                }
                actions.push(Action::Poll {
                    candidate: id,
                    voter: other,
                });
                actions.push(Action::Learn {
                    node: id,
                    of: other,
                });
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Tick => tick(&mut next),
            Action::Write(leader) => self.write(&mut next, leader),
            Action::Flush(node) => self.flush(&mut next, node),
            Action::Call { leader, follower } => self.call(&mut next, leader, follower),
            Action::Send { leader, follower } => self.send(&mut next, leader, follower),
            Action::Arrive(place) => self.arrive(&mut next, place),
            Action::Lose(place) => next.appends[place].take().map(|_| ()),
            Action::Stand(node) => self.stand(&mut next, node),
            Action::Poll { candidate, voter } => self.poll(&mut next, candidate, voter),
            Action::Learn { node, of } => self.learn(&mut next, node, of),
            Action::Lead(node) => self.lead(&mut next, node),
            Action::Restart(node) => self.restart(&mut next, node),
            Action::Revoke {
                leader,
                to,
                check_in_flight,
            } => self.revoke(&mut next, leader, to, check_in_flight),
            Action::EndCheck(leader) => self.end_check(&mut next, leader),
            Action::HandOver(leader) => self.hand_over(&mut next, leader),
            Action::TakeOver(node) => self.take_over(&mut next, node),
        }?;
        self.forget_what_is_dead(&mut next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        promises::all(self)
    }
}

/// The role of a new leader.
pub(crate) fn leading(first: u8, matched: [u8; NODES], by_transfer: bool) -> Role {
    Role::Leader {
        first,
        matched,
        by_transfer,
        reads: Reads::Serving,
    }
}

/// Every timer counts on.
fn tick(state: &mut State) -> Option<()> {
    for node in &mut state.nodes {
        for since in [&mut node.heard, &mut node.started, &mut node.acknowledged] {
            *since = since.later();
        }
    }
    for append in state.appends.iter_mut().flatten() {
        let (Append::Request { sent, .. } | Append::Answer { sent, .. }) = append;
        *sent = sent.later();
    }
    Some(())
}
