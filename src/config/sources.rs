//! Where settings come from: a file, then the environment, then flags; the later wins. Everything that is wrong is said at
//! once, with its place.

use std::fmt;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::Config;
use super::settings::{ENV_PREFIX, Place, SETTINGS, find, spelling};
use super::value::Value;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file.
    File(String, usize),
    /// An environment variable.
    Env(&'static str),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{path}:{line}"),
            Origin::Env(name) => f.write_str(name),
            Origin::Flag(name) => write!(f, "--{name}"),
        }
    }
}

/// The variable that names the file, as `--config` does.
pub const FILE_ENV: &str = "QUORATE_CONFIG";

/// How many letters of a variable may be wrong for it to be taken for a mistyped setting.
const TYPO_MAX: usize = 2;

/// Settings as they were given, not yet complete.
#[derive(Debug)]
pub struct Given {
    config: Config,
    origins: Vec<Origin>,
    problems: Vec<String>,
}

impl Default for Given {
    fn default() -> Given {
        Given {
            config: Config::unset(),
            origins: vec![Origin::Default; SETTINGS.len()],
            problems: Vec::new(),
        }
    }
}

impl Given {
    /// Takes what a file says.
    pub fn file(&mut self, path: &Path) {
        match std::fs::read_to_string(path) {
            Ok(text) => self.text(&path.display().to_string(), &text),
            Err(error) => self.problems.push(format!("{}: {error}", path.display())),
        }
    }

    fn text(&mut self, path: &str, text: &str) {
        let line = |at: usize| text.bytes().take(at).filter(|b| *b == b'\n').count() + 1;
        let table = match DeTable::parse(text) {
            Ok(table) => table.into_inner(),
            Err(error) => {
                let at = error.span().map_or(1, |span| line(span.start));
                let what = error.message();
                self.problems.push(format!("{path}:{at}: {what}"));
                return;
            }
        };
        let mut pairs: Vec<_> = table.iter().collect();
        pairs.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in pairs {
            let at = line(name.span().start);
            let (name, value) = (name.get_ref().as_ref(), value.get_ref());
            let Some(place) = find(name) else {
                let what = unknown(name, SETTINGS.iter().map(|setting| setting.name));
                self.problems.push(format!("{path}:{at}: {what}"));
                continue;
            };
            let origin = Origin::File(path.to_owned(), at);
            match value {
                DeValue::Float(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_) => {
                    let (what, kind) = (value.type_str(), SETTINGS[place].kind.placeholder());
                    let problem = format!("{path}:{at}: {name}: a {what} is no {kind}");
                    self.problems.push(problem);
                }
                DeValue::String(text) => self.set(place, text, origin),
                DeValue::Integer(number) => self.set(place, &number.to_string(), origin),
                DeValue::Boolean(on) => self.set(place, &on.to_string(), origin),
            }
        }
    }

    /// Takes what the environment says. Variables in `others` belong to other commands. An unknown one with our prefix is
    /// refused if it is almost a setting, because a typo must not leave a limit unset; others are somebody else's, such as
    /// those of scripts and of Kubernetes.
    pub fn env(&mut self, vars: impl Iterator<Item = (String, String)>, others: &[String]) {
        for (name, value) in vars {
            if !name.starts_with(ENV_PREFIX) || name == FILE_ENV || others.contains(&name) {
                continue;
            }
            match (0..SETTINGS.len()).find(|place| spelling(*place).env == name) {
                Some(place) => self.set(place, &value, Origin::Env(&spelling(place).env)),
                None => {
                    let known = (0..SETTINGS.len()).map(|place| spelling(place).env.as_str());
                    let near = known.filter(|known| distance(&name, known) <= TYPO_MAX);
                    if let Some(near) = near.min_by_key(|known| distance(&name, known)) {
                        let problem = format!("no setting is called {name}; did you mean {near}?");
                        self.problems.push(problem);
                    }
                }
            }
        }
    }

    /// Takes what a flag says.
    pub fn flag(&mut self, place: Place, text: &str) {
        self.set(place, text, Origin::Flag(&spelling(place).flag));
    }

    fn set(&mut self, place: Place, text: &str, origin: Origin) {
        let setting = &SETTINGS[place];
        match setting.kind.read(text) {
            Ok(value) => {
                setting.set(&mut self.config, value);
                self.origins[place] = origin;
            }
            Err(why) => {
                let named = match &origin {
                    Origin::File(..) => format!("{origin}: {}", setting.name),
                    _ => origin.to_string(),
                };
                self.problems.push(format!("{named}: {why}"));
            }
        }
    }

    /// Everything that is wrong so far, whatever may still come from elsewhere.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The required settings that are missing.
    pub fn missing(&self) -> Vec<Place> {
        let missing = |place: &Place| {
            SETTINGS[*place].is_required() && self.origins[*place] == Origin::Default
        };
        (0..SETTINGS.len()).filter(missing).collect()
    }

    /// Every setting with its value, if it has one, and where that comes from.
    pub fn rows(&self) -> Vec<(Place, Option<Value>, &Origin)> {
        let config = self.derived();
        let row = |place: Place| {
            let value = SETTINGS[place].get(&config);
            let missing = SETTINGS[place].is_required() && self.origins[place] == Origin::Default;
            (place, value.filter(|_| !missing), &self.origins[place])
        };
        (0..SETTINGS.len()).map(row).collect()
    }

    /// Memory that a node with these settings may take, in bytes.
    pub fn memory_budget_bytes(&self) -> u64 {
        self.derived().memory_budget_bytes()
    }

    /// The settings of a node, nothing missing, nothing wrong by itself or together.
    ///
    /// # Errors
    /// Every problem, in a line of its own.
    pub fn finish(mut self) -> Result<Config, String> {
        for place in self.missing() {
            let (name, spelling) = (SETTINGS[place].name, spelling(place));
            let (flag, env) = (&spelling.flag, &spelling.env);
            let problem = format!("{name} is not set: give --{flag}, {env}, or {name} in a file");
            self.problems.push(problem);
        }
        self.check()
    }

    /// The same, settings that are required but missing taken for right.
    ///
    /// # Errors
    /// Every problem, in a line of its own.
    pub fn check(self) -> Result<Config, String> {
        let mut config = self.derived();
        let mut problems = self.problems;
        if config.node_id == 0 {
            config.node_id = 1;
        }
        if problems.is_empty()
            && let Err(error) = config.check()
        {
            problems.push(format!("{error:#}"));
        }
        match problems.is_empty() {
            true => Ok(config),
            false => Err(problems.join("\n")),
        }
    }

    /// With what follows from other settings filled in.
    fn derived(&self) -> Config {
        let mut config = self.config.clone();
        let probe = find("quorum_loss_probe").expect("it is in the table");
        if self.origins[probe] == Origin::Default {
            config.raft.quorum_loss_probe = config.raft.election_max * 2;
        }
        config
    }
}

/// Complains about `name`, which is none of `known`, naming the nearest of them if one is near.
fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known
        .map(|known| (distance(name, known), known))
        .min()
        .filter(|(distance, _)| *distance <= 1 + name.len() / 3);
    match nearest {
        Some((_, nearest)) => format!("no setting is called {name:?}; did you mean {nearest:?}?"),
        None => format!("no setting is called {name:?}; `quorate config example` lists them"),
    }
}

/// How many letters must be changed, added or removed to make one word of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
