//! Answers held under idempotency keys: a row by key, and one in the order they were given, which is the order they are
//! forgotten in. Both are written with the journal, which holds the answers themselves.
//!
//! Memory knows how many there are and up to where they are forgotten, whatever their number.

use std::collections::BTreeMap;

use super::core::Core;
use super::db::{Batch, Range, Table};
use super::layout::{answer_key, answer_order_key, parse_answer, parse_old_answer};
use super::layout::{answer_row, old_answer_row};
use super::live::Live;
use super::meta::AnswersRow;
use super::view::{At, StoredAnswer, View};
use crate::machine::{Answer, Fault, OldAnswer, Position, Record, Reply};

/// What memory knows of the answers held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    /// As stored.
    pub(super) row: AnswersRow,
    /// Log time of the oldest; `None` if there is none, or if it has not been looked up since the one before was forgotten.
    oldest_ns: Option<u64>,
}

/// Answers given and forgotten that are not in the tables yet.
#[derive(Debug, Default)]
pub(super) struct AnswersOverlay {
    /// By key; `None` if it was forgotten.
    pub(super) by_key: BTreeMap<String, Option<Answer>>,
    /// By place; `None` if it was forgotten.
    pub(super) in_order: BTreeMap<Position, Option<OldAnswer>>,
}

impl Answers {
    /// Log time of the oldest: `Some(None)` if there is none, `None` if it has to be looked up.
    pub(super) fn known_oldest(&self) -> Option<Option<u64>> {
        (self.row.count == 0 || self.oldest_ns.is_some()).then_some(self.oldest_ns)
    }

    /// As opening finds them.
    pub(super) fn load(row: AnswersRow) -> Answers {
        Answers {
            row,
            oldest_ns: None,
        }
    }
}

impl AnswersOverlay {
    /// Bytes that one answer holds here, besides its key, about.
    const ANSWER_BYTES: usize = 2 * (size_of::<OldAnswer>() + size_of::<Answer>());

    /// Puts the rows.
    pub(super) fn put(&self, batch: &mut Batch<'_>) {
        for (key, answer) in &self.by_key {
            let row = answer_key(key);
            match answer {
                Some(answer) => batch.put(Table::Idempotency, &row, &answer_row(answer)),
                None => batch.delete(Table::Idempotency, &row),
            }
        }
        for (at, answer) in &self.in_order {
            let row = answer_order_key(*at);
            match answer {
                Some(answer) => batch.put(Table::Idempotency, &row, &old_answer_row(answer)),
                None => batch.delete(Table::Idempotency, &row),
            }
        }
    }
}

impl Live {
    /// Derives what the record of an answer, given or forgotten, which stands at `at`, changes. Other records change nothing here.
    pub(super) fn derive_answer(&mut self, record: &Record<'_>, at: Position) {
        let (answers, overlay) = (&mut self.answers, &mut self.overlay);
        match *record {
            Record::Answered {
                key,
                fingerprint,
                time_ns,
                reply: _,
            } => {
                if answers.row.count == 0 {
                    answers.oldest_ns = Some(time_ns);
                }
                answers.row.count += 1;
                overlay.bytes += 2 * key.len() + AnswersOverlay::ANSWER_BYTES;
                let answer = Answer {
                    at,
                    time_ns,
                    fingerprint,
                };
                overlay.answers.by_key.insert(key.to_owned(), Some(answer));
                let old = OldAnswer {
                    at,
                    time_ns,
                    key: key.to_owned(),
                };
                overlay.answers.in_order.insert(at, Some(old));
            }
            Record::AnswerForgotten { key, at } => {
                answers.row.count = answers
                    .row
                    .count
                    .checked_sub(1)
                    .expect("only what is held is forgotten");
                answers.row.forgotten = Some(at);
                answers.oldest_ns = None;
                overlay.bytes += 2 * key.len() + AnswersOverlay::ANSWER_BYTES;
                overlay.answers.by_key.insert(key.to_owned(), None);
                overlay.answers.in_order.insert(at, None);
            }
            Record::KvPut { .. }
            | Record::KvDeleted { .. }
            | Record::LedgerCreated { .. }
            | Record::AccountCreated { .. }
            | Record::Transfer(_) => {}
        }
    }
}

impl Core {
    /// The answer held under `key`, given the state while it is applied to.
    pub(super) fn find_answer(&self, live: &Live, key: &str) -> Result<Option<Answer>, Fault> {
        if let Some(answer) = live.overlay.answers.by_key.get(key) {
            return Ok(*answer);
        }
        if live.answers.row.count == 0 {
            return Ok(None);
        }
        let row = self.db.get(Table::Idempotency, &answer_key(key))?;
        row.map(|row| self.parse_answer(key, &row)).transpose()
    }

    fn parse_answer(&self, key: &str, row: &[u8]) -> Result<Answer, Fault> {
        parse_answer(row).ok_or_else(|| {
            self.db
                .damaged(Table::Idempotency, format_args!("row of {key:?}"))
        })
    }

    /// Log time of the oldest answer held.
    pub(super) fn oldest_answer_ns(&self, live: &mut Live) -> Result<Option<u64>, Fault> {
        if let Some(known) = live.answers.known_oldest() {
            return Ok(known);
        }
        let oldest = self.oldest_answers(live, u64::MAX, 1)?;
        live.answers.oldest_ns = oldest.first().map(|oldest| oldest.time_ns);
        Ok(live.answers.oldest_ns)
    }

    /// The answers held that were given at `until_ns` or before, oldest first, at most `max`. Looks only beyond those forgotten:
    /// their removed rows would have to be stepped over one by one.
    pub(super) fn oldest_answers(
        &self,
        live: &Live,
        until_ns: u64,
        max: u32,
    ) -> Result<Vec<OldAnswer>, Fault> {
        let max = usize::try_from(max).expect("a usize has 32 bits");
        let mut oldest = Vec::new();
        let forgotten = live.answers.row.forgotten;
        let from = forgotten.map_or(
            Position {
                index: 0,
                record: 0,
            },
            next,
        );
        let from = answer_order_key(from);
        let mut rows = self.db.rows(Table::Idempotency, Range::from(&from), None);
        while oldest.len() < max {
            let Some((key, value)) = rows.next()? else {
                break;
            };
            let old = parse_old_answer(key, value).ok_or_else(|| {
                self.db.damaged(
                    Table::Idempotency,
                    format_args!("row {}", key.escape_ascii()),
                )
            })?;
            if old.time_ns > until_ns {
                return Ok(oldest);
            }
            oldest.push(old);
        }
        let newer = live.overlay.answers.in_order.values().flatten();
        let newer = newer
            .filter(|newer| forgotten.is_none_or(|forgotten| newer.at > forgotten))
            .take_while(|newer| newer.time_ns <= until_ns);
        let missing = max - oldest.len();
        oldest.extend(newer.take(missing).cloned());
        Ok(oldest)
    }
}

/// The position after one.
fn next(at: Position) -> Position {
    match at.record.checked_add(1) {
        Some(record) => Position { record, ..at },
        None => Position {
            index: at.index + 1,
            record: 0,
        },
    }
}

impl View {
    /// The answer held under an idempotency key.
    pub fn answer(&self, key: &str) -> Result<At<Option<StoredAnswer>>, Fault> {
        let core = &self.core;
        let (index, found) = {
            let live = core.read()?;
            match live.overlay.answers.by_key.get(key) {
                Some(answer) => (live.index, Ok(*answer)),
                // As with keys: while the lock is held the tables hold nothing newer than this index.
                None => (live.index, Err(core.db.snapshot())),
            }
        };
        let found = match found {
            Ok(found) => found,
            Err(snapshot) => {
                let row = core
                    .db
                    .get_at(&snapshot, Table::Idempotency, &answer_key(key))?;
                row.map(|row| core.parse_answer(key, &row)).transpose()?
            }
        };
        let Some(answer) = found else {
            return Ok(At { index, value: None });
        };
        let (_, record) = core.record(answer.at)?;
        let damaged = |what: String| core.db.damaged(Table::Journal, what);
        let Record::Answered { reply, .. } = Record::decode(&record).map_err(damaged)? else {
            return Err(damaged(format!("no answer to {key:?} at {:?}", answer.at)));
        };
        let value = Some(StoredAnswer {
            index: answer.at.index,
            time_ns: answer.time_ns,
            fingerprint: answer.fingerprint,
            reply: Reply::from_bytes(reply).map_err(damaged)?,
        });
        Ok(At { index, value })
    }
}
