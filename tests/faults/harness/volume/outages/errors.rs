//! Disks that fail: what they do, to which files and when is drawn from the seed. A node that meets it must end within a second, and
//! half of those that do lose their power too: then what did not reach the disk is gone, as it may be after a failed sync. One whose
//! disk hangs for longer than it may ends as well.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::LOOK;
use crate::harness::errors::{self, Error, Place};
use crate::harness::nodes::Nodes;
use crate::harness::volume::{FLUSH_ABORT, Finding};
use crate::random::Random;

/// How long a node may take to meet what its disk does.
const MET: Duration = Duration::from_secs(3);
/// How long a node may take to find out that it cannot start on a disk that fails.
const REFUSED: Duration = Duration::from_secs(10);

/// What came of it, by what disks did and to which files.
#[derive(Debug, Default)]
pub(super) struct Failures {
    counts: BTreeMap<String, Count>,
    /// What has its turn before anything is done again.
    turn: Vec<(Error, Place)>,
    /// Turns begun.
    turns: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Nodes that met it.
    met: u64,
    /// Of these, nodes that ended for it.
    ended: u64,
    /// Of these, nodes that lost their power too.
    cut: u64,
    /// Of these, nodes that did not start while their disk went on failing.
    refused: u64,
}

impl Failures {
    /// Has the disks of these nodes fail, and gives them back when the nodes did what they must; how many met it.
    ///
    /// # Errors
    /// When a node ends otherwise, or the harness fails.
    pub(super) fn strike(
        &mut self,
        random: &mut Random,
        nodes: &mut Nodes,
        chosen: &[u64],
    ) -> anyhow::Result<u64> {
        if self.turn.is_empty() {
            self.turns += 1;
            self.turn = errors::all();
        }
        let at = random.below(self.turn.len() as u64);
        let (error, place) = self
            .turn
            .swap_remove(usize::try_from(at).expect("below a length"));
        let after = errors::after(place, random);
        for id in chosen {
            nodes.fail_disk(*id, error, place, after)?;
        }
        let is_long = error == Error::Held && random.percent(30);
        let lasts = match error {
            Error::Held if is_long => FLUSH_ABORT * 3 / 2,
            Error::Held => nodes.pace().election_max * *random.pick(&[40, 90, 150]) / 100,
            _ => MET,
        };
        let begun = Instant::now();
        loop {
            let dead = nodes.look_for_dead()?;
            anyhow::ensure!(dead.is_empty(), "nodes {dead:?} ended by themselves");
            let is_done = chosen.iter().all(|id| nodes.is_done_with(*id));
            if begun.elapsed() > lasts || (is_done && error != Error::Held) {
                break;
            }
            thread::sleep(LOOK);
        }
        let ended: Vec<u64> = chosen
            .iter()
            .copied()
            .filter(|id| !nodes.is_running(*id))
            .collect();
        if is_long {
            let met = |id: &&u64| nodes.met(**id) > 0;
            let going_on: Vec<&u64> = chosen
                .iter()
                .filter(|id| nodes.is_running(**id))
                .filter(met)
                .collect();
            anyhow::ensure!(
                going_on.is_empty(),
                "nodes {going_on:?} went on while a sync of theirs took {lasts:?}"
            );
        }
        let is_refused =
            error != Error::Held && error.is_lasting() && place == Place::Log && random.percent(50);
        if is_refused {
            refused(nodes, &ended)?;
        }
        let is_cut = !ended.is_empty() && nodes.has_disks() && random.percent(50);
        if is_cut {
            nodes.cut_power(&ended)?;
            ended.iter().try_for_each(|id| nodes.restore_power(*id))?;
        }
        let mut met = 0;
        for id in chosen {
            met += u64::from(nodes.mend_disk(*id)? > 0);
        }
        let ended = ended.len() as u64;
        let count = self.counts.entry(errors::label(error, place)).or_default();
        count.met += met;
        count.ended += ended;
        count.cut += if is_cut { ended } else { 0 };
        count.refused += if is_refused { ended } else { 0 };
        Ok(met)
    }

    /// Whether all of it has had its turn once.
    pub(super) fn is_once_through(&self) -> bool {
        self.turns > 0 && self.turn.is_empty() || self.turns > 1
    }

    /// What no node met proves nothing. A run that was broken off is red for what broke it.
    pub(super) fn missing(&self) -> Vec<Finding> {
        use Error::{SyncAlways, SyncOnce, WriteAlways, WriteOnce};
        let ends = [SyncOnce, SyncAlways, WriteOnce, WriteAlways];
        let labels = ends.map(|error| errors::label(error, Place::Log));
        let has_ended =
            |label: &String| self.counts.get(label).is_some_and(|count| count.ended > 0);
        labels
            .into_iter()
            .filter(|label| self.is_once_through() && !has_ended(label))
            .map(|label| Finding::new("coverage", format!("no node ended for this: {label}")))
            .collect()
    }

    /// In words, if there is anything to say.
    pub(super) fn in_words(&self) -> String {
        if self.counts.is_empty() {
            return String::new();
        }
        let sum = |of: fn(&Count) -> u64| self.counts.values().map(of).sum::<u64>();
        format!(
            ", {} of them ended for it, {} without power then, {} were started in vain before it worked",
            sum(|count| count.ended),
            sum(|count| count.cut),
            sum(|count| count.refused),
        )
    }

    /// For people and programs.
    pub(super) fn told(&self) -> Value {
        let told = |(kind, count): (&String, &Count)| {
            let Count {
                met,
                ended,
                cut,
                refused,
            } = *count;
            (
                kind.clone(),
                json!({"met": met, "ended": ended, "cut": cut, "refused": refused}),
            )
        };
        Value::Object(self.counts.iter().map(told).collect())
    }
}

/// Starts nodes whose disks go on failing: they may not come up.
fn refused(nodes: &mut Nodes, ended: &[u64]) -> anyhow::Result<()> {
    for id in ended {
        nodes.start(*id)?;
    }
    let begun = Instant::now();
    while ended.iter().any(|id| nodes.is_running(*id)) {
        let dead = nodes.look_for_dead()?;
        anyhow::ensure!(dead.is_empty(), "nodes {dead:?} ended by themselves");
        anyhow::ensure!(
            begun.elapsed() < REFUSED,
            "of nodes {ended:?}, some run for {REFUSED:?} on a log that cannot be written"
        );
        thread::sleep(LOOK);
    }
    Ok(())
}
