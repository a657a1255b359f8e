use std::time::Duration;

use super::*;

const REQUIRED: &str =
    "node_id = 1\ndata_dir = \"d\"\nlisten = \"127.0.0.1:1\"\npeer_listen = \"127.0.0.1:2\"\n";

fn file(text: &str) -> Given {
    let mut given = Given::default();
    given.text("q.toml", text);
    given
}

fn env(given: &mut Given, vars: &[(&str, &str)]) {
    let vars = vars
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    given.env(vars, &["QUORATE_LOG".to_owned()]);
}

fn flag(given: &mut Given, name: &str, text: &str) {
    given.flag(find(name).unwrap(), text);
}

fn origin(given: &Given, name: &str) -> String {
    given.rows()[find(name).unwrap()].2.to_string()
}

#[test]
fn a_flag_wins_over_the_environment_and_that_over_the_file() {
    let mut given = file(&format!(
        "{REQUIRED}\n# a remark\nheartbeat = \"20ms\"\nelection_min = \"400ms\"\nelection_max = \"900ms\"\n"
    ));
    env(
        &mut given,
        &[
            ("QUORATE_HEARTBEAT", "30ms"),
            ("QUORATE_ELECTION_MIN", "500ms"),
            ("QUORATE_LOG", "debug"),
            ("HOME", "/"),
        ],
    );
    flag(&mut given, "heartbeat", "40ms");
    for (name, from) in [
        ("heartbeat", "--heartbeat"),
        ("election_min", "QUORATE_ELECTION_MIN"),
        ("election_max", "q.toml:9"),
        ("workers", "default"),
    ] {
        assert_eq!(origin(&given, name), from);
    }
    let config = given.finish().unwrap();
    assert_eq!(config.raft.heartbeat, Duration::from_millis(40));
    assert_eq!(config.raft.election_min, Duration::from_millis(500));
    assert_eq!(config.raft.election_max, Duration::from_millis(900));
    assert_eq!(config.raft.quorum_loss_probe, Duration::from_millis(1800));
    assert_eq!(config.node_id, 1);
}

#[test]
fn every_problem_is_named_with_its_place() {
    let mut given = file(
        "elction_min = \"1s\"\nheartbeat = 5\nworkers = \"many\"\nlisten = \"nowhere\"\nthreads = \"none\"\nqueue_bytes_max = \"1B\"\n[peers]\n",
    );
    env(
        &mut given,
        &[("QUORATE_CONECTIONS_MAX", "1"), ("QUORATE_BIN", "/q")],
    );
    flag(&mut given, "node_id", "0");
    let problems = given.finish().unwrap_err();
    let lines: Vec<&str> = problems.lines().collect();
    for (place, (begins, says)) in [
        ("q.toml:1: ", "did you mean \"election_min\"?"),
        ("q.toml:2: heartbeat: ", "unit"),
        ("q.toml:3: workers: ", "not a whole number"),
        ("q.toml:4: listen: ", "no address"),
        ("q.toml:5: threads: ", "shared, separate"),
        ("q.toml:6: queue_bytes_max: ", "from 1MiB to 16GiB"),
        ("q.toml:7: ", "no setting is called \"peers\""),
        ("no setting is called", "QUORATE_CONNECTIONS_MAX"),
        ("--node-id: ", "1 or more"),
        ("node_id is not set", "QUORATE_NODE_ID"),
        ("data_dir is not set", "--data-dir"),
        ("listen is not set", "--listen"),
        ("peer_listen is not set", "--peer-listen"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(lines[place].starts_with(begins), "{problems}");
        assert!(lines[place].contains(says), "{problems}");
    }
    assert_eq!(lines.len(), 13, "{problems}");
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_the_line() {
    for (text, line) in [
        ("a = \n", 1),
        ("\n\nheartbeat = \"1s\n", 3),
        ("x = 1\nx = 2\n", 2),
    ] {
        let problems = file(text).finish().unwrap_err();
        let begins = format!("q.toml:{line}: ");
        assert!(problems.starts_with(&begins), "{text:?}: {problems}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused_wherever_they_come_from() {
    let mut given = file(REQUIRED);
    env(&mut given, &[("QUORATE_HEARTBEAT", "900ms")]);
    let refused = given.finish().unwrap_err();
    assert!(refused.contains("--heartbeat"), "{refused}");
}

#[test]
fn a_file_for_several_nodes_need_not_say_which_one() {
    assert!(file("heartbeat = \"100ms\"\n").check().is_ok());
    assert!(file("heartbeat = \"100ms\"\n").finish().is_err());
    assert_eq!(file("").missing().len(), 4);
}

#[test]
fn variables_of_scripts_and_of_kubernetes_are_no_mistakes() {
    let mut given = file(REQUIRED);
    env(
        &mut given,
        &[
            ("QUORATE_PORT", "tcp://10.0.0.1:7001"),
            ("QUORATE_SERVICE_HOST", "10.0.0.1"),
            ("QUORATE_PORT_7001_TCP_ADDR", "10.0.0.1"),
            ("QUORATE_DIR", "/tmp"),
            ("QUORATE_FLAGS", ""),
        ],
    );
    given.finish().unwrap();
}

#[test]
fn the_example_is_read_without_a_complaint_once_uncommented() {
    let example = super::super::settings::example();
    let uncommented: String = example
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let given = file(&uncommented);
    assert_eq!(given.problems(), [""; 0]);
    let given_all = given.rows().iter().all(|row| *row.2 != Origin::Default);
    assert!(given_all);
    given.finish().unwrap();
}
