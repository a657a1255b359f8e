//! Room on the disk: what is refused while there is still some.
//!
//! Openraft ends at the first write to its log that fails, and so does this node. So a full disk is not handled, it is prevented,
//! with two marks. Below [`SpaceOptions::low_bytes`] of free space a leader takes no writes that add anything; reads and deletes
//! go on, and the log is purged as far as it can be. Below [`SpaceOptions::full_bytes`] a node takes nothing more at all: it
//! refuses what a leader sends it, as if it were away, and a leader hands over to a voter that has room. What is reserved below
//! that mark is for what runs by itself, such as merging tables. When space returns, so does the node.
//!
//! Every answer to a leader says how its giver stands, so that a leader refuses at once what no majority has room for.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::blocking;
use super::hand_over::HandOver;
use super::types::Raft;
use super::watchdog::Faults;
use crate::machine::Command;
use crate::storage::clock::now;
use crate::storage::space::{self, Free};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A leader without room tries so often to hand over.
const HAND_OVER_EVERY: Duration = Duration::from_secs(5);
/// What another node said of itself longer ago says nothing any more.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// A start waits for this part of the room that a full disk is said to lack: what opening log and state takes.
const START_PART: u64 = 4;
/// How often a start that waits says so.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// Most of the disk that the marks may be, in parts of a hundred.
const LOW_PERCENT_MAX: u64 = 15;
const FULL_PERCENT_MAX: u64 = 5;

/// The marks; 0 is none. On a small disk they are at most 15 and 5 per cent of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceOptions {
    /// Free bytes below which writes that add anything are refused.
    pub low_bytes: u64,
    /// Free bytes below which nothing is taken.
    pub full_bytes: u64,
}

impl Default for SpaceOptions {
    fn default() -> SpaceOptions {
        SpaceOptions {
            low_bytes: 2 << 30,
            full_bytes: 512 << 20,
        }
    }
}

/// How much room a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    /// Enough.
    #[default]
    Enough,
    /// Below the first mark: nothing may be added.
    Low,
    /// Below the second: nothing is written.
    Full,
}

impl Room {
    /// Every one, from best to worst.
    pub const ALL: [Room; 3] = [Room::Enough, Room::Low, Room::Full];

    /// Its name in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Room::Enough => "enough",
            Room::Low => "low",
            Room::Full => "full",
        }
    }
}

/// What is free, and what that means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskSpace {
    /// Bytes free for this node.
    pub free: u64,
    /// Bytes of the disk.
    pub size: u64,
    /// What that is called.
    pub room: Room,
}

/// Says what is free.
pub(crate) type Measure = Arc<dyn Fn() -> io::Result<Free> + Send + Sync>;

/// What this node knows of its disk and of those of others; clones share it.
#[derive(Clone)]
pub(crate) struct Space {
    inner: Arc<Inner>,
}

struct Inner {
    options: SpaceOptions,
    measure: Measure,
    free: AtomicU64,
    size: AtomicU64,
    room: AtomicU8,
    heard: Mutex<BTreeMap<u64, (Room, Instant)>>,
}

impl Space {
    /// As `measure` says, which nobody has asked yet.
    pub(crate) fn new(options: SpaceOptions, measure: Measure) -> Space {
        Space {
            inner: Arc::new(Inner {
                options,
                measure,
                free: AtomicU64::new(0),
                size: AtomicU64::new(0),
                room: AtomicU8::new(0),
                heard: Mutex::default(),
            }),
        }
    }

    /// Of the disk that `dir` is on.
    pub(crate) fn of_dir(options: SpaceOptions, dir: &std::path::Path) -> Space {
        let dir = dir.to_owned();
        Space::new(options, Arc::new(move || space::free(&dir)))
    }

    /// Of a disk without end.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn endless() -> Space {
        let free = Free {
            bytes: u64::MAX,
            size: u64::MAX,
            files: u64::MAX,
        };
        Space::new(SpaceOptions::default(), Arc::new(move || Ok(free)))
    }

    /// Has this node stand so until it looks again.
    #[cfg(test)]
    pub(crate) fn pretend(&self, room: Room) {
        self.inner.room.store(room as u8, Relaxed);
    }

    /// What is free as of the last look.
    pub(crate) fn get(&self) -> DiskSpace {
        DiskSpace {
            free: self.inner.free.load(Relaxed),
            size: self.inner.size.load(Relaxed),
            room: self.room(),
        }
    }

    /// How this node stands.
    pub(crate) fn room(&self) -> Room {
        Room::ALL[usize::from(self.inner.room.load(Relaxed))]
    }

    /// Looks. Blocking.
    fn look(&self) -> io::Result<DiskSpace> {
        let free = (self.inner.measure)()?;
        let room = room(&self.inner.options, &free, self.room());
        self.inner.free.store(free.bytes, Relaxed);
        self.inner.size.store(free.size, Relaxed);
        self.inner.room.store(room as u8, Relaxed);
        Ok(self.get())
    }

    /// Notes what `peer` said of itself.
    pub(crate) fn hear(&self, peer: u64, room: Room) {
        self.heard().insert(peer, (room, now()));
    }

    /// Whether `peer` said lately that it takes nothing.
    pub(super) fn is_full(&self, peer: u64) -> bool {
        let heard = self.heard().get(&peer).copied();
        heard.is_some_and(|(room, at)| {
            room == Room::Full && now().saturating_duration_since(at) < HEARD_WITHIN
        })
    }

    /// Whether a leader, `me`, takes `command` for sets of voters that must have it each by a majority.
    ///
    /// # Errors
    /// Why not, for the client.
    pub(super) fn check(
        &self,
        command: Option<&Command<'_>>,
        me: u64,
        configs: &[BTreeSet<u64>],
    ) -> Result<(), String> {
        let DiskSpace { free, room, .. } = self.get();
        let options = &self.inner.options;
        match room {
            Room::Full => {
                return Err(format!(
                    "the disk of node {me} has {free} bytes left, less than disk_full_bytes, {}, or 5 per cent: it takes nothing",
                    options.full_bytes
                ));
            }
            Room::Low if !command.is_some_and(only_removes) => {
                return Err(format!(
                    "the disk of node {me} has {free} bytes left, less than disk_low_bytes, {}, or 15 per cent: it takes deletes only",
                    options.low_bytes
                ));
            }
            Room::Low | Room::Enough => {}
        }
        for voters in configs {
            let full: Vec<u64> = voters
                .iter()
                .copied()
                .filter(|id| *id != me && self.is_full(*id))
                .collect();
            if voters.len() - full.len() <= voters.len() / 2 {
                return Err(format!(
                    "the disks of nodes {full:?} are full, so no majority of {} could keep it",
                    voters.len()
                ));
            }
        }
        Ok(())
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (Room, Instant)>> {
        let heard = self.inner.heard.lock();
        heard.unwrap_or_else(PoisonError::into_inner)
    }
}

/// What may be done to make room.
fn only_removes(command: &Command<'_>) -> bool {
    match command {
        Command::KvDelete { .. } => true,
        Command::Once(once) => only_removes(&once.command),
        Command::KvPut { .. }
        | Command::CreateLedger(_)
        | Command::CreateAccount(_)
        | Command::Transfers(_) => false,
    }
}

/// The marks on a disk of `size` bytes.
pub(super) fn marks(options: &SpaceOptions, size: u64) -> SpaceOptions {
    let percent = |percent: u64| u64::try_from(u128::from(size) * u128::from(percent) / 100);
    let at_most = |bytes: u64, of: u64| bytes.min(percent(of).expect("a part of it"));
    SpaceOptions {
        low_bytes: at_most(options.low_bytes, LOW_PERCENT_MAX),
        full_bytes: at_most(options.full_bytes, FULL_PERCENT_MAX),
    }
}

/// What `free` is called, where it was called `before`: a mark is left only with an eighth more than it takes to reach it, so
/// that a node does not go to and fro.
fn room(options: &SpaceOptions, free: &Free, before: Room) -> Room {
    let marks = marks(options, free.size);
    let below = |mark: u64, room: Room| {
        let leaving = if before >= room { mark / 8 } else { 0 };
        mark > 0 && free.bytes < mark + leaving
    };
    if below(marks.full_bytes, Room::Full) || free.files == 0 {
        Room::Full
    } else if below(marks.low_bytes, Room::Low) {
        Room::Low
    } else {
        Room::Enough
    }
}

/// Looks for ever; says when it changes, and hands leadership over while there is no room.
pub(super) async fn watch(space: Space, raft: Raft, hand_over: HandOver, faults: Faults) {
    let mut tried: Option<Instant> = None;
    let mut before = space.room();
    loop {
        let looking = space.clone();
        match blocking::run(move || looking.look()).await {
            Ok(Ok(seen)) => say(&mut before, seen),
            // A disk that hangs or fails is watched by others.
            Ok(Err(error)) => tracing::debug!("free space cannot be asked: {error}"),
            Err(error) => tracing::debug!("{error}"),
        }
        let leads = raft.server_metrics().borrow_watched().state == ServerState::Leader;
        let rests = tried.is_some_and(|at| now().duration_since(at) < HAND_OVER_EVERY);
        if before == Room::Full && leads && !rests && !faults.is_stopping() {
            tried = Some(now());
            let hand_over = hand_over.clone();
            tokio::spawn(async move {
                if let Err(why) = hand_over.run(now() + HAND_OVER_EVERY).await {
                    tracing::warn!("leadership could not be handed over: {why}");
                }
            });
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn say(before: &mut Room, seen: DiskSpace) {
    if seen.room == *before {
        return;
    }
    let (free, size) = (seen.free, seen.size);
    match seen.room {
        Room::Enough => tracing::info!(free, size, "the disk has room again"),
        Room::Low => tracing::warn!(
            free,
            size,
            "the disk is nearly full: only deletes are taken"
        ),
        Room::Full => tracing::error!(free, size, "the disk is full: nothing is taken"),
    }
    *before = seen.room;
}

/// Waits until there is what opening log and state takes: without, they fail, and what starts this node again would start it for
/// ever.
pub(super) async fn wait_for_start(space: &Space) {
    let mut said: Option<Instant> = None;
    loop {
        let looking = space.clone();
        let seen = blocking::run(move || looking.look()).await;
        let Ok(Ok(DiskSpace { free, size, .. })) = seen else {
            return; // What is wrong is said by whoever opens it.
        };
        let need = marks(&space.inner.options, size).full_bytes / START_PART;
        if free >= need {
            return;
        }
        if said.is_none_or(|at| now().duration_since(at) >= SAY_EVERY) {
            said = Some(now());
            tracing::error!(
                free,
                need,
                "the disk is too full to start: waiting for room"
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Expect;

    const MIB: u64 = 1 << 20;
    const OPTIONS: SpaceOptions = SpaceOptions {
        low_bytes: 80 * MIB,
        full_bytes: 16 * MIB,
    };

    fn free(bytes: u64) -> Free {
        Free {
            bytes,
            size: 10_000 * MIB,
            files: 1,
        }
    }

    fn space(bytes: u64) -> Space {
        let space = Space::new(OPTIONS, Arc::new(move || Ok(free(bytes))));
        space.look().unwrap();
        space
    }

    #[test]
    fn a_mark_is_reached_at_its_bytes_and_left_with_an_eighth_more() {
        let enter = |bytes| room(&OPTIONS, &free(bytes), Room::Enough);
        assert_eq!(enter(80 * MIB), Room::Enough);
        assert_eq!(enter(80 * MIB - 1), Room::Low);
        assert_eq!(enter(16 * MIB), Room::Low);
        assert_eq!(enter(16 * MIB - 1), Room::Full);
        let leave = |bytes| room(&OPTIONS, &free(bytes), Room::Full);
        assert_eq!(leave(18 * MIB - 1), Room::Full);
        assert_eq!(leave(18 * MIB), Room::Low);
        assert_eq!(leave(90 * MIB - 1), Room::Low);
        assert_eq!(leave(90 * MIB), Room::Enough);
    }

    #[test]
    fn on_a_small_disk_the_marks_are_parts_of_it_and_no_names_left_is_full() {
        let small = |bytes, files| {
            let size = 100 * MIB;
            room(&OPTIONS, &Free { bytes, size, files }, Room::Enough)
        };
        assert_eq!(small(15 * MIB, 1), Room::Enough);
        assert_eq!(small(15 * MIB - 1, 1), Room::Low);
        assert_eq!(small(5 * MIB - 1, 1), Room::Full);
        assert_eq!(small(50 * MIB, 0), Room::Full);
        let none = SpaceOptions {
            low_bytes: 0,
            full_bytes: 0,
        };
        assert_eq!(room(&none, &free(0), Room::Enough), Room::Enough);
    }

    #[test]
    fn with_little_room_only_deletes_are_taken_and_with_none_nothing() {
        let put = Command::KvPut {
            key: "k",
            value: b"v",
            expect: Expect::Any,
        };
        let delete = Command::KvDelete {
            key: "k",
            expect: Expect::Any,
        };
        let configs = [BTreeSet::from([1, 2, 3])];
        let check = |space: &Space, command| space.check(Some(command), 1, &configs);
        assert_eq!(check(&space(80 * MIB), &put), Ok(()));
        let low = space(20 * MIB);
        assert!(check(&low, &put).unwrap_err().contains("disk_low_bytes"));
        assert!(low.check(None, 1, &configs).is_err());
        assert_eq!(check(&low, &delete), Ok(()));
        let full = check(&space(MIB), &delete).unwrap_err();
        assert!(full.contains("disk_full_bytes"), "{full}");
    }

    #[test]
    fn what_no_majority_of_any_set_of_voters_has_room_for_is_refused() {
        let space = space(u64::MAX);
        let three = [BTreeSet::from([1, 2, 3])];
        space.hear(2, Room::Full);
        assert_eq!(space.check(None, 1, &three), Ok(()));
        space.hear(3, Room::Low);
        assert_eq!(space.check(None, 1, &three), Ok(()));
        space.hear(3, Room::Full);
        let refused = space.check(None, 1, &three).unwrap_err();
        assert!(refused.contains("[2, 3]"), "{refused}");
        let joint = [BTreeSet::from([1, 4, 5]), BTreeSet::from([1, 2, 3])];
        assert!(space.check(None, 1, &joint).is_err());
        space.hear(2, Room::Enough);
        assert_eq!(space.check(None, 1, &joint), Ok(()));
        let four = [BTreeSet::from([1, 2, 3, 4])];
        assert_eq!(space.check(None, 1, &four), Ok(()));
        space.hear(2, Room::Full);
        assert!(space.check(None, 1, &four).is_err(), "two of four are none");
    }
}
