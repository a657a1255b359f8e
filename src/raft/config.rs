//! The settings openraft runs with.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy, StepDownPolicy};

use super::Options;

/// Entries in one request to a peer; how many bytes is bounded where they are read
/// ([`super::log_store::READ_BYTES_MAX`]).
const PAYLOAD_ENTRIES_MAX: u64 = 1024;
/// Entries in one write to the log.
const APPEND_ENTRIES_MAX: u64 = 4096;
/// Entries purged at once.
const PURGE_BATCH: u64 = 4096;
/// Chunks that may wait to be applied before the core itself waits: while apply waits for a slow disk, heartbeats go on.
const APPLY_QUEUE_MAX: u64 = 65_536;

/// Openraft's config for `options`.
///
/// # Errors
/// If the times contradict each other; the message names them.
pub(super) fn build(options: &Options) -> anyhow::Result<Config> {
    let heartbeat = millis(options.heartbeat);
    let config = Config {
        cluster_name: "quorate".to_owned(),
        heartbeat_interval: heartbeat,
        // An acknowledged append renews the lease as well as a heartbeat does.
        heartbeat_min_interval: Some(heartbeat / 2),
        election_timeout_min: millis(options.election_min),
        election_timeout_max: millis(options.election_max),
        quorum_loss_probe_interval: Some(millis(options.quorum_loss_probe)),
        enable_pre_vote: Some(true),
        // Switched on once the vote gate is open.
        enable_elect: false,
        // The default hands out a log id a second time after a fast restart of a leader whose last entries were not on
        // its disk yet: an acknowledged write is lost and the replicas diverge.
        enable_leader_restore: Some(false),
        allow_log_reversion: None,
        // Snapshots, purges and stepping down are decided by this crate, by bytes and by what is durable.
        snapshot_policy: SnapshotPolicy::Never,
        removed_leader_step_down: StepDownPolicy::Never,
        purge_batch_size: PURGE_BATCH,
        // By itself openraft would purge whenever there is a snapshot, counting entries.
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        max_append_entries: Some(APPEND_ENTRIES_MAX),
        state_machine_channel_size: Some(APPLY_QUEUE_MAX),
        ..Config::default()
    };
    Ok(config.validate()?)
}

/// The lease: for so long after the last message of a leader a node helps nobody else to lead.
pub(super) fn lease(options: &Options) -> Duration {
    options.election_max
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_options_give_a_safe_config() {
        let config = build(&Options::default()).unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.allow_log_reversion, None);
        assert!(!config.enable_elect);
        assert_eq!(config.snapshot_policy, SnapshotPolicy::Never);
        assert_eq!(config.max_in_snapshot_log_to_keep, u64::MAX);
    }

    #[test]
    fn times_that_contradict_each_other_are_refused() {
        let options = Options {
            heartbeat: Duration::from_secs(2),
            ..Options::default()
        };
        assert!(build(&options).is_err());
    }
}
