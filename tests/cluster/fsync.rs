//! Nothing is acknowledged before it is on the disks of a majority, seen from outside: three nodes run under a tracer, and
//! every acknowledgement is compared with the syncs that were over before it was sent.

use std::collections::BTreeMap;

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::http::Connection;
use crate::support::trace::{Ack, Place, Trace, places};
use crate::support::wait::wait_for;

/// Single transfers to be acknowledged.
const TRANSFERS: usize = 1000;
/// Disks that must hold an entry before it is acknowledged.
const MAJORITY: usize = 2;

/// A node as its trace and its files show it.
struct Witnessed {
    trace: Trace,
    places: BTreeMap<u64, Place>,
}

/// What comparing acknowledgements with syncs gave.
#[derive(Debug, Default)]
struct Verdict {
    /// Acknowledgements of which a majority's disks held the entry.
    kept: usize,
    /// The others, described.
    broken: Vec<String>,
    /// The least time between the sync that made a majority and the acknowledgement, in microseconds.
    least_margin_us: u64,
}

fn judge(nodes: &[Witnessed]) -> Verdict {
    let mut verdict = Verdict {
        least_margin_us: u64::MAX,
        ..Verdict::default()
    };
    for Ack { index, began } in nodes.iter().flat_map(|node| &node.trace.acks) {
        let durable = |node: &Witnessed| node.trace.durable(node.places.get(index)?);
        let mut synced: Vec<u64> = nodes.iter().filter_map(durable).collect();
        synced.sort_unstable();
        match synced.get(MAJORITY - 1) {
            Some(majority) if majority <= began => {
                verdict.kept += 1;
                verdict.least_margin_us = verdict.least_margin_us.min(began - majority);
            }
            _ => verdict.broken.push(format!(
                "entry {index} was acknowledged at {began}, its syncs ended at {synced:?}"
            )),
        }
    }
    verdict
}

/// Two nodes that synced entry 7 at 2000 and 3000 (the third never did), and one acknowledgement at `began`.
fn sample(began: u64) -> Vec<Witnessed> {
    let node = |lines: &[String]| {
        let mut trace = Trace::default();
        lines.iter().for_each(|line| trace.take(line));
        let place = Place {
            file: "0000000001.log".to_owned(),
            start: 4168,
            end: 4268,
        };
        Witnessed {
            trace,
            places: BTreeMap::from([(7, place)]),
        }
    };
    let written = |at: u64| {
        format!(
            "0.{at:06} pwritev(9</d/node1/log/0000000001.log>, [{{iov_base=\"\\3\", iov_len=8192}}], 1, 4096) = 8192 <0.000010>"
        )
    };
    let synced =
        |at: u64| format!("0.{at:06} fdatasync(9</d/node1/log/0000000001.log>) = 0 <0.000100>");
    let acked = format!(
        "0.{began:06} writev(4<TCP:[127.0.0.1:7001->127.0.0.1:50000]>, [{{iov_base=\"HTTP/1.1 201 Created\\r\\nquorate-index: 7\\r\\n\", iov_len=40}}], 1) = 40 <0.000010>"
    );
    vec![
        node(&[written(1000), synced(1899), acked]),
        node(&[written(1000), synced(2899)]),
        node(&[written(1000)]),
    ]
}

#[test]
fn an_acknowledgement_before_the_second_sync_is_a_violation() {
    assert_eq!(
        judge(&sample(3001)).kept,
        1,
        "the second sync was over at 3000"
    );
    assert_eq!(judge(&sample(2999)).broken.len(), 1, "it was not at 2999");
    let mut no_sync = sample(9000);
    no_sync[1].trace.syncs.clear();
    assert_eq!(
        judge(&no_sync).broken.len(),
        1,
        "one disk is not a majority"
    );
    let mut sync_before_write = sample(9000);
    sync_before_write[1].trace.syncs[0].began = 1000;
    assert_eq!(
        judge(&sync_before_write).broken.len(),
        1,
        "a sync that began before the write proves nothing"
    );
    let mut elsewhere = sample(9000);
    elsewhere[1].places.clear();
    assert_eq!(
        judge(&elsewhere).broken.len(),
        1,
        "a disk without the entry does not count"
    );
}

#[test]
fn every_acknowledged_transfer_was_on_the_disks_of_a_majority_before() {
    let mut cluster = Cluster::traced(3);
    let leader = cluster.wait_leader(&cluster.ids());
    let mut connection = Connection::open(cluster.addr(leader)).expect("a connection");
    let mut create = |path: &str, body: &str| {
        let answer = connection
            .request("POST", path, body.as_bytes())
            .expect("an answer");
        assert_eq!(answer.status, 201, "{}", answer.text());
    };
    create("/v1/ledgers", r#"{"id":"usd","asset":"USD","scale":2}"#);
    create("/v1/accounts", r#"{"id":"debit","ledger":"usd","code":1}"#);
    create("/v1/accounts", r#"{"id":"credit","ledger":"usd","code":1}"#);
    for number in 0..TRANSFERS {
        let body = format!(
            r#"{{"id":"t{number}","debit_account":"debit","credit_account":"credit","amount":"1","code":1}}"#
        );
        create("/v1/transfers", &body);
    }
    for id in cluster.ids() {
        assert!(
            cluster.terminate(id).success(),
            "node {id} stops in good order"
        );
    }
    let nodes: Vec<Witnessed> = cluster
        .ids()
        .into_iter()
        .map(|id| {
            // The tracer ends a moment after the node.
            let trace = wait_for("the trace", PATIENCE, || {
                let trace = Trace::read(&cluster.trace_dir(id));
                (!trace.syncs.is_empty()).then_some(trace)
            });
            Witnessed {
                trace,
                places: places(&cluster.data_dir(id).join("log")),
            }
        })
        .collect();
    let verdict = judge(&nodes);
    eprintln!(
        "{} acknowledgements, each after its entry was synced by at least {MAJORITY} of 3 nodes: {}; violations: {}; \
         closest call {} us; syncs per node {:?}",
        verdict.kept + verdict.broken.len(),
        verdict.kept,
        verdict.broken.len(),
        verdict.least_margin_us,
        nodes
            .iter()
            .map(|node| node.trace.syncs.len())
            .collect::<Vec<_>>(),
    );
    assert!(verdict.broken.is_empty(), "{}", verdict.broken.join("\n"));
    assert!(
        verdict.kept >= TRANSFERS,
        "every transfer was acknowledged in sight of the tracer"
    );
}
