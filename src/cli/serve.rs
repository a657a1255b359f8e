//! `quorate serve`: run a node.

use clap::Args;

use super::output::Failure;
use super::settings::Flags;
use crate::node;

/// Run a node.
#[derive(Debug, Args)]
#[command(
    after_help = "Every setting may also stand in the file or, as QUORATE_NODE_ID, in the environment;
`quorate config show` takes the same flags and says what holds and why.

Example:
  quorate serve --node-id 1 --data-dir ./n1 --listen 127.0.0.1:7001 --peer-listen 127.0.0.1:7101

A node serves nothing but probes until a cluster is formed with `quorate init`."
)]
pub(super) struct Serve {
    #[command(flatten)]
    flags: Flags,
}

impl Serve {
    /// Runs until a signal or a fault.
    pub(super) fn run(&self) -> Result<(), Failure> {
        let config = self.flags.given().finish().map_err(Failure::usage)?;
        node::tune_allocator();
        node::serve(config).map_err(|error| Failure::refused(format!("{error:#}")))
    }
}
