//! The nodes: real processes of the built binary on directories of their own, with the network between them.
//!
//! They die with the thread that started them, so all of this belongs to the main thread. Their process ids are also in a
//! file of the run directory, after that of the harness, for `scripts/faults.sh clean`.

mod ends;

mod errors;

mod members;

mod power;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use super::clocks::Clocks;
use super::disks::Disks;
use super::errors::Errors;
use super::net::{Addresses, Net, Network};
use super::roster::Roster;
use crate::history::Membership;
use crate::ports::Ports;
use crate::run::Exit;

/// What keeps a log so short that a node that is away for seconds comes back by snapshot, and the transfer so slow that other
/// faults meet it.
const SNAPSHOTS: &[&str] = &[
    "--log-segment-bytes",
    "64KiB",
    "--log-keep-bytes",
    "64KiB",
    "--snapshot-log-bytes",
    "1MiB",
    "--snapshot-every",
    "1s",
    "--snapshot-rate",
    "2MiB",
];

/// Timeouts of the nodes, shorter than those for a LAN: less waiting, the same code.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Between heartbeats.
    pub(crate) heartbeat: Duration,
    /// The shortest time without a leader before an election.
    pub(crate) election_min: Duration,
    /// The longest such time, and the lease.
    pub(crate) election_max: Duration,
}

impl Pace {
    /// With a lease of that length, and the rest as it is to a lease by default.
    pub(crate) fn of_lease(lease: Duration) -> Pace {
        Pace {
            heartbeat: lease / 10,
            election_min: lease / 2,
            election_max: lease,
        }
    }
}

/// The nodes of a run.
pub(crate) struct Nodes {
    dir: PathBuf,
    binary: PathBuf,
    pace: Pace,
    flags: Vec<String>,
    /// Blocks of ports, each for some nodes.
    ports: Vec<Ports>,
    /// The network between them.
    pub(crate) net: Net,
    /// How many the cluster began with.
    size: u64,
    roster: Arc<Roster>,
    /// Who belongs to the cluster, as its operator was told.
    membership: Membership,
    /// What he was told of a change since it was last asked for.
    changed: Option<Membership>,
    /// Nodes that may be removed by the change under way, or were: they end by themselves.
    leaving: BTreeSet<u64>,
    /// Nodes that were, in this order.
    removed: Vec<u64>,
    /// Nodes whose directory is gone: they do not start again.
    wiped: BTreeSet<u64>,
    /// Nodes that came back without the directory that they had.
    hollow: BTreeSet<u64>,
    running: BTreeMap<u64, Running>,
    disks: Option<Disks>,
    errors: Option<Errors>,
    /// What disks do at the moment, by node.
    failing: BTreeMap<u64, errors::Failing>,
    clocks: Option<Clocks>,
    /// Flags for those that make snapshots.
    snapshots: Option<&'static [&'static str]>,
    exits: Vec<Exit>,
}

struct Running {
    child: Child,
    is_paused: bool,
    /// It ends by itself at a crash point.
    is_armed: bool,
}

impl Nodes {
    /// Nodes `1..=size` in `dir`, none of them started.
    ///
    /// # Errors
    /// When there are no ports or threads for the network.
    pub(crate) fn new(
        dir: &Path,
        binary: &Path,
        size: u64,
        pace: Pace,
        flags: &[String],
    ) -> anyhow::Result<Nodes> {
        Nodes::within(Network::default(), dir, binary, size, pace, flags)
    }

    /// The same, in another network.
    ///
    /// # Errors
    /// When there are no ports, or the system does not let us have that network.
    pub(crate) fn within(
        network: Network,
        dir: &Path,
        binary: &Path,
        size: u64,
        pace: Pace,
        flags: &[String],
    ) -> anyhow::Result<Nodes> {
        let net = Net::start(network).context("the network")?;
        let mut nodes = Nodes {
            dir: dir.to_owned(),
            binary: binary.to_owned(),
            pace,
            flags: flags.to_vec(),
            ports: Vec::new(),
            net,
            size,
            roster: Arc::default(),
            membership: Membership::of_voters(1..=size),
            changed: None,
            leaving: BTreeSet::new(),
            removed: Vec::new(),
            wiped: BTreeSet::new(),
            hollow: BTreeSet::new(),
            running: BTreeMap::new(),
            disks: None,
            errors: None,
            failing: BTreeMap::new(),
            clocks: None,
            snapshots: None,
            exits: Vec::new(),
        };
        (1..=size).try_for_each(|id| nodes.place(id))?;
        nodes.list(std::process::id(), &std::env::current_exe()?)?;
        Ok(nodes)
    }

    /// Adds a process to the list of this run's.
    fn list(&self, process: u32, program: &Path) -> anyhow::Result<()> {
        let pids = self.dir.join("pids");
        let mut pids = File::options().create(true).append(true).open(pids)?;
        writeln!(pids, "{process} {}", program.display())?;
        Ok(())
    }

    /// Every node's id; of those that were removed none.
    pub(crate) fn ids(&self) -> Vec<u64> {
        let present = self.roster.present().into_iter();
        present.map(|(id, _)| id).collect()
    }

    /// Its timeouts.
    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    /// Where a node serves clients, past the network.
    pub(crate) fn addr(&self, id: u64) -> SocketAddr {
        self.roster.addr(id)
    }

    /// Its data directory.
    pub(crate) fn data_dir(&self, id: u64) -> PathBuf {
        self.dir.join("data").join(format!("n{id}")).join("node")
    }

    /// Gives every node clocks that can be made wrong; before any is started.
    ///
    /// # Errors
    /// When the system has no library for that.
    pub(crate) fn make_clocks(&mut self) -> anyhow::Result<()> {
        self.clocks = Some(Clocks::make(&self.dir.join("data"), &self.ids())?);
        Ok(())
    }

    /// Those clocks, if the nodes have them.
    pub(crate) fn clocks(&self) -> Option<&Clocks> {
        self.clocks.as_ref()
    }

    /// The same, to change what holds from a node's next start on.
    pub(crate) fn clocks_mut(&mut self) -> Option<&mut Clocks> {
        self.clocks.as_mut()
    }

    /// Has the nodes make snapshots and keep little of their log; before any is started. Otherwise they keep all of it.
    pub(crate) fn make_snapshots(&mut self) {
        self.set_snapshots(SNAPSHOTS);
    }

    /// The same, with these flags.
    pub(crate) fn set_snapshots(&mut self, flags: &'static [&'static str]) {
        self.snapshots = Some(flags);
    }

    /// Whether they do.
    pub(crate) fn have_snapshots(&self) -> bool {
        self.snapshots.is_some()
    }

    /// Where it prints.
    pub(crate) fn log(&self, id: u64) -> PathBuf {
        self.dir.join("logs").join(format!("n{id}.log"))
    }

    /// Whether it runs, paused or not.
    pub(crate) fn is_running(&self, id: u64) -> bool {
        self.running.contains_key(&id)
    }

    /// Whether it is paused.
    pub(crate) fn is_paused(&self, id: u64) -> bool {
        self.running.get(&id).is_some_and(|node| node.is_paused)
    }

    /// Nodes that run and are not paused; who was removed is about to end.
    pub(crate) fn awake(&self) -> Vec<u64> {
        let awake = self.running.iter().filter(|(_, node)| !node.is_paused);
        let awake = awake.map(|(id, _)| *id);
        awake.filter(|id| self.roster.has(*id)).collect()
    }

    /// Processes that ended so far.
    pub(crate) fn exits(&self) -> &[Exit] {
        &self.exits
    }

    /// Starts a node on its directory, unless that was wiped.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub(crate) fn start(&mut self, id: u64) -> anyhow::Result<()> {
        if self.wiped.contains(&id) {
            return Ok(());
        }
        self.start_with(id, None)
    }

    /// Starts a node that ends by itself at a crash point: `log:synced=17`. Takes a build that has them.
    ///
    /// # Errors
    /// As [`Nodes::start`].
    pub(crate) fn start_armed(&mut self, id: u64, crash: &str) -> anyhow::Result<()> {
        self.start_with(id, Some(crash))
    }

    fn start_with(&mut self, id: u64, crash: Option<&str>) -> anyhow::Result<()> {
        anyhow::ensure!(!self.is_running(id), "node {id} runs already");
        fs::create_dir_all(self.data_dir(id))?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(id))?;
        let mut command = self.command(id);
        let (listens, reached) = (self.net.listens(id), self.net.address(id));
        command
            .args(["serve", "--node-id", &id.to_string()])
            .arg("--data-dir")
            .arg(self.data_dir(id))
            .args(["--listen", &listens.client.to_string()])
            .args(["--peer-listen", &listens.peer.to_string()])
            .args(["--advertise-peer", &reached.peer.to_string()])
            .arg("--advertise-client-url")
            .arg(format!("http://{}", reached.client))
            .args(["--heartbeat", &millis(self.pace.heartbeat)])
            .args(["--election-min", &millis(self.pace.election_min)])
            .args(["--election-max", &millis(self.pace.election_max)])
            // Without snapshots the checkers find every command from the first on in the log of any node.
            .args(self.snapshots.unwrap_or(&["--log-keep-bytes", "1TiB"]))
            .args(self.net.flags())
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if let Some(crash) = crash {
            command.env(quorate::mutants::CRASH_VARIABLE, crash);
        }
        if let Some(clocks) = &self.clocks {
            clocks.apply(id, &mut command);
        }
        if let Some(errors) = &self.errors {
            errors.apply(id, &self.data_dir(id), &mut command);
        }
        let child = command.spawn().context("the binary starts")?;
        self.net.set_process(id, child.id());
        self.list(child.id(), &self.binary)?;
        let running = Running {
            child,
            is_paused: false,
            is_armed: crash.is_some(),
        };
        self.running.insert(id, running);
        Ok(())
    }

    /// The binary in the node's network, ended by the system when the harness is.
    fn command(&self, id: u64) -> Command {
        let mut words = self.net.starter(id);
        if Path::new("/usr/bin/setpriv").exists() {
            let bound = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"];
            words.extend(bound.map(Into::into));
        }
        words.push(self.binary.clone().into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }

    /// Ends a node with SIGKILL.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn kill(&mut self, id: u64) -> anyhow::Result<()> {
        let mut node = self.running.remove(&id).context("it does not run")?;
        let status = match node.child.try_wait()? {
            Some(status) if self.may_end(id, node.is_armed, status) => {
                self.leave_down(id);
                status
            }
            Some(status) => {
                self.note_exit(id, status, false);
                anyhow::bail!("node {id} had ended by itself: {status}");
            }
            None => {
                node.child.kill()?;
                node.child.wait()?
            }
        };
        self.note_exit(id, status, true);
        Ok(())
    }

    /// Freezes a node (SIGSTOP), or lets it go on.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn pause(&mut self, id: u64, is_paused: bool) -> anyhow::Result<()> {
        let node = self.running.get_mut(&id).context("it does not run")?;
        let signal = if is_paused {
            Signal::STOP
        } else {
            Signal::CONT
        };
        kill_process(pid(&node.child)?, signal)?;
        node.is_paused = is_paused;
        Ok(())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in self.running.values_mut() {
            // SIGKILL ends a frozen process too. That it is gone already is as good.
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
        // Nobody is left for the list to name.
        let _ = fs::remove_file(self.dir.join("pids"));
    }
}

fn local(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn millis(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
}

fn pid(child: &Child) -> anyhow::Result<Pid> {
    let raw = i32::try_from(child.id())?;
    Pid::from_raw(raw).context("a process has a number")
}
