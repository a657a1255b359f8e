//! Nodes as real processes, on ports and directories of their own, killed when the test ends. They run the binary that was
//! built with the tests, or the one that `QUORATE_BIN` names.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use super::http::{Answer, Connection, request};
use super::ports::Ports;
use super::wait::wait_for;

/// How long anything that must happen by itself may take: several elections on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Shorter timeouts than the preset for a LAN, through the flags any user has: less waiting, the same code.
const FAST: &[&str] = &[
    "--heartbeat",
    "50ms",
    "--election-min",
    "300ms",
    "--election-max",
    "600ms",
];

/// A cluster of nodes numbered from 1.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
    dir: TempDir,
    ports: Ports,
    style: Style,
    flags: Vec<&'static str>,
}

/// How the nodes are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// With short timeouts.
    Fast,
    /// As a user runs them, each under a tracer that writes its system calls into its [`Cluster::trace_dir`].
    Traced,
}

struct Node {
    id: u64,
    process: Option<Child>,
}

impl Cluster {
    /// Starts `size` nodes and leaves them unformed.
    pub(crate) fn unformed(size: u64) -> Cluster {
        Cluster::spawn(size, Style::Fast, &[])
    }

    /// A formed cluster whose nodes are started with more flags.
    pub(crate) fn formed_with(size: u64, flags: &[&'static str]) -> Cluster {
        Cluster::spawn(size, Style::Fast, flags).form()
    }

    fn spawn(size: u64, style: Style, flags: &[&'static str]) -> Cluster {
        let nodes = (1..=size).map(|id| Node { id, process: None }).collect();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports = Ports::reserve();
        let mut cluster = Cluster {
            nodes,
            dir,
            ports,
            style,
            flags: flags.to_vec(),
        };
        for id in 1..=size {
            cluster.start(id);
        }
        cluster
    }

    /// Starts `size` nodes, forms the cluster and waits until all are ready.
    pub(crate) fn formed(size: u64) -> Cluster {
        Cluster::unformed(size).form()
    }

    /// The same, with every node's system calls written down.
    pub(crate) fn traced(size: u64) -> Cluster {
        Cluster::spawn(size, Style::Traced, &[]).form()
    }

    fn form(self) -> Cluster {
        let answer = self.init(1, self.nodes.len() as u64);
        assert_eq!(answer.status, 201, "{}", answer.text());
        self.wait_all_ready();
        self
    }

    /// The ids of all nodes, running or not.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// The ids of the nodes that run (paused ones too).
    pub(crate) fn running(&self) -> Vec<u64> {
        let running = self.nodes.iter().filter(|node| node.process.is_some());
        running.map(|node| node.id).collect()
    }

    /// Where node `id` serves clients.
    pub(crate) fn addr(&self, id: u64) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.client(id)).into()
    }

    /// Where every node serves clients, in order of id.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.ids().into_iter().map(|id| self.addr(id)).collect()
    }

    /// The data directory of node `id`.
    pub(crate) fn data_dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node{id}"))
    }

    /// One request to node `id`.
    pub(crate) fn ask(
        &self,
        id: u64,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<Answer> {
        request(self.addr(id), method, path, body.as_bytes())
    }

    /// Asks node `via` to form a cluster of the first `size` nodes.
    pub(crate) fn init(&self, via: u64, size: u64) -> Answer {
        wait_for("the listener", PATIENCE, || {
            Connection::open(self.addr(via)).ok()
        });
        self.ask(via, "POST", "/v1/cluster/init", &self.members(size))
            .expect("an answer")
    }

    /// The body of such a request.
    pub(crate) fn members(&self, size: u64) -> String {
        let member = |id: u64| {
            json!({
                "id": id,
                "peer_addr": format!("127.0.0.1:{}", self.ports.peer(id)),
                "client_url": format!("http://{}", self.addr(id)),
            })
        };
        json!({ "members": (1..=size).map(member).collect::<Vec<_>>() }).to_string()
    }

    /// Starts node `id` on its data directory.
    pub(crate) fn start(&mut self, id: u64) {
        let dir = self.data_dir(id);
        self.launch(id, id, &dir);
    }

    /// Starts one more process that says to be node `id`, on the directory `dir` and in the place of node `place`.
    pub(crate) fn start_as(&mut self, id: u64, place: u64, dir: &Path) {
        if !self.ids().contains(&place) {
            self.nodes.push(Node {
                id: place,
                process: None,
            });
        }
        self.launch(place, id, dir);
    }

    /// What node `id` wrote to its log.
    pub(crate) fn log(&self, id: u64) -> String {
        fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    fn launch(&mut self, place: u64, id: u64, dir: &Path) {
        let log = self.log_path(place);
        let log = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let errors = log.try_clone().expect("a second handle");
        let process = self
            .command(place)
            .args(["serve", "--node-id", &id.to_string()])
            .arg("--data-dir")
            .arg(dir)
            .args(["--listen", &self.addr(place).to_string()])
            .args([
                "--peer-listen",
                &format!("127.0.0.1:{}", self.ports.peer(place)),
            ])
            .args(if self.style == Style::Fast { FAST } else { &[] })
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("the binary starts");
        let node = self.node(place);
        assert!(node.process.is_none(), "node {place} runs already");
        node.process = Some(process);
    }

    /// Starts a node that was none of this cluster's.
    pub(crate) fn join(&mut self, id: u64) {
        self.nodes.push(Node { id, process: None });
        self.start(id);
    }

    /// Node `id` as the command line names it: id, peer address, client URL.
    pub(crate) fn member(&self, id: u64) -> String {
        let (peer, client) = (self.ports.peer(id), self.addr(id));
        format!("{id}=127.0.0.1:{peer},http://{client}")
    }

    /// Waits until node `id` has ended by itself.
    pub(crate) fn wait_end(&mut self, id: u64) -> ExitStatus {
        let mut process = self.node(id).process.take().expect("it runs");
        wait_for("the end of a node", PATIENCE, || {
            process.try_wait().expect("it can be waited for")
        })
    }

    /// Kills node `id` with SIGKILL.
    pub(crate) fn kill(&mut self, id: u64) {
        let mut process = self.node(id).process.take().expect("it runs");
        process.kill().expect("it can be killed");
        process.wait().expect("it can be waited for");
    }

    /// Memory that node `id` holds, in bytes.
    pub(crate) fn memory(&mut self, id: u64) -> u64 {
        let pid = self.node(id).process.as_ref().expect("it runs").id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        1024 * kib.expect("a size").parse::<u64>().expect("a number")
    }

    /// Sends SIGTERM to node `id` and waits for its end.
    pub(crate) fn terminate(&mut self, id: u64) -> ExitStatus {
        self.signal(id, "TERM");
        self.wait_end(id)
    }

    /// Freezes node `id` (SIGSTOP).
    pub(crate) fn pause(&mut self, id: u64) {
        self.signal(id, "STOP");
    }

    /// Lets a frozen node go on (SIGCONT).
    pub(crate) fn resume(&mut self, id: u64) {
        self.signal(id, "CONT");
    }

    /// What part node `id` says it plays, if it answers at once.
    pub(crate) fn role(&self, id: u64) -> Option<String> {
        let answer = self.ask(id, "GET", "/livez", "").ok()?;
        answer.header("quorate-role").map(str::to_owned)
    }

    /// Waits until one of `among` leads, and gives its id. Never asks the others: they may be paused.
    pub(crate) fn wait_leader(&self, among: &[u64]) -> u64 {
        wait_for("a leader", PATIENCE, || {
            among
                .iter()
                .copied()
                .find(|id| self.role(*id).as_deref() == Some("leader"))
        })
    }

    /// Waits until node `id` is ready.
    pub(crate) fn wait_ready(&self, id: u64) {
        wait_for(&format!("node {id} to be ready"), PATIENCE, || {
            let answer = self.ask(id, "GET", "/readyz", "").ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// Waits until every running node is ready.
    pub(crate) fn wait_all_ready(&self) {
        for id in self.running() {
            self.wait_ready(id);
        }
    }

    /// Waits until every running node has applied at least `index`.
    pub(crate) fn wait_applied(&self, index: u64) {
        for id in self.running() {
            wait_for(&format!("node {id} to apply {index}"), PATIENCE, || {
                let answer = self.ask(id, "GET", "/livez", "").ok()?;
                let applied: u64 = answer.header("quorate-applied-index")?.parse().ok()?;
                (applied >= index).then_some(())
            });
        }
    }

    /// Where a traced node's system calls are written, one file a thread.
    pub(crate) fn trace_dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("trace{id}"))
    }

    fn command(&self, id: u64) -> Command {
        let binary =
            std::env::var_os("QUORATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_quorate").into());
        if self.style == Style::Fast {
            return Command::new(binary);
        }
        fs::create_dir_all(self.trace_dir(id)).expect("a directory for the trace");
        let mut tracer = Command::new("strace");
        // -D: the tracer steps aside, so that the process started here is the node and signals reach it.
        tracer.args([
            "-D",
            "-ff",
            "--seccomp-bpf",
            "-ttt",
            "-T",
            "-yy",
            "-s",
            "1024",
        ]);
        tracer.args(["-e", super::trace::SYSTEM_CALLS, "-e", "signal=none"]);
        tracer.arg("-o").arg(self.trace_dir(id).join("thread"));
        tracer.arg(binary);
        tracer
    }

    /// Sends node `id` the signal `name`.
    pub(crate) fn signal(&mut self, id: u64, name: &str) {
        let pid = self.node(id).process.as_ref().expect("it runs").id();
        // The shell's own `kill`: a signal cannot be sent from safe Rust without one more dependency.
        let command = format!("kill -{name} {pid}");
        let status = Command::new("sh")
            .args(["-c", &command])
            .status()
            .expect("a shell");
        assert!(status.success(), "{command}");
    }

    fn node(&mut self, id: u64) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|node| node.id == id)
            .expect("a node of this cluster")
    }

    fn log_path(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node{id}.log"))
    }
}

impl Drop for Cluster {
    #[expect(
        clippy::print_stderr,
        reason = "what the nodes logged explains the failure"
    )]
    fn drop(&mut self) {
        for id in self.running() {
            self.kill(id);
        }
        if std::thread::panicking() {
            for id in self.ids() {
                let log = fs::read_to_string(self.log_path(id)).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(25).collect();
                let tail: Vec<&str> = tail.into_iter().rev().collect();
                eprintln!("--- the last lines of node {id} ---\n{}", tail.join("\n"));
            }
        }
    }
}
