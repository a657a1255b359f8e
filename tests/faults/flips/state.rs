//! The state: RocksDB's files and our own beside them.

use std::fs;
use std::path::{Path, PathBuf};

use quorate::machine::command::{AccountRef, Expect, Limits, NewAccount, NewLedger};
use quorate::machine::{Command, NewTransfer, entry};
use quorate::storage::state::{Options, State, Unusable};
use quorate::storage::{Kind, LogEntry, LogId};

use super::{Subject, Tree, Verdict, lay_out, tree_of};

/// Entries applied.
const ENTRIES: u64 = 90;

/// A state that was closed in good order.
pub(crate) struct Closed {
    dir: PathBuf,
    tree: Tree,
    entries: Vec<LogEntry>,
    dump: String,
}

impl Closed {
    /// Makes one in `dir`: sealed twice, with journal after that, in several files of several tables.
    ///
    /// # Errors
    /// When that fails.
    pub(crate) fn new(dir: &Path) -> anyhow::Result<Closed> {
        let dir = dir.join("state");
        let entries = entries();
        let state = State::open(&dir, options())?;
        for (number, some) in entries.chunks(15).enumerate() {
            state.apply(some)?;
            if number % 2 == 1 {
                state.seal()?;
            }
            state.flush()?;
        }
        let dump = state.dump()?;
        state.close()?;
        drop(state);
        let mut tree = tree_of(&dir)?;
        tree.retain(|name, _| !name.ends_with("LOCK"));
        Ok(Closed {
            dir,
            tree,
            entries,
            dump,
        })
    }

    /// Brings `state` to the last entry, and reads all of it in every way there is; whether it is what was written.
    fn read(&self, state: &State) -> Result<bool, quorate::machine::Fault> {
        let applied = state.applied().log_id.map_or(0, |id| id.index);
        let rest = self.entries.iter().filter(|entry| entry.id.index > applied);
        let rest: Vec<LogEntry> = rest.cloned().collect();
        state.apply(&rest)?;
        let dump = state.dump()?;
        state.scrub(None, &mut |_| true)?;
        Ok(dump == self.dump)
    }

    /// What a node does with a state that it cannot trust, where the log has everything.
    fn repair(&self, dir: &Path, why: &str) -> anyhow::Result<Verdict> {
        if dir.exists() {
            State::set_aside(dir, why)?;
        }
        let state = State::open(dir, options())?;
        Ok(match self.read(&state)? {
            true => Verdict::Repaired,
            false => Verdict::Silent("what was had again is something else".to_owned()),
        })
    }
}

fn options() -> Options {
    Options {
        seal_journal_bytes: 64 << 20,
        cache_bytes: 1 << 20,
    }
}

/// Accounts, transfers and keys.
pub(crate) fn entries() -> Vec<LogEntry> {
    let mut entries = Vec::new();
    for index in 1..=ENTRIES {
        let (id, other) = (format!("a{index}"), format!("a{}", index.max(4) - 3));
        let transfers: Vec<String> = (0..8).map(|n| format!("t{index}-{n}")).collect();
        let ledger = Command::CreateLedger(NewLedger {
            id: "usd",
            asset: "USD",
            scale: 2,
        });
        let account = Command::CreateAccount(NewAccount {
            id: &id,
            ledger: "usd",
            code: 1,
            limits: Limits::default(),
        });
        let moved = transfers.iter().map(|transfer| NewTransfer {
            id: transfer,
            debit: AccountRef::Id(&id),
            credit: AccountRef::Id(&other),
            amount: u128::from(index),
            code: 1,
            linked: false,
            metadata: "",
        });
        let value = vec![u8::try_from(index % 251).expect("a byte"); 200];
        let put = Command::KvPut {
            key: &id,
            value: &value,
            expect: Expect::Any,
        };
        let commands = [ledger, account, Command::Transfers(moved.collect()), put];
        let skipped = usize::from(index > 1);
        entries.push(LogEntry {
            id: LogId {
                term: 1,
                node: 1,
                index,
            },
            kind: Kind::Commands,
            body: entry::assemble(&commands[skipped..], index * 1_000_000).into(),
        });
    }
    entries
}

impl Subject for Closed {
    fn tree(&self) -> &Tree {
        &self.tree
    }

    fn kind(&self, file: &str) -> &'static str {
        let name = file.rsplit('/').next().unwrap_or(file);
        match name {
            "CURRENT" if name == file => "state: CURRENT",
            "CURRENT" => "RocksDB: CURRENT",
            _ if name.starts_with("MANIFEST") => "RocksDB: MANIFEST",
            _ if name.ends_with(".sst") => "RocksDB: table",
            _ => "RocksDB: other file",
        }
    }

    fn is_small(&self, file: &str) -> bool {
        file.contains("CURRENT") || file.contains("MANIFEST")
    }

    fn attempt(
        &self,
        dir: &Path,
        changed: &[(String, Option<Vec<u8>>)],
    ) -> anyhow::Result<Verdict> {
        let dir = dir.join("state");
        fs::create_dir_all(&dir)?;
        lay_out(&dir, &self.dir, &self.tree, changed)?;
        let state = match State::open_checked(&dir, options()) {
            Ok(state) => state,
            Err(Unusable::Damaged(why)) => return self.repair(&dir, &why),
            Err(Unusable::Refused(error)) => return Ok(Verdict::Refused(error.0)),
        };
        let read = self.read(&state);
        drop(state);
        match read {
            Ok(true) => Ok(Verdict::Unaffected),
            Ok(false) => Ok(Verdict::Silent("other rows are read".to_owned())),
            Err(fault) if fault.is_damage => {
                let again = State::open_checked(&dir, options());
                if !matches!(again, Err(Unusable::Damaged(_))) {
                    return Ok(Verdict::Silent("found, and opened again".to_owned()));
                }
                self.repair(&dir, &fault.what)
            }
            Err(fault) => Ok(Verdict::Refused(fault.what)),
        }
    }
}
