//! `quorate log`: what a node applied.

use std::io::{BufWriter, ErrorKind, StdoutLock, Write as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;

use super::output::{Failure, note};
use super::{Global, asking};
use crate::storage::applied::{self, Exported, Line, Pages};
use crate::storage::identity::DataDir;

/// The log of a node.
#[derive(Debug, Subcommand)]
pub(super) enum Log {
    /// Write every command that was applied, in order, with what came of it.
    #[command(after_help = "Examples:
  quorate log export >applied.jsonl
  quorate log export --endpoint http://127.0.0.1:7002 --consistency follower >applied2.jsonl
  quorate log export --data-dir data/node1 >applied1.jsonl

Of what the leader applied; with --consistency follower, of the node that is asked; with
--data-dir, of a stopped node. What is applied after the export began is not in it.
One line of JSON a command (a transfer of a batch each by itself): index and term of its entry,
`op` (idempotency key or transfer id), `f` (put, delete, ledger, account, transfer), `key`,
`value`, `expect`, `result` (true: done, false: refused), `code` (why refused), and `dup` if it was
recognised as done before. It begins at the purge point of the log.
Changes nothing. Ends with 1 if log and journal do not fit together, or do not lead to the digest
that the node stored; what was written until then is worth nothing.")]
    Export {
        /// The data directory of a stopped node, instead of asking one that runs.
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
        /// Only up to this log index; the digest told is the one there, for comparing nodes.
        #[arg(long, value_name = "INDEX")]
        until: Option<u64>,
    },
}

impl Log {
    /// Does it.
    pub(super) fn run(self, global: &Global) -> Result<(), Failure> {
        let Log::Export { data_dir, until } = self;
        let mut lines = Lines::new();
        let exported = match &data_dir {
            Some(dir) => stopped(dir, until, &mut lines),
            None => asking(running(global, until, &mut lines)),
        };
        // A closed pipe is the reader's choice, not a failure.
        if lines.is_closed {
            return Ok(());
        }
        let exported = exported?;
        lines.out.flush().map_err(|error| refused(&error))?;
        let digest: String = exported.digest.iter().map(|b| format!("{b:02x}")).collect();
        note(&format!(
            "applied up to index {}, digest {digest}",
            exported.index
        ));
        Ok(())
    }
}

fn stopped(dir: &Path, until: Option<u64>, lines: &mut Lines) -> Result<Exported, Failure> {
    // Held to the end: the lock keeps nodes out.
    let dir = DataDir::inspect(dir).map_err(|error| refused(&error))?;
    applied::export(&dir, until, |line| lines.write(line)).map_err(|error| refused(&error))
}

async fn running(
    global: &Global,
    until: Option<u64>,
    lines: &mut Lines,
) -> Result<Exported, Failure> {
    let client = global.client()?;
    let mut pages = Pages::new(until);
    loop {
        let (from, to) = pages.wanted();
        let (from, to) = (from.to_string(), to.map(|to| to.to_string()));
        let ask = global.read("/v1/log/applied").param("from", Some(&from));
        let page = global
            .ask_of(&client, &ask.param("to", to.as_deref()))
            .await?;
        let taken = pages.take(&page.body, |line| lines.write(line));
        if let Some(exported) = taken.map_err(|error| refused(&error))? {
            return Ok(exported);
        }
    }
}

fn refused(error: &dyn std::fmt::Display) -> Failure {
    Failure::refused(error.to_string())
}

/// Where the lines go.
struct Lines {
    out: BufWriter<StdoutLock<'static>>,
    /// Nobody reads them any more.
    is_closed: bool,
}

impl Lines {
    fn new() -> Lines {
        Lines {
            out: BufWriter::new(std::io::stdout().lock()),
            is_closed: false,
        }
    }

    fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let written = serde_json::to_writer(&mut self.out, line).map_err(std::io::Error::from);
        let ended = written.and_then(|()| self.out.write_all(b"\n"));
        self.is_closed = matches!(&ended, Err(error) if error.kind() == ErrorKind::BrokenPipe);
        ended
    }
}
