//! Faults by hand: a person, or a file, says what is done to the cluster while clients work. Everything else is as in any
//! run: it is written down, healed in the end and judged.

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::thread;
use std::time::Duration;

use super::nodes::Nodes;
use super::world::World;
use crate::history::Happening;
use crate::history::nemesis::{Done, Step};

/// What is understood.
const HELP: &str = "  status             who runs, who leads, what is in force
  kill N...          end nodes (SIGKILL)          start N...       start them again
  pause N...         freeze nodes (SIGSTOP)       resume N...      let them go on
  cut A B            between two nodes            cut A > B        what A sends to B only
  slow A B MS        both ways, up to MS late     whole A B        neither cut nor slow
  power N...         cut the power (root)         restore N...     give it back, and start
  heal               everything at once           sleep SECONDS    for commands from a file
  quit               heal, and judge the run (so does the end of the input)";

/// A command, understood.
#[derive(Clone, Debug, PartialEq)]
enum Order {
    Status,
    Help,
    Heal,
    Quit,
    Sleep(Duration),
    /// A fault begins: its name, and the nodes.
    Begin(&'static str, Vec<u64>),
    /// A fault of that name ends.
    End(&'static str, Vec<u64>),
    Cut(u64, u64, bool),
    Slow(u64, u64, Duration),
    Whole(u64, u64),
}

/// Does what `input` says until it ends or says `quit`.
pub(crate) fn lead(world: &World, nodes: &mut Nodes, input: impl BufRead, say: impl Fn(&str)) {
    let mut hand = Hand {
        world,
        nodes,
        next: 0,
        active: BTreeMap::new(),
    };
    say(&format!("What is to be done to the cluster?\n{HELP}"));
    for line in input.lines() {
        let told = line.map_err(anyhow::Error::from).and_then(|line| {
            match parse(&line, &hand.nodes.ids()) {
                Ok(None) => Ok(Some(String::new())),
                Ok(Some(order)) => hand.obey(&order),
                Err(what) => Ok(Some(what)),
            }
        });
        match told {
            Ok(None) => break,
            Ok(Some(told)) if told.is_empty() => {}
            Ok(Some(told)) => say(&told),
            Err(error) => say(&format!("not done: {error:#}")),
        }
        if world.is_stopped() {
            say("the run has failed");
            break;
        }
    }
    if let Err(error) = hand.heal() {
        world.fail(format!("healed by hand: {error:#}"));
    }
}

/// A fault in force: its name and the nodes.
type Key = (&'static str, Vec<u64>);

struct Hand<'a> {
    world: &'a World,
    nodes: &'a mut Nodes,
    next: u64,
    active: BTreeMap<Key, Step>,
}

impl Hand<'_> {
    /// Does it; what there is to say of it, or nothing more if that was the end.
    fn obey(&mut self, order: &Order) -> anyhow::Result<Option<String>> {
        match order {
            Order::Quit => return Ok(None),
            Order::Help => return Ok(Some(HELP.to_owned())),
            Order::Status => return Ok(Some(self.status())),
            Order::Sleep(time) => thread::sleep(*time),
            Order::Heal => self.heal()?,
            Order::Begin(fault, ids) => {
                for id in ids {
                    let led = self.leads(*id);
                    match *fault {
                        "kill" => self.nodes.kill(*id)?,
                        "pause" => self.nodes.pause(*id, true)?,
                        _ => self.nodes.cut_power(&[*id])?,
                    }
                    self.began(&(fault, vec![*id]), led);
                }
            }
            Order::End(fault, ids) => {
                for id in ids {
                    match *fault {
                        "pause" => self.nodes.pause(*id, false)?,
                        "power" => {
                            self.nodes.restore_power(*id)?;
                            self.nodes.start(*id)?;
                        }
                        _ => self.nodes.start(*id)?,
                    }
                    self.ended(&(fault, vec![*id]));
                }
            }
            Order::Cut(a, b, both) => {
                self.nodes
                    .net
                    .change(&ways(*a, *b, *both), |quality| quality.cut = true)?;
                self.began(&("cut", vec![*a, *b]), self.leads(*a) || self.leads(*b));
            }
            Order::Slow(a, b, late) => {
                anyhow::ensure!(self.nodes.net.can_delay(), "that takes --network proxies");
                self.nodes
                    .net
                    .change(&ways(*a, *b, true), |quality| quality.delay = *late)?;
                self.began(&("slow", vec![*a, *b]), self.leads(*a) || self.leads(*b));
            }
            Order::Whole(a, b) => {
                self.nodes.net.heal(&ways(*a, *b, true), false)?;
                for pair in [vec![*a, *b], vec![*b, *a]] {
                    self.ended(&("cut", pair.clone()));
                    self.ended(&("slow", pair));
                }
            }
        }
        Ok(Some(String::new()))
    }

    fn heal(&mut self) -> anyhow::Result<()> {
        self.nodes.net.heal_all()?;
        for (fault, ids) in self.active.keys().cloned().collect::<Vec<_>>() {
            let order = match fault {
                "cut" | "slow" => {
                    self.ended(&(fault, ids));
                    continue;
                }
                fault => Order::End(fault, ids),
            };
            self.obey(&order)?;
        }
        Ok(())
    }

    fn leads(&self, id: u64) -> bool {
        self.nodes.leader().is_some_and(|(leader, _)| leader == id)
    }

    fn status(&self) -> String {
        let of = |id: &u64| match (self.nodes.is_running(*id), self.nodes.is_paused(*id)) {
            (false, _) => format!("node {id} is down"),
            (true, true) => format!("node {id} is frozen"),
            (true, false) => format!("node {id} runs at http://{}", self.nodes.addr(*id)),
        };
        let mut lines: Vec<String> = self.nodes.ids().iter().map(of).collect();
        lines.push(match self.nodes.leader() {
            Some((leader, term)) => format!("node {leader} leads in term {term}"),
            None => "nobody leads".to_owned(),
        });
        let active = self
            .active
            .keys()
            .map(|(fault, ids)| format!("in force: {fault} {ids:?}"));
        lines.extend(active);
        lines.join("\n")
    }

    fn began(&mut self, key: &Key, on_leader: bool) {
        let step = Step {
            id: self.next,
            nodes: key.1.clone(),
            on_leader,
            outcome: Done::Installed,
            reason: None,
        };
        self.next += 1;
        self.world
            .say(&Happening::Install(key.0.to_owned(), step.clone()));
        if let Some(before) = self.active.insert(key.clone(), step) {
            self.world.say(&Happening::Heal(key.0.to_owned(), before));
        }
    }

    fn ended(&mut self, key: &Key) {
        if let Some(step) = self.active.remove(key) {
            self.world.say(&Happening::Heal(key.0.to_owned(), step));
            self.world.await_serving(&key.1);
        }
    }
}

/// The directions between two nodes: both, or only that from the first to the second.
fn ways(a: u64, b: u64, both: bool) -> Vec<(u64, u64)> {
    if both {
        vec![(a, b), (b, a)]
    } else {
        vec![(a, b)]
    }
}

/// A line as an order; nothing of an empty line or a comment. `Err` is for the one who wrote it.
fn parse(line: &str, known: &[u64]) -> Result<Option<Order>, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((verb, rest)) = words
        .split_first()
        .filter(|(verb, _)| !verb.starts_with('#'))
    else {
        return Ok(None);
    };
    let node = |word: &str| {
        let number = word.trim_start_matches('n').parse::<u64>().ok();
        number
            .filter(|number| known.contains(number))
            .ok_or_else(|| format!("{word:?} is no node: there are {known:?}"))
    };
    let nodes = || match rest {
        [] => Err(format!("which node? {verb} 1")),
        some => some.iter().map(|word| node(word)).collect(),
    };
    let pair = |a: &str, b: &str| match (node(a)?, node(b)?) {
        (a, b) if a == b => Err("a node and itself".to_owned()),
        two => Ok(two),
    };
    let order = match (*verb, rest) {
        ("status", []) => Order::Status,
        ("help", []) => Order::Help,
        ("heal", []) => Order::Heal,
        ("quit" | "exit", []) => Order::Quit,
        ("sleep", [seconds]) => {
            let seconds = seconds.parse::<f64>().ok();
            let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            Order::Sleep(time.ok_or("sleep takes a number of seconds")?)
        }
        ("kill", _) => Order::Begin("kill", nodes()?),
        ("start", _) => Order::End("kill", nodes()?),
        ("pause", _) => Order::Begin("pause", nodes()?),
        ("resume", _) => Order::End("pause", nodes()?),
        ("power", _) => Order::Begin("power", nodes()?),
        ("restore", _) => Order::End("power", nodes()?),
        ("cut", [a, b]) => pair(a, b).map(|(a, b)| Order::Cut(a, b, true))?,
        ("cut", [a, ">", b]) => pair(a, b).map(|(a, b)| Order::Cut(a, b, false))?,
        ("whole", [a, b]) => pair(a, b).map(|(a, b)| Order::Whole(a, b))?,
        ("slow", [a, b, late]) => {
            let (a, b) = pair(a, b)?;
            let late = late.parse().map_err(|_| "slow takes milliseconds")?;
            Order::Slow(a, b, Duration::from_millis(late))
        }
        _ => return Err(format!("not understood: {}\n{HELP}", line.trim())),
    };
    Ok(Some(order))
}

/// The standard input, line by line.
pub(crate) fn typed() -> impl BufRead {
    io::stdin().lock()
}

/// What the claims about the harness ask: whether a line is understood as it is meant to be.
pub(crate) fn understood(line: &str) -> Result<String, String> {
    parse(line, &[1, 2, 3]).map(|order| format!("{order:?}"))
}
