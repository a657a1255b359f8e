//! The scheduler of faults: which, whom and when, all drawn from the seed.
//!
//! Faults of different classes overlap. Classes come by turns, in a new order each turn; within a class every second install
//! is aimed at the leader, the first one included, and the others may hit it by chance. What is not possible while another
//! fault is in force is put off. Each install and each heal is written down with its outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::faults::{self, Fault, Heal, Installed, NotInstalled, Until};
use super::nodes::Nodes;
use super::world::World;
use crate::history::Happening;
use crate::history::nemesis::{Done, Step};
use crate::random::Random;

/// How often is looked whether something is due.
const LOOK: Duration = Duration::from_millis(5);

/// How long a fault waits for a leader; what is in force meanwhile stays so.
const LEADERLESS: Duration = Duration::from_secs(4);

/// How often a fault that is not possible is put off: another that is in force may be over then.
const PUT_OFF_MAX: u32 = 8;

/// Does things to the cluster.
pub(crate) struct Nemesis {
    world: Arc<World>,
    random: Random,
    faults: Vec<&'static dyn Fault>,
    /// What is left of this turn.
    turn: Vec<&'static dyn Fault>,
    /// Faults that may be in force at once.
    overlap: usize,
    /// The pause between two installs, in the mean.
    every: Duration,
    active: Vec<Active>,
    installs: u64,
    /// By class.
    of_class: BTreeMap<&'static str, u64>,
    /// Since when a fault waits for a leader.
    leaderless: Option<Instant>,
    /// How often a fault was put off, in a row.
    put_off: u32,
}

struct Active {
    id: u64,
    fault: &'static str,
    is_beside: bool,
    nodes: Vec<u64>,
    on_leader: bool,
    ends: Instant,
    until: Option<Until>,
    heal: Heal,
}

impl Nemesis {
    /// One that knows these faults.
    pub(crate) fn new(
        world: Arc<World>,
        faults: &[&'static dyn Fault],
        seed: u64,
        overlap: usize,
        every: Duration,
    ) -> Nemesis {
        Nemesis {
            world,
            random: Random::new(seed),
            faults: faults.to_vec(),
            turn: Vec::new(),
            overlap,
            every,
            active: Vec::new(),
            installs: 0,
            of_class: BTreeMap::new(),
            leaderless: None,
            put_off: 0,
        }
    }

    /// Works until `end`, then heals everything.
    pub(crate) fn run(&mut self, nodes: &mut Nodes, end: Instant) {
        let mut next = Instant::now();
        while Instant::now() < end && !self.world.is_stopped() {
            self.heal_due(nodes, Instant::now());
            self.look_for_dead(nodes);
            let in_force = self.active.iter().filter(|active| !active.is_beside);
            if Instant::now() >= next && in_force.count() < self.overlap {
                next = Instant::now() + self.install(nodes);
            }
            std::thread::sleep(LOOK);
        }
        let all = Instant::now() + Duration::from_secs(3600);
        self.heal_due(nodes, all);
    }

    fn next_fault(&mut self) -> Option<&'static dyn Fault> {
        // What is in force already gives way to what is not.
        let free = |fault: &&dyn Fault| !self.active.iter().any(|a| a.fault == fault.name());
        // What goes on beside the others does not keep the next turn waiting, should only it be left.
        if self.turn.iter().all(|left| left.is_beside() && !free(left)) {
            let left: Vec<&str> = self.turn.iter().map(|left| left.name()).collect();
            let others = self.faults.iter();
            let others = others.filter(|fault| !left.contains(&fault.name()));
            self.turn.extend(others);
        }
        let free: Vec<usize> = (0..self.turn.len())
            .filter(|at| free(&self.turn[*at]))
            .collect();
        let at = *(!free.is_empty()).then(|| self.random.pick(&free))?;
        Some(self.turn.remove(at))
    }

    /// Installs the next fault, if one can be; says how long to wait for the one after.
    fn install(&mut self, nodes: &mut Nodes) -> Duration {
        let Some(fault) = self.next_fault() else {
            return Duration::ZERO;
        };
        let leader = nodes.leader().map(|(leader, _)| leader);
        let of_class = self.of_class.get(fault.name()).copied().unwrap_or(0);
        let wants_leader = of_class.is_multiple_of(2);
        if wants_leader && leader.is_none() && self.leaderless() {
            // It has its turn as soon as somebody leads.
            self.turn.push(fault);
            return Duration::ZERO;
        }
        let id = self.installs;
        self.installs += 1;
        let aim = leader.filter(|_| wants_leader);
        let step = match fault.install(nodes, aim, &mut self.random) {
            Ok(installed) => {
                self.of_class.insert(fault.name(), of_class + 1);
                self.put_off = 0;
                self.started(id, fault, leader, installed)
            }
            Err(NotInstalled::Skipped(reason)) => {
                self.put_off(nodes, fault);
                step(id, Done::Skipped, Some(reason))
            }
            Err(NotInstalled::Indeterminate(reason)) => step(id, Done::Indeterminate, Some(reason)),
        };
        let name = fault.name().to_owned();
        self.world.say(&Happening::Install(name, step));
        self.leaderless = None;
        let pause = self.random.latency(self.every.as_secs_f64() * 1e3);
        if fault.is_beside() {
            return Duration::ZERO;
        }
        Duration::from_nanos(pause).min(self.every * 3)
    }

    /// A fault that is not possible now has its turn a little later, unless it never will be.
    fn put_off(&mut self, nodes: &Nodes, fault: &'static dyn Fault) {
        if faults::is_possible(fault, nodes) && self.put_off < PUT_OFF_MAX {
            self.put_off += 1;
            self.turn.push(fault);
        } else {
            self.put_off = 0;
        }
    }

    /// Whether to wait for a leader; at some time something must happen without one.
    fn leaderless(&mut self) -> bool {
        let since = *self.leaderless.get_or_insert_with(Instant::now);
        let is_patient = since.elapsed() < LEADERLESS;
        if !is_patient {
            self.leaderless = None;
        }
        is_patient
    }

    fn started(
        &mut self,
        id: u64,
        fault: &'static dyn Fault,
        leader: Option<u64>,
        installed: Installed,
    ) -> Step {
        let on_leader = installed.is_on(leader);
        let Installed {
            nodes,
            aim: _,
            how,
            lasts,
            until,
            heal,
        } = installed;
        self.active.push(Active {
            id,
            fault: fault.name(),
            is_beside: fault.is_beside(),
            nodes: nodes.clone(),
            on_leader,
            ends: Instant::now() + lasts,
            until,
            heal,
        });
        Step {
            nodes,
            on_leader,
            ..step(id, Done::Installed, how)
        }
    }

    fn heal_due(&mut self, nodes: &mut Nodes, now: Instant) {
        let is_over = |active: &Active| {
            let until = active.until.as_ref();
            active.ends <= now || until.is_some_and(|until| until(nodes))
        };
        let (due, later) = std::mem::take(&mut self.active)
            .into_iter()
            .partition(is_over);
        self.active = later;
        let mut due: Vec<Active> = due;
        due.sort_by_key(|active| active.is_beside);
        for active in due {
            let healed = (active.heal)(nodes);
            let (outcome, reason) = match healed {
                Ok(()) => (Done::Installed, None),
                Err(error) => (Done::Indeterminate, Some(format!("{error:#}"))),
            };
            let step = Step {
                nodes: active.nodes.clone(),
                on_leader: active.on_leader,
                ..step(active.id, outcome, reason)
            };
            let name = active.fault.to_owned();
            self.world.say(&Happening::Heal(name, step));
            if let Some(changed) = nodes.take_changed() {
                self.world.say(&Happening::Changed(changed));
            }
            if outcome == Done::Installed {
                self.world.await_serving(&active.nodes);
            }
        }
    }

    /// A node that ends by itself is a finding; the run goes on to its end without it.
    fn look_for_dead(&mut self, nodes: &mut Nodes) {
        match nodes.look_for_dead() {
            Ok(dead) if dead.is_empty() => {}
            Ok(dead) => self
                .world
                .fail(format!("nodes {dead:?} ended by themselves")),
            Err(error) => self.world.fail(format!("{error:#}")),
        }
    }
}

fn step(id: u64, outcome: Done, reason: Option<String>) -> Step {
    Step {
        id,
        nodes: Vec::new(),
        on_leader: false,
        outcome,
        reason,
    }
}
