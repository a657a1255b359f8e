//! What a node measures, as Prometheus would read it.

use std::collections::{BTreeMap, BTreeSet};

use crate::nodes::{Nodes, run};

/// Every series and its value, after checking the page as strictly as Prometheus' own linter: each family has a help and a
/// type before its series, its name tells its type and unit, no series stands twice, and histograms add up.
fn series(page: &str) -> BTreeMap<String, f64> {
    let (mut types, mut helps) = (BTreeMap::new(), BTreeSet::new());
    let mut found = BTreeMap::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a name and a text");
            assert!(text.ends_with('.') && helps.insert(name), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert!(helps.contains(name), "no help: {line}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
            assert!(kind != "histogram" || name.ends_with("_seconds"), "{line}");
            assert!(types.insert(name, kind).is_none(), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let name = series.split('{').next().expect("a name");
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
                name.strip_suffix(end)
                    .filter(|base| types.contains_key(base))
            });
            assert!(types.contains_key(base.unwrap_or(name)), "no type: {line}");
            let value = value.parse().expect("a number");
            assert!(
                found.insert(series.to_owned(), value).is_none(),
                "twice: {line}"
            );
        }
    }
    for (series, value) in &found {
        if let Some(count) = series.split_once("_count") {
            let inner = count.1.trim_matches(['{', '}']);
            let comma = if inner.is_empty() { "" } else { "," };
            let all = format!("{}_bucket{{{inner}{comma}le=\"+Inf\"}}", count.0);
            assert_eq!(found.get(&all), Some(value), "{all}");
        }
    }
    found
}

/// What a rule asks for: a name, and for each label all the values that it takes.
type Selector = (String, Vec<(String, Vec<String>)>);

/// Everything of ours that the rules ask for.
fn selectors(rules: &str) -> Vec<Selector> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let mut found = Vec::new();
    for (at, _) in rules.match_indices("quorate_") {
        let name: String = rules[at..].chars().take_while(|c| is_name(*c)).collect();
        let rest = &rules[at + name.len()..];
        let labels = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let labels = labels.map_or("", |(labels, _)| labels).split(',');
        let labels = labels.filter_map(|label| {
            let (label, values) = label.split_once('=')?;
            let values = values.trim_start_matches('~').trim_matches('"').split('|');
            Some((label.to_owned(), values.map(str::to_owned).collect()))
        });
        found.push((name, labels.collect()));
    }
    found
}

#[test]
fn the_rules_ask_for_nothing_that_a_leader_does_not_show() {
    run(async {
        let nodes = Nodes::formed(3).await;
        let leader = nodes.leader().await;
        let rules = include_str!("../../src/cli/alerts.yml");
        let asked = selectors(rules);
        assert!(asked.len() > 15, "{asked:?}");
        // Of its peers it tells as soon as they have answered.
        nodes
            .wait_for(|| async {
                let page = nodes.get(leader, "/metrics").await;
                let found = series(std::str::from_utf8(&page.body).expect("text"));
                found.contains_key("quorate_replication_lag_entries{peer=\"1\"}")
                    || found.contains_key("quorate_replication_lag_entries{peer=\"2\"}")
            })
            .await;
        let page = nodes.get(leader, "/metrics").await;
        let found = series(std::str::from_utf8(&page.body).expect("text"));
        for (name, labels) in asked {
            let shown = |wanted: &str| {
                found.keys().any(|series| {
                    let (own, labels) = series.split_once('{').unwrap_or((series, ""));
                    own == name && labels.contains(wanted)
                })
            };
            assert!(shown(""), "{name}");
            for (label, values) in labels {
                for value in values {
                    let wanted = format!("{label}=\"{value}\"");
                    assert!(shown(&wanted), "{name}{{{wanted}}}");
                }
            }
        }
        nodes.end().await;
    });
}

#[test]
fn a_node_measures_itself_its_peers_and_its_requests() {
    run(async {
        let nodes = Nodes::formed(3).await;
        let leader = nodes.leader().await;
        let follower = leader % 3 + 1;
        for _ in 0..3 {
            assert_eq!(
                nodes.put(leader, "/v1/kv/a", &[], "1").await.status / 100,
                2
            );
        }
        let key = [("idempotency-key", "a-key")];
        nodes.put(leader, "/v1/kv/b", &key, "1").await;
        nodes.get(leader, "/v1/kv/a?consistency=leader").await;
        nodes
            .get(leader, "/v1/kv/missing?consistency=follower")
            .await;
        nodes.get(leader, "/nowhere").await;
        let page = nodes.get(leader, "/metrics").await;
        assert_eq!(
            page.header("content-type"),
            "text/plain; version=0.0.4; charset=utf-8"
        );
        let text = String::from_utf8(page.body.to_vec()).expect("text");
        let found = series(&text);
        let value = |series: &str| {
            let value = found.get(series);
            *value.unwrap_or_else(|| panic!("no {series} in\n{text}"))
        };
        assert!((value("quorate_raft_role{role=\"leader\"}") - 1.0).abs() < 0.1);
        assert!(value("quorate_proposals_total{outcome=\"applied\"}") > 2.5);
        assert!(value("quorate_raft_applied_index") >= 4.0);
        assert!(value("quorate_memory_budget_bytes") > f64::from(256 << 20));
        assert!(value("quorate_log_fsync_seconds_count") > 2.5);
        assert!(value("quorate_log_bytes") > 4096.0);
        assert!((value("quorate_idempotency_keys") - 1.0).abs() < 0.1);
        assert!(value("quorate_clock_disputes_total") < 0.5);
        assert!(value("quorate_http_in_flight") > 0.5);
        for (route, method, class) in [
            ("/v1/kv/{*key}", "PUT", "2xx"),
            ("/v1/kv/{*key}", "GET", "4xx"),
            ("none", "other", "4xx"),
        ] {
            let labels = format!("route=\"{route}\",method=\"{method}\"");
            assert!(
                value(&format!(
                    "quorate_http_requests_total{{{labels},status=\"{class}\"}}"
                )) > 0.5
            );
            assert!(value(&format!("quorate_http_request_seconds_count{{{labels}}}")) > 0.5);
        }
        for level in ["leader", "follower"] {
            let labels =
                format!("consistency_requested=\"{level}\",consistency_effective=\"{level}\"");
            assert!(value(&format!("quorate_reads_total{{{labels}}}")) > 0.5);
        }
        value(&format!(
            "quorate_replication_lag_entries{{peer=\"{follower}\"}}"
        ));
        let own = format!("quorate_replication_lag_entries{{peer=\"{leader}\"}}");
        assert!(
            !found.contains_key(&own),
            "a leader does not lag behind itself"
        );

        let page = nodes.get(follower, "/metrics").await;
        let found = series(std::str::from_utf8(&page.body).expect("text"));
        let known = found
            .keys()
            .filter(|series| series.starts_with("quorate_replication"));
        assert_eq!(
            known.count(),
            0,
            "only a leader knows how far its peers are"
        );
        nodes.end().await;
    });
}
