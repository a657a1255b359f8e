//! Snapshots and their transfers.

use super::families::{Families, Sample};
use crate::raft::SnapshotStats;

pub(super) fn show(page: &mut Families, stats: &SnapshotStats) {
    let counters = &stats.counters;
    page.counter(
        "quorate_snapshots_made_total",
        "Snapshots made.",
        counters.made,
    );
    page.counter(
        "quorate_snapshots_failed_total",
        "Snapshots that could not be made; the log grows meanwhile.",
        counters.failed,
    );
    page.counter(
        "quorate_snapshots_installed_total",
        "Snapshots of other nodes that took the place of the state.",
        counters.installed,
    );
    page.counters(
        "quorate_snapshot_seconds_total",
        "Time that making snapshots took, in the background.",
        vec![Sample::of(counters.took)],
    );
    page.gauge(
        "quorate_snapshot_last_seconds",
        "Time that the last one took.",
        counters.last_took,
    );
    page.gauges(
        "quorate_snapshot_index",
        "The last entry in the current snapshot.",
        stats.index.map(Sample::of).into_iter().collect(),
    );
    page.gauge(
        "quorate_snapshot_bytes",
        "Bytes of its files, most of which it shares with the state.",
        stats.bytes,
    );
    page.counters(
        "quorate_snapshot_transfer_bytes_total",
        "Bytes of snapshots sent and received.",
        vec![
            Sample::of(stats.sent_bytes).with("direction", "out"),
            Sample::of(stats.received_bytes).with("direction", "in"),
        ],
    );
    let mut under_way = Vec::new();
    for (direction, transfers) in [
        ("out", &stats.sending[..]),
        ("in", stats.receiving.as_slice()),
    ] {
        under_way.extend(transfers.iter().map(|transfer| (direction, transfer)));
    }
    for (name, help, value) in [
        (
            "quorate_snapshot_transfer_done_bytes",
            "Of the snapshots on their way, bytes that the receiver has.",
            (|transfer| transfer.done) as fn(&crate::raft::Progress) -> u64,
        ),
        (
            "quorate_snapshot_transfer_size_bytes",
            "Their sizes.",
            |transfer| transfer.total,
        ),
    ] {
        let samples = under_way.iter().map(|(direction, transfer)| {
            Sample::of(value(transfer))
                .with("direction", direction)
                .with("peer", &transfer.peer.to_string())
        });
        page.gauges(name, help, samples.collect());
    }
}
