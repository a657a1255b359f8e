//! The command line: the server, a client that speaks the HTTP API only, and offline tools.
//!
//! What a command's exit code says is in the help of `quorate`: [`output::EXIT_CODES`].

mod output;

mod format;

mod progress;

mod serve;

mod settings;

mod config;

mod cluster;

mod node;

mod ledger;

mod transfer;

mod import;

mod rows;

mod kv;

mod list;

mod verify;

mod recover;

mod backup;

mod log;

mod bench;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use serde_json::Value;

use crate::client::{Answer, Ask, Client, Level, Options};
use crate::mutants;
use format::{Format, show};
use output::Failure;

/// Asked when no endpoint is named.
const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:7001";
/// How long commands try that say nothing else.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// A strongly consistent, replicated ledger and key-value store.
#[derive(Debug, Parser)]
#[command(name = "quorate", version = mutants::VERSION, disable_help_subcommand = true, after_help = output::EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command that asks a node.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command that asks a node")]
struct Global {
    /// Base URL of a node; repeat it for several, the next one is asked if one cannot be reached [default:
    /// http://127.0.0.1:7001].
    #[arg(
        short,
        long = "endpoint",
        global = true,
        env = "QUORATE_ENDPOINTS",
        value_delimiter = ',',
        value_name = "URL"
    )]
    endpoints: Vec<String>,
    /// How long to try, all attempts together [default: 10s, init 60s, node 5m, backup 10m].
    #[arg(long, global = true, value_parser = duration)]
    timeout: Option<Duration>,
    /// How fresh a read must be.
    #[arg(short, long, global = true, value_name = "LEVEL", value_enum)]
    consistency: Option<Consistency>,
    /// In which form to print.
    #[arg(short, long, global = true, value_enum, value_name = "FORM", default_value_t = Format::Table)]
    output: Format,
    /// Print each request as a curl command to standard error first.
    #[arg(short, long, global = true)]
    verbose: bool,
    /// What to log to standard error, such as `debug` or `quorate=debug`.
    #[arg(
        long,
        global = true,
        env = "QUORATE_LOG",
        default_value = "info,openraft=warn"
    )]
    log: String,
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

impl From<Consistency> for Level {
    fn from(consistency: Consistency) -> Level {
        match consistency {
            Consistency::Leader => Level::Leader,
            Consistency::Lease => Level::Lease,
            Consistency::Follower => Level::Follower,
        }
    }
}

/// Rules over what this version measures.
const ALERTS: &str = include_str!("alerts.yml");

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
    /// Who leads.
    #[command(subcommand)]
    Leader(cluster::Leader),
    /// Members of the cluster: add, replace and remove nodes.
    #[command(subcommand)]
    Node(node::Node),
    /// Check a stopped node's data directory.
    Verify(verify::Verify),
    /// Make a new cluster of one stopped node, because the majority of its old one is gone for good.
    Recover(recover::Recover),
    /// Backups: take them, look at them, check them.
    #[command(subcommand)]
    Backup(backup::Backup),
    /// Make a new cluster of a backup: the data directory of its first node.
    Restore(backup::Restore),
    /// What was applied.
    #[command(subcommand)]
    Log(log::Log),
    /// Print rules that tell Prometheus when somebody should look at a cluster.
    #[command(after_help = "Example:
  quorate alerts >/etc/prometheus/rules/quorate.yml")]
    Alerts,
    /// Ledgers: sets of accounts in one asset.
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Accounts and their balances.
    #[command(subcommand)]
    Account(ledger::Account),
    /// Show the sums over all accounts of a ledger, and whether they agree.
    TrialBalance(ledger::TrialBalance),
    /// Transfers between accounts.
    #[command(subcommand)]
    Transfer(transfer::Transfer),
    /// The key-value store.
    #[command(subcommand)]
    Kv(kv::Kv),
    /// Measure throughput and latency.
    Bench(bench::Bench),
    /// Print what makes a shell complete these commands.
    #[command(after_help = "Examples:
  source <(quorate completions bash)
  quorate completions zsh >~/.zfunc/_quorate")]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// Runs the command line and gives its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let named = std::env::var(mutants::VARIABLE).ok();
    match mutants::choose(named.as_deref()) {
        Ok(None) => {}
        Ok(Some(warning)) => output::note(&warning),
        Err(refused) => {
            output::complain(&refused);
            return ExitCode::from(2);
        }
    }
    let crash = || std::env::var(mutants::CRASH_VARIABLE).ok();
    if let Err(refused) = mutants::choose_crash(crash) {
        output::complain(&refused);
        return ExitCode::from(2);
    }
    let level = &cli.global.log;
    if let Err(error) = start_log(level) {
        output::complain(&format!("--log {level:?}: {error}"));
        return ExitCode::from(2);
    }
    match output::ended(run(cli)) {
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
        Command::Recover(recover) => asking(recover.run(&global)),
        Command::Backup(backup) => backup.run(&global),
        Command::Restore(restore) => asking(restore.run(&global)),
        Command::Log(log) => log.run(&global),
        Command::Alerts => {
            output::print(ALERTS);
            Ok(())
        }
        Command::Bench(bench) => bench.run(&global),
        Command::Init(init) => asking(init.run(&global)),
        Command::Status => asking(cluster::status(&global)),
        Command::Leader(leader) => asking(leader.run(&global)),
        Command::Node(node) => asking(node.run(&global)),
        Command::Ledger(ledger) => asking(ledger.run(&global)),
        Command::Account(account) => asking(account.run(&global)),
        Command::TrialBalance(trial) => asking(trial.run(&global)),
        Command::Transfer(transfer) => asking(transfer.run(&global)),
        Command::Kv(kv) => asking(kv.run(&global)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quorate", &mut script);
            output::print_bytes(&script);
            Ok(())
        }
    }
}

/// Runs a command that asks nodes: one thread will do.
fn asking<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
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
    /// How to ask, trying for `timeout` if no other time is given.
    fn options(&self, timeout: Duration) -> Options {
        Options {
            timeout: self.timeout.unwrap_or(timeout),
            level: self.level(),
            ..Options::default()
        }
    }

    fn level(&self) -> Level {
        self.consistency.map_or(Level::Leader, Level::from)
    }

    /// A client for the endpoints.
    fn client(&self) -> Result<Client, Failure> {
        let default = [ENDPOINT_DEFAULT.to_owned()];
        let endpoints = match self.endpoints.as_slice() {
            [] => &default,
            named => named,
        };
        Client::new(endpoints, self.options(TIMEOUT_DEFAULT)).map_err(Failure::usage)
    }

    /// A read of data at the level asked for.
    fn read(&self, target: &str) -> Ask {
        Ask::read(target, self.level())
    }

    /// Asks.
    async fn ask(&self, ask: &Ask) -> Result<Answer, Failure> {
        self.ask_of(&self.client()?, ask).await
    }

    async fn ask_of(&self, client: &Client, ask: &Ask) -> Result<Answer, Failure> {
        self.explain(&client.endpoints()[0], ask);
        Ok(client.ask(ask).await?)
    }

    /// Says what is asked, if that is wanted.
    fn explain(&self, address: &str, ask: &Ask) {
        if self.verbose {
            output::note(&ask.curl(address));
        }
    }

    /// Asks for one thing and prints it.
    async fn show(&self, ask: &Ask) -> Result<(), Failure> {
        self.shown(ask).await.map(drop)
    }

    /// The same, and gives what was printed.
    async fn shown(&self, ask: &Ask) -> Result<Value, Failure> {
        let answer = self.ask(ask).await?;
        let body = self.print(&answer);
        list::footer(&answer);
        Ok(body)
    }

    /// Asks for a change and prints what was answered.
    async fn write(&self, ask: &Ask) -> Result<(), Failure> {
        let answer = self.ask(ask).await?;
        self.print(&answer);
        Ok(())
    }

    fn print(&self, answer: &Answer) -> Value {
        let body = answer.json();
        match self.output {
            // As the API gave it, in its order.
            Format::Json | Format::Jsonl => output::print(&format!("{}\n", answer.text())),
            Format::Table | Format::Csv => show(self.output, &body),
        }
        body
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
    fn every_command_that_does_something_has_an_example() {
        fn leaves(command: &clap::Command, path: &str, without: &mut Vec<String>) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                for inner in command.get_subcommands() {
                    leaves(inner, &path, without);
                }
            } else if command.get_after_help().is_none() {
                without.push(path);
            }
        }
        let mut without = Vec::new();
        leaves(&Cli::command(), "", &mut without);
        // They take next to nothing, or more than an example could show.
        let plain = [" quorate serve", " quorate status", " quorate config"];
        without.retain(|path| !plain.iter().any(|plain| path.starts_with(plain)));
        assert!(without.is_empty(), "{without:?}");
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
