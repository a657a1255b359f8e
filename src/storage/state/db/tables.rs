//! The tables and how RocksDB is tuned for them.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use rocksdb::{BlockBasedIndexType, BlockBasedOptions, Cache, DB, Options};

use super::Access;

/// A table: a column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Table {
    /// The records of every entry.
    Journal,
    /// How far everything is.
    Meta,
    /// Ledger number -> its fixed fields and texts.
    Ledgers,
    /// Account number -> its fixed fields and id.
    Accounts,
    /// Account id, alone and behind its ledger -> number.
    AccountIds,
    /// Page number -> balances and fields of 32 accounts.
    Balances,
    /// Transfer id -> position.
    Ids,
    /// Account and first position -> positions.
    History,
    /// Filters over sealed ids.
    Filter,
    /// Key -> value and versions.
    Kv,
    /// Idempotency key -> position of the answer and more; position -> idempotency key.
    Idempotency,
}

impl Table {
    /// Every table.
    pub(in super::super) const ALL: [Table; 11] = [
        Table::Journal,
        Table::Meta,
        Table::Ledgers,
        Table::Accounts,
        Table::AccountIds,
        Table::Balances,
        Table::Ids,
        Table::History,
        Table::Filter,
        Table::Kv,
        Table::Idempotency,
    ];

    /// Its name on disk.
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Table::Journal => "journal",
            Table::Meta => "meta",
            Table::Ledgers => "ledgers",
            Table::Accounts => "accounts",
            Table::AccountIds => "account_ids",
            Table::Balances => "balances",
            Table::Ids => "ids",
            Table::History => "history",
            Table::Filter => "filter",
            Table::Kv => "kv",
            Table::Idempotency => "idempotency",
        }
    }

    /// Size at which its memory table is flushed, and with it everybody's, if [`WRITE_BUFFERS_BYTES`] is not reached before.
    fn write_buffer_bytes(self) -> usize {
        match self {
            Table::Journal => 64 << 20,
            Table::Kv | Table::Ids | Table::History | Table::Balances | Table::Filter => 32 << 20,
            Table::Meta
            | Table::Ledgers
            | Table::Accounts
            | Table::AccountIds
            | Table::Idempotency => 16 << 20,
        }
    }

    /// Whether single keys are asked for that may be absent, so that a Bloom filter saves reads.
    fn has_bloom(self) -> bool {
        matches!(
            self,
            Table::AccountIds | Table::Ids | Table::Kv | Table::Idempotency
        )
    }
}

/// A table that the database in `path` lacks, if any: an older one lacks those that are new.
pub(super) fn missing(path: &Path) -> Result<Option<Table>, rocksdb::Error> {
    let there = DB::list_cf(&Options::default(), path)?;
    let lacks = |table: &Table| !there.iter().any(|name| name == table.name());
    Ok(Table::ALL.into_iter().find(lacks))
}

/// Options that RocksDB has and the crate has no setter for. An error in the background must not be retried in silence;
/// closing without a flush is a choice ([`super::Db::flush`] before it), so that a crash can be played by dropping the handle.
const DATABASE_OPTIONS: &str = "avoid_flush_during_shutdown=true;max_bgerror_resume_count=0;verify_manifest_content_on_close=true";
/// Every file is read back after it was written; a flipped bit in a memory table is found when it is flushed.
const TABLE_OPTIONS: &str = "paranoid_file_checks=true;memtable_protection_bytes_per_key=8";

/// Size of all memory tables together from which on they are flushed, about: all being written, from seven eighths of it; with some
/// that are being flushed already, from half of it. Those that wait for that are three of a table at most, so that even where
/// the disk is far behind, all of them take two and a half times as much.
/// Writes are not held up for it while there is room: who reads keeps memory tables alive, and apply must not wait for a reader.
const WRITE_BUFFERS_BYTES: usize = 96 << 20;

/// Memory tables that a table may have before writes wait for a flush.
const WRITE_BUFFERS_MAX: i32 = 4;

/// Bytes of one part of an index or of a filter.
const METADATA_BLOCK_BYTES: usize = 4 << 10;

/// Options of the whole database.
pub(super) fn database_options(access: Access) -> Result<Options, rocksdb::Error> {
    let mut options = Options::default().get_options_from_string(DATABASE_OPTIONS)?;
    options.create_if_missing(access == Access::Create);
    options.set_error_if_exists(access == Access::Create);
    // A database of an older format lacks tables that are new.
    options.create_missing_column_families(access != Access::ReadOnly);
    options.set_atomic_flush(true);
    // What it is reached by is flushed as all else: with every table, at one point of the sequence of writes.
    options.set_db_write_buffer_size(staggered(WRITE_BUFFERS_BYTES));
    options.set_allow_concurrent_memtable_write(false);
    options.set_paranoid_checks(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(-1);
    options.set_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(8);
    options.set_max_log_file_size(16 << 20);
    options.set_stats_dump_period_sec(600);
    Ok(options)
}

/// `bytes` less up to a quarter of it, drawn anew each time. The nodes of a cluster write the same and would flush at the same
/// moment, all of them slow at once; of nodes that flush one after another a majority is always quick.
fn staggered(bytes: usize) -> usize {
    let drawn = RandomState::new().hash_one(bytes) % 256;
    bytes - bytes / 1024 * usize::try_from(drawn).expect("a number below 256")
}

/// Options of one table.
pub(super) fn table_options(table: Table, cache: &Cache) -> Result<Options, rocksdb::Error> {
    let mut options = Options::default().get_options_from_string(TABLE_OPTIONS)?;
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // A filter over a whole file is megabytes: once the cache cannot hold them all, one look-up reads and checks several of
    // them. In parts it reads a few kilobytes, and only the directory of the parts has to stay.
    blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    blocks.set_metadata_block_size(METADATA_BLOCK_BYTES);
    blocks.set_pin_top_level_index_and_filter(true);
    if table.has_bloom() {
        blocks.set_bloom_filter(10.0, false);
        blocks.set_partition_filters(true);
    }
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(staggered(table.write_buffer_bytes()));
    options.set_max_write_buffer_number(WRITE_BUFFERS_MAX);
    options.set_compression_type(rocksdb::DBCompressionType::None);
    options.set_level_compaction_dynamic_level_bytes(true);
    Ok(options)
}
