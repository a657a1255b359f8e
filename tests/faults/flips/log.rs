//! The log and its witness, on a disk in memory, as a killed node leaves them.

use std::path::Path;

use anyhow::Context as _;
use quorate::storage::log::disk::Disk as _;
use quorate::storage::log::model::ModelDisk;
use quorate::storage::log::{Log, LogState, Options};
use quorate::storage::{Kind, LogEntry, LogId, Vote};

use super::{Subject, Tree, Verdict};

const UUID: &str = "0123456789abcdef0123456789abcdef";

/// A log that was killed after everything in it was acknowledged.
pub(crate) struct Killed {
    tree: Tree,
    held: (LogState, Vec<LogEntry>),
}

impl Killed {
    /// Votes, entries of several sizes in several segments, a truncation and a purge.
    ///
    /// # Errors
    /// When the log does not take them.
    pub(crate) fn new() -> anyhow::Result<Killed> {
        let disk = ModelDisk::new();
        let (log, mut writer) = Log::with_writer(disk.clone(), UUID, options())?;
        let mut step = |log: &Log| {
            log.append(Vec::new(), Box::new(|_| ()));
            writer.step()
        };
        for term in 1..4 {
            let node = term;
            let vote = Vote {
                term,
                node,
                committed: true,
            };
            log.save_vote(vote, Box::new(|_| ()));
            step(&log)?;
            for _ in 0..6 {
                let next = log.state().last.map_or(0, |last| last.index + 1);
                let entries = (next..next + 1 + next % 3).map(|index| entry(term, index));
                log.append(entries.collect(), Box::new(|_| ()));
                step(&log)?;
            }
            let last = log.state().last.context("it has entries")?;
            log.save_committed(Some(last));
            step(&log)?;
            if term == 2 {
                let keep = log.read(last.index - 2..last.index - 1, 1)?;
                log.save_committed(Some(keep[0].id));
                log.truncate_after(Some(keep[0].id));
                step(&log)?;
            }
        }
        log.purge(entry(1, 5).id);
        step(&log)?;
        let held = contents(&log)?;
        let killed = disk.after_kill();
        let names = killed.list()?;
        let tree = names.into_iter().map(|name| {
            let bytes = killed.content(&name);
            (name, bytes)
        });
        Ok(Killed {
            tree: tree.collect(),
            held,
        })
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 24 << 10,
        ..Options::default()
    }
}

fn entry(term: u64, index: u64) -> LogEntry {
    let len = usize::try_from(index * 37 % 700).expect("small");
    LogEntry {
        id: LogId {
            term,
            node: term,
            index,
        },
        kind: Kind::Commands,
        body: vec![u8::try_from(index % 251).expect("a byte"); len].into(),
    }
}

fn contents(log: &Log) -> anyhow::Result<(LogState, Vec<LogEntry>)> {
    Ok((log.state(), log.read(0..u64::MAX, u64::MAX)?))
}

impl Subject for Killed {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn kind(&self, file: &str) -> &'static str {
        match file {
            "witness" => "log: witness",
            _ if file.ends_with(".log") => "log: segment",
            _ => "log: prepared file",
        }
    }

    fn is_small(&self, file: &str) -> bool {
        file == "witness" || file.ends_with(".log")
    }

    fn attempt(&self, _: &Path, changed: &[(String, Option<Vec<u8>>)]) -> anyhow::Result<Verdict> {
        let disk = ModelDisk::new();
        for (name, bytes) in &self.tree {
            let new = changed.iter().find(|(changed, _)| changed == name);
            disk.replace(
                name,
                new.map_or(Some(bytes), |(_, new)| new.as_ref()).cloned(),
            );
        }
        let opened = Log::with_writer(disk, UUID, options());
        Ok(match opened {
            Err(error) => Verdict::Refused(told(&error.0)),
            Ok((log, _writer)) => match contents(&log)? == self.held {
                true => Verdict::Unaffected,
                false => Verdict::Silent(format!("it holds {:?}", log.state())),
            },
        })
    }
}

/// A reason without what differs from trial to trial.
fn told(error: &str) -> String {
    match error.contains("quorate node replace") {
        true => "log: with file, offset and the command that replaces the node".to_owned(),
        false => format!("log: {error}"),
    }
}
