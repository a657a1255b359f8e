//! Quorate: a strongly consistent, replicated ledger and key-value store.
//!
//! A write is acknowledged only after a majority of the voters holds it on disk. A read says how fresh it must be
//! (`leader`, `lease` or `follower`) and is told how fresh it was. Each process is one node: an openraft core around a
//! write-ahead log of our own and a RocksDB state machine, served over HTTP by axum.
//!
//! # Layers
//!
//! ```text
//! main -> cli | node -> http -> raft -> storage -> machine
//!          \-> client <-/
//! ```
//!
//! A layer names only layers to its right, and each foreign crate has one home: axum in `http`, openraft in `raft`,
//! RocksDB in `storage`. [`client`] stands beside them: the command line asks through it, and so does `http` when it
//! forwards, because a node that forwards is a client of the leader. A test walks the source and holds all that; it also
//! checks that what this page names exists.
//!
//! | layer | what it decides |
//! |---|---|
//! | [`machine`] | what a command does to the state: pure, deterministic, no I/O |
//! | [`storage`] | what is on the disk, and what may be believed of it after a crash |
//! | [`raft`] | what is committed, who leads, when a read may be served |
//! | [`http`] | how all that looks from outside |
//! | [`node`] | what is started and stopped, in which order |
//! | [`client`] | whom to ask, what may be sent again, and what is certain after failures |
//! | [`cli`] | the command line |
//!
//! Beside them stands [`mutants`]: bugs built in on purpose, in builds that only the fault tests make.
//!
//! # The life of a write
//!
//! 1. A handler in `http` checks the shape of the request and makes a `machine::command::Command` of it; with an
//!    `Idempotency-Key`, one that is done once (`http::idempotency::Terms::once`). On a node that does not lead,
//!    `http::forward` sends the request to the leader, once.
//! 2. `raft::client::Client::write` looks up account numbers, encodes the command once and queues it. From here to the
//!    log, the peers and apply, the same bytes travel.
//! 3. `raft::batcher::Task::run` puts what is waiting into one log entry, stamps it with the time a majority of clocks
//!    agrees on (`raft::clocks::LogClock::stamp_ns`) and proposes it. A command still in the queue at its deadline is
//!    withdrawn (*not applied*); one handed over has no certain fate until it is answered.
//! 4. Openraft gives the entry its index and calls `raft::log_store::LogStore::append`, which returns at once, while
//!    `raft::network::stream::Session` carries the entry to the peers: disk and network work at the same time.
//! 5. `storage::log::writer::Writer::step` writes everything queued, syncs once, writes the tail witness and completes
//!    the newest callback. Followers do the same and answer.
//! 6. When a majority has it on disk the entry is committed. `raft::state_machine::StateMachine::apply` waits until this
//!    node's own log has it on disk too (`raft::flush_gate::FlushGate::wait`) and hands it to
//!    `storage::state::State::apply`.
//! 7. `machine::apply` forgets the idempotency keys that have had their time, decides each command, unless its key says
//!    that it was done before (`machine::once::known`), and journals what happened, the answers under keys included.
//!    Journal, keys and the applied log id go to RocksDB in one batch, without a log of its own: after a crash the entries
//!    since the last flush are applied again.
//! 8. The replies go back through the batcher to the handlers, and `http` makes answers of them. Whatever kept a reply
//!    from coming is a `raft::told::WriteError`, which says what the caller may assume.
//!
//! # The life of a read
//!
//! 1. A handler reads the level from the request; `leader` and `lease` are forwarded to the leader, `follower` stays.
//! 2. `raft::client::Client::read` asks for leave. One task a level takes all reads that wait and passes one barrier for
//!    them (`raft::read::Checker::serve_leader`, `raft::read::Checker::serve_lease`): a quorum confirms the leader, or
//!    its lease is fresh enough, otherwise the read is upgraded to `leader`. Then it waits until that much is applied.
//!    `follower` passes at once. No level passes before what was committed at the last stop is applied again.
//! 3. The handler reads a `storage::state::view::View` and answers with the applied index it was true at, the level
//!    asked for and the level reached.
//!
//! # The life of a snapshot
//!
//! 1. On every node `raft::keeper::Keeper` looks how much log came since the last snapshot. When it is enough,
//!    `raft::snapshots::Snapshots::make` has `storage::snapshot::make` write one: a checkpoint, which is hard links, and last a
//!    manifest with the hash of every file. Then the log is purged up to there, but for a tail and what a transfer needs.
//! 2. A leader whose log does not reach back to what a follower lacks sends its snapshot on a connection of its own
//!    (`raft::network::snapshot::send`): the manifest, then what the follower asks for.
//! 3. The follower (`raft::peer::snapshot::serve`) asks only for what it has not, stages the files
//!    (`storage::snapshot::Staging`), verifies each, puts them together and gives the snapshot to the core.
//! 4. `raft::state_machine::StateMachine::install_snapshot` waits until the log on the disk has nothing that contradicts it, and
//!    `storage::state::State::install` makes it the state, by one rename. A crash before that leaves the old state, and the next
//!    transfer goes on from what is staged.
//!
//! # What becomes of damage
//!
//! 1. The log trusts nothing it reads (`storage::log`). One that is damaged is refused with file and offset: this node acknowledged
//!    what is in it, so it comes back only under a new id.
//! 2. The state is disposable while the log is intact. Whoever finds it damaged, at the start, on a read or in a round of
//!    `raft::scrub::Scrubber`, raises an alarm that marks its directory (`storage::state::State::damage`); the node stops.
//! 3. `raft::digests::Comparer` compares the digest of the state with those of the other nodes. Who differs from a majority raises
//!    the same alarm; where no majority has the same, `raft::client::Client::write` takes nothing.
//! 4. The next start (`raft::repair::Opening::open`) sets such a state aside, and one that does not fit the log too, before there
//!    is a core. It gets another from the log, from its own newest snapshot that is whole (but not where it differed from the
//!    others), or from a peer (`raft::repair::fetch`).
//!
//! # The life of a member
//!
//! 1. `raft::members::Members::change` on the leader asks the newcomer who it is, has it write the cluster's id down and proposes
//!    it as a member without a vote, with its data directory (`raft::told::Member`). What a change comes to, and what is refused,
//!    `raft::members::plan::plan` decides from what the leader knows.
//! 2. With nearly all of the log it gets a vote, or takes a voter's place in one change: old and new voters decide together until
//!    the new ones do alone. `raft::members::reconcile` finishes what a leader began and did not live to finish.
//! 3. Every request of a peer is held against the membership (`raft::peer::fence::check_member`): one that was removed, or has
//!    another data directory than the member, is refused with the reason. So is one that runs on a copy, or has lost what it
//!    acknowledged, as far as `raft::heard::Heard` remembers.
//! 4. A node that was removed is told so when it asks (`raft::members::farewell::Farewell::run`), and stops.
//! 5. One that is all that is left goes on as a cluster of its own with another id (`raft::recover::Remains::force_new_cluster`).
//!
//! # The life of a backup
//!
//! 1. A node that is asked for one waits for a read barrier of its own (`http::backup`), makes a checkpoint as for a snapshot
//!    (`raft::snapshots::Snapshots::make_apart`) and counts what is in it (`storage::state::State::summarize`).
//! 2. `storage::backup::Backup::write` makes one stream of manifest, summary and files, with the hash of all of it last, as fast as the
//!    client takes it. However that ends, the checkpoint goes.
//! 3. `storage::backup::read` takes nothing that differs by a byte from what was written; `storage::backup::check` derives the state
//!    again and compares.
//! 4. `raft::restore::restore` makes the data directory of a new cluster's only node of it, whose identity comes last
//!    (`storage::identity::Restoring::finish`).
//!
//! # What holds always
//!
//! - An acknowledged write is on the disks of a majority. What a node applies is on its own disk first.
//! - The same entries give the same state and the same digest on every node; one that has another stops.
//! - In every ledger, debits equal credits after every entry; a node that finds otherwise stops.
//! - A transfer id has one fate for ever: posted once, or refused for a reason of state and never posted.
//! - A command under an idempotency key is done once and answered alike for a day of log time at least; log time passes
//!   only as a majority of clocks says.
//! - A refusal, a fault of the node and an unknown outcome are three things and are never mixed up: see
//!   `machine::reply::Rejection`, `machine::store::Fault` and `raft::told::WriteError`.
//! - A node id stands for one data directory, and is never used again in its cluster. A cluster that is made of what another left,
//!   or of its backup, has another id and a higher epoch, and neither listens to the other's nodes.
//! - The log is purged no further than what the state, with its snapshot, holds durably without it.
//! - Nothing is added to a disk that is nearly full, so no write to it fails for want of room (`raft::space`).
//! - A node that cannot trust its disk or its log stops and says what to do. A state that cannot be trusted is never
//!   read again.

pub mod cli;

pub mod client;

pub mod config;

pub mod node;

pub mod http;

pub mod raft;

pub mod storage;

pub mod machine;

pub mod mutants;
