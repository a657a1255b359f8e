//! Reads of keys and values.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::super::db::{Range, Table};
use super::super::layout::{KvCell, after_prefix};
use super::super::view::{At, KvPage, KvRow, View};
use crate::machine::Fault;

impl View {
    /// A key.
    pub fn kv(&self, key: &str) -> Result<At<Option<KvRow>>, Fault> {
        let db = &self.core.db;
        let (index, snapshot) = {
            let live = self.core.read()?;
            if let Some(cell) = live.overlay.kv.get(key) {
                return Ok(At {
                    index: live.index,
                    value: cell.clone().map(|cell| row(key, cell)),
                });
            }
            // While the lock is held the tables hold nothing newer than this index, so the snapshot does not either.
            (live.index, db.snapshot())
        };
        let Some(value) = db.get_at(&snapshot, Table::Kv, key.as_bytes())? else {
            return Ok(At { index, value: None });
        };
        Ok(At {
            index,
            value: Some(row(key, self.cell(key, &value)?)),
        })
    }

    /// Keys that start with `prefix`, in byte order, those after `after`, up to `limit` keys and `bytes_max` of keys and values
    /// (at least one), and whether there are more at the same index.
    pub fn kv_list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<At<KvPage>, Fault> {
        let after = after.filter(|after| *after >= prefix);
        let (index, mut overlaid, snapshot) = {
            let live = self.core.read()?;
            let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
            let keys = live.overlay.kv.range::<str, _>((from, Bound::Unbounded));
            let overlaid: BTreeMap<String, Option<KvCell>> = keys
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(key, cell)| (key.clone(), cell.clone()))
                .collect();
            (live.index, overlaid, self.core.db.snapshot())
        };
        // The next key after one is itself with a zero byte.
        let from = after.map_or_else(
            || prefix.as_bytes().to_vec(),
            |after| [after.as_bytes(), &[0]].concat(),
        );
        let to = after_prefix(prefix.as_bytes());
        let mut range = Range::from(&from);
        if let Some(to) = &to {
            range = range.to(to);
        }
        let mut cursor = self.core.db.rows(Table::Kv, range, Some(&snapshot));
        let mut page = Page {
            found: KvPage::default(),
            bytes: 0,
            limit,
            bytes_max,
        };
        while let Some((key, value)) = cursor.next()? {
            let key =
                std::str::from_utf8(key).map_err(|error| self.core.db.damaged(Table::Kv, error))?;
            while let Some(entry) = overlaid.first_entry()
                && entry.key().as_str() < key
            {
                let (key, cell) = entry.remove_entry();
                page.push(&key, cell);
            }
            let cell = match overlaid.remove(key) {
                Some(newer) => newer,
                None => Some(self.cell(key, value)?),
            };
            page.push(key, cell);
            if page.found.more {
                return Ok(At {
                    index,
                    value: page.found,
                });
            }
        }
        overlaid
            .into_iter()
            .for_each(|(key, cell)| page.push(&key, cell));
        Ok(At {
            index,
            value: page.found,
        })
    }

    fn cell(&self, key: &str, value: &[u8]) -> Result<KvCell, Fault> {
        KvCell::decode(value).ok_or_else(|| {
            self.core
                .db
                .damaged(Table::Kv, format_args!("row of {key:?}"))
        })
    }
}

/// A page being filled.
struct Page {
    found: KvPage,
    bytes: usize,
    limit: usize,
    bytes_max: usize,
}

impl Page {
    /// Adds a key unless it is removed or the page is full.
    fn push(&mut self, key: &str, cell: Option<KvCell>) {
        let Some(cell) = cell else { return };
        let rows = &mut self.found.rows;
        let bytes = self.bytes + key.len() + cell.value.len();
        let fits = rows.is_empty() || bytes <= self.bytes_max;
        // Keys after one that did not fit must not come before it.
        if self.found.more || rows.len() >= self.limit || !fits {
            self.found.more = true;
            return;
        }
        self.bytes = bytes;
        rows.push(row(key, cell));
    }
}

fn row(key: &str, cell: KvCell) -> KvRow {
    KvRow {
        key: key.to_owned(),
        value: cell.value,
        created: cell.meta.created,
        modified: cell.meta.modified,
        version: cell.meta.version,
    }
}
