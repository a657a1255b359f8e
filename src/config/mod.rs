//! Every setting of a node, with its default. Each layer gets its own options from here.
//!
//! [`settings`] is the table of what a person may set, [`sources`] reads it from files, environment and flags.

mod memory;
pub mod settings;
pub mod sources;
pub mod value;

pub use memory::BESIDE_BYTES;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::http::listener;
use crate::{raft, storage};

/// Settings of a node.
#[derive(Clone, Debug)]
pub struct Config {
    /// Node id: more than zero, never reused.
    pub node_id: u64,
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// Address of the client listener.
    pub listen: SocketAddr,
    /// Address of the peer listener.
    pub peer_listen: SocketAddr,
    /// Base URL at which clients and other nodes reach the client listener; made from its address if absent.
    pub advertise_client_url: Option<String>,
    /// `host:port` at which other nodes reach the peer listener; its address if absent.
    pub advertise_peer: Option<String>,
    /// Listen beyond this machine though there is no authentication.
    pub insecure_no_auth: bool,
    /// Consensus.
    pub raft: raft::Options,
    /// The log.
    pub log: storage::log::Options,
    /// The state.
    pub state: storage::state::Options,
    /// Client connections.
    pub clients: listener::Limits,
    /// Peer connections.
    pub peers: listener::Limits,
    /// Requests of clients.
    pub requests: crate::http::Limits,
    /// Threads.
    pub threads: Threads,
    /// Stopping.
    pub stop: Stop,
}

/// Which threads do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// One runtime for everything, or one for clients beside the one for consensus and peers.
    pub layout: Layout,
    /// Worker threads of the runtime for consensus and peers; 0 for one a core.
    pub workers: usize,
    /// Worker threads of the runtime for clients, if it is separate; 0 for one a core.
    pub client_workers: usize,
}

/// How the work is laid out on runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One runtime: a request and its consensus share threads, nothing crosses over.
    Shared,
    /// Two runtimes: clients cannot hold up heartbeats in the queues of one.
    Separate,
}

impl Layout {
    /// Both, in the order of [`Layout::NAMES`].
    pub const ALL: [Layout; 2] = [Layout::Shared, Layout::Separate];
    /// What they are called.
    pub const NAMES: &'static [&'static str] = &["shared", "separate"];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Shared => Layout::NAMES[0],
            Layout::Separate => Layout::NAMES[1],
        }
    }
}

/// Bounds on the steps of a graceful stop.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// Handing leadership to another node.
    pub hand_over: Duration,
    /// Clients' time to close their connections after an answer that asks for it; idle ones are closed after it.
    pub polite: Duration,
    /// Answering what is under way.
    pub drain: Duration,
    /// Stopping consensus and sealing the state.
    pub shutdown: Duration,
}

impl Config {
    /// A node with default settings.
    pub fn new(
        node_id: u64,
        data_dir: PathBuf,
        listen: SocketAddr,
        peer_listen: SocketAddr,
    ) -> Config {
        Config {
            node_id,
            data_dir,
            listen,
            peer_listen,
            advertise_client_url: None,
            advertise_peer: None,
            insecure_no_auth: false,
            raft: raft::Options::default(),
            log: storage::log::Options::default(),
            state: storage::state::Options::default(),
            clients: listener::Limits::default(),
            peers: listener::Limits::peers(),
            requests: crate::http::Limits::default(),
            threads: Threads {
                layout: Layout::Separate,
                workers: 0,
                client_workers: 0,
            },
            stop: Stop {
                hand_over: Duration::from_secs(5),
                polite: Duration::from_secs(1),
                drain: Duration::from_secs(10),
                shutdown: Duration::from_secs(60),
            },
        }
    }

    /// Defaults, and nothing where there is no default.
    fn unset() -> Config {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Config::new(0, PathBuf::new(), nowhere, nowhere)
    }

    /// Refuses settings that cannot work or would expose data.
    ///
    /// # Errors
    /// If a listener is reachable from other machines without `insecure_no_auth`, or settings contradict each other.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.node_id == 0 {
            bail!("node id 0 is reserved: count from 1");
        }
        for (what, address) in [
            ("--listen", self.listen),
            ("--peer-listen", self.peer_listen),
        ] {
            if !self.insecure_no_auth && !address.ip().is_loopback() {
                bail!(
                    "{what} {address} is reachable from other machines, and there is no authentication \
                     yet: listen on 127.0.0.1, or accept that everyone who reaches it can move money \
                     with --insecure-no-auth"
                );
            }
        }
        let raft = &self.raft;
        if raft.heartbeat.is_zero() || raft.heartbeat * 2 > raft.election_min {
            bail!(
                "--heartbeat {:?} must be above zero and at most half of --election-min {:?}: one lost \
                 heartbeat must not cause an election",
                raft.heartbeat,
                raft.election_min
            );
        }
        if raft.election_min >= raft.election_max {
            bail!(
                "--election-min {:?} must be below --election-max {:?}: equal timeouts split votes",
                raft.election_min,
                raft.election_max
            );
        }
        let requests = &self.requests;
        let largest = requests.batch_body_bytes_max.max(requests.body_bytes_max);
        if requests.bodies_bytes_max < largest {
            bail!("--bodies-bytes-max must have room for one body of {largest} bytes");
        }
        if requests.bodies_bytes_max < requests.page_bytes_max {
            bail!(
                "--bodies-bytes-max must have room for one page of --page-bytes-max {} bytes",
                requests.page_bytes_max
            );
        }
        if requests.timeout_default > requests.timeout_max {
            bail!(
                "--timeout-default {:?} must not be above --timeout-max {:?}",
                requests.timeout_default,
                requests.timeout_max
            );
        }
        Ok(())
    }

    /// What this node tells others of itself, its listeners being bound to `client` and `peer`.
    ///
    /// # Errors
    /// If it listens on every address and was not told which one to name.
    pub fn member(&self, client: SocketAddr, peer: SocketAddr) -> anyhow::Result<raft::Member> {
        let named = |flag, address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Err(flag),
            IpAddr::V6(ip) if ip.is_unspecified() => Err(flag),
            _ => Ok(address.to_string()),
        };
        let say =
            |flag| format!("listening on every address: say with {flag} which one others use");
        let client_url = match &self.advertise_client_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!(
                "http://{}",
                named("--advertise-client-url", client)
                    .map_err(say)
                    .map_err(anyhow::Error::msg)?
            ),
        };
        crate::client::authority(&client_url)
            .map_err(anyhow::Error::msg)
            .context("--advertise-client-url")?;
        let peer_addr = match &self.advertise_peer {
            Some(address) => address.clone(),
            None => named("--advertise-peer", peer)
                .map_err(say)
                .map_err(anyhow::Error::msg)?,
        };
        Ok(raft::Member {
            peer_addr,
            client_url,
            ..raft::Member::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &str, peer: &str) -> Config {
        Config::new(
            1,
            PathBuf::from("x"),
            listen.parse().unwrap(),
            peer.parse().unwrap(),
        )
    }

    #[test]
    fn listening_beyond_this_machine_must_be_asked_for() {
        let local = "127.0.0.1:1";
        assert!(config(local, "[::1]:1").check().is_ok());
        for (listen, peer) in [
            ("0.0.0.0:1", local),
            (local, "10.0.0.1:1"),
            ("[::]:1", local),
        ] {
            let mut open = config(listen, peer);
            let refused = open.check().unwrap_err().to_string();
            assert!(refused.contains("--insecure-no-auth"), "{refused}");
            open.insecure_no_auth = true;
            assert!(open.check().is_ok());
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let base = config("127.0.0.1:1", "127.0.0.1:2");
        let mut slow = base.clone();
        slow.raft.heartbeat = slow.raft.election_min;
        assert!(slow.check().is_err());
        let mut equal = base.clone();
        equal.raft.election_max = equal.raft.election_min;
        assert!(equal.check().is_err());
        let mut narrow = base.clone();
        narrow.requests.page_bytes_max = narrow.requests.bodies_bytes_max + 1;
        let refused = narrow.check().unwrap_err().to_string();
        assert!(refused.contains("--page-bytes-max"), "{refused}");
        let nobody = Config { node_id: 0, ..base };
        assert!(nobody.check().is_err());
    }

    #[test]
    fn a_node_names_an_address_that_others_can_use() {
        let bound = |text: &str| text.parse::<SocketAddr>().unwrap();
        let mut open = config("0.0.0.0:1", "0.0.0.0:2");
        assert!(open.member(bound("0.0.0.0:1"), bound("0.0.0.0:2")).is_err());
        open.advertise_client_url = Some("http://a.example:1/".to_owned());
        open.advertise_peer = Some("a.example:2".to_owned());
        let member = open.member(bound("0.0.0.0:1"), bound("0.0.0.0:2")).unwrap();
        assert_eq!(member.client_url, "http://a.example:1");
        assert_eq!(member.peer_addr, "a.example:2");
        let local = config("127.0.0.1:0", "127.0.0.1:0");
        let member = local
            .member(bound("127.0.0.1:5"), bound("127.0.0.1:6"))
            .unwrap();
        assert_eq!(member.client_url, "http://127.0.0.1:5");
        assert_eq!(member.peer_addr, "127.0.0.1:6");
    }
}
