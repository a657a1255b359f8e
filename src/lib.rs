//! Quorate: a strongly consistent, replicated ledger and key-value store.

pub mod storage;

pub mod machine;
