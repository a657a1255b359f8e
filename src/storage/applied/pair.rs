//! What was asked and what was journaled, put side by side.

use std::collections::HashMap;

use serde_json::json;

use super::line::{self, Line};
use super::transfers::hash;
use crate::machine::command::ModIndex;
use crate::machine::entry::Entry;
use crate::machine::once::FINGERPRINT_LEN;
use crate::machine::{Command, Once, Record, Rejection, Reply, TransferResult};
use crate::storage::LogEntry;

/// A key that stands for another request, as the journal's reader may tell it: where it was used first is not repeated.
const KEY_REUSED: Rejection = Rejection::IdempotencyKeyReused {
    index: 0,
    time_ns: 0,
};

/// What the journal said so far, as far as later entries refer to it.
#[derive(Debug, Default)]
pub(in crate::storage) struct Pairing {
    /// Ids of the accounts, by number - 1.
    pub(super) accounts: Vec<String>,
    /// By transfer id, its first fate.
    pub(super) transfers: HashMap<String, Fate>,
    /// By idempotency key, the fingerprint of its request and the first answer.
    answers: HashMap<String, ([u8; FINGERPRINT_LEN], Reply)>,
    /// Where each key was last written.
    keys: HashMap<String, ModIndex>,
}

/// What became of a transfer id when it was first used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fate {
    /// Of everything that was asked for under it.
    pub(super) request: blake3::Hash,
    /// Why it was refused; nothing if it was posted.
    pub(super) refused: Option<Rejection>,
}

/// The records of an entry that no command was found for yet.
pub(super) struct Left<'r, 'a>(pub(super) &'r [Record<'a>]);

impl<'a> Left<'_, 'a> {
    /// Takes the next record if it is as it should be.
    pub(super) fn take(
        &mut self,
        pairing: &mut Pairing,
        fits: impl FnOnce(&Record<'a>) -> bool,
    ) -> Option<Record<'a>> {
        let (first, rest) = self.0.split_first()?;
        if !fits(first) {
            return None;
        }
        self.0 = rest;
        pairing.note(first);
        Some(*first)
    }
}

impl Pairing {
    /// Takes in the records of an entry whose commands are purged.
    pub(in crate::storage) fn remember(&mut self, records: &[Record<'_>]) {
        records.iter().for_each(|record| self.note(record));
    }

    fn note(&mut self, record: &Record<'_>) {
        match record {
            Record::KvPut { key, modified, .. } => {
                self.keys.insert((*key).to_owned(), *modified);
            }
            Record::KvDeleted { key } => {
                self.keys.remove(*key);
            }
            Record::LedgerCreated { .. } => {}
            Record::AccountCreated { id, .. } => self.accounts.push((*id).to_owned()),
            Record::Transfer(transfer) => {
                let fate = Fate {
                    request: hash(&self.journaled(transfer)),
                    refused: Rejection::remembered_in(transfer),
                };
                self.transfers.insert(transfer.id.to_owned(), fate);
            }
            Record::Answered {
                key,
                reply,
                fingerprint,
                ..
            } => {
                if let Ok(reply) = Reply::from_bytes(reply) {
                    let answer = (*fingerprint, reply);
                    self.answers.insert((*key).to_owned(), answer);
                }
            }
            Record::AnswerForgotten { key, .. } => {
                self.answers.remove(*key);
            }
        }
    }

    /// The lines of an entry. `Err` says how its commands and its records do not fit together.
    pub(in crate::storage) fn entry(
        &mut self,
        entry: &LogEntry,
        records: &[Record<'_>],
    ) -> Result<Vec<Line>, String> {
        let mut left = Left(records);
        let forgotten = |record: &Record<'_>| matches!(record, Record::AnswerForgotten { .. });
        while left.take(self, forgotten).is_some() {}
        let parsed = Entry::parse(&entry.body)?;
        let mut lines = Vec::new();
        for (command, position) in parsed.commands().zip(0..) {
            let at = ModIndex {
                index: entry.id.index,
                command: position,
            };
            let blank = Line {
                index: entry.id.index,
                term: entry.id.term,
                at: at.to_string(),
                ..Line::default()
            };
            match &command? {
                Command::Once(once) => self.once(once, &blank, &mut left, &mut lines)?,
                plain => self.plain(plain, at, &blank, &mut left, &mut lines)?,
            }
        }
        match left.0 {
            [] => Ok(lines),
            [record, ..] => Err(format!("nobody asked for {record:?}")),
        }
    }

    /// A command under an idempotency key: the answer is in the journal, here or where it was given first.
    fn once(
        &mut self,
        once: &Once<'_>,
        blank: &Line,
        left: &mut Left<'_, '_>,
        lines: &mut Vec<Line>,
    ) -> Result<(), String> {
        let answers = |record: &Record<'_>| match record {
            Record::Answered {
                key, fingerprint, ..
            } => *key == once.key && *fingerprint == once.fingerprint,
            _ => false,
        };
        let end = left.0.iter().position(answers);
        if let Some(end) = end {
            for _ in 0..=end {
                left.take(self, |_| true);
            }
        }
        let (reply, is_dup) = match self.answers.get(once.key) {
            Some((fingerprint, reply)) if *fingerprint == once.fingerprint => {
                (reply.clone(), end.is_none())
            }
            Some(_) => (Reply::Rejected(KEY_REUSED), false),
            None if end.is_some() => {
                return Err(format!("the answer under key {:?} is unreadable", once.key));
            }
            // There was no room for its key: refused, and not journaled.
            None => (Reply::Rejected(Rejection::IdempotencyKeysFull), false),
        };
        let from = lines.len();
        let asked = asked(&once.command, blank);
        match (&*once.command, reply) {
            (Command::Transfers(batch), Reply::Transfers(results)) => {
                for (new, result) in batch.iter().zip(results) {
                    let line = self.transfer(new, blank)?;
                    lines.push(match result {
                        TransferResult::Created(_) => line.told(None),
                        TransferResult::Exists(_) => Line {
                            dup: true,
                            ..line.told(None)
                        },
                        TransferResult::Refused(rejection) => line.told(Some(rejection)),
                    });
                }
            }
            (Command::Transfers(batch), Reply::Rejected(rejection)) => {
                for new in batch {
                    lines.push(self.transfer(new, blank)?.told(Some(rejection)));
                }
            }
            (_, Reply::Rejected(rejection)) => lines.push(asked.told(Some(rejection))),
            (_, _) => lines.push(asked.told(None)),
        }
        for line in &mut lines[from..] {
            line.op = Some(once.key.to_owned());
            line.dup |= is_dup;
        }
        Ok(())
    }

    /// A command without a key: what it did is in the journal, what it did not do is not.
    fn plain(
        &mut self,
        command: &Command<'_>,
        at: ModIndex,
        blank: &Line,
        left: &mut Left<'_, '_>,
        lines: &mut Vec<Line>,
    ) -> Result<(), String> {
        let asked = asked(command, blank);
        match command {
            Command::KvPut { .. } => {
                let is_this = |record: &Record<'_>| matches!(record, Record::KvPut { modified, .. } if *modified == at);
                let done = left.take(self, is_this).is_some();
                lines.push(told_kv(
                    asked,
                    done,
                    Rejection::PreconditionFailed { current: None },
                ));
            }
            Command::KvDelete { key, expect } => {
                let current = self.keys.get(*key).copied();
                let due = current.is_some() && line::holds(*expect, current);
                let is_this = |record: &Record<'_>| matches!(record, Record::KvDeleted { key: found } if found == key);
                if due && left.take(self, is_this).is_none() {
                    return Err(format!("key {key:?} was to be removed, and was not"));
                }
                let why = match current {
                    None => Rejection::KeyNotFound,
                    Some(_) => Rejection::PreconditionFailed { current },
                };
                lines.push(told_kv(asked, due, why));
            }
            Command::CreateLedger(new) => {
                let is_this = |record: &Record<'_>| matches!(record, Record::LedgerCreated { id, .. } if *id == new.id);
                let made = left.take(self, is_this).is_some();
                lines.push(if made { asked.told(None) } else { asked });
            }
            Command::CreateAccount(new) => {
                let is_this = |record: &Record<'_>| matches!(record, Record::AccountCreated { id, .. } if *id == new.id);
                let made = left.take(self, is_this).is_some();
                lines.push(if made { asked.told(None) } else { asked });
            }
            Command::Transfers(batch) => {
                for chain in batch.chunk_by(|member, _| member.linked) {
                    lines.extend(match chain {
                        [single] => vec![self.posted(single, blank, left)?],
                        chain => self.chain(chain, blank, left)?,
                    });
                }
            }
            Command::Once(_) => return Err("a key within a key".to_owned()),
        }
        Ok(())
    }
}

/// A key-value write with its outcome.
fn told_kv(asked: Line, done: bool, why_not: Rejection) -> Line {
    asked.told((!done).then_some(why_not))
}

/// A command as it was asked; transfers are told one by one.
fn asked(command: &Command<'_>, blank: &Line) -> Line {
    let line = blank.clone();
    match command {
        Command::KvPut { key, value, expect } => Line {
            f: "put",
            key: (*key).to_owned(),
            value: line::value(value),
            expect: line::expect(*expect),
            ..line
        },
        Command::KvDelete { key, expect } => Line {
            f: "delete",
            key: (*key).to_owned(),
            expect: line::expect(*expect),
            ..line
        },
        Command::CreateLedger(new) => Line {
            f: "ledger",
            key: new.id.to_owned(),
            value: json!({ "asset": new.asset, "scale": new.scale }),
            ..line
        },
        Command::CreateAccount(new) => Line {
            f: "account",
            key: new.id.to_owned(),
            value: json!({ "ledger": new.ledger, "code": new.code, "limits": new.limits.to_bits() }),
            ..line
        },
        Command::Transfers(_) | Command::Once(_) => line,
    }
}
