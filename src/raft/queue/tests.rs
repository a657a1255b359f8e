use super::*;

fn queue(commands: usize, bytes: usize) -> Arc<Queue> {
    Queue::new(Limits {
        commands,
        bytes,
        wait: Duration::from_secs(1),
        wait_bytes: bytes / 2,
    })
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn overloaded(result: Result<Ticket, WriteError>) -> String {
    match result {
        Err(WriteError::Overloaded { limit }) => limit,
        Err(other) => panic!("expected overloaded, got {other:?}"),
        Ok(_) => panic!("expected overloaded, was taken in"),
    }
}

#[test]
fn commands_are_taken_in_up_to_the_limit_and_refused_beyond_it() {
    let queue = queue(3, 1000);
    let tickets: Vec<_> = (0..3)
        .map(|_| queue.enter(vec![], 1, later()).unwrap())
        .collect();
    let limit = overloaded(queue.enter(vec![], 1, later()));
    assert!(limit.contains("queue_commands_max is 3"), "{limit}");
    drop(tickets);
    assert_eq!(queue.pending(), 0);
    queue.enter(vec![], 1, later()).unwrap();
}

#[test]
fn bytes_are_taken_in_up_to_the_limit_and_refused_beyond_it() {
    let queue = queue(100, 10);
    let _nine = queue.enter(vec![], 9, later()).unwrap();
    let one = queue.enter(vec![], 1, later()).unwrap();
    let limit = overloaded(queue.enter(vec![], 1, later()));
    assert!(limit.contains("queue_bytes_max is 10"), "{limit}");
    assert!(one.withdraw());
    assert!(queue.enter(vec![], 2, later()).is_err());
    queue.enter(vec![], 1, later()).unwrap();
}

#[test]
fn what_was_handed_over_counts_until_it_has_its_answer() {
    let queue = queue(1, 10);
    let ticket = queue.enter(vec![], 1, later()).unwrap();
    let mut taken = queue.take(10, 10);
    drop(ticket);
    overloaded(queue.enter(vec![], 1, later()));
    queue.finish(taken.remove(0), Err(WriteError::Expired));
    queue.enter(vec![], 1, later()).unwrap();
}

#[test]
fn what_was_handed_over_is_awaited_until_it_has_its_answer_or_nobody_waits() {
    let queue = queue(10, 10);
    assert!(!queue.is_awaited());
    let [answered, given_up] = [(); 2].map(|()| queue.enter(vec![], 1, later()).unwrap());
    let mut taken = queue.take(10, 10);
    assert!(queue.is_awaited());
    queue.finish(taken.remove(0), Err(WriteError::Expired));
    drop(answered);
    assert!(queue.is_awaited(), "the other caller waits");
    drop(given_up);
    assert!(!queue.is_awaited());
    assert_eq!(queue.pending(), 1, "its fate is as open as before");
}

#[test]
fn a_command_is_withdrawn_or_handed_over_but_never_both() {
    let queue = queue(10, 100);
    let (first, second) = (
        queue.enter(vec![1], 1, later()).unwrap(),
        queue.enter(vec![2], 1, later()).unwrap(),
    );
    assert!(first.withdraw());
    assert!(!first.withdraw());
    let taken = queue.take(10, 10);
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].bytes, [2]);
    assert!(!second.withdraw());
}

#[test]
fn a_batch_holds_what_fits_and_at_least_one_command() {
    let queue = queue(10, 100);
    let _tickets: Vec<_> = [20, 4, 4, 4]
        .map(|weight| queue.enter(vec![], weight, later()).unwrap())
        .into();
    assert_eq!(
        queue.take(10, 8).len(),
        1,
        "one command may exceed the bound"
    );
    assert_eq!(queue.take(10, 8).len(), 2);
    assert_eq!(
        queue.backlog(),
        Backlog {
            commands: 1,
            bytes: 4
        }
    );
    assert_eq!(queue.take(10, 8).len(), 1);
    assert_eq!(queue.take(10, 8).len(), 0);
    let _tickets: Vec<_> = [4, 4, 4]
        .map(|weight| queue.enter(vec![], weight, later()).unwrap())
        .into();
    assert_eq!(queue.take(2, 100).len(), 2);
}

#[test]
fn a_batch_is_never_more_than_an_entry_may_have() {
    let commands = 9;
    let queue = queue(commands, usize::MAX);
    let _tickets: Vec<_> = (0..commands)
        .map(|_| queue.enter(vec![], 1 << 20, later()).unwrap())
        .collect();
    let options = Options {
        batch_bytes_max: 8 << 20,
        ..Options::default()
    };
    let taken = queue.take(commands, full_bytes(&options));
    let bytes: usize = taken.iter().map(|waiting| waiting.weight).sum();
    assert!(entry::HEADER_LEN + bytes <= entry::ENTRY_LEN_MAX, "{bytes}");
    assert_eq!(taken.len(), 3, "and no less than fits");
}

#[test]
fn what_waits_when_the_queue_closes_is_refused_and_what_comes_later_until_it_opens() {
    let queue = queue(10, 100);
    let why = || WriteError::NotReady("the disk hangs".to_owned());
    let mut ticket = queue.enter(vec![], 1, later()).unwrap();
    queue.close(why());
    queue.refuse_waiting(&why());
    let not_ready = |refused: WriteError| matches!(refused, WriteError::NotReady(_));
    assert!(ticket.answer.try_recv().unwrap().is_err_and(not_ready));
    assert_eq!(queue.pending(), 0);
    assert!(queue.enter(vec![], 1, later()).is_err_and(not_ready));
    queue.open();
    drop(queue.enter(vec![], 1, later()).unwrap());
    // A node that stops is not opened again by a disk that recovers.
    queue.close_for_good(why());
    queue.open();
    assert!(queue.enter(vec![], 1, later()).is_err());
}

#[test]
fn who_would_wait_beyond_its_deadline_is_refused_at_once() {
    let queue = queue(10, 100);
    // Nothing waits: whatever has any time left may try.
    let first = queue.enter(vec![], 1, Instant::now()).unwrap();
    // A second later, one that has a second left would come too late, one that has more would not.
    let (second, now) = (
        Duration::from_secs(1),
        Instant::now() + Duration::from_secs(1),
    );
    let check = |left| queue.lock().check(queue.limits, 1, now + left, now);
    let refused = check(second).unwrap_err().to_string();
    assert!(refused.contains("before they are proposed"), "{refused}");
    assert!(check(second * 2).is_ok());
    let _second = queue.enter(vec![], 1, later()).unwrap();
    drop(first);
    assert!(queue.check(1000, later()).is_err());
    assert!(self::queue(10, 100).check(1000, Instant::now()).is_ok());
}
#[test]
fn while_much_waits_long_for_its_answer_nothing_more_is_taken_in() {
    let queue = queue(10, 100);
    let (begun, later_by) = (Instant::now(), Duration::from_secs(60));
    let at = |ms| {
        let now = begun + Duration::from_millis(ms);
        let check = queue.lock().check(queue.limits, 1, now + later_by, now);
        check.map_err(|error| error.to_string())
    };
    let _first = queue.enter(vec![], 50, later()).unwrap();
    let mut taken = queue.take(1, 100);
    assert!(at(5000).is_ok(), "it is not much");
    let _second = queue.enter(vec![], 1, later()).unwrap();
    assert!(at(500).is_ok(), "it is not long");
    let refused = at(5000).unwrap_err();
    assert!(refused.contains("queue_wait_max is 1000 ms"), "{refused}");
    queue.finish(taken.remove(0), Err(WriteError::Expired));
    assert!(at(5000).is_ok(), "it has its answer");
    let _third = queue.enter(vec![], 50, later()).unwrap();
    assert!(
        at(5000).is_err(),
        "not yet handed over, it waits all the same"
    );
}
