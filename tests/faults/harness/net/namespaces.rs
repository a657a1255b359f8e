//! A network namespace for every node, all on one bridge; a packet filter in each drops what does not come through. Here TCP
//! itself has to do with what is lost: segments are sent again, and ever later.
//!
//! The harness goes into namespaces of its own first ([`enter`]), so that nothing of this is seen outside, and all of it is gone
//! with its last process. A node's filter is written anew whenever it changes, as a whole ([`rules`]).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::geteuid;

use super::{Addresses, Backend, Place, Table};
use crate::harness::world::lock;

/// Between two looks whether a filter is to change by itself: a direction flaps, or its connections were reset for long enough.
const LOOK: Duration = Duration::from_millis(20);

/// How long connections of a direction that loses them are reset: whoever sends on one of them meanwhile hears of it.
const RESETS: Duration = Duration::from_millis(300);

/// In every namespace the same ports are free.
const CLIENT_PORT: u16 = 7000;
const PEER_PORT: u16 = 7100;

/// Tries all that a run needs of the system, in namespaces of its own.
const TRIAL: &str = "mount -t tmpfs tmpfs /run
ip link add q0 type bridge
ip netns add n1
ip link add v1 type veth peer name eth0 netns n1
echo 'table inet faults { chain in { type filter hook input priority 0; ip saddr 10.77.0.1 numgen random mod 100 < 5 drop; }; }' |
    nsenter --net=/run/netns/n1 nft --file -";

/// What enters new namespaces; without root it takes one of users, in which we are root.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--"]);
    command
}

/// Begins this program anew within namespaces of its own, with the same arguments and `mark`. It returns only if that is not
/// possible, with the reason.
pub(crate) fn enter(mark: &str) -> anyhow::Error {
    if let Err(error) = run(unshare().args(["sh", "-ec", TRIAL]), "") {
        return error
            .context("network namespaces take iproute2 and nftables, and root or user namespaces");
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error.into(),
    };
    let arguments = std::env::args_os().skip(1);
    let error = unshare().arg(program).args(arguments).arg(mark).exec();
    anyhow::Error::from(error).context("unshare")
}

/// The namespaces.
pub(super) struct Namespaces {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    nodes: Vec<u64>,
    table: Table,
    /// Until when connections of a direction are reset.
    resets: BTreeMap<(u64, u64), Instant>,
    /// By node, the filter in force.
    in_force: BTreeMap<u64, String>,
}

impl Namespaces {
    /// The bridge, and a thread that changes what changes by itself.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(super) fn start() -> anyhow::Result<Namespaces> {
        // Names of namespaces are files there, which nobody else shall see.
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "tmpfs", "tmpfs", "/run"]), "")?;
        let bridge = "link set lo up\nlink add q0 type bridge\naddr add 10.77.0.254/24 dev q0\nlink set q0 up\n";
        run(Command::new("ip").args(["-batch", "-"]), bridge)?;
        let shared = Arc::<Mutex<Shared>>::default();
        let weak = Arc::downgrade(&shared);
        thread::spawn(move || turn(&weak));
        Ok(Namespaces { shared })
    }
}

impl Backend for Namespaces {
    fn add(&mut self, node: u64, _: Addresses) -> anyhow::Result<Place> {
        let ip = address(node)?;
        let outside = format!(
            "netns add n{node}\nlink add v{node} type veth peer name eth0 netns n{node}\nlink set v{node} master q0 up\n"
        );
        run(Command::new("ip").args(["-batch", "-"]), &outside)?;
        let inside = format!("addr add {ip}/24 dev eth0\nlink set eth0 up\nlink set lo up\n");
        let name = format!("n{node}");
        run(
            Command::new("ip").args(["-n", &name, "-batch", "-"]),
            &inside,
        )?;
        lock(&self.shared).nodes.push(node);
        let place = Addresses {
            peer: SocketAddr::from((ip, PEER_PORT)),
            client: SocketAddr::from((ip, CLIENT_PORT)),
        };
        Ok(Place {
            listens: place,
            reached: place,
        })
    }

    fn apply(&self, table: &Table) -> anyhow::Result<()> {
        let mut shared = lock(&self.shared);
        let now = Instant::now();
        for (direction, quality) in table {
            let before = shared.table.get(direction).copied().unwrap_or_default();
            if before.generation != quality.generation {
                shared.resets.insert(*direction, now + RESETS);
            }
        }
        shared.table = table.clone();
        shared.enforce(now)
    }

    fn starter(&self, node: u64) -> Vec<OsString> {
        // Only the network is another: a namespace of mounts would keep disks from being taken away.
        let namespace = format!("--net=/run/netns/n{node}");
        vec!["nsenter".into(), namespace.into()]
    }

    fn flags(&self) -> &'static [&'static str] {
        // Nobody but the harness can reach them.
        &["--insecure-no-auth"]
    }

    fn can_delay(&self) -> bool {
        // Not every kernel has what would (netem).
        false
    }
}

impl Shared {
    /// Puts the filters in force that are not.
    fn enforce(&mut self, now: Instant) -> anyhow::Result<()> {
        self.resets.retain(|_, until| *until > now);
        for node in &self.nodes {
            let is_reset = |direction| self.resets.contains_key(&direction);
            let rules = rules(*node, &self.table, is_reset)?;
            let in_force = self.in_force.get(node).map_or("", String::as_str);
            if rules == in_force {
                continue;
            }
            let namespace = format!("--net=/run/netns/n{node}");
            let mut nft = Command::new("nsenter");
            run(nft.args([&namespace, "nft", "--file", "-"]), &rules)?;
            self.in_force.insert(*node, rules);
        }
        Ok(())
    }

    /// Whether a filter will change by itself.
    fn is_restless(&self) -> bool {
        !self.resets.is_empty() || self.table.values().any(|quality| quality.flaps.is_some())
    }
}

/// Changes what changes by itself, until the network is gone.
fn turn(shared: &Weak<Mutex<Shared>>) {
    while let Some(shared) = shared.upgrade() {
        let mut locked = lock(&shared);
        if locked.is_restless() {
            // What cannot be put in force now is tried again at the next look, and told by the next fault that wants a change.
            let _ = locked.enforce(Instant::now());
        }
        drop(locked);
        drop(shared);
        thread::sleep(LOOK);
    }
}

/// What a node's packet filter is to be. Each line is a statement; all of them come into force at once.
pub(crate) fn rules(
    node: u64,
    table: &Table,
    is_reset: impl Fn((u64, u64)) -> bool,
) -> anyhow::Result<String> {
    let mut rules =
        "table inet faults\ndelete table inet faults\ntable inet faults {\nchain in {\n\
                     type filter hook input priority 0; policy accept;\n"
            .to_owned();
    for (direction, quality) in table.iter().filter(|((_, to), _)| *to == node) {
        let from = format!("ip saddr {}", address(direction.0)?);
        if quality.is_cut() {
            rules.push_str(&format!("{from} drop\n"));
        } else if is_reset(*direction) {
            rules.push_str(&format!("{from} meta l4proto tcp reject with tcp reset\n"));
        } else if quality.spikes > 0 {
            let lost = quality.spikes;
            rules.push_str(&format!("{from} numgen random mod 100 < {lost} drop\n"));
        }
    }
    rules.push_str("}\n}\n");
    Ok(rules)
}

/// The address of a node.
fn address(node: u64) -> anyhow::Result<Ipv4Addr> {
    // The last one is the bridge's.
    let last = u8::try_from(node)
        .ok()
        .filter(|last| (1..254).contains(last));
    let last = last.context("no address is left for another node")?;
    Ok(Ipv4Addr::new(10, 77, 0, last))
}

/// Runs a program to its end with this input.
fn run(command: &mut Command, input: &str) -> anyhow::Result<()> {
    let program = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| program.clone())?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not read to the end says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "{program}: {}", said.trim());
    Ok(())
}
