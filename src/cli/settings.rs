//! The settings of a node as flags, made from their table, and put together with file and environment.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, CommandFactory, Error, FromArgMatches};

use crate::config::settings::{Place, SETTINGS, spelling};
use crate::config::sources::{FILE_ENV, Given};
use crate::config::value::Kind;

/// What the flags say.
#[derive(Clone, Debug, Default)]
pub(super) struct Flags {
    file: Option<PathBuf>,
    values: Vec<(Place, String)>,
}

impl Flags {
    /// File, environment and flags, in that order.
    pub(super) fn given(&self) -> Given {
        let mut given = Given::default();
        if let Some(path) = &self.file {
            given.file(path);
        }
        // What is not UTF-8 is no setting and no other command's variable either.
        let vars = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        given.env(vars, &other_variables());
        for (place, text) in &self.values {
            given.flag(*place, text);
        }
        given
    }
}

/// The environment variables of all other commands.
fn other_variables() -> Vec<String> {
    fn collect(command: &Command, names: &mut Vec<String>) {
        let vars = command.get_arguments().filter_map(Arg::get_env);
        names.extend(vars.map(|name| name.to_string_lossy().into_owned()));
        for inner in command.get_subcommands() {
            collect(inner, names);
        }
    }
    let mut names = Vec::new();
    collect(&super::Cli::command(), &mut names);
    names
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env(FILE_ENV)
            .value_parser(clap::value_parser!(PathBuf))
            .help("File of settings (TOML); environment and flags win over it");
        (0..SETTINGS.len()).fold(command.arg(file), |command, place| {
            let (setting, spelling) = (&SETTINGS[place], spelling(place));
            let arg = Arg::new(setting.name)
                .long(&*spelling.flag)
                .value_name(setting.kind.placeholder())
                .help(format!("{} {}", setting.doc, setting.terms()))
                .help_heading(setting.group)
                .overrides_with(setting.name);
            command.arg(match setting.kind {
                Kind::Switch => arg
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true"),
                _ => arg,
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Flags, Error> {
        let value = |place: Place| {
            let text = matches.get_one::<String>(SETTINGS[place].name)?;
            Some((place, text.clone()))
        };
        Ok(Flags {
            file: matches.get_one("config").cloned(),
            values: (0..SETTINGS.len()).filter_map(value).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Flags::from_arg_matches(matches)?;
        Ok(())
    }
}
