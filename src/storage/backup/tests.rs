//! What may be taken for a backup, and what a state in one must be.

use std::fs;
use std::path::{Path, PathBuf};

use super::tar::{BLOCK, entry_len, header};
use super::*;
use crate::machine::{
    AccountRef, Command, Expect, Limits, NewAccount, NewLedger, NewTransfer, entry,
};
use crate::storage::snapshot;
use crate::storage::state::{Options, State};
use crate::storage::{Kind, LogEntry, LogId};

const CLUSTER: &str = "00112233445566778899aabbccddeeff";

fn apply(state: &State, index: u64, command: Command<'_>) {
    let id = LogId {
        term: 1,
        node: 1,
        index,
    };
    let entry = LogEntry {
        id,
        kind: Kind::Commands,
        body: entry::assemble(&[command], 1_700_000_000_000_000_000 + index).into(),
    };
    state.apply(&[entry]).unwrap();
}

fn transfer<'a>(id: &'a str, debit: &'a str, amount: u128) -> Command<'a> {
    Command::Transfers(vec![NewTransfer {
        id,
        debit: AccountRef::Id(debit),
        credit: AccountRef::Id("b"),
        amount,
        code: 1,
        linked: false,
        metadata: "",
    }])
}

/// A small state of everything: a ledger with two accounts, two transfers posted and one refused for ever, a key.
fn fill(state: &State) {
    apply(
        state,
        1,
        Command::CreateLedger(NewLedger {
            id: "usd",
            asset: "USD",
            scale: 2,
        }),
    );
    for (index, id) in [(2, "a"), (3, "b")] {
        let account = NewAccount {
            id,
            ledger: "usd",
            code: 1,
            limits: Limits::default(),
        };
        apply(state, index, Command::CreateAccount(account));
    }
    apply(state, 4, transfer("t1", "a", 5));
    apply(state, 5, transfer("t2", "a", 7));
    apply(state, 6, transfer("t3", "nobody", 1));
    apply(
        state,
        7,
        Command::KvPut {
            key: "k",
            value: b"v",
            expect: Expect::Any,
        },
    );
}

/// A backup of the small state, made while that goes on.
fn backup(root: &Path) -> Backup {
    let state = State::open(&root.join("live"), Options::default()).unwrap();
    fill(&state);
    let dir = root.join("snapshot");
    let held = snapshot::make(|at| state.checkpoint(at), &dir, None, None).unwrap();
    apply(&state, 8, transfer("later", "a", 100));
    Backup::of(&dir, &held, CLUSTER.to_owned(), 3).unwrap()
}

fn bytes(backup: &Backup) -> Vec<u8> {
    let mut bytes = Vec::new();
    backup.write(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, backup.len());
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    let error = read(bytes, |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    error.to_string()
}

#[test]
fn a_backup_says_what_it_holds_and_is_read_back_and_checked() {
    let root = tempfile::tempdir().unwrap();
    let backup = backup(root.path());
    let bytes = bytes(&backup);
    let (manifest, summary) = head(&bytes[..]).unwrap();
    assert_eq!((&manifest, &summary), (&backup.manifest, &backup.summary));
    assert_eq!((manifest.epoch, manifest.index()), (3, 7));
    let usd = LedgerSummary {
        id: "usd".to_owned(),
        asset: "USD".to_owned(),
        scale: 2,
        accounts: 2,
        debits_posted: 12,
        credits_posted: 12,
    };
    let wanted = Summary {
        accounts: 2,
        transfers: 2,
        refused: 1,
        keys: 1,
        idempotency_keys: 0,
        ledgers: vec![usd],
    };
    assert_eq!(summary, wanted);
    let to = root.path().join("to");
    assert_eq!(
        unpack(&bytes[..], &to).unwrap(),
        (manifest.clone(), summary.clone())
    );
    let checked = check(&to, &manifest, &summary).unwrap();
    assert_eq!(checked.problems, [""; 0]);
    let state = State::open(&to, Options::default()).unwrap();
    assert_eq!(state.applied(), manifest.applied);
    assert!(state.view().transfer("later").unwrap().value.is_none());
}

#[test]
fn any_tar_program_lists_it() {
    let root = tempfile::tempdir().unwrap();
    let backup = backup(root.path());
    let file = root.path().join("backup.tar");
    fs::write(&file, bytes(&backup)).unwrap();
    let listed = std::process::Command::new("tar")
        .arg("-tf")
        .arg(&file)
        .output();
    let Ok(listed) = listed else {
        return; // there is none on this machine
    };
    assert!(
        listed.status.success() && listed.stderr.is_empty(),
        "{listed:?}"
    );
    let listed = String::from_utf8(listed.stdout).unwrap();
    let listed: Vec<&str> = listed.lines().collect();
    let files = backup.manifest.files.iter().map(path_of);
    let wanted: Vec<String> = [MANIFEST, SUMMARY]
        .map(str::to_owned)
        .into_iter()
        .chain(files)
        .collect();
    assert_eq!(listed[..listed.len() - 1], wanted);
    assert_eq!(listed.last(), Some(&END));
}

#[test]
fn with_any_byte_changed_it_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut bytes = bytes(&backup(root.path()));
    let end = bytes.len();
    // Every byte of the first blocks and of the last ones, and one of every few in between.
    let edge = 6 * BLOCK;
    let between = (edge..end - edge).step_by(61);
    for at in (0..edge).chain(between).chain(end - edge..end) {
        for bit in [0, 6] {
            bytes[at] ^= 1 << bit;
            refusal(&bytes);
            bytes[at] ^= 1 << bit;
        }
    }
    read(&bytes[..], |_| Ok(())).unwrap();
}

#[test]
fn cut_off_anywhere_or_with_something_behind_it_it_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut bytes = bytes(&backup(root.path()));
    let end = bytes.len();
    let edge = 6 * BLOCK;
    for len in (0..edge)
        .chain((edge..end).step_by(127))
        .chain(end - edge..end)
    {
        let why = refusal(&bytes[..len]);
        assert!(why.contains("not whole"), "{len} of {end}: {why}");
    }
    bytes.push(0);
    assert!(refusal(&bytes).contains("behind its end"));
}

/// The parts of a backup: names and contents, in order, but for the end.
type Parts = Vec<(String, Vec<u8>)>;

fn parts(bytes: &[u8]) -> Parts {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while rest.len() > 4 * BLOCK {
        let name = rest[..100].iter().take_while(|byte| **byte != 0);
        let name = String::from_utf8(name.copied().collect()).unwrap();
        let size = tar::size(rest[..BLOCK].try_into().unwrap()).unwrap();
        let len = usize::try_from(size).unwrap();
        parts.push((name, rest[BLOCK..BLOCK + len].to_vec()));
        rest = &rest[usize::try_from(entry_len(size)).unwrap()..];
    }
    parts
}

/// Does something to parts, of which the last has the number given.
type Change = fn(&mut Parts, usize);
/// Has a backup say something that is not so.
type Lie = fn(&mut Manifest, &mut Summary);

/// An archive of `parts` whose end fits, whatever they are.
fn archive(parts: &Parts) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |name: &str, content: &[u8]| {
        bytes.extend_from_slice(&header(name, content.len() as u64));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        blake3::hash(&bytes)
    };
    let mut hash = blake3::hash(b"");
    for (name, content) in parts {
        hash = put(name, content);
    }
    put(END, end_text(&hash).as_bytes());
    bytes.extend_from_slice(&[0; TAIL_BLOCKS * BLOCK]);
    bytes
}

#[test]
fn a_file_that_is_missing_added_renamed_or_of_another_content_is_refused_though_the_end_fits() {
    let root = tempfile::tempdir().unwrap();
    let bytes = bytes(&backup(root.path()));
    let good = parts(&bytes);
    assert_eq!(archive(&good), bytes, "this is how they are made");
    let last = good.len() - 1;
    let changes: [(&str, Change); 6] = [
        ("that is due", |parts, last| drop(parts.remove(last))),
        ("that is due", |parts, _| drop(parts.remove(1))),
        ("that is due", |parts, last| parts.swap(last, last - 1)),
        ("that is due", |parts, last| parts[last].0 += "x"),
        ("that is due", |parts, _| {
            parts.push(("state/evil".to_owned(), b"x".to_vec()))
        }),
        ("its hash is", |parts, last| parts[last].1[0] ^= 1),
    ];
    for (why, change) in changes {
        let mut parts = good.clone();
        change(&mut parts, last);
        let said = refusal(&archive(&parts));
        assert!(said.contains(why), "{said}");
    }
}

/// `parts` with another manifest.
fn with_manifest(parts: &Parts, manifest: &str) -> Vec<u8> {
    let mut parts = parts.clone();
    parts[0].1 = manifest.as_bytes().to_vec();
    archive(&parts)
}

#[test]
fn names_that_lead_elsewhere_and_newer_formats_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let backup = backup(root.path());
    let good = parts(&bytes(&backup));
    let text = backup.manifest.encode();
    let (body, _) = text.rsplit_once("end ").unwrap();
    let long = "x".repeat(95);
    for (from, to, why) in [
        ("CURRENT", "../CURRENT", "as no snapshot has"),
        ("CURRENT", "/etc/passwd", "as no snapshot has"),
        ("CURRENT", "a/b", "as no snapshot has"),
        ("CURRENT", ".hidden", "as no snapshot has"),
        ("OPTIONS", &long, "as no backup has"),
        ("CURRENT", "0000", "not in order"),
        ("quorate-backup 1", "quorate-backup 2", "start a newer one"),
        (
            "quorate-backup 1",
            "quorate-snapshot 1",
            "no manifest of a backup",
        ),
        (CLUSTER, "-", "no id of a cluster"),
        ("epoch 3", "epoch x", "no number"),
        ("digest", "digits", "where \"digest\" is due"),
    ] {
        assert!(body.contains(from), "{from}");
        let body = body.replacen(from, to, 1);
        let signed = format!("{body}end {}\n", blake3::hash(body.as_bytes()));
        let said = refusal(&with_manifest(&good, &signed));
        assert!(said.contains(why), "{to}: {said}");
    }
    let unsigned = text.replacen("epoch 3", "epoch 4", 1);
    assert!(refusal(&with_manifest(&good, &unsigned)).contains("its hash is another"));
}

#[test]
fn a_state_of_many_ledgers_has_a_backup_and_what_is_too_long_is_named() {
    let root = tempfile::tempdir().unwrap();
    let backup = backup(root.path());
    let text = backup.summary.encode();
    let lines = text.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, 1, "what a ledger takes is not for indentation");
    let ledger = serde_json::to_vec(&backup.summary.ledgers[0]).unwrap();
    assert!(4_000_000 * ledger.len() as u64 <= HEAD_LEN_MAX);
    assert!(check_head(SUMMARY, HEAD_LEN_MAX).is_ok());
    let refused = check_head(SUMMARY, HEAD_LEN_MAX + 1).unwrap_err();
    let refused = refused.to_string();
    assert!(
        refused.contains(SUMMARY) && refused.contains("1073741825"),
        "{refused}"
    );
    // As versions before this one wrote it.
    let older = serde_json::to_vec_pretty(&backup.summary).unwrap();
    assert_eq!(Summary::decode(&older), Ok(backup.summary));
}

/// A backup that tells otherwise than its state is, and is in order byte by byte. Unpacked, with its manifest and summary.
fn lying(root: &Path, lie: impl Fn(&mut Manifest, &mut Summary)) -> (PathBuf, Manifest, Summary) {
    let backup = backup(root);
    let mut parts = parts(&bytes(&backup));
    let (mut manifest, mut summary) = (backup.manifest.clone(), backup.summary.clone());
    lie(&mut manifest, &mut summary);
    let text = summary.encode();
    manifest.summary = (text.len() as u64, blake3::hash(&text).into());
    parts[0].1 = manifest.encode().into_bytes();
    parts[1].1 = text;
    let to = root.join("to");
    let (manifest, summary) = unpack(&archive(&parts)[..], &to).unwrap();
    (to, manifest, summary)
}

#[test]
fn what_manifest_and_summary_tell_must_be_so() {
    let lies: [(&str, Lie); 8] = [
        ("the journal leads to digest", |manifest, _| {
            manifest.applied.digest[0] ^= 1
        }),
        ("the manifest says", |manifest, _| {
            manifest.applied.log_id.as_mut().unwrap().index += 1;
        }),
        ("2 transfers, the summary says 3", |_, summary| {
            summary.transfers += 1
        }),
        ("1 transfers refused", |_, summary| summary.refused += 1),
        ("2 accounts", |_, summary| summary.accounts -= 1),
        ("1 keys", |_, summary| summary.keys = 0),
        ("0 idempotency keys", |_, summary| {
            summary.idempotency_keys += 1
        }),
        ("has the ledgers", |_, summary| {
            summary.ledgers[0].credits_posted += 1
        }),
    ];
    for (why, lie) in lies {
        let root = tempfile::tempdir().unwrap();
        let (to, manifest, summary) = lying(root.path(), lie);
        let problems = check(&to, &manifest, &summary).unwrap().problems;
        assert!(
            problems.iter().any(|problem| problem.contains(why)),
            "{why}: {problems:?}"
        );
    }
}

#[test]
fn a_file_that_changed_since_it_was_hashed_ends_the_stream_without_an_end() {
    let root = tempfile::tempdir().unwrap();
    let backup = backup(root.path());
    let current = snapshot::state_dir(&root.path().join("snapshot")).join("CURRENT");
    let mut content = fs::read(&current).unwrap();
    content[0] ^= 1;
    fs::remove_file(&current).unwrap();
    fs::write(&current, content).unwrap();
    let mut bytes = Vec::new();
    let why = backup.write(&mut bytes).unwrap_err().to_string();
    assert!(why.contains("is not what it was"), "{why}");
    refusal(&bytes);
}

#[test]
fn a_journal_that_does_not_lead_to_its_digest_gives_no_backup() {
    let root = tempfile::tempdir().unwrap();
    let backup = backup(root.path());
    let state = snapshot::state_dir(&root.path().join("snapshot"));
    assert_eq!(State::summarize(&state).unwrap(), backup.summary);
    for file in fs::read_dir(&state).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            let mut content = fs::read(&path).unwrap();
            let middle = content.len() / 2;
            content[middle] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, content).unwrap();
        }
    }
    assert!(State::summarize(&state).is_err());
}
