//! The real disk, with the real threads.

use std::sync::mpsc;

use super::*;
use crate::storage::log::{verify, verify_on};

fn options() -> Options {
    Options {
        segment_bytes: 64 << 10,
        cache_bytes: 20_000,
        witness_sync: Duration::from_millis(5),
    }
}

#[test]
fn a_log_on_the_real_disk_rolls_purges_and_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let log = Log::open(&path, UUID, options()).unwrap();
    let (send, told) = mpsc::channel();
    for index in 0..200 {
        let send = send.clone();
        let told = move |result: std::io::Result<()>| send.send((index, result.is_ok())).unwrap();
        log.append(vec![entry(1, index, 3000)], Box::new(told));
        log.save_committed(Some(id(1, index)));
        if index == 150 {
            log.purge(id(1, 120));
        }
    }
    log.truncate_after(Some(id(1, 190)));
    log.append(vec![entry(2, 191, 100_000)], done());
    for index in 0..200 {
        assert_eq!(told.recv().unwrap(), (index, true));
    }
    log.close();
    assert_eq!(*log.flushed().borrow(), Some(id(2, 191)));
    let state = log.state();
    let wanted = log.read(0..u64::MAX, u64::MAX).unwrap();
    assert_eq!(wanted.len(), 71);
    drop(log);
    let report = verify(&path).unwrap();
    assert!(report.is_clean && report.segments > 1);
    assert_eq!(
        (report.entries, report.first, report.state),
        (71, 121, state)
    );
    assert_eq!(report.node_uuid.as_deref(), Some(UUID));
    let log = Log::open(&path, UUID, options()).unwrap();
    assert_eq!(log.state(), state);
    assert_eq!(log.read(0..u64::MAX, u64::MAX).unwrap(), wanted);
    let error = log.read(0..u64::MAX, u64::MAX).map(|all| all.len());
    assert_eq!(error.unwrap(), 71);
}

#[test]
fn a_closed_log_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), UUID, options()).unwrap();
    log.append(vec![entry(1, 0, 10)], done());
    log.close();
    let (send, told) = mpsc::channel();
    log.save_vote(
        vote(1),
        Box::new(move |result| send.send(result.is_err()).unwrap()),
    );
    assert!(told.recv().unwrap());
    assert_eq!(log.poisoned(), None, "closed is not failed");
}

#[test]
fn a_callback_may_drop_the_last_handle() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), UUID, options()).unwrap();
    let (send, told) = mpsc::channel();
    let last = log.clone();
    let (go, wait) = mpsc::channel::<()>();
    let drops = move |_| {
        wait.recv().unwrap();
        drop(last);
        send.send(()).unwrap();
    };
    log.append(vec![entry(1, 0, 10)], Box::new(drops));
    drop(log);
    go.send(()).unwrap();
    told.recv().unwrap();
}

/// Waits until `is_so`, for at most 20 s.
fn wait_until(is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "it never comes to pass"
        );
        std::thread::yield_now();
    }
}

#[test]
fn what_nobody_waits_for_is_written_while_nothing_else_happens() {
    let disk = ModelDisk::new();
    let log = Log::start(disk.clone(), UUID, options()).unwrap();
    log.append(vec![entry(1, 0, 10), entry(1, 1, 10)], done());
    let witness = || {
        super::super::witness::load(&disk.after_power_cut(&[], &[]))
            .unwrap()
            .0
    };
    wait_until(|| witness().last == Some(id(1, 1)));
    log.save_committed(Some(id(1, 0)));
    wait_until(|| {
        verify_on(&disk.after_power_cut(&[], &[]))
            .unwrap()
            .state
            .committed
            == Some(id(1, 0))
    });
    log.truncate_after(Some(id(1, 0)));
    wait_until(|| witness().last == Some(id(1, 0)));
}

#[test]
fn a_removed_entry_file_and_a_flipped_byte_are_refused_on_the_real_disk() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), UUID, options()).unwrap();
    log.append(vec![entry(1, 0, 5000)], done());
    drop(log);
    let name = dir.path().join("0000000001.log");
    let mut bytes = std::fs::read(&name).unwrap();
    bytes[6000] ^= 16;
    std::fs::write(&name, &bytes).unwrap();
    let refused = Log::open(dir.path(), UUID, options()).unwrap_err().0;
    assert!(refused.contains("0000000001.log, offset"), "{refused}");
    assert!(refused.contains(&dir.path().display().to_string()));
    bytes[6000] ^= 16;
    std::fs::write(&name, &bytes).unwrap();
    assert_eq!(
        Log::open(dir.path(), UUID, options()).unwrap().state().last,
        Some(id(1, 0))
    );
}

#[test]
fn many_threads_append_truncate_and_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), UUID, options()).unwrap();
    let (stop, stopped) = mpsc::channel::<()>();
    let (begin, begun) = mpsc::channel();
    let reader = {
        let log = log.clone();
        std::thread::spawn(move || {
            while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                let entries = log.read(0..u64::MAX, 50_000).unwrap();
                for (found, next) in entries.iter().zip(entries.iter().skip(1)) {
                    assert_eq!(found.id.index + 1, next.id.index);
                }
                begin.send(entries.len()).unwrap();
            }
        })
    };
    let mut next = 0;
    for term in 1..200 {
        let new: Vec<_> = (next..next + 5)
            .map(|index| entry(term, index, 700))
            .collect();
        log.append(new, done());
        next += 5;
        if term % 3 == 0 {
            next -= 4;
            log.truncate_after(Some(log.read(next - 1..next, 0).unwrap()[0].id));
        }
        if term % 40 == 0 {
            log.purge(log.read(next - 20..next, 0).unwrap()[0].id);
        }
        assert!(*log.flushed().borrow() <= log.state().last);
        // The reader is at it all the while.
        begun.recv().unwrap();
    }
    drop(stop);
    reader.join().unwrap();
    let wanted = log.read(0..u64::MAX, u64::MAX).unwrap();
    drop(log);
    let again = Log::open(dir.path(), UUID, options()).unwrap();
    assert_eq!(again.read(0..u64::MAX, u64::MAX).unwrap(), wanted);
}
