//! Pages of the applied log of a running node: what they make is what its directory makes.

use std::path::Path;
use std::sync::mpsc;

use super::super::State;
use super::super::core::lock;
use super::workload::Workload;
use super::{memory, open, tuning};
use crate::storage::LogEntry;
use crate::storage::applied::pages::page_of;
use crate::storage::applied::{Exported, Line, Pages, export_of};
use crate::storage::identity::OpenError;
use crate::storage::log::{Log, Options};

/// A node's log and state.
struct Node {
    log: Log,
    state: State,
}

impl Node {
    fn new(dir: &Path) -> Node {
        Node {
            log: Log::open(&dir.join("log"), "some-uuid", Options::default()).unwrap(),
            state: open(&dir.join("state"), tuning(false), None),
        }
    }

    fn apply(&self, entries: &[LogEntry]) {
        self.append(entries);
        self.state.apply(entries).unwrap();
    }

    fn append(&self, entries: &[LogEntry]) {
        let (send, done) = mpsc::channel();
        let tell = move |result: std::io::Result<()>| send.send(result.is_ok()).unwrap();
        self.log.append(entries.to_vec(), Box::new(tell));
        assert!(done.recv().unwrap());
    }

    /// The next page for `pages`; its lines are added to `lines`.
    fn give(
        &self,
        bytes_max: usize,
        pages: &mut Pages,
        lines: &mut Vec<Line>,
    ) -> Result<Option<Exported>, OpenError> {
        let (from, to) = pages.wanted();
        let page = page_of(bytes_max, &self.log, &self.state, from, to).unwrap();
        pages.take(&page, |line| {
            lines.push(line.clone());
            Ok(())
        })
    }

    /// A whole export, and of how many pages it was made.
    fn export(
        &self,
        bytes_max: usize,
        until: Option<u64>,
    ) -> Result<(Vec<Line>, Exported, usize), OpenError> {
        let (mut pages, mut lines) = (Pages::new(until), Vec::new());
        for count in 1.. {
            if let Some(end) = self.give(bytes_max, &mut pages, &mut lines)? {
                return Ok((lines, end, count));
            }
        }
        unreachable!("it ends")
    }
}

#[test]
fn pages_of_any_size_make_the_export_of_the_directory() {
    for seed in 0..4 {
        let dir = tempfile::tempdir().unwrap();
        let entries = Workload::new(seed).entries(120);
        let node = Node::new(dir.path());
        node.apply(&entries);
        let (whole, end, pages) = node.export(usize::MAX, None).unwrap();
        assert_eq!(pages, 1);
        assert_eq!(end.index, entries.last().unwrap().id.index);
        assert_eq!(end.digest, memory(&entries).digest());
        for bytes_max in [1, 500, 20_000] {
            let (lines, same, pages) = node.export(bytes_max, None).unwrap();
            assert!(pages > 1, "{bytes_max} bytes do not hold everything");
            assert_eq!((lines, same), (whole.clone(), end));
        }
        let some: Vec<Line> = whole.iter().filter(|l| l.index <= 50).cloned().collect();
        let (lines, end, _) = node.export(500, Some(50)).unwrap();
        assert_eq!((lines, end.index), (some, 50));
        assert!(node.export(500, Some(100_000)).is_err());
    }
}

#[test]
fn what_is_applied_after_the_first_page_is_not_in_the_export() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(7).entries(120);
    let (early, late) = entries.split_at(60);
    let node = Node::new(dir.path());
    node.apply(early);
    let (mut pages, mut lines) = (Pages::new(None), Vec::new());
    let mut end = node.give(500, &mut pages, &mut lines).unwrap();
    assert_eq!(end, None);
    node.apply(late);
    while end.is_none() {
        end = node.give(500, &mut pages, &mut lines).unwrap();
    }
    assert_eq!(end.unwrap().digest, memory(early).digest());
    assert!(
        lines
            .iter()
            .all(|line| line.index <= early.last().unwrap().id.index)
    );
}

#[test]
fn an_export_begins_at_the_purge_point_and_says_so_if_that_moves() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(8).entries(120);
    let node = Node::new(dir.path());
    node.apply(&entries);
    let (whole, end, _) = node.export(500, None).unwrap();
    node.log.purge(entries[40].id);
    let (lines, same, _) = node.export(500, None).unwrap();
    let due: Vec<Line> = whole.into_iter().filter(|line| line.index > 40).collect();
    assert_eq!((lines, same), (due, end));
    let (mut pages, mut lines) = (Pages::new(None), Vec::new());
    while pages.wanted().0 < 60 {
        node.give(500, &mut pages, &mut lines).unwrap();
    }
    node.log.purge(entries[100].id);
    let error = node.give(500, &mut pages, &mut lines).unwrap_err();
    assert!(error.0.contains("purged meanwhile"), "{error}");
}

#[test]
fn an_export_that_goes_on_leaves_out_only_what_was_purged_unseen() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(10).entries(120);
    let node = Node::new(dir.path());
    node.apply(&entries);
    let (whole, end, _) = node.export(usize::MAX, None).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path());
    let (mut pages, mut lines) = (Pages::new(None), Vec::new());
    let mut begins = Vec::new();
    for (upto, purged) in [(40, 30), (70, 60), (100, 99), (120, 100)] {
        let from = usize::try_from(pages.wanted().0).unwrap();
        node.apply(&entries[from..upto]);
        let seen = loop {
            if let Some(seen) = node.give(500, &mut pages, &mut lines).unwrap() {
                break seen;
            }
        };
        assert_eq!(seen.digest, memory(&entries[..upto]).digest());
        begins.push(pages.first().unwrap());
        pages.go_on();
        node.log.purge(entries[purged].id);
    }
    assert_eq!(begins, [0, 0, 0, 0], "it saw everything in time");
    assert_eq!(lines, whole);
    // Purged further than it was seen.
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path());
    let (mut pages, mut lines) = (Pages::new(None), Vec::new());
    node.apply(&entries[..40]);
    while node.give(500, &mut pages, &mut lines).unwrap().is_none() {}
    pages.go_on();
    node.apply(&entries[40..]);
    node.log.purge(entries[80].id);
    let last = loop {
        if let Some(last) = node.give(500, &mut pages, &mut lines).unwrap() {
            break last;
        }
    };
    assert_eq!((last, pages.first()), (end, Some(81)));
    let due = |line: &&Line| line.index < 40 || line.index > 80;
    let due: Vec<Line> = whole.iter().filter(due).cloned().collect();
    assert_eq!(lines, due);
}

#[test]
fn what_a_leader_wrote_alone_is_not_taken_for_applied_between_install_and_purge() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(12).entries(120);
    let alone = Workload::new(13).entries(60);
    let node = Node::new(dir.path());
    node.apply(&entries[..40]);
    node.append(&alone[40..]);
    // As after the install: the others' entries are in the state and not in the log.
    node.state.apply(&entries[40..100]).unwrap();
    let (mut pages, mut lines) = (Pages::new(None), Vec::new());
    let seen = node.give(usize::MAX, &mut pages, &mut lines).unwrap();
    let seen = seen.expect("one page");
    assert_eq!(
        (seen.index, seen.digest),
        (99, memory(&entries[..100]).digest())
    );
    assert_eq!((lines.len(), pages.first()), (0, Some(100)));
    // If it stops now, its directory says the same.
    node.state.close().unwrap();
    drop(node);
    let at = |name| dir.path().join(name);
    let stopped = export_of(&at("log"), &at("state"), None, |line| panic!("{line:?}"));
    assert_eq!(stopped.unwrap(), seen);
    let node = Node::new(dir.path());
    // The purge, and what comes after.
    pages.go_on();
    node.log.purge(entries[99].id);
    node.apply(&entries[100..]);
    while node.give(500, &mut pages, &mut lines).unwrap().is_none() {}
    assert_eq!(pages.first(), Some(100));
    let dir = tempfile::tempdir().unwrap();
    let whole = Node::new(dir.path());
    whole.apply(&entries);
    let (mut due, ..) = whole.export(usize::MAX, None).unwrap();
    due.retain(|line| line.index >= 100);
    assert_eq!(lines, due);
}

#[test]
fn the_digest_of_an_index_that_is_purged_is_told_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(11).entries(60);
    let node = Node::new(dir.path());
    node.apply(&entries);
    node.log.purge(entries[40].id);
    let (lines, end, _) = node.export(500, Some(20)).unwrap();
    assert_eq!((lines.len(), end.index), (0, 20));
    assert_eq!(end.digest, memory(&entries[..=20]).digest());
}

#[test]
fn pages_that_do_not_lead_to_the_digest_stored_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path());
    node.apply(&Workload::new(9).entries(30));
    assert!(node.export(500, None).is_ok());
    lock(&node.state.core().applied).digest[7] ^= 1;
    let error = node.export(500, None).unwrap_err();
    assert!(error.0.contains("leads to digest"), "{error}");
    let strange = Pages::new(None).take(b"<html>", |_| Ok(()));
    assert!(strange.unwrap_err().0.contains("no page"));
}
