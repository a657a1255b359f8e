//! The command line: the server, a client that speaks the HTTP API only, and offline tools.
//!
//! # Exit codes
//! | Code | Meaning |
//! |---|---|
//! | 0 | done; healthy |
//! | 1 | refused or failed, certainly not applied; degraded; damaged |
//! | 2 | wrong usage |
//! | 3 | the outcome of a write is not known |
//! | 4 | no node could be reached, certainly not applied |
//!
//! `serve` ends with 0 after a graceful stop and with 1 if it cannot start or its core fails; a fault of the log aborts the
//! process (134).

mod client;

mod output;

mod serve;

mod settings;

mod config;

mod cluster;

mod ledger;

mod kv;

mod verify;

mod bench;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use client::Client;
use output::Failure;

/// A strongly consistent, replicated ledger and key-value store.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, disable_help_subcommand = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command that asks a node.
#[derive(Clone, Debug, Args)]
struct Global {
    /// Base URL of a node; repeat it for several, the next one is asked if one cannot be reached.
    #[arg(
        short,
        long = "endpoint",
        global = true,
        env = "QUORATE_ENDPOINTS",
        value_delimiter = ',',
        value_name = "URL"
    )]
    endpoints: Vec<String>,
    /// How long to try, all attempts together [default: 5s, init 60s].
    #[arg(long, global = true, value_parser = duration)]
    timeout: Option<Duration>,
    /// How fresh a read must be.
    #[arg(short, long, global = true, value_name = "LEVEL", value_enum)]
    consistency: Option<Consistency>,
    /// For people, or the API's own JSON.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// What to log to standard error, such as `debug` or `quorate=debug`.
    #[arg(
        long,
        global = true,
        env = "QUORATE_LOG",
        default_value = "info,openraft=warn"
    )]
    log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// Levels, with the aliases of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Consistency {
    /// Linearizable, confirmed by a quorum.
    #[value(alias = "linearizable")]
    Leader,
    /// Linearizable while clocks drift less than 20 %, no round trip.
    Lease,
    /// The asked node's state now, possibly stale.
    #[value(aliases = ["follower-stale", "stale"])]
    Follower,
}

impl Consistency {
    fn name(self) -> &'static str {
        match self {
            Consistency::Leader => "leader",
            Consistency::Lease => "lease",
            Consistency::Follower => "follower",
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node.
    Serve(serve::Serve),
    /// Look at the settings of a node and check them.
    #[command(subcommand)]
    Config(config::Config),
    /// Form a cluster of running nodes, once.
    Init(cluster::Init),
    /// Show the cluster; fails when it is degraded.
    Status,
    /// Check a stopped node's data directory.
    Verify(verify::Verify),
    /// Ledgers: sets of accounts in one asset.
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Accounts and their balances.
    #[command(subcommand)]
    Account(ledger::Account),
    /// Transfers between accounts.
    #[command(subcommand)]
    Transfer(ledger::Transfer),
    /// The key-value store.
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Measure throughput and latency.
    Bench(bench::Bench),
}

/// Runs the command line and gives its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = &cli.global.log;
    if let Err(error) = start_log(level) {
        output::complain(&format!("--log {level:?}: {error}"));
        return ExitCode::from(2);
    }
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn start_log(level: &str) -> Result<(), String> {
    let filter =
        tracing_subscriber::EnvFilter::try_new(level).map_err(|error| error.to_string())?;
    tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    Ok(())
}

fn run(cli: Cli) -> Result<(), Failure> {
    let global = cli.global;
    match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Config(config) => config.run(&global),
        Command::Verify(verify) => verify.run(&global),
        Command::Bench(bench) => bench.run(&global),
        Command::Init(init) => asking(init.run(&global)),
        Command::Status => asking(cluster::status(&global)),
        Command::Ledger(ledger) => asking(ledger.run(&global)),
        Command::Account(account) => asking(account.run(&global)),
        Command::Transfer(transfer) => asking(transfer.run(&global)),
        Command::Kv(kv) => asking(kv.run(&global)),
    }
}

/// Runs a command that asks nodes: one thread will do.
fn asking(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("starting: {error}")))?
        .block_on(work)
}

fn duration(text: &str) -> Result<Duration, String> {
    crate::http::parse_duration(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("{text:?} is not a duration such as 500ms, 5s or 1m"))
}

impl Global {
    /// A client for these endpoints.
    fn client(&self) -> Result<Client, Failure> {
        self.client_for(&self.endpoints, Duration::from_secs(5))
    }

    fn client_for(&self, endpoints: &[String], timeout: Duration) -> Result<Client, Failure> {
        Client::new(endpoints, self.timeout.unwrap_or(timeout)).map_err(Failure::usage)
    }

    /// The query of a read.
    fn query(&self) -> String {
        match self.consistency {
            Some(level) => format!("?consistency={}", level.name()),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_users_words_for_levels_work() {
        for word in [
            "leader",
            "linearizable",
            "lease",
            "follower",
            "follower-stale",
            "stale",
        ] {
            let cli = Cli::try_parse_from(["quorate", "-c", word, "status"]).unwrap();
            assert!(cli.global.consistency.is_some());
        }
        assert!(Cli::try_parse_from(["quorate", "-c", "weak", "status"]).is_err());
    }
}
