//! The table of settings: the one place that names them. `--help`, the example file, `config show` and the reading of
//! files, environment and flags all follow it.
//!
//! A setting has one name in three spellings: `election_min` in a file, `QUORATE_ELECTION_MIN` in the environment and
//! `--election-min` on the command line. Its default is what the layer that uses it says.

use std::sync::LazyLock;
use std::time::Duration;

use super::value::{Field, Kind, Value};
use super::{Config, Layout};
use crate::machine::command::{BATCH_LEN_MAX, VALUE_LEN_MAX};
use crate::machine::entry::ENTRY_LEN_MAX;

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Under which heading it stands.
    pub group: &'static str,
    /// Its name, as in a file.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// What it does, in one sentence without its end.
    pub doc: &'static str,
    /// What happens if it is not set and has no default of its own.
    pub unset: Option<&'static str>,
    get: fn(&Config, &Kind) -> Option<Value>,
    set: fn(&mut Config, Value),
}

/// The spellings of a setting outside files.
#[derive(Debug)]
pub struct Spelling {
    /// On the command line, without its dashes.
    pub flag: String,
    /// In the environment.
    pub env: String,
}

impl Setting {
    /// Its value in `config`; `None` if it is not set.
    pub fn get(&self, config: &Config) -> Option<Value> {
        (self.get)(config, &self.kind)
    }

    /// Puts `value`, which is of its kind, into `config`.
    pub fn set(&self, config: &mut Config, value: Value) {
        (self.set)(config, value);
    }

    /// Its default; `None` if it has none of its own, see [`Setting::unset`].
    pub fn default(&self) -> Option<Value> {
        static DEFAULT: LazyLock<Config> = LazyLock::new(Config::unset);
        match self.unset {
            Some(_) => None,
            None => self.get(&DEFAULT),
        }
    }

    /// Whether a node cannot start without it.
    pub fn is_required(&self) -> bool {
        self.unset == Some(REQUIRED)
    }

    /// Default and bounds in brackets, as after its sentence in a help text.
    pub fn terms(&self) -> String {
        let default = match self.default() {
            Some(value) => format!("default: {value}"),
            None => self.unset.unwrap_or("not set").to_owned(),
        };
        let bounds = match self.kind {
            Kind::Choice(words) => Some(format!("one of: {}", words.join(", "))),
            _ => self.kind.bounds(),
        };
        let terms: Vec<String> = [Some(default), bounds].into_iter().flatten().collect();
        match self.kind.unit() {
            "" => format!("[{}]", terms.join("; ")),
            unit => format!("[{}; in {unit}]", terms.join("; ")),
        }
    }
}

/// A place in [`SETTINGS`].
pub type Place = usize;

/// The spellings of `SETTINGS[place]`.
pub fn spelling(place: Place) -> &'static Spelling {
    static SPELLINGS: LazyLock<Vec<Spelling>> = LazyLock::new(|| {
        let spell = |setting: &Setting| Spelling {
            flag: setting.name.replace('_', "-"),
            env: format!("{ENV_PREFIX}{}", setting.name.to_ascii_uppercase()),
        };
        SETTINGS.iter().map(spell).collect()
    });
    &SPELLINGS[place]
}

/// What the environment variable of every setting begins with.
pub const ENV_PREFIX: &str = "QUORATE_";

/// Where `name` stands in the table.
pub fn find(name: &str) -> Option<Place> {
    SETTINGS.iter().position(|setting| setting.name == name)
}

const REQUIRED: &str = "must be set";
const NODE: &str = "This node";
const CONSENSUS: &str = "Consensus";
const WRITES: &str = "Writes";
const STORAGE: &str = "Storage";
const SNAPSHOTS: &str = "Snapshots";
const CLIENTS: &str = "Client connections";
const REQUESTS: &str = "Requests";
const PEERS: &str = "Peer connections";
const THREADS: &str = "Threads";
const STOPPING: &str = "Stopping";

const fn times(min: Duration, max: Duration) -> Kind {
    Kind::Duration(min, max)
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

macro_rules! settings {
    ($($group:ident: $name:ident, $kind:expr, $($field:ident).+ $(, unset $unset:expr)?; $doc:literal)+) => {
        /// Every setting, in the order of help texts and the example file.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            group: $group,
            name: stringify!($name),
            kind: $kind,
            doc: $doc,
            unset: settings!(@unset $($unset)?),
            get: |config, kind| config.$($field).+.get(kind),
            set: |config, value| config.$($field).+.set(value),
        }),+];
    };
    (@unset) => { None };
    (@unset $unset:expr) => { Some($unset) };
}

settings! {
    NODE: node_id, Kind::Count("", 1, u64::MAX), node_id, unset REQUIRED;
        "Id of this node, never given to another one"
    NODE: data_dir, Kind::Path, data_dir, unset REQUIRED;
        "Directory of everything durable; made if it is absent"
    NODE: listen, Kind::Address, listen, unset REQUIRED;
        "Address of the client listener"
    NODE: peer_listen, Kind::Address, peer_listen, unset REQUIRED;
        "Address of the peer listener"
    NODE: advertise_client_url, Kind::Text("URL"), advertise_client_url, unset "made from listen";
        "Base URL at which others reach the client listener"
    NODE: advertise_peer, Kind::Text("HOST:PORT"), advertise_peer, unset "as peer_listen";
        "Address at which others reach the peer listener"
    NODE: insecure_no_auth, Kind::Switch, insecure_no_auth;
        "Listen beyond this machine though there is no authentication: everyone who reaches it can move money"

    CONSENSUS: heartbeat, times(ms(10), secs(10)), raft.heartbeat;
        "How often an idle leader sends heartbeats; at most half of election_min"
    CONSENSUS: election_min, times(ms(50), secs(60)), raft.election_min;
        "Shortest time without a leader before a node stands for election"
    CONSENSUS: election_max, times(ms(100), secs(120)), raft.election_max;
        "Longest such time, and the leader lease; the same on every node"
    CONSENSUS: quorum_loss_probe, times(ms(100), secs(600)), raft.quorum_loss_probe, unset "twice election_max";
        "After this long without a quorum a leader stops holding back elections"
    CONSENSUS: flush_abort, times(secs(1), secs(600)), raft.flush_abort;
        "A write to the log that takes longer ends the process: another node leads rather than one whose disk hangs"
    CONSENSUS: clock_tolerance, times(ms(10), secs(3600)), raft.clock_tolerance;
        "How far another voter's clock may be from this one's and still agree with it; without a majority that agrees, nothing expires"

    WRITES: batch_in_flight, Kind::Count("entries", 1, 64), raft.batch_in_flight;
        "Entries in flight below which waiting writes are sent at once, not gathered"
    WRITES: batch_commands_max, Kind::Count("commands", 1, 65_536), raft.batch_commands_max;
        "Most commands in one entry of the log"
    WRITES: batch_bytes_max, Kind::Bytes(4 * KIB, ENTRY_LEN_MAX as u64), raft.batch_bytes_max;
        "Bytes of commands at which an entry is full; one command may exceed it"
    WRITES: queue_commands_max, Kind::Count("commands", 1, 1_000_000), raft.queue_commands_max;
        "Most writes waiting to be proposed or in flight; beyond it they are refused as overloaded"
    WRITES: queue_bytes_max, Kind::Bytes(MIB, 16 * GIB), raft.queue_bytes_max;
        "Most bytes of such writes"
    WRITES: queue_wait_max, times(ms(1), secs(600)), raft.queue_wait_max;
        "How long the oldest of them may have waited for its answer, if there are more than four full entries of them; while it is older, writes are refused as overloaded"
    WRITES: unflushed_bytes_max, Kind::Bytes(64 * KIB, GIB), raft.unflushed_bytes_max;
        "Bytes handed to the log and not yet on the disk beyond which nothing more is proposed"

    STORAGE: log_segment_bytes, Kind::Bytes(8 * KIB, GIB), log.segment_bytes;
        "Size a file of the log is made with, rounded up to 4 KiB"
    STORAGE: log_cache_bytes, Kind::Bytes(0, 64 * GIB), log.cache_bytes;
        "Entries of the log kept in memory for followers"
    STORAGE: witness_sync, times(ms(10), secs(10)), log.witness_sync;
        "How often the witness of the log's end is synced: after a power cut it is at most that old"
    STORAGE: seal_journal_bytes, Kind::Bytes(MIB, 64 * GIB), state.seal_journal_bytes;
        "Journal written between two seals: what is applied again after a crash"
    STORAGE: state_cache_bytes, Kind::Bytes(MIB, 1024 * GIB), state.cache_bytes;
        "Blocks of the state kept in memory"

    STORAGE: disk_low_bytes, Kind::Bytes(0, 1024 * GIB), raft.space.low_bytes;
        "Free bytes of the disk below which a leader takes deletes only; at most 15 per cent of the disk, 0B for never"
    STORAGE: disk_full_bytes, Kind::Bytes(0, 1024 * GIB), raft.space.full_bytes;
        "Free bytes below which a node takes nothing and hands leadership over; at most 5 per cent of the disk, 0B for never"
    STORAGE: scrub_every, times(secs(1), secs(30 * 24 * 3600)), raft.scrub.every;
        "How often state, snapshot and closed segments of the log are read through to see whether they are whole"
    STORAGE: scrub_rate, Kind::Bytes(0, 1024 * GIB), raft.scrub.rate;
        "Most bytes read for that in a second; 0B to not read them at all"

    SNAPSHOTS: snapshot_log_bytes, Kind::Bytes(MIB, 1024 * GIB), raft.snapshots.log_bytes;
        "Log written since the last snapshot at which the next one is made; what it holds is not needed from the log any more"
    SNAPSHOTS: snapshot_every, times(secs(1), secs(30 * 24 * 3600)), raft.snapshots.every;
        "After so long a snapshot is made even if less was written, if anything was"
    SNAPSHOTS: log_keep_bytes, Kind::Bytes(0, 1024 * GIB), raft.snapshots.log_keep_bytes;
        "Newest bytes of the log that are kept all the same, so that a node that was away for a moment needs no snapshot; whole files of log_segment_bytes"
    SNAPSHOTS: snapshot_rate, Kind::Bytes(0, 1024 * GIB), raft.snapshots.rate;
        "Most bytes of a snapshot sent to one node in a second; 0B for no such bound"
    SNAPSHOTS: snapshot_stall, times(ms(100), secs(3600)), raft.snapshots.stall;
        "A transfer of a snapshot that does not move for so long is given up; the next one goes on from what arrived"

    CLIENTS: connections_max, Kind::Count("connections", 1, 1_000_000), clients.connections_max;
        "Most client connections at once; more are turned away"
    CLIENTS: connections_per_address_max, Kind::Count("connections", 1, 1_000_000), clients.per_address_max;
        "Most of them from one address, or one IPv6 network of 64 bits; raise it behind a proxy"
    CLIENTS: head_timeout, times(secs(1), secs(300)), clients.head;
        "Longest time from the first byte of a request's head to its last"
    CLIENTS: idle_timeout, times(secs(1), secs(3600)), clients.idle;
        "Longest silence between two requests of a connection"
    CLIENTS: headers_max, Kind::Count("headers", 16, 1024), clients.headers_max;
        "Most headers of a request"
    CLIENTS: head_bytes_max, Kind::Bytes(8 * KIB, 256 * KIB), clients.head_len_max;
        "Most bytes of a request's head"

    REQUESTS: timeout_default, times(ms(10), secs(3600)), requests.timeout_default;
        "Deadline of a request that names none"
    REQUESTS: timeout_max, times(ms(10), secs(3600)), requests.timeout_max;
        "Longest deadline a request may name; the same on every node"
    REQUESTS: uri_bytes_max, Kind::Bytes(4 * KIB, 64 * KIB), requests.uri_bytes_max;
        "Most bytes of path and query"
    REQUESTS: body_bytes_max, Kind::Bytes(4 * KIB, 8 * MIB), requests.body_bytes_max;
        "Most bytes of a JSON body"
    REQUESTS: batch_body_bytes_max, Kind::Bytes(4 * KIB, 64 * MIB), requests.batch_body_bytes_max;
        "Most bytes of the body of a batch"
    REQUESTS: batch_transfers_max, Kind::Count("transfers", 1, BATCH_LEN_MAX as u64), requests.batch_transfers_max;
        "Most transfers in a batch"
    REQUESTS: value_bytes_max, Kind::Bytes(1, VALUE_LEN_MAX as u64), requests.value_bytes_max;
        "Most bytes of a value of the key-value store"
    REQUESTS: page_bytes_max, Kind::Bytes(KIB, 64 * MIB), requests.page_bytes_max;
        "Bytes of keys and values at which a page of a list ends"
    REQUESTS: bodies_bytes_max, Kind::Bytes(MIB, 64 * GIB), requests.bodies_bytes_max;
        "Most bytes of the bodies of all requests under way, and of large answers not yet taken; beyond it requests are refused as overloaded"
    REQUESTS: writes_max, Kind::Count("writes", 1, 1_000_000), requests.writes_max;
        "Most writes under way in a node at once; beyond it they are refused as overloaded, before they are parsed"
    REQUESTS: lag_max, times(ms(1), secs(600)), requests.lag_max;
        "How late the threads that serve clients may be; while they are later, writes are refused as overloaded by their head alone"
    REQUESTS: body_timeout, times(secs(1), secs(600)), requests.body_timeout;
        "Longest time a body may take, however fast it comes"
    REQUESTS: body_grace, times(ms(100), secs(600)), requests.body_grace;
        "Time before body_rate_min counts"
    REQUESTS: body_rate_min, Kind::Bytes(0, GIB), requests.body_rate_min;
        "Fewest bytes of a body that must come in a second; 0B for no such bound"

    PEERS: peer_connections_max, Kind::Count("connections", 4, 65_536), peers.connections_max;
        "Most peer connections at once; more are turned away"
    PEERS: peer_connections_per_address_max, Kind::Count("connections", 4, 65_536), peers.per_address_max;
        "Most of them from one address"
    PEERS: peer_head_timeout, times(secs(1), secs(300)), peers.head;
        "Longest time from the first byte of a peer's request head to its last"
    PEERS: peer_idle_timeout, times(secs(1), secs(3600)), peers.idle;
        "Longest silence between two requests of a peer connection"

    THREADS: threads, Kind::Choice(Layout::NAMES), threads.layout;
        "One runtime for everything, or one for clients beside the one for consensus, so that much to do for clients does not delay heartbeats"
    THREADS: workers, Kind::Count("threads", 0, 1024), threads.workers;
        "Worker threads for consensus and peers; 0 for one a core"
    THREADS: client_workers, Kind::Count("threads", 0, 1024), threads.client_workers;
        "Worker threads for clients if they are separate; 0 for one a core"

    STOPPING: stop_hand_over, times(ms(0), secs(600)), stop.hand_over;
        "How long a stopping leader tries to hand leadership to another node"
    STOPPING: stop_polite, times(ms(0), secs(600)), stop.polite;
        "Clients' time to close their connections after an answer that asks for it"
    STOPPING: stop_drain, times(ms(0), secs(600)), stop.drain;
        "Longest wait for answers under way"
    STOPPING: stop_shutdown, times(secs(1), secs(3600)), stop.shutdown;
        "Longest wait for consensus to stop and the state to be sealed"
}

/// The example file: every setting with what it does, its default and its bounds, commented out.
pub fn example() -> String {
    let mut text = String::from(
        "# Every setting of a node. Uncomment what you change; `quorate config check FILE` reads it as a node does.\n\
         # The environment (QUORATE_ELECTION_MIN) wins over this file, and a flag (--election-min) over both.\n",
    );
    let mut group = "";
    for setting in SETTINGS {
        if setting.group != group {
            group = setting.group;
            text.push_str(&format!("\n# ---- {group} ----\n"));
        }
        let sample = setting
            .default()
            .map_or_else(|| sample(setting.name).to_owned(), |value| value.toml());
        let (doc, terms) = (setting.doc, setting.terms());
        text.push_str(&format!(
            "\n# {doc}. {terms}\n#{} = {sample}\n",
            setting.name
        ));
    }
    text
}

/// A value for the example, for a setting without a default.
fn sample(name: &str) -> &'static str {
    match name {
        "node_id" => "1",
        "data_dir" => "\"/var/lib/quorate\"",
        "listen" => "\"127.0.0.1:7001\"",
        "peer_listen" | "advertise_peer" => "\"127.0.0.1:7101\"",
        "advertise_client_url" => "\"http://127.0.0.1:7001\"",
        "quorum_loss_probe" => "\"4s\"",
        _ => "\"\"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        let mut groups: Vec<_> = SETTINGS.iter().map(|setting| setting.group).collect();
        groups.dedup();
        let count = groups.len();
        groups.sort_unstable();
        groups.dedup();
        assert_eq!(groups.len(), count, "a group stands in one place");
        for (place, setting) in SETTINGS.iter().enumerate() {
            assert_eq!(find(setting.name), Some(place), "{} twice", setting.name);
            assert!(!setting.doc.ends_with('.'), "{}", setting.name);
            assert!(setting.default().is_some() || setting.unset.is_some());
        }
    }

    #[test]
    fn every_default_is_within_its_bounds_and_survives_being_written() {
        for setting in SETTINGS {
            let mut config = Config::unset();
            if let Some(default) = setting.default() {
                let read = setting.kind.read(&default.to_string());
                assert_eq!(read.as_ref(), Ok(&default), "{}", setting.name);
                setting.set(&mut config, default.clone());
                assert_eq!(setting.get(&config), Some(default), "{}", setting.name);
            }
        }
    }

    #[test]
    fn the_committed_example_is_the_table() {
        let committed = include_str!("example.toml");
        assert!(
            committed == example(),
            "src/config/example.toml is not what the table says: write it anew with `quorate config example`"
        );
    }
}
