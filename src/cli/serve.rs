//! `quorate serve`: run a node.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration;
use super::output::Failure;
use crate::config::{Config, Layout, Threads};
use crate::node;

/// Run a node.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  quorate serve --node-id 1 --data-dir ./n1 --listen 127.0.0.1:7001 --peer-listen 127.0.0.1:7101

A node serves nothing but probes until a cluster is formed with `quorate init`.")]
pub(super) struct Serve {
    /// Id of this node, more than zero; never given to another one.
    #[arg(long)]
    node_id: u64,
    /// Directory of everything durable; made if it is absent.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Address of the client listener.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    listen: SocketAddr,
    /// Address of the peer listener.
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    peer_listen: SocketAddr,
    /// Base URL at which others reach the client listener [default: made from --listen].
    #[arg(long, value_name = "URL")]
    advertise_client_url: Option<String>,
    /// Address at which others reach the peer listener [default: --peer-listen].
    #[arg(long, value_name = "HOST:PORT")]
    advertise_peer: Option<String>,
    /// Listen beyond this machine though there is no authentication: everyone who reaches it can move money.
    #[arg(long)]
    insecure_no_auth: bool,
    /// How often an idle leader sends heartbeats.
    #[arg(long, default_value = "200ms", value_parser = duration)]
    heartbeat: Duration,
    /// Shortest time without a leader before a node stands for election.
    #[arg(long, default_value = "1s", value_parser = duration)]
    election_min: Duration,
    /// Longest such time, and the leader lease.
    #[arg(long, default_value = "2s", value_parser = duration)]
    election_max: Duration,
    /// One runtime for everything, or one for clients beside the one for consensus.
    #[arg(long, value_enum, default_value_t = Layout::Shared)]
    threads: Layout,
    /// Worker threads for consensus and peers; 0 for one a core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    workers: usize,
    /// Worker threads for clients, with --threads separate; 0 for one a core.
    #[arg(long, default_value_t = 0, value_name = "N")]
    client_workers: usize,
    /// Most client connections at once.
    #[arg(long, default_value_t = 4096, value_name = "N")]
    connections_max: usize,
}

impl Serve {
    /// Runs until a signal or a fault.
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.config();
        config
            .check()
            .map_err(|error| Failure::usage(format!("{error:#}")))?;
        node::serve(config).map_err(|error| Failure::refused(format!("{error:#}")))
    }

    fn config(self) -> Config {
        let mut config = Config::new(self.node_id, self.data_dir, self.listen, self.peer_listen);
        config.advertise_client_url = self.advertise_client_url;
        config.advertise_peer = self.advertise_peer;
        config.insecure_no_auth = self.insecure_no_auth;
        config.raft.heartbeat = self.heartbeat;
        config.raft.election_min = self.election_min;
        config.raft.election_max = self.election_max;
        // As with the defaults: twice the longest time without a leader.
        config.raft.quorum_loss_probe = self.election_max * 2;
        config.threads = Threads {
            layout: self.threads,
            workers: self.workers,
            client_workers: self.client_workers,
        };
        config.clients.connections_max = self.connections_max;
        config
    }
}

/// An address, by number or by name.
fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text
        .to_socket_addrs()
        .map_err(|error| format!("{text:?}: {error}"))?;
    found
        .next()
        .ok_or_else(|| format!("{text:?} has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_name() {
        assert_eq!(
            address("127.0.0.1:7001").unwrap(),
            "127.0.0.1:7001".parse().unwrap()
        );
        assert!(address("localhost:7001").unwrap().ip().is_loopback());
        assert!(address("127.0.0.1").is_err());
    }
}
