//! One node of a simulation: what it is started from, what runs, and how it dies.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::runtime;
use tokio::time::Instant;

use super::disk::Drive;
use super::net::{Dialer, Door, Net, addr_of};
use super::state::MemoryState;
use super::{Dice, Listener, Serve};
use crate::raft::clocks::Clocks;
use crate::raft::heard::Heard;
use crate::raft::network::{Network, unary_call_over};
use crate::raft::space::Space;
use crate::raft::start::{self, Guards, Parts};
use crate::raft::vitals::Vitals;
use crate::raft::{Client, Member, Options, Peer};
use crate::storage::identity::{Boot, DataDir, Identity};
use crate::storage::log::model::ModelDisk;
use crate::storage::log::{self, Log};

/// What the wall clock of a node that is right showed when the simulation began: nanoseconds since 1970.
const EPOCH_NS: u64 = 1_700_000_000_000_000_000;
/// How long a call before there is a cluster may take.
const CALL_WITHIN: Duration = Duration::from_secs(1);

/// What all nodes are in.
pub(super) struct Surroundings {
    pub(super) net: Net,
    /// The true time, nanoseconds since the simulation began.
    pub(super) now_ns: Arc<AtomicU64>,
    pub(super) options: Options,
    pub(super) serve: Serve,
}

/// See the module.
pub(super) struct Node {
    id: u64,
    dir: PathBuf,
    /// How fast its monotonic clock runs, in thousandths of the true one.
    rate: u64,
    /// How far its wall clock is ahead, in nanoseconds.
    ahead_ns: i64,
    disk: ModelDisk,
    state: MemoryState,
    identity: Identity,
    /// How often it was started.
    starts: u64,
    pub(super) running: Option<Running>,
}

/// A process.
pub(super) struct Running {
    // First, so that it is dropped first: with it go all tasks.
    runtime: runtime::Runtime,
    began: Instant,
    /// By its own clock, since then.
    elapsed_ns: u64,
    pub(super) client: Client<MemoryState>,
    pub(super) state: MemoryState,
    pub(super) drive: Arc<Drive>,
    dir: Arc<DataDir>,
    faults: Arc<Mutex<Vec<String>>>,
}

/// Small segments, so that a run goes through many.
fn log_options() -> log::Options {
    log::Options {
        segment_bytes: 128 << 10,
        cache_bytes: 64 << 10,
        witness_sync: Duration::from_millis(50),
    }
}

/// How a node is reached.
pub(super) fn member(id: u64) -> Member {
    Member {
        peer_addr: addr_of(id),
        client_url: format!("http://n{id}:2"),
        ..Member::default()
    }
}

impl Node {
    pub(super) fn new(id: u64, dir: PathBuf, rate: u64, ahead_ns: i64) -> Node {
        Node {
            id,
            dir,
            rate,
            ahead_ns,
            disk: ModelDisk::new(),
            state: MemoryState::default(),
            identity: Identity {
                cluster_id: None,
                node_id: id,
                node_uuid: format!("{id:032x}"),
                recovered: None,
            },
            starts: 0,
            running: None,
        }
    }

    /// Starts it on what it left behind.
    ///
    /// # Errors
    /// If it refuses to.
    pub(super) fn start(&mut self, around: &Surroundings) -> Result<(), String> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| error.to_string())?;
        around.net.set_door(self.id, Door::Open);
        self.starts += 1;
        let (parts, drive, faults) = {
            let _entered = runtime.enter();
            self.parts(around)?
        };
        let dir = parts.dir.clone();
        let dialer = Dialer {
            net: around.net.clone(),
            from: self.id,
        };
        let vitals = parts.vitals.clone();
        let network = Network::with_connect(dir.clone(), &around.options, vitals, dialer);
        let listener = Listener {
            net: around.net.clone(),
            node: self.id,
        };
        let serve = around.serve.clone();
        let driving = drive.clone();
        let started = runtime.block_on(async move {
            tokio::spawn(driving.run());
            let began = Instant::now();
            let (client, context) =
                start::start(parts, |context| network.knowing(&context)).await?;
            tokio::spawn(serve(Peer::new(context), listener));
            anyhow::Ok((began, client))
        });
        let (began, client) = started.map_err(|error| format!("{error:#}"))?;
        self.running = Some(Running {
            runtime,
            began,
            elapsed_ns: 0,
            client,
            state: self.state.clone(),
            drive,
            dir,
            faults,
        });
        Ok(())
    }

    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn parts(
        &self,
        around: &Surroundings,
    ) -> Result<(Parts<MemoryState>, Arc<Drive>, Arc<Mutex<Vec<String>>>), String> {
        let started = Instant::now();
        let uuid = &self.identity.node_uuid;
        let opened = Log::with_writer(self.disk.clone(), uuid, log_options());
        let (log, writer) = opened.map_err(|error| error.to_string())?;
        let faults = Arc::new(Mutex::new(Vec::new()));
        let seen = faults.clone();
        let dialer = Dialer {
            net: around.net.clone(),
            from: self.id,
        };
        let (now_ns, ahead_ns) = (around.now_ns.clone(), self.ahead_ns);
        let wall = move || {
            let true_ns = EPOCH_NS + now_ns.load(Ordering::Relaxed);
            true_ns.saturating_add_signed(ahead_ns)
        };
        let parts = Parts {
            dir: Arc::new(DataDir::simulated(
                self.dir.clone(),
                self.identity.clone(),
                Boot {
                    number: self.starts,
                    nonce: self.starts,
                },
            )),
            log,
            state: self.state.clone(),
            options: around.options.clone(),
            vitals: Vitals {
                clocks: Clocks::around(Arc::new(wall)),
                space: Space::endless(),
                heard: Heard::default(),
            },
            me: member(self.id),
            call: Arc::new(move |addr, call, body| {
                let dialer = dialer.clone();
                Box::pin(async move {
                    let answer = unary_call_over(&dialer, &addr, call, body, CALL_WITHIN).await;
                    answer.map_err(|error| error.to_string())
                })
            }),
            on_fault: Arc::new(move |what| {
                let mut seen = seen.lock().expect("nobody panics holding it");
                seen.push(what.to_owned());
            }),
            started,
            guards: Guards::ALL,
        };
        Ok((parts, Drive::new(self.disk.clone(), writer), faults))
    }

    /// So much true time passes.
    pub(super) fn advance(&mut self, ns: u64) {
        let rate = self.rate;
        let Some(running) = &mut self.running else {
            return;
        };
        running.elapsed_ns += ns * rate / 1000;
        // Timers go by whole milliseconds.
        let until = running.began + Duration::from_millis(running.elapsed_ns / 1_000_000);
        running.runtime.block_on(async {
            if Instant::now() < until {
                tokio::time::sleep_until(until).await;
            }
        });
    }

    /// Why it cannot go on, if it said so.
    pub(super) fn fault(&self) -> Option<String> {
        let running = self.running.as_ref()?;
        let faults = running.faults.lock().expect("nobody panics holding it");
        faults.first().cloned()
    }

    /// The process is killed. Whether it ran.
    pub(super) fn kill(&mut self, net: &Net, dice: &mut Dice) -> bool {
        self.end(net, Door::Shut, |drive| drive.after_kill(dice))
    }

    /// The power of its machine fails. Whether it ran.
    pub(super) fn cut_power(&mut self, net: &Net, dice: &mut Dice) -> bool {
        self.end(net, Door::Dark, |drive| drive.after_power_cut(dice))
    }

    fn end(&mut self, net: &Net, door: Door, left: impl FnOnce(&Drive) -> ModelDisk) -> bool {
        let Some(running) = self.running.take() else {
            return false;
        };
        net.set_door(self.id, door);
        self.disk = left(&running.drive);
        self.state = running.state.after_crash();
        self.identity = running.dir.identity();
        true
    }
}

impl Running {
    /// Has the process do something beside all else.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }
}
