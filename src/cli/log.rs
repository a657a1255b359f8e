//! `quorate log`: what a node applied.

use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::PathBuf;

use clap::Subcommand;

use super::output::{Failure, note};
use crate::storage::applied;
use crate::storage::identity::DataDir;

/// The log of a node.
#[derive(Debug, Subcommand)]
pub(super) enum Log {
    /// Write every command that a stopped node applied, in order, with what came of it.
    #[command(after_help = "Example:
  quorate log export --data-dir data/node1 >applied.jsonl

One line of JSON a command (a transfer of a batch each by itself): index and term of its entry,
`op` (idempotency key or transfer id), `f` (put, delete, ledger, account, transfer), `key`,
`value`, `expect`, `result` (true: done, false: refused), `code` (why refused), and `dup` if it was
recognised as done before. It begins at the purge point of the log.
Changes nothing. Ends with 1 if log and journal do not fit together, or do not lead to the digest
that the node stored; what was written until then is worth nothing.")]
    Export {
        /// The data directory of a stopped node.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Only up to this log index; the digest told is the one there, for comparing nodes.
        #[arg(long, value_name = "INDEX")]
        until: Option<u64>,
    },
}

impl Log {
    /// Does it.
    pub(super) fn run(self) -> Result<(), Failure> {
        let Log::Export { data_dir, until } = self;
        let refused = |error: &dyn std::fmt::Display| Failure::refused(error.to_string());
        // Held to the end: the lock keeps nodes out.
        let dir = DataDir::inspect(&data_dir).map_err(|error| refused(&error))?;
        let mut out = BufWriter::new(std::io::stdout().lock());
        let mut is_closed = false;
        let written = applied::export(&dir, until, |line| {
            serde_json::to_writer(&mut out, line)?;
            let ended = out.write_all(b"\n");
            is_closed = matches!(&ended, Err(error) if error.kind() == ErrorKind::BrokenPipe);
            ended
        });
        // A closed pipe is the reader's choice, not a failure.
        if is_closed {
            return Ok(());
        }
        let exported = written.map_err(|error| refused(&error))?;
        out.flush().map_err(|error| refused(&error))?;
        let digest: String = exported.digest.iter().map(|b| format!("{b:02x}")).collect();
        note(&format!(
            "applied up to index {}, digest {digest}",
            exported.index
        ));
        Ok(())
    }
}
