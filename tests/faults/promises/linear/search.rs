//! The search for an order: Wing and Gong's, with Lowe's memory of the places it has been at.
//!
//! An operation may come next if it began before the earliest end of those that have not come yet. The search takes one,
//! goes on, and comes back when it is stuck. A place is the set of operations taken and the value of the register; from
//! one place everything goes on in the same way, so none is visited twice. Operations in order of their invokes make that
//! set a solid beginning and a few bits, at most as many as there are clients.
//!
//! Operations that nobody saw ([`super::prepare::May`]) are not tried everywhere. If one is followed by anything but a
//! refused cas that it made possible, it can be moved later, or dropped, without changing any answer. So it is tried only
//! there: together with a refused cas whose expected value is in the register.

use std::collections::HashSet;
use std::time::Instant;

use super::prepare::{Must, Problem, Step};

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An order that explains every answer.
    Order,
    /// That there is none.
    None,
    /// Neither, before the deadline.
    OutOfTime,
}

/// Steps between two looks at the clock.
const STEPS_PER_LOOK: u32 = 4096;

/// Which operations have been taken.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Taken {
    /// All before this one are taken, this one is not.
    first: u32,
    /// Bit i: operation `first + i` is taken.
    after: Bits,
    /// Bit i: unseen operation i is used up.
    may: Bits,
}

/// A set of small numbers without trailing empty words, so that equal sets are equal.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct Bits {
    low: u64,
    high: Vec<u64>,
}

impl Bits {
    fn has(&self, bit: usize) -> bool {
        if bit < 64 {
            return self.low >> bit & 1 == 1;
        }
        self.high
            .get(bit / 64 - 1)
            .is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    fn add(&mut self, bit: usize) {
        if bit < 64 {
            self.low |= 1 << bit;
            return;
        }
        let word = bit / 64 - 1;
        if self.high.len() <= word {
            self.high.resize(word + 1, 0);
        }
        self.high[word] |= 1 << (bit % 64);
    }

    /// Drops the lowest bits while they are set; says how many.
    fn drop_solid(&mut self) -> u32 {
        let mut dropped = 0;
        loop {
            let ones = self.low.trailing_ones();
            if ones == 0 {
                return dropped;
            }
            dropped += ones;
            self.shift(ones);
        }
    }

    fn shift(&mut self, by: u32) {
        let mut carry = 0;
        for word in self.high.iter_mut().rev() {
            let lost = if by == 64 { *word } else { *word << (64 - by) };
            let kept = if by == 64 { 0 } else { *word >> by };
            (*word, carry) = (kept | carry, lost);
        }
        self.low = if by == 64 { 0 } else { self.low >> by } | carry;
        while self.high.last() == Some(&0) {
            self.high.pop();
        }
    }
}

impl Taken {
    fn has(&self, at: usize) -> bool {
        at < self.first as usize || self.after.has(at - self.first as usize)
    }

    fn with(&self, at: usize) -> Taken {
        let mut taken = self.clone();
        taken.after.add(at - self.first as usize);
        taken.first += taken.after.drop_solid();
        taken
    }
}

/// A place on the way, with the ways on that are left.
struct Place {
    taken: Taken,
    /// Ways on, to be tried from the last.
    ways: Vec<Way>,
}

/// Takes an operation, and before it perhaps an unseen one.
#[derive(Clone, Copy)]
struct Way {
    at: usize,
    after: Option<usize>,
    state: Option<i64>,
}

/// Looks for an order of `problem`.
pub(crate) fn search(problem: &Problem, deadline: Instant) -> Found {
    let taken = Taken {
        first: 0,
        after: Bits::default(),
        may: Bits::default(),
    };
    let mut visited: HashSet<(Taken, Option<i64>)> = HashSet::new();
    let mut path = vec![place(problem, taken, None)];
    let mut steps = 0u32;
    while let Some(place_now) = path.last_mut() {
        if place_now.taken.first as usize == problem.must.len() {
            return Found::Order;
        }
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(STEPS_PER_LOOK) && Instant::now() > deadline {
            return Found::OutOfTime;
        }
        let Some(way) = place_now.ways.pop() else {
            path.pop();
            continue;
        };
        let mut taken = place_now.taken.with(way.at);
        if let Some(unseen) = way.after {
            taken.may.add(unseen);
        }
        if visited.insert((taken.clone(), way.state)) {
            let next = place(problem, taken, way.state);
            path.push(next);
        }
    }
    Found::None
}

fn place(problem: &Problem, taken: Taken, state: Option<i64>) -> Place {
    let mut ways = Vec::new();
    let end = earliest_end(&problem.must, &taken);
    for (at, operation) in problem.must.iter().enumerate().skip(taken.first as usize) {
        if operation.call > end {
            break;
        }
        if taken.has(at) {
            continue;
        }
        match operation.step.apply(state) {
            Some(state) => ways.push((
                operation.end,
                Way {
                    at,
                    after: None,
                    state,
                },
            )),
            None => {
                let unseen = made_possible(problem, &taken, state, at, end);
                ways.extend(unseen.into_iter().map(|way| (operation.end, way)));
            }
        }
    }
    // Last is tried first: what ends first is most likely to have happened first.
    ways.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
    let ways = ways.into_iter().map(|(_, way)| way).collect();
    Place { taken, ways }
}

/// The first end among operations that are not taken. Ends after the first few are looked at only while the operation
/// began before the best end known: a later one cannot end earlier.
fn earliest_end(must: &[Must], taken: &Taken) -> u64 {
    let mut earliest = u64::MAX;
    for (at, operation) in must.iter().enumerate().skip(taken.first as usize) {
        if operation.call > earliest {
            break;
        }
        if !taken.has(at) {
            earliest = earliest.min(operation.end);
        }
    }
    earliest
}

/// Ways to take the refused cas `at`, which expects what the register holds, by an unseen write right before it.
///
/// Writes whose value no refused cas expects are alike: if one can be had now, it can be had later, so the first stands
/// for all of them; so it is with cas from this state, which are good for nothing else and are preferred.
fn made_possible(
    problem: &Problem,
    taken: &Taken,
    state: Option<i64>,
    at: usize,
    end: u64,
) -> Vec<Way> {
    if !matches!(problem.must[at].step, Step::Refused(_)) {
        return Vec::new();
    }
    let expected = |value: i64| {
        let expects = |operation: &Must| operation.step == Step::Refused(Some(value));
        problem.must.iter().any(expects)
    };
    let mut ways = Vec::new();
    let (mut plain_set, mut plain_swap) = (None, None);
    for (unseen, operation) in problem.may.iter().enumerate() {
        if operation.call > end || taken.may.has(unseen) {
            continue;
        }
        let Some(after) = operation.step.apply(state) else {
            continue;
        };
        let way = Way {
            at,
            after: Some(unseen),
            state: after,
        };
        let special =
            operation.step.leaves().is_some_and(expected) || unlocks(problem, operation.step);
        match operation.step {
            _ if special => ways.push(way),
            Step::Swapped(..) => plain_swap = plain_swap.or(Some(way)),
            Step::Set(_) | Step::Saw(_) | Step::Refused(_) => plain_set = plain_set.or(Some(way)),
        }
    }
    ways.extend(plain_swap.or(plain_set));
    ways
}

/// Whether another unseen cas starts from the value that this step leaves.
fn unlocks(problem: &Problem, step: Step) -> bool {
    let starts = |other: Step| matches!(other, Step::Swapped(old, _) if old == step.leaves());
    problem.may.iter().any(|other| starts(other.step))
}
