//! What a node may take of memory, as its settings have it.

use super::Config;

/// What a node takes beside what its settings bound one by one, in bytes. In it are, each with a bound of its own:
///
/// - RocksDB's memory tables: flushed from 96 MiB on, some 230 if the disk is far behind, when little else happens;
/// - what waits to be proposed, to reach the log or to be sent (`queue_bytes_max`, `unflushed_bytes_max`), and the bodies of requests
///   under way and of answers (`bodies_bytes_max`): shared with the entries made of them, and never all full at a time;
/// - the caches of account ids and of keys, counted in entries;
/// - buffers of connections, of a snapshot on its way and of a scrub, a few MiB each.
///
/// What grows with what is stored is not: balances and fields of every account, and the filters over ids.
pub const BESIDE_BYTES: u64 = 256 << 20;

impl Config {
    /// Memory that a node with these settings may take, in bytes: the blocks of the state, the transfers of a journal between two
    /// seals, the entries of the log, and [`BESIDE_BYTES`].
    pub fn memory_budget_bytes(&self) -> u64 {
        [
            self.state.cache_bytes,
            self.state.seal_journal_bytes,
            self.log.cache_bytes,
            BESIDE_BYTES,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_the_caches_and_256_mib() {
        let mut config = Config::unset();
        config.state.cache_bytes = 64 << 20;
        config.state.seal_journal_bytes = 64 << 20;
        config.log.cache_bytes = 32 << 20;
        assert_eq!(config.memory_budget_bytes(), 416 << 20);
        config.state.cache_bytes = u64::MAX;
        assert_eq!(config.memory_budget_bytes(), u64::MAX);
    }
}
