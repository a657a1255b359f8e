//! What a run is: everything that the command line says, and the line that says it again.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::faults::{self, Fault};
use super::net::Network;
use super::workloads::{self, Workload};

/// What is said of a name that nobody knows, with the one that it is like.
fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let nearest = known.iter().min_by_key(|known| apart(name, known));
    let near = nearest.filter(|known| apart(name, known) <= 2);
    let meant = near.map(|known| format!(" (is it {known}?)"));
    let known = known.join(", ");
    format!(
        "no {what} {name}{}; there are {known}",
        meant.unwrap_or_default()
    )
}

/// How many letters must be put in, left out or changed to make one word of the other.
fn apart(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], at + 1);
        for (column, compared) in other.iter().enumerate() {
            let changed = corner + usize::from(letter != *compared);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// A run on real processes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Everything random is drawn from it; drawn from the clock if not given.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// What the clients do: names, with commas between.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "register"
    )]
    pub(crate) workload: Vec<String>,
    /// What is done to the cluster: names, with commas between; `none` for nothing.
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "kill,pause,partition"
    )]
    pub(crate) faults: Vec<String>,
    /// Faults are what the standard input says, line by line, until it ends.
    #[arg(long, conflicts_with = "faults")]
    pub(crate) by_hand: bool,
    /// How many nodes.
    #[arg(long, default_value_t = 3)]
    pub(crate) nodes: u64,
    /// How many clients.
    #[arg(long, default_value_t = 14)]
    pub(crate) clients: u64,
    /// How long faults are installed, in seconds; before it comes a calm phase of two.
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
    /// Faults that may be in force at once.
    #[arg(long, default_value_t = 2)]
    pub(crate) overlap: usize,
    /// The pause between two faults in milliseconds, in the mean.
    #[arg(long, default_value_t = 900)]
    pub(crate) every_ms: u64,
    /// The nodes' lease in milliseconds, which is the longest time to an election; heartbeats are as much shorter as they
    /// are by default.
    #[arg(long, default_value_t = 700)]
    pub(crate) lease_ms: u64,
    /// The nodes make a snapshot each second and keep little of their log; otherwise they keep all of it and make none.
    #[arg(long)]
    pub(crate) snapshots: bool,
    /// The network between the nodes.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) network: Network,
    /// The harness is in the namespaces that the network takes.
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
    /// Where to leave the run; made from the seed if not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Where runs without a directory are left.
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    pub(crate) root: PathBuf,
    /// The binary; the one that was built with the tests if not given.
    #[arg(long, value_name = "FILE", env = "QUORATE_BIN")]
    pub(crate) binary: Option<PathBuf>,
    /// A flag more for every node; repeat it for several.
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub(crate) node_flag: Vec<String>,
    /// Keep the nodes' data even if the run is green.
    #[arg(long)]
    pub(crate) keep: bool,
    /// What each checker may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) limit: u64,
}

impl Options {
    /// The workloads named.
    ///
    /// # Errors
    /// A name that nobody knows.
    pub(crate) fn workloads(&self) -> anyhow::Result<Vec<&'static dyn Workload>> {
        let find = |name: &String| {
            let known: Vec<&str> = workloads::ALL.iter().map(|known| known.name()).collect();
            let found = workloads::named(name);
            found.ok_or_else(|| anyhow::anyhow!(unknown("workload", name, &known)))
        };
        self.workload.iter().map(find).collect()
    }

    /// The faults named.
    ///
    /// # Errors
    /// A name that nobody knows.
    pub(crate) fn faults(&self) -> anyhow::Result<Vec<&'static dyn Fault>> {
        let find = |name: &String| {
            let known: Vec<&str> = faults::ALL.iter().map(|known| known.name()).collect();
            let found = faults::named(name);
            found.ok_or_else(|| anyhow::anyhow!(unknown("fault", name, &known)))
        };
        if self.by_hand {
            return Ok(Vec::new());
        }
        let named = self.faults.iter().filter(|name| *name != "none");
        named.map(find).collect()
    }

    /// How long faults are installed.
    pub(crate) fn faulty(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The line that does it again, as far as a seed can: which operations, faults, targets and times.
    pub(crate) fn again(&self, seed: u64) -> String {
        let mut line = format!(
            "scripts/faults.sh run --seed {seed} --workload {} --faults {} --nodes {} --clients {} --seconds {} \
             --overlap {} --every-ms {} --lease-ms {}",
            self.workload.join(","),
            self.faults.join(","),
            self.nodes,
            self.clients,
            self.seconds,
            self.overlap,
            self.every_ms,
            self.lease_ms,
        );
        if self.by_hand {
            line = line.replace(
                &format!(" --faults {}", self.faults.join(",")),
                " --by-hand",
            );
        }
        if self.network != Network::default() {
            line.push_str(&format!(" --network {}", self.network.name()));
        }
        if self.snapshots {
            line.push_str(" --snapshots");
        }
        for flag in &self.node_flag {
            line.push_str(&format!(" --node-flag={flag}"));
        }
        line
    }
}
