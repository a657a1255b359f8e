//! The disk of a simulated node: the log's writer, stepped by a task of the node, and what a crash leaves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Dice, dice};
use crate::storage::log::Writer;
use crate::storage::log::model::ModelDisk;

/// How often the writer looks whether there is something to do.
const LOOK: Duration = Duration::from_millis(1);

/// The writer of a node's log, and how fast its disk is.
pub(super) struct Drive {
    disk: ModelDisk,
    writer: Mutex<Writer<ModelDisk>>,
    is_slow: AtomicBool,
}

impl Drive {
    pub(super) fn new(disk: ModelDisk, writer: Writer<ModelDisk>) -> Arc<Drive> {
        Arc::new(Drive {
            disk,
            writer: Mutex::new(writer),
            is_slow: AtomicBool::new(false),
        })
    }

    pub(super) fn set_slow(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }

    /// Writes what is queued, for as long as the node runs. A write takes its time, in which more is queued and the node may
    /// die; it is done as one at the end of it.
    pub(super) async fn run(self: Arc<Drive>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.writer().is_due() {
                self.writer().begin();
                tokio::time::sleep(self.takes()).await;
                if self.writer().end().is_err() {
                    return;
                }
            }
            let mut writer = self.writer();
            if writer.is_witness_due() && writer.sync_witness().is_err() {
                return;
            }
        }
    }

    fn takes(&self) -> Duration {
        let is_slow = self.is_slow.load(Ordering::Relaxed);
        let takes = dice::roll(|dice| match is_slow {
            true => dice.between(20, 700),
            false if dice.percent(3) => dice.between(5, 40),
            false => dice.between(0, 2),
        });
        Duration::from_millis(takes.unwrap_or_default())
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Writer<ModelDisk>> {
        self.writer.lock().expect("nobody panics holding it")
    }

    /// The process dies now, maybe in the middle of a write; the disk as the next one finds it.
    pub(super) fn after_kill(&self, dice: &mut Dice) -> ModelDisk {
        self.tear(dice);
        self.disk.after_kill()
    }

    /// The power fails now, maybe in the middle of a write; the disk as it is found.
    pub(super) fn after_power_cut(&self, dice: &mut Dice) -> ModelDisk {
        self.tear(dice);
        let uncertain = self.disk.uncertain();
        let mood = dice.below(4);
        let outcomes: Vec<usize> = uncertain
            .iter()
            .map(|choice| match mood {
                0 => 0,
                1 => choice.outcomes - 1,
                _ => usize::try_from(dice.below(choice.outcomes as u64)).expect("few outcomes"),
            })
            .collect();
        self.disk.after_power_cut(&uncertain, &outcomes)
    }

    /// What was being written is written up to an operation drawn by chance, or not at all.
    fn tear(&self, dice: &mut Dice) {
        if dice.percent(50) {
            self.disk.stop_at(self.disk.operations() + dice.below(5));
            self.writer().tear();
        }
    }
}
