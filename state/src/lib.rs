//! What is remembered: shards in RocksDB, positions in the same batch, hot set, changelog.
