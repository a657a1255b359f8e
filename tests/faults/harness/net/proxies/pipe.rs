//! One direction of one connection.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};

use super::{Quality, SPIKE, Table};
use crate::random::Random;

/// Bytes that travel as one piece.
const PIECE: usize = 16 << 10;
/// Pieces under way at most; the sender waits beyond that, as with a full window.
const WINDOW: usize = 256;
/// How often a flapping direction is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Passes bytes on until one end closes, or the direction loses its connections.
pub(super) async fn run(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: (u64, u64),
    mut table: watch::Receiver<Table>,
) -> io::Result<()> {
    let quality = |table: &watch::Receiver<Table>| {
        let found = table.borrow().get(&direction).copied();
        found.unwrap_or_default()
    };
    let born = quality(&table).generation;
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(WINDOW);
    let watching = table.clone();
    let reading = async move {
        let mut random = Random::new(direction.0 * 31 + direction.1);
        let mut buffer = vec![0; PIECE];
        loop {
            let count = from.read(&mut buffer).await?;
            if count == 0 {
                return Ok::<(), io::Error>(());
            }
            let due = Instant::now() + late(quality(&watching), &mut random);
            if sender.send((due, buffer[..count].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due.into()).await;
            while quality(&table).is_cut() && quality(&table).generation == born {
                let _ = tokio::time::timeout(LOOK, table.changed()).await;
            }
            if quality(&table).generation != born {
                return Ok(());
            }
            to.write_all(&piece).await?;
        }
        Ok::<(), io::Error>(())
    };
    tokio::pin!(reading, writing);
    tokio::select! {
        // What was read before the end still goes out.
        read = &mut reading => read.and(writing.await),
        written = &mut writing => written,
    }
}

fn late(quality: Quality, random: &mut Random) -> Duration {
    let most = u64::try_from(quality.delay.as_micros()).unwrap_or(u64::MAX);
    let delay = Duration::from_micros(random.below(most.max(1)));
    if random.percent(quality.spikes) {
        delay + SPIKE
    } else {
        delay
    }
}
