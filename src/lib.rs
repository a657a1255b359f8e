//! Quorate: a strongly consistent, replicated ledger and key-value store.

pub mod machine;
