//! What this node measures, for Prometheus.
//!
//! Counting costs a request a few additions ([`meter`]); everything else is looked up when somebody asks. What is not known is
//! absent rather than 0: how far its peers are, for instance, only a leader knows.

mod families;
mod meter;
mod snapshots;

pub(super) use meter::{Endpoint, Meter};

use std::time::Duration;

use axum::extract::State;
use families::{Families, Sample};

use super::accept::TEXT;
use super::answer::Answer;
use super::call::{Input, level_name};
use super::doc::{Operation, schema};
use super::edge::role_name;
use super::error::{ApiError, Code};
use super::routes::Routes;
use super::{Shared, blocking, consistency, probes};
use crate::raft::{Agreement, Consistency, DiskSpace, Role, Room, Stats, Status};

/// The format every version of Prometheus reads.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> Routes {
    let about = Operation::new(
        "getMetrics",
        "node",
        "What this node measures",
        "In the text format of Prometheus. Counters begin at 0 when the node starts.",
    );
    let about = about.makes(&[TEXT]).fails(&[Code::Internal]);
    Routes::new().get(
        "/metrics",
        show,
        about.answers_in(200, "Every series.", &[(TEXT, schema::text())]),
    )
}

async fn show(State(app): State<Shared>, Input(call): Input) -> Result<Answer, ApiError> {
    call.params(&[]).problems.finish()?;
    let text = blocking(move || {
        let mut page = Families::default();
        of_node(&mut page, app.memory_budget_bytes);
        let status = app.raft.status();
        of_consensus(&mut page, &status, app.silence_max);
        let stats = app.raft.stats()?;
        of_requests(&mut page, &stats);
        of_disk(&mut page, &stats);
        of_apply(&mut page, &stats);
        snapshots::show(&mut page, &stats.snapshots);
        of_scrub(&mut page, &stats);
        of_consistency(&mut page, &app.raft.consistency());
        app.meter.show(&mut page);
        Ok(page.text())
    });
    Ok(Answer::bytes(FORMAT, text.await?.into()))
}

fn of_node(page: &mut Families, memory_budget_bytes: u64) {
    let version = vec![Sample::of(1_u8).with("version", env!("CARGO_PKG_VERSION"))];
    page.gauges("quorate_build_info", "What runs here; always 1.", version);
    page.gauge(
        "quorate_memory_budget_bytes",
        "What this node may take of memory by its settings, beside what grows with accounts and ids.",
        memory_budget_bytes,
    );
}

fn of_consensus(page: &mut Families, status: &Status, silence_max: Duration) {
    const ROLES: [Role; 5] = [
        Role::Leader,
        Role::Follower,
        Role::Candidate,
        Role::Learner,
        Role::Stopped,
    ];
    let roles = ROLES.map(|role| Sample::of(status.role == role).with("role", role_name(role)));
    page.gauges(
        "quorate_raft_role",
        "1 for the part this node plays.",
        roles.into(),
    );
    page.gauge(
        "quorate_raft_has_leader",
        "Whether this node hears of a leader, or leads and hears of a majority.",
        probes::leader_missing(status, silence_max).is_none(),
    );
    page.gauge("quorate_raft_term", "The term.", status.term);
    for (name, help, index) in [
        (
            "quorate_raft_last_log_index",
            "The last entry of the log.",
            status.last_log_index,
        ),
        (
            "quorate_raft_commit_index",
            "The last entry known to be committed.",
            status.committed_index,
        ),
        (
            "quorate_raft_applied_index",
            "The last entry applied.",
            status.applied_index,
        ),
        (
            "quorate_raft_purged_index",
            "The last entry purged from the log: a node that lacks it gets a snapshot.",
            status.purged_index,
        ),
    ] {
        page.gauges(name, help, index.map(Sample::of).into_iter().collect());
    }
    for (name, help, age) in [
        (
            "quorate_raft_last_quorum_ack_age_seconds",
            "On a leader, time since a majority acknowledged it.",
            status.quorum_ack_age,
        ),
        (
            "quorate_raft_last_contact_age_seconds",
            "Time since a leader was heard of; 0 on a leader.",
            status.last_contact,
        ),
    ] {
        page.gauges(name, help, age.map(Sample::of).into_iter().collect());
    }
    page.counter(
        "quorate_clock_disputes_total",
        "Entries stamped with no time by this node, leading, because its clock and those of most voters differ.",
        status.clock_disputes,
    );
    of_members(page, status);
}

fn of_members(page: &mut Families, status: &Status) {
    let count = |voter| {
        status
            .members
            .iter()
            .filter(|member| member.voter == voter)
            .count()
    };
    let kinds = [("voter", count(true)), ("learner", count(false))];
    let kinds = kinds.map(|(kind, count)| Sample::of(count).with("kind", kind));
    page.gauges(
        "quorate_raft_members",
        "Members of the cluster.",
        kinds.into(),
    );
    // Of itself a leader would only say that it keeps up.
    let peers = || {
        let leads = status.role == Role::Leader;
        status
            .members
            .iter()
            .filter(move |member| leads && member.id != status.node)
    };
    let last = status.last_log_index.unwrap_or(0);
    // A peer that has never answered this leader is as far behind, and as silent, as one can be: without a series nobody would see it.
    let lags = peers().map(|peer| {
        let lag = last.saturating_sub(peer.matched.unwrap_or(0));
        Sample::of(lag).with("peer", &peer.id.to_string())
    });
    page.gauges(
        "quorate_replication_lag_entries",
        "On a leader, entries of the log that a peer does not have.",
        lags.collect(),
    );
    let ages = peers().filter_map(|peer| {
        let age = peer.last_ack.or(status.leading)?;
        Some(Sample::of(age).with("peer", &peer.id.to_string()))
    });
    page.gauges(
        "quorate_replication_last_ack_age_seconds",
        "On a leader, time since a peer acknowledged anything, or since it leads if the peer never did.",
        ages.collect(),
    );
}

fn of_requests(page: &mut Families, stats: &Stats) {
    let writes = stats
        .writes
        .iter()
        .map(|(outcome, count)| Sample::of(*count).with("outcome", outcome));
    page.counters(
        "quorate_proposals_total",
        "Writes that clients asked this node to propose, by what became of them; refusals by the ledger are applied.",
        writes.collect(),
    );
    page.gauge(
        "quorate_proposals_waiting",
        "Writes that wait to be proposed.",
        stats.waiting,
    );
    page.gauge(
        "quorate_proposals_waiting_bytes",
        "Their bytes.",
        stats.waiting_bytes,
    );
    page.gauge(
        "quorate_proposals_in_flight",
        "Writes without a verdict: they wait, or were proposed.",
        stats.pending,
    );
    let reads = stats.reads.iter().map(|(asked, reached, count)| {
        Sample::of(*count)
            .with("consistency_requested", level_name(*asked))
            .with("consistency_effective", level_name(*reached))
    });
    page.counters(
        "quorate_reads_total",
        "Reads that were permitted here.",
        reads.collect(),
    );
    let refused = stats
        .reads_refused
        .iter()
        .map(|(why, count)| Sample::of(*count).with("reason", why));
    page.counters(
        "quorate_reads_refused_total",
        "Reads that were not.",
        refused.collect(),
    );
}

fn of_disk(page: &mut Families, stats: &Stats) {
    page.histograms(
        "quorate_log_fsync_seconds",
        "Time to write a group of entries to the log and sync it.",
        vec![(Vec::new(), stats.log_writes.clone())],
    );
    page.gauge(
        "quorate_log_bytes",
        "What the log takes on the disk.",
        stats.log_bytes,
    );
    page.gauge(
        "quorate_log_unflushed_bytes",
        "Handed to the log and not yet on the disk.",
        stats.unflushed_bytes,
    );
    page.gauge(
        "quorate_log_oldest_unflushed_seconds",
        "How long the oldest of that has been waiting.",
        stats.oldest_unflushed,
    );
    page.gauge(
        "quorate_state_bytes",
        "What the files of the state take on the disk.",
        stats.state_bytes,
    );
    page.gauges(
        "quorate_state_set_aside",
        "States that were found damaged, set aside by a start and are still kept in the data directory.",
        stats.states_aside.map(Sample::of).into_iter().collect(),
    );
    page.gauge(
        "quorate_idempotency_keys",
        "Idempotency keys held, with what was answered under them.",
        stats.answers_held,
    );
    of_space(page, &stats.disk);
}

fn of_space(page: &mut Families, disk: &DiskSpace) {
    page.gauge(
        "quorate_disk_free_bytes",
        "Bytes free for this node on the disk of its data directory.",
        disk.free,
    );
    page.gauge("quorate_disk_size_bytes", "Bytes of that disk.", disk.size);
    let rooms =
        Room::ALL.map(|room| Sample::of(u8::from(room == disk.room)).with("room", room.name()));
    page.gauges(
        "quorate_disk_room",
        "Whether that is enough, low (only deletes are taken) or full (nothing is): 1 for what holds.",
        rooms.into(),
    );
}

fn of_scrub(page: &mut Families, stats: &Stats) {
    let scrub = &stats.scrub;
    page.counter(
        "quorate_scrub_rounds_total",
        "Rounds in which state and log were read through and found whole.",
        scrub.rounds,
    );
    page.counters(
        "quorate_scrub_bytes_total",
        "Bytes read again, of the state with the snapshot and of the log.",
        vec![
            Sample::of(scrub.state_bytes).with("part", "state"),
            Sample::of(scrub.log_bytes).with("part", "log"),
        ],
    );
    page.counter(
        "quorate_scrub_findings_total",
        "Files found damaged; of a damaged state or log the node stops.",
        scrub.findings,
    );
}

fn of_consistency(page: &mut Families, seen: &Consistency) {
    let samples = Agreement::ALL.map(|agreement| {
        let nodes = seen.nodes.values();
        let count = nodes.filter(|node| node.agreement == agreement).count();
        Sample::of(count as u64).with("agreement", consistency::name(agreement))
    });
    page.gauges(
        "quorate_consistency_nodes",
        "Members by how their states compared when this node last looked: one that differs, or is disputed, is wrong.",
        samples.into(),
    );
}

fn of_apply(page: &mut Families, stats: &Stats) {
    let apply = &stats.apply;
    page.counter(
        "quorate_apply_entries_total",
        "Entries with commands applied.",
        apply.entries,
    );
    page.counter(
        "quorate_apply_transfers_total",
        "Transfers written to the journal, posted or refused.",
        apply.transfers,
    );
    let stages = [
        ("decide", apply.decide),
        ("digest", apply.digest),
        ("encode", apply.encode),
        ("write", apply.write),
        ("stall", apply.stall),
    ];
    let stages = stages.map(|(stage, time)| Sample::of(time).with("stage", stage));
    page.counters(
        "quorate_apply_seconds_total",
        "Where the time of applying went.",
        stages.into(),
    );
    page.counter("quorate_seals_total", "Seals finished.", apply.seals);
    page.counter(
        "quorate_seal_seconds_total",
        "Time they took, in the background.",
        apply.seal,
    );
    page.counter(
        "quorate_journal_bytes_total",
        "Bytes of journal written.",
        apply.journal_bytes,
    );
}

#[cfg(test)]
mod tests {
    use super::super::probes::tests::status;
    use super::*;
    use crate::raft::{Member, MemberStatus};

    fn page(status: &Status) -> String {
        let mut page = Families::default();
        of_consensus(&mut page, status, Duration::from_secs(4));
        page.text()
    }

    #[test]
    fn a_peer_that_was_away_before_this_node_led_is_seen() {
        let peer = |id| MemberStatus {
            id,
            member: Member::default(),
            voter: true,
            matched: None,
            last_ack: None,
            snapshot: None,
        };
        let mut seen = status(Role::Leader);
        seen.last_log_index = Some(700);
        seen.leading = Some(Duration::from_secs(90));
        seen.members = vec![peer(1), peer(2)];
        let page = page(&seen);
        for series in [
            "quorate_replication_last_ack_age_seconds{peer=\"2\"} 90",
            "quorate_replication_lag_entries{peer=\"2\"} 700",
        ] {
            assert!(page.lines().any(|line| line == series), "{page}");
        }
        assert!(!page.contains("{peer=\"1\"}"), "of itself it says nothing");
    }

    #[test]
    fn a_leader_that_is_known_and_not_heard_of_is_none() {
        let mut seen = status(Role::Follower);
        assert!(page(&seen).contains("\nquorate_raft_has_leader 1\n"));
        for contact in [None, Some(Duration::from_secs(5))] {
            seen.last_contact = contact;
            assert!(page(&seen).contains("\nquorate_raft_has_leader 0\n"));
        }
        // It leads, and no majority has answered for nine seconds.
        let alone = status(Role::Leader);
        assert!(page(&alone).contains("\nquorate_raft_has_leader 0\n"));
    }
}
