//! `quorate config`: what a node would run with, and why.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Value, json};

use super::Global;
use super::format::{Format, show, table};
use super::output::{Failure, print};
use super::settings::Flags;
use crate::config::BESIDE_BYTES;
use crate::config::settings::{SETTINGS, example, find, spelling};
use crate::config::sources::{Given, Origin};

/// Look at settings and check them.
#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Print every setting with its value and where that comes from.
    #[command(
        after_help = "Takes what `quorate serve` takes, and reads the same environment.

Example:
  quorate config show --config node.toml --election-max 3s"
    )]
    Show(#[command(flatten)] Flags),
    /// Read a file as a node would, and name everything that is wrong with it.
    #[command(
        after_help = "Settings that each node needs for itself (node_id and the like) may be absent.

Example:
  quorate config check node.toml"
    )]
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Print what a setting does, its default, its bounds and its spellings.
    Explain {
        /// Its name, as in a file.
        name: String,
    },
    /// Print a file with every setting, commented out.
    Example,
}

impl Config {
    /// Prints, or says what is wrong.
    pub(super) fn run(&self, global: &Global) -> Result<(), Failure> {
        match self {
            Config::Show(flags) => {
                let given = flags.given();
                match global.output {
                    Format::Table => print(&rows(&given)),
                    other => show(other, &json_rows(&given)),
                }
                given.check().map(drop).map_err(Failure::usage)
            }
            Config::Check { file } => {
                let mut given = Given::default();
                given.file(file);
                let missing = given.missing();
                given.check().map_err(Failure::refused)?;
                print(&format!("{}: right\n", file.display()));
                if !missing.is_empty() {
                    let names: Vec<_> = missing.iter().map(|place| SETTINGS[*place].name).collect();
                    let names = names.join(", ");
                    print(&format!(
                        "not in it, so to be given to each node: {names}\n"
                    ));
                }
                Ok(())
            }
            Config::Explain { name } => explain(name),
            Config::Example => {
                print(&example());
                Ok(())
            }
        }
    }
}

fn rows(given: &Given) -> String {
    let cells = given.rows().into_iter().map(|(place, value, origin)| {
        let setting = &SETTINGS[place];
        let value = match (value, setting.unset) {
            (Some(value), _) => format!("{value} {}", setting.kind.unit()),
            (None, unset) => format!("({})", unset.unwrap_or("not set")),
        };
        let value = value.trim_end().to_owned();
        vec![setting.name.to_owned(), value, origin.to_string()]
    });
    let table = table(&["SETTING", "VALUE", "FROM"], &cells.collect::<Vec<_>>());
    let mib = given.memory_budget_bytes() >> 20;
    let beside = BESIDE_BYTES >> 20;
    format!(
        "{table}memory: about {mib} MiB, which is state_cache_bytes, seal_journal_bytes, log_cache_bytes and {beside} MiB\n"
    )
}

fn json_rows(given: &Given) -> Value {
    let row = |(place, value, origin): (usize, Option<_>, &Origin)| {
        let setting = &SETTINGS[place];
        json!({
            "name": setting.name,
            "value": value.map(|value: crate::config::value::Value| value.to_string()),
            "unit": setting.kind.unit(),
            "from": origin.to_string(),
            "default": setting.default().map(|value| value.to_string()),
            "bounds": setting.kind.bounds(),
        })
    };
    let rows: Vec<_> = given.rows().into_iter().map(row).collect();
    json!({ "settings": rows, "memory_budget_bytes": given.memory_budget_bytes().to_string() })
}

fn explain(name: &str) -> Result<(), Failure> {
    let plain = name.trim_start_matches("--").replace('-', "_");
    let plain = plain.strip_prefix("QUORATE_").unwrap_or(&plain);
    let Some(place) = find(&plain.to_ascii_lowercase()) else {
        let why = format!("no setting is called {name:?}; `quorate config example` lists them");
        return Err(Failure::usage(why));
    };
    let (setting, spelling) = (&SETTINGS[place], spelling(place));
    let (doc, terms) = (setting.doc, setting.terms());
    let (flag, env) = (&spelling.flag, &spelling.env);
    let name = setting.name;
    print(&format!(
        "{name}: {doc}. {terms}\n  file  {name}\n  env   {env}\n  flag  --{flag}\n"
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn the_help_of_a_node_names_every_setting_with_its_default_and_bounds() {
        let mut cli = Cli::command();
        let serve = cli.find_subcommand_mut("serve").unwrap();
        let help: String = serve.render_help().to_string();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let help = words(&help);
        for (place, setting) in SETTINGS.iter().enumerate() {
            let flag = &spelling(place).flag;
            let said = words(&format!("{} {}", setting.doc, setting.terms()));
            assert!(help.contains(&format!("--{flag}")), "{flag}");
            assert!(help.contains(&said), "{flag}: {said}");
        }
    }

    #[test]
    fn a_switch_needs_no_value_and_anything_else_does() {
        let try_parse = |args: &[&str]| {
            let args = ["quorate", "config", "show"].iter().chain(args);
            Cli::try_parse_from(args).map(drop)
        };
        assert!(try_parse(&["--insecure-no-auth", "--node-id", "1"]).is_ok());
        assert!(try_parse(&["--insecure-no-auth=false"]).is_ok());
        assert!(try_parse(&["--heartbeat"]).is_err());
        assert!(try_parse(&["--heartbet", "1s"]).is_err());
    }

    #[test]
    fn what_is_shown_has_values_with_units_and_their_origins() {
        let mut given = Given::default();
        given.flag(find("election_max").unwrap(), "3s");
        let shown = rows(&given);
        let line = |name: &str| {
            let line = shown.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("election_max"), "election_max 3s --election-max");
        assert_eq!(line("quorum_loss_probe"), "quorum_loss_probe 6s default");
        assert_eq!(line("node_id"), "node_id (must be set) default");
        assert_eq!(line("queue_bytes_max"), "queue_bytes_max 64MiB default");
        assert_eq!(shown.lines().count(), SETTINGS.len() + 2);
        let last = "memory: about 1344 MiB, which is state_cache_bytes, seal_journal_bytes, log_cache_bytes and 256 MiB";
        assert_eq!(shown.lines().last(), Some(last));
        let json = json_rows(&given);
        assert_eq!(json["memory_budget_bytes"], (1344_u64 << 20).to_string());
        assert_eq!(json["settings"].as_array().unwrap().len(), SETTINGS.len());
    }
}
