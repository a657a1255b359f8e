//! What may be taken for a snapshot, and what is left of one that did not arrive.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::machine::{Command, Expect, entry};
use crate::storage::state::{Applied, Options, State};
use crate::storage::{Kind, LogEntry, LogId};

/// The format as it was first written: what it says here it says for ever.
const FORMAT_1: &str = include_str!("tests/format_1.manifest");

fn sample() -> Manifest {
    let file = |name: &str, size, byte| FileEntry {
        name: name.to_owned(),
        size,
        hash: [byte; 32],
    };
    Manifest {
        cluster: Some("00112233445566778899aabbccddeeff".to_owned()),
        applied: Applied {
            log_id: Some(LogId {
                term: 3,
                node: 1,
                index: 4711,
            }),
            membership: Some(vec![1, 2, 0xff].into()),
            time_ns: 1_700_000_000_000_000_001,
            digest: [7; 32],
        },
        files: vec![
            file("000012.sst", 4096, 1),
            file("CURRENT", 16, 2),
            file("MANIFEST-000005", u64::MAX >> 1, 3),
        ],
    }
}

#[test]
fn the_format_is_the_one_that_was_first_written() {
    assert_eq!(sample().encode(), FORMAT_1);
    assert_eq!(Manifest::decode(FORMAT_1.as_bytes()), Ok(sample()));
    let empty = Manifest {
        cluster: None,
        applied: Applied::default(),
        files: Vec::new(),
    };
    assert_eq!(Manifest::decode(empty.encode().as_bytes()), Ok(empty));
}

#[test]
fn a_manifest_with_any_byte_changed_or_cut_off_is_refused() {
    let good = FORMAT_1.as_bytes();
    for at in 0..good.len() {
        for bit in [0, 5, 7] {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << bit;
            assert!(Manifest::decode(&bad).is_err(), "byte {at}, bit {bit}");
        }
        assert!(Manifest::decode(&good[..at]).is_err(), "cut at {at}");
    }
}

/// `manifest` with a hash that fits, whatever it says.
fn signed(body: &str) -> String {
    format!("{body}end {}\n", blake3::hash(body.as_bytes()))
}

#[test]
fn a_manifest_that_leads_out_of_its_directory_or_is_newer_is_refused() {
    let (body, _) = FORMAT_1.rsplit_once("end ").unwrap();
    assert!(Manifest::decode(signed(body).as_bytes()).is_ok());
    for (from, to, why) in [
        ("CURRENT", "../CURRENT", "as no snapshot has"),
        ("CURRENT", "/etc/passwd", "as no snapshot has"),
        ("CURRENT", ".hidden", "as no snapshot has"),
        ("CURRENT", "0000", "not in order"),
        ("CURRENT", "000012.sst", "not in order"),
        ("16", "18446744073709551615", "larger than any disk"),
        ("snapshot 1", "snapshot 2", "start a newer one"),
        ("time", "date", "where \"time\" is due"),
    ] {
        let text = signed(&body.replacen(from, to, 1));
        let error = Manifest::decode(text.as_bytes()).unwrap_err();
        assert!(error.contains(why), "{to}: {error}");
    }
}

/// A state with `keys` keys, and its directory.
fn state(root: &Path, keys: u64) -> State {
    let state = State::open(&root.join("state"), Options::default()).unwrap();
    write(&state, 0..keys);
    state
}

/// An entry for each of `indexes`, applied.
fn write(state: &State, indexes: std::ops::Range<u64>) {
    for index in indexes {
        let (key, value) = (
            format!("key-{index}"),
            vec![u8::try_from(index % 251).unwrap(); 4096],
        );
        // The first entry of a log has no commands.
        let id = LogId {
            term: 1,
            node: 1,
            index: index + 1,
        };
        let command = Command::KvPut {
            key: &key,
            value: &value,
            expect: Expect::Any,
        };
        let entry = LogEntry {
            id,
            kind: Kind::Commands,
            body: entry::assemble(&[command], id.index).into(),
        };
        state.apply(&[entry]).unwrap();
    }
}

fn made(root: &Path, keys: u64) -> (State, PathBuf, Manifest) {
    let state = state(root, keys);
    let dir = root.join("snapshot");
    let manifest = make(|at| state.checkpoint(at), &dir, Some("c".to_owned()), None).unwrap();
    (state, dir, manifest)
}

/// Flips one bit of a file that may be linked elsewhere, where it stays as it was.
fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_snapshot_says_what_it_holds_and_can_be_read_back() {
    let root = tempfile::tempdir().unwrap();
    let (state, dir, manifest) = made(root.path(), 20);
    assert_eq!(manifest.applied, state.applied());
    write(&state, 20..30);
    assert_eq!(read(&dir).unwrap(), manifest);
    verify(&dir, &manifest).unwrap();
    let other = State::open(&root.path().join("other"), Options::default()).unwrap();
    other.install(&state_dir(&dir)).unwrap();
    assert_eq!(other.applied(), manifest.applied);
    verify(&dir, &manifest).expect("installing leaves it as it is");
}

#[test]
fn a_snapshot_with_any_file_changed_missing_or_added_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let (_state, dir, manifest) = made(root.path(), 20);
    for entry in &manifest.files {
        let path = state_dir(&dir).join(&entry.name);
        let good = fs::read(&path).unwrap();
        if !good.is_empty() {
            flip(&path, good.len() / 2);
            let refused = verify(&dir, &manifest).unwrap_err().to_string();
            assert!(
                refused.contains(&entry.name) && refused.contains("has hash"),
                "{refused}"
            );
        }
        fs::remove_file(&path).unwrap();
        assert!(
            verify(&dir, &manifest)
                .unwrap_err()
                .to_string()
                .contains(&entry.name)
        );
        assert!(read(&dir).is_err(), "{}", entry.name);
        fs::write(&path, [&good[..], b"x"].concat()).unwrap();
        assert!(
            read(&dir)
                .unwrap_err()
                .to_string()
                .contains("bytes, the manifest says")
        );
        fs::write(&path, &good).unwrap();
    }
    fs::write(state_dir(&dir).join("more"), "").unwrap();
    let refused = verify(&dir, &manifest).unwrap_err().to_string();
    assert!(refused.contains("more is not in the manifest"), "{refused}");
}

#[test]
fn a_manifest_that_says_something_else_than_the_checkpoint_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (_state, dir, mut manifest) = made(root.path(), 5);
    manifest.applied.digest[0] ^= 1;
    let refused = verify(&dir, &manifest).unwrap_err().to_string();
    assert!(refused.contains("its manifest says"), "{refused}");
}

#[test]
fn files_that_two_snapshots_share_are_hashed_once() {
    let root = tempfile::tempdir().unwrap();
    let (state, dir, first) = made(root.path(), 20);
    write(&state, 20..40);
    // A hash that can only have come from the older manifest.
    let mut told = first.clone();
    told.files.iter_mut().for_each(|file| file.hash = [9; 32]);
    let second = root.path().join("second");
    let manifest = make(
        |at| state.checkpoint(at),
        &second,
        None,
        Some((&dir, &told)),
    )
    .unwrap();
    let shared = |file: &&FileEntry| file.hash == [9; 32];
    let shared: Vec<_> = manifest.files.iter().filter(shared).collect();
    assert!(!shared.is_empty() && shared.iter().all(|file| file.name.ends_with(".sst")));
    assert!(manifest.files.len() > shared.len(), "what is new is hashed");
}

/// Sends what is missing from the snapshot in `from`, at most `budget` bytes of it in pieces of `piece`.
fn send(staging: &mut Staging, missing: &[Missing], from: &Path, piece: usize, mut budget: usize) {
    for missing in missing {
        let entry = staging.manifest().files[missing.file].clone();
        let bytes = fs::read(state_dir(from).join(&entry.name)).unwrap();
        let mut at = usize::try_from(missing.offset).unwrap();
        while at < bytes.len() {
            let end = (at + piece).min(bytes.len());
            if end - at > budget {
                return;
            }
            budget -= end - at;
            let done = staging
                .put(missing.file, at as u64, &bytes[at..end])
                .unwrap();
            assert_eq!(done, end == bytes.len());
            at = end;
        }
    }
}

fn lacks(manifest: &Manifest, missing: &[Missing]) -> u64 {
    let of = |missing: &Missing| manifest.files[missing.file].size - missing.offset;
    missing.iter().map(of).sum()
}

#[test]
fn a_transfer_that_was_cut_off_goes_on_where_it_was() {
    let root = tempfile::tempdir().unwrap();
    let (_state, dir, manifest) = made(root.path(), 50);
    let incoming = root.path().join("incoming");
    let mut before = u64::MAX;
    let mut rounds = 0;
    let staging = loop {
        let (mut staging, missing) = Staging::begin(&incoming, manifest.clone(), None).unwrap();
        let left = lacks(&manifest, &missing);
        assert!(left < before, "nothing was kept");
        before = left;
        if left == 0 {
            break staging;
        }
        send(&mut staging, &missing, &dir, 1000, 60_000);
        rounds += 1;
    };
    assert!(rounds > 2, "it was not cut off");
    let arrived = root.path().join("arrived");
    staging.assemble(&arrived).unwrap();
    assert_eq!(read(&arrived).unwrap(), manifest);
    verify(&arrived, &manifest).unwrap();
    Staging::clear(&incoming).unwrap();
    verify(&arrived, &manifest).expect("it needs nothing staged");
}

#[test]
fn what_is_staged_and_was_changed_is_sent_again_and_what_does_not_belong_there_goes() {
    let root = tempfile::tempdir().unwrap();
    let (_state, dir, manifest) = made(root.path(), 20);
    let incoming = root.path().join("incoming");
    let (mut staging, missing) = Staging::begin(&incoming, manifest.clone(), None).unwrap();
    send(&mut staging, &missing, &dir, 1 << 20, usize::MAX);
    drop(staging);
    fs::write(incoming.join("stranger"), "x").unwrap();
    for entry in manifest.files.iter().filter(|entry| entry.size > 0) {
        let staged = incoming.join(blake3::Hash::from_bytes(entry.hash).to_string());
        flip(&staged, 3);
        let (mut staging, missing) = Staging::begin(&incoming, manifest.clone(), None).unwrap();
        assert_eq!(lacks(&manifest, &missing), entry.size, "{}", entry.name);
        send(&mut staging, &missing, &dir, 1 << 20, usize::MAX);
    }
    assert!(!incoming.join("stranger").exists());
}

#[test]
fn a_file_that_arrives_changed_is_refused_by_name_and_deleted() {
    let root = tempfile::tempdir().unwrap();
    let (_state, dir, manifest) = made(root.path(), 20);
    let incoming = root.path().join("incoming");
    let (mut staging, missing) = Staging::begin(&incoming, manifest.clone(), None).unwrap();
    let file = missing[0].file;
    let entry = &manifest.files[file];
    let mut bytes = fs::read(state_dir(&dir).join(&entry.name)).unwrap();
    bytes[0] ^= 0x80;
    let refused = staging.put(file, 0, &bytes).unwrap_err().to_string();
    assert!(
        refused.contains(&entry.name) && refused.contains("has hash"),
        "{refused}"
    );
    let (mut staging, again) = Staging::begin(&incoming, manifest.clone(), None).unwrap();
    assert_eq!(again, missing, "nothing of it was kept");
    let gap = staging.put(file, 1, &bytes[1..]).unwrap_err().to_string();
    assert!(gap.contains("where 0 was due"), "{gap}");
    let more = [&bytes[..], b"x"].concat();
    let more = staging.put(file, 0, &more).unwrap_err().to_string();
    assert!(more.contains("the manifest says"), "{more}");
}

#[test]
fn a_file_that_cannot_be_synced_is_not_kept() {
    let root = tempfile::tempdir().unwrap();
    let (_state, dir, manifest) = made(root.path(), 20);
    let incoming = root.path().join("incoming");
    let (mut staging, missing) = Staging::begin(&incoming, manifest.clone(), None).unwrap();
    let file = missing[0].file;
    let entry = &manifest.files[file];
    let staged = incoming.join(blake3::Hash::from_bytes(entry.hash).to_string());
    // It takes all that is written to it, and cannot be synced.
    std::os::unix::fs::symlink("/dev/null", &staged).unwrap();
    let bytes = fs::read(state_dir(&dir).join(&entry.name)).unwrap();
    let error = staging.put(file, 0, &bytes).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
    assert!(staged.symlink_metadata().is_err(), "it was kept");
}

#[test]
fn what_this_nodes_own_snapshot_has_is_not_sent_and_never_written_to() {
    let root = tempfile::tempdir().unwrap();
    let (state, own, mine) = made(root.path(), 20);
    write(&state, 20..40);
    let theirs = root.path().join("theirs");
    let manifest = make(|at| state.checkpoint(at), &theirs, None, None).unwrap();
    let incoming = root.path().join("incoming");
    let (_, all) = Staging::begin(&incoming, manifest.clone(), None).unwrap();
    let (_, missing) = Staging::begin(&incoming, manifest.clone(), Some((&own, &mine))).unwrap();
    assert!(lacks(&manifest, &missing) < lacks(&manifest, &all));
    Staging::clear(&incoming).unwrap();

    // One that lost its end on this disk: it is fetched whole, beside the other.
    let table = mine
        .files
        .iter()
        .find(|file| file.name.ends_with(".sst"))
        .unwrap();
    let short = state_dir(&own).join(&table.name);
    let bytes = fs::read(&short).unwrap();
    fs::remove_file(&short).unwrap();
    fs::write(&short, &bytes[..bytes.len() / 2]).unwrap();
    let (mut staging, missing) =
        Staging::begin(&incoming, manifest.clone(), Some((&own, &mine))).unwrap();
    send(&mut staging, &missing, &theirs, 1 << 20, usize::MAX);
    assert_eq!(fs::read(&short).unwrap().len(), bytes.len() / 2);
    staging.assemble(&root.path().join("arrived")).unwrap();
}

#[test]
fn a_snapshot_that_was_not_finished_is_none() {
    let root = tempfile::tempdir().unwrap();
    let (_state, dir, _) = made(root.path(), 5);
    fs::remove_file(dir.join(MANIFEST)).unwrap();
    assert_eq!(read(&dir).unwrap_err().kind(), io::ErrorKind::NotFound);
}
