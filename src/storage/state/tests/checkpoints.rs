//! Checkpoints and what becomes of a state that is replaced by one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use super::super::State;
use super::super::core::{Core, Crash, Hook};
use super::workload::Workload;
use super::{memory, open, tuning, upto};

#[test]
fn a_checkpoint_holds_what_its_meta_says_and_apply_goes_on() {
    for ingest in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let entries = Workload::new(5).entries(60);
        let state = open(&dir.path().join("state"), tuning(ingest), None);
        let other = open(&dir.path().join("other"), tuning(!ingest), None);
        for (round, some) in entries.chunks(10).enumerate() {
            state.apply(some).unwrap();
            let checkpoint = dir.path().join(format!("checkpoint-{round}"));
            let meta = state.checkpoint(&checkpoint).unwrap();
            assert_eq!(meta.applied, state.applied());
            assert!(
                state.durable() >= meta.applied.log_id,
                "what is in a checkpoint may be purged from the log"
            );
            let before = other.view();
            let before_index = before.index();
            assert_eq!(other.install(&checkpoint).unwrap(), meta);
            assert_eq!(
                (other.applied(), before.index()),
                (meta.applied.clone(), before_index)
            );
            let last = meta.applied.log_id.unwrap().index;
            assert_eq!(other.dump().unwrap(), memory(upto(&entries, last)).dump());
            assert_eq!(
                State::inspect_checkpoint(&checkpoint).unwrap(),
                meta,
                "installing leaves it as it is"
            );
        }
        let names: BTreeSet<String> = databases(&dir.path().join("other"));
        assert_eq!(
            names,
            BTreeSet::from(["state-6".to_owned()]),
            "the replaced ones are gone"
        );
        let applied = other.applied();
        drop(other);
        assert_eq!(
            State::verify(&dir.path().join("other")).unwrap().problems,
            [""; 0]
        );
        let other = open(&dir.path().join("other"), tuning(ingest), None);
        assert_eq!(other.applied(), applied);
    }
}

#[test]
fn a_view_goes_on_reading_the_state_it_was_taken_from() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(6).entries(40);
    let state = open(&dir.path().join("state"), tuning(true), None);
    state.apply(&entries[..20]).unwrap();
    state.seal().unwrap();
    let other = open(&dir.path().join("other"), tuning(true), None);
    other.apply(&entries).unwrap();
    other.checkpoint(&dir.path().join("checkpoint")).unwrap();
    let view = state.view();
    let accounts = view.accounts(None, "", None, 100).unwrap();
    state.install(&dir.path().join("checkpoint")).unwrap();
    assert_eq!(view.accounts(None, "", None, 100).unwrap(), accounts);
    assert_eq!(databases(&dir.path().join("state")).len(), 2);
    drop(view);
    assert_eq!(databases(&dir.path().join("state")).len(), 1);
    assert_eq!(state.view().index(), 39);
}

#[test]
fn a_seal_of_the_replaced_state_ends_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(10).entries(40);
    let other = open(&dir.path().join("other"), tuning(true), None);
    other.apply(&entries).unwrap();
    other.checkpoint(&dir.path().join("checkpoint")).unwrap();
    let (reached, begun) = std::sync::mpsc::sync_channel(1);
    let sealed = Arc::new(OnceLock::<Weak<Core>>::new());
    let hook: Hook = {
        let sealed = Arc::clone(&sealed);
        Arc::new(move |name| {
            if name == "seal:ids" {
                reached.send(()).unwrap();
                // The seal stands here until it is told to end.
                let core = sealed.get().and_then(Weak::upgrade).unwrap();
                let patience = Instant::now() + Duration::from_secs(10);
                while core.point("probe").is_ok() && Instant::now() < patience {
                    std::thread::yield_now();
                }
            }
            None
        })
    };
    let mut tuning = tuning(false);
    tuning.seal_journal_bytes = u64::MAX;
    let state = open(&dir.path().join("state"), tuning, Some(hook));
    state.apply(&entries[..20]).unwrap();
    let old = state.core();
    sealed.set(Arc::downgrade(&old)).unwrap();
    let sealing = {
        let old = Arc::clone(&old);
        std::thread::spawn(move || old.seal_now())
    };
    begun.recv().unwrap();
    state.install(&dir.path().join("checkpoint")).unwrap();
    let ended = sealing.join().unwrap().unwrap_err().what;
    assert!(ended.contains("stopped at"), "{ended}");
    drop(old);
    assert_eq!(databases(&dir.path().join("state")).len(), 1);
}

#[test]
fn a_crash_amid_an_installation_leaves_the_old_state_or_the_new_one() {
    let entries = Workload::new(8).entries(40);
    let (old, new) = (memory(&entries[..20]).dump(), memory(&entries).dump());
    for (at, expected) in [
        ("install:copied", &old),
        ("install:opened", &old),
        ("install:current", &new),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("state");
        let other = open(&dir.path().join("other"), tuning(true), None);
        other.apply(&entries).unwrap();
        other.checkpoint(&dir.path().join("checkpoint")).unwrap();
        let passed = Arc::new(AtomicU64::new(0));
        let hook: Hook = {
            let passed = Arc::clone(&passed);
            Arc::new(move |name| {
                let here = name == at;
                passed.fetch_add(u64::from(here), Ordering::SeqCst);
                here.then_some(Crash::Lose)
            })
        };
        let state = open(&root, tuning(true), Some(hook));
        state.apply(&entries[..20]).unwrap();
        state.close().unwrap();
        assert!(state.install(&dir.path().join("checkpoint")).is_err());
        assert_eq!(passed.load(Ordering::SeqCst), 1);
        drop(state);
        let state = open(&root, tuning(true), None);
        assert_eq!(&state.dump().unwrap(), expected, "{at}");
        assert_eq!(
            databases(&root).len(),
            1,
            "{at}: what was not finished is gone"
        );
    }
}

#[test]
fn a_checkpoint_that_cannot_be_opened_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let entries = Workload::new(9).entries(20);
    let state = open(&dir.path().join("state"), tuning(false), None);
    state.apply(&entries).unwrap();
    let checkpoint = dir.path().join("checkpoint");
    state.checkpoint(&checkpoint).unwrap();
    for file in std::fs::read_dir(&checkpoint).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "sst") {
            // A copy, since the original is shared with the state.
            let bytes = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    let dump = state.dump().unwrap();
    assert!(state.install(&checkpoint).is_err());
    assert_eq!(state.dump().unwrap(), dump);
    state.close().unwrap();
    drop(state);
    let state = open(&dir.path().join("state"), tuning(false), None);
    assert_eq!(state.dump().unwrap(), dump);
}

fn databases(root: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("state-")).collect()
}
