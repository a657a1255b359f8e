//! Run directories: the kept samples, what a check leaves, and what a report says.

use std::fs;
use std::path::{Path, PathBuf};

use crate::history::History;
use crate::history::nemesis::Process;
use crate::promises::{Limits, judge};
use crate::report::plots;
use crate::report::summary::markdown;
use crate::report::{Report, nemesis};
use crate::run::Evidence;

use super::store::{Flaw, Options, simulate};
use super::{Claim, claim, red};

/// Claims of this file.
pub(crate) const ALL: &[Claim] = &[
    claim!(the_green_sample_is_green),
    claim!(the_red_sample_is_red_for_its_one_reason),
    claim!(the_sample_of_real_nodes_is_green_and_that_of_a_mutant_red),
    claim!(the_samples_are_small),
    claim!(a_check_leaves_every_file_and_changes_none_that_it_read),
    claim!(a_directory_that_breaks_its_format_is_refused_with_file_and_line),
    claim!(a_report_names_what_was_read_and_what_was_acknowledged),
    claim!(latency_before_any_fault_knows_no_recovery),
    claim!(a_killed_node_is_shaded_until_it_serves_again),
    claim!(a_killed_leader_leads_no_longer_and_one_cut_off_is_doubtful),
    claim!(what_a_fault_does_to_processes_is_said_of_faults_that_there_are),
    claim!(a_run_leaves_what_was_done_to_the_cluster_by_itself),
    claim!(latency_is_told_inside_and_outside_of_faults_by_operation_and_level),
    claim!(a_report_says_last_what_was_not_possible),
    claim!(a_report_ends_with_what_to_look_at_and_tells_shapes),
    claim!(a_wrong_name_is_refused_with_the_near_one),
    claim!(every_plot_is_drawn_and_is_well_formed),
    claim!(a_timeline_shows_shapes_what_was_sent_again_and_errors),
    claim!(a_timeline_needs_nothing_from_outside),
];

/// A run that was kept. Of the simulated store: `green`, or `red` for a stale lease read; of real nodes: `real`, and `mutant`.
pub(super) fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/faults/sample")
        .join(name)
}

fn report(evidence: &Evidence) -> Report {
    Report::new(evidence, judge(evidence, &Limits::default()))
}

fn the_green_sample_is_green() {
    let evidence = Evidence::load(&sample("green")).expect("the sample keeps the format");
    let none: [&str; 0] = [];
    assert_eq!(red(&evidence), none);
    assert!(evidence.history.operations.len() > 200);
}

fn the_red_sample_is_red_for_its_one_reason() {
    let evidence = Evidence::load(&sample("red")).expect("the sample keeps the format");
    assert_eq!(red(&evidence), ["linear", "witness"]);
    let text = markdown(&report(&evidence));
    assert!(text.starts_with("# RED: register on 3 nodes"), "{text}");
    assert!(text.contains("- lease read of "), "{text}");
    assert!(text.contains(" was acknowledged; "), "{text}");
}

fn the_sample_of_real_nodes_is_green_and_that_of_a_mutant_red() {
    let real = Evidence::load(&sample("real")).expect("the sample keeps the format");
    let none: [&str; 0] = [];
    assert_eq!(red(&real), none);
    let mutant = Evidence::load(&sample("mutant")).expect("the sample keeps the format");
    assert_eq!(red(&mutant), ["linear", "witness"]);
}

fn the_samples_are_small() {
    for name in ["green", "red", "real", "mutant"] {
        let mut bytes = 0;
        for dir in [sample(name), sample(name).join("logs")] {
            for entry in fs::read_dir(&dir).expect("the sample is there") {
                let about = entry.and_then(|entry| entry.metadata()).expect("a file");
                bytes += if about.is_file() { about.len() } else { 0 };
            }
        }
        assert!(bytes < 300_000, "{name} has {bytes} bytes");
    }
}

fn a_check_leaves_every_file_and_changes_none_that_it_read() {
    let dir = tempfile::tempdir().expect("a directory for files that come and go");
    let files = simulate(&Options::small(2, "mixed"));
    files
        .write(dir.path())
        .expect("the directory can be written");
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect(name);
    let before = [
        "plan.json",
        "final.json",
        "history.jsonl",
        "logs/n1.applied.jsonl",
        "logs/n1.log",
    ]
    .map(read);
    assert!(crate::check(dir.path(), dir.path(), &Limits::default()).expect("it can be judged"));
    let after = [
        "plan.json",
        "final.json",
        "history.jsonl",
        "logs/n1.applied.jsonl",
        "logs/n1.log",
    ]
    .map(read);
    assert_eq!(before, after);
    for name in [
        "run.json",
        "report.md",
        "timeline.html",
        "history.edn",
        "nemesis.jsonl",
        "keys/r0.edn",
        "plots/latency-raw.svg",
    ] {
        assert!(!read(name).is_empty());
    }
    let run: serde_json::Value = serde_json::from_str(&read("run.json")).expect("run.json is JSON");
    assert_eq!(run["verdict"], "green");
    assert_eq!(run["plan"]["seed"], 2);
    assert!(run["statistics"]["faults"]["kill"]["on_leader"].as_u64() > Some(0));
    let again = Evidence::load(dir.path()).expect("the reports are in nobody's way");
    assert_eq!(
        again.history.events.len(),
        History::parse("h", &before[2])
            .expect("as before")
            .events
            .len()
    );
}

fn a_directory_that_breaks_its_format_is_refused_with_file_and_line() {
    let dir = tempfile::tempdir().expect("a directory for files that come and go");
    let mut files = simulate(&Options::small(2, "set"));
    let log = files.logs.get_mut(&2).expect("there is a node 2");
    *log = log.replacen("\"index\":5,", "\"index\":1,", 1);
    files
        .write(dir.path())
        .expect("the directory can be written");
    let error = crate::check(dir.path(), dir.path(), &Limits::default())
        .expect_err("an index falls")
        .to_string();
    assert!(
        error.contains("n2.applied.jsonl:") && error.contains("index 1 is below the line above"),
        "{error}"
    );
    assert!(
        !dir.path().join("run.json").exists(),
        "nothing is said of what could not be read"
    );
}

fn a_report_names_what_was_read_and_what_was_acknowledged() {
    let tale = "0 > write k 1\n0 ok @1\n0 > write k 2\n0 ok @2\n1 > read k lease\n1 ok =1 @1";
    let text = markdown(&report(&super::tale::evidence(tale, &["1 o0\n2 o1"])));
    let fact = "- lease read of k = 1 [ok at 0.005 s, history index 4-5, applied 1], after write of 2 to k [ok at 0.003 s, \
                history index 2-3, log 2] was acknowledged; write of 1 to k [ok at 0.001 s, history index 0-1, log 1] is older\n";
    assert!(text.contains(fact), "{text}");
    assert!(text.contains("| linear | **VIOLATED** (1) |"), "{text}");
}

/// A fault as a line of a tale has it.
fn step(id: u64, nodes: &[u64], shape: Option<&str>) -> String {
    let step = serde_json::json!({
        "id": id, "nodes": nodes, "on_leader": true, "outcome": "installed", "reason": shape,
    });
    // The words of a tale are between blanks.
    step.to_string().replace(' ', "\\u0020")
}

fn latency_before_any_fault_knows_no_recovery() {
    let kill = step(0, &[1], None);
    let tale = format!(
        "0 > write k 1\n0 ok @1\n-1 install kill {kill}\n-1 heal kill {kill}\n0 > write k 2\n-1 serving {{\"node\":1}}\n\
         -1 phase x\n0 ok @2"
    );
    let measured = report(&super::tale::evidence(&tale, &[])).statistics;
    let (calm, rest) = (measured.latency_calm, measured.latency_faulty);
    assert_eq!((calm["write"].count, rest["write"].count), (1, 1));
    assert!(calm["write"].max < 2.0 && rest["write"].max > 2.0);
}

fn a_killed_node_is_shaded_until_it_serves_again() {
    let (one, two) = (step(0, &[1, 2], None), step(1, &[2], None));
    let tale = format!(
        "-1 install kill {one}\n-1 heal kill {one}\n-1 serving {{\"node\":1}}\n-1 install kill {two}\n-1 heal kill {two}\n\
         -1 phase x\n-1 serving {{\"node\":2}}"
    );
    let ready = |tale: &str| {
        let windows = super::tale::history(tale).windows().into_iter();
        windows
            .map(|window| window.ready.map(|time| time / 1_000_000))
            .collect::<Vec<_>>()
    };
    // Node 2 was met by the second kill before it was back from the first.
    assert_eq!(ready(&tale), [Some(3), Some(6)]);
    let never = tale.replace("\n-1 serving {\"node\":2}", "");
    assert_eq!(ready(&never), [Some(3), Some(5)], "to the end of the run");
    let old = never.replace("\n-1 serving {\"node\":1}", "");
    assert_eq!(ready(&old), [None, None], "a run that does not say it");
}

fn a_killed_leader_leads_no_longer_and_one_cut_off_is_doubtful() {
    let (cut, kill) = (
        step(0, &[1, 2, 3], Some("halves: n1 | n2 n3")),
        step(1, &[1], None),
    );
    let tale = format!(
        "-1 leader {{\"node\":1,\"term\":3}}\n-1 install partition {cut}\n-1 heal partition {cut}\n-1 install kill {kill}\n\
         -1 phase x\n-1 leader {{\"node\":2,\"term\":4}}\n-1 heal kill {kill}"
    );
    let leads = |tale: &str| crate::report::leads::leads(&super::tale::history(tale));
    let [first, second] = &leads(&tale)[..] else {
        panic!("two led");
    };
    let ms = 1_000_000;
    assert_eq!((first.node, first.from, first.until), (1, 0, 3 * ms));
    assert_eq!(first.doubts, [(ms, 2 * ms)]);
    assert_eq!((second.node, second.term, second.until), (2, 4, 6 * ms));
    let other_side = tale.replace("halves:\\u0020n1\\u0020|", "halves:\\u0020n3\\u0020|");
    assert!(other_side != tale && leads(&other_side)[0].doubts.is_empty());
    // A disk that fails ends the leader, or not.
    let disk = tale.replace(" kill ", " disk ");
    let first = &leads(&disk)[0];
    assert_eq!((first.node, first.until), (1, 5 * ms));
    assert_eq!(first.doubts, [(ms, 2 * ms), (3 * ms, 5 * ms)]);
}

fn what_a_fault_does_to_processes_is_said_of_faults_that_there_are() {
    for fault in ["kill", "power", "rates", "disk", "pause"] {
        assert_ne!(Process::under(fault), Process::GoesOn, "{fault}");
        let mut all = crate::harness::faults::ALL.iter();
        assert!(all.any(|known| known.name() == fault), "{fault}");
    }
    assert_eq!(Process::under("partition"), Process::GoesOn);
    // Node 2 is met by a disk that fails before it is back from the kill, and awaited anew.
    let (kill, disk) = (step(0, &[1, 2], None), step(1, &[2], None));
    let tale = format!(
        "-1 install kill {kill}\n-1 heal kill {kill}\n-1 serving {{\"node\":1}}\n-1 install disk {disk}\n-1 heal disk {disk}\n\
         -1 phase x\n-1 serving {{\"node\":2}}"
    );
    let windows = super::tale::history(&tale).windows();
    let ready: Vec<_> = windows.iter().map(|window| window.ready).collect();
    assert_eq!(ready, [Some(3_000_000), Some(6_000_000)]);
}

fn a_run_leaves_what_was_done_to_the_cluster_by_itself() {
    let kill = step(0, &[1], None);
    let tale = format!("0 > write k 1\n-1 install kill {kill}\n0 ok @1\n-1 heal kill {kill}");
    let lines = nemesis(&super::tale::history(&tale));
    let told: Vec<&str> = lines.lines().collect();
    assert_eq!(told.len(), 2, "{lines}");
    assert!(told[0].contains("\"install\"") && told[1].contains("\"heal\""));
}

fn latency_is_told_inside_and_outside_of_faults_by_operation_and_level() {
    let kill = step(0, &[1], None);
    let tale = format!(
        "0 > write k 1\n0 ok @1\n-1 install kill {kill}\n0 > write k 2\n0 ok @2\n-1 heal kill {kill}\n0 > write k 3\n0 ok @3"
    );
    let report = report(&super::tale::evidence(&tale, &[]));
    let (inside, outside) = (
        &report.statistics.latency_inside,
        &report.statistics.latency_outside,
    );
    assert_eq!((inside["write"].count, outside["write"].count), (1, 2));
    let text = markdown(&report);
    assert!(text.contains("| write | outside | 2 | "), "{text}");
    assert!(text.contains("| write | inside | 1 | "), "{text}");
}

fn a_report_says_last_what_was_not_possible() {
    let skipped = step(0, &[1], Some("no root")).replace("\"installed\"", "\"skipped\"");
    let tale = format!("0 > write k 1\n0 ok @1\n-1 install power {skipped}");
    let text = markdown(&report(&super::tale::evidence(&tale, &[])));
    let last = text.lines().last();
    assert_eq!(last, Some("Not possible here: power x1 (no root)"));
}

fn a_report_ends_with_what_to_look_at_and_tells_shapes() {
    let evidence = Evidence::load(&sample("mutant")).expect("the sample keeps the format");
    let text = markdown(&report(&evidence));
    let last = "scripts/faults.sh mutants read-anywhere";
    let (_, end) = text.split_once("## What to look at").expect("how to go on");
    for told in [
        "timeline.html",
        "run --seed 2 --workload register --nodes 3 --faults partition",
        last,
    ] {
        assert!(end.contains(told), "{told} is not in {end}");
    }
    assert!(text.contains("Nothing to check in this run: bank, set, isolation, members."));
    let cut = step(0, &[1, 2, 3], Some("halves: n1 | n2 n3"));
    let tale = format!("-1 install partition {cut}\n-1 heal partition {cut}");
    let text = markdown(&report(&super::tale::evidence(&tale, &[])));
    assert!(
        text.contains("partition x1 (1 halves; 1 met the leader"),
        "{text}"
    );
}

fn a_wrong_name_is_refused_with_the_near_one() {
    use clap::Parser as _;
    let dir = tempfile::tempdir().expect("a directory for files that come and go");
    let root = dir.path().display().to_string();
    let words = ["faults", "run", "--faults", "partitions", "--root", &root];
    let Some(crate::Command::Run(options)) = crate::Args::parse_from(words).command else {
        panic!("that is a run");
    };
    let told = std::cell::RefCell::new(String::new());
    let error = crate::harness::run(&options, |text| told.borrow_mut().push_str(text))
        .expect_err("there is no such fault")
        .to_string();
    assert!(
        error.starts_with("no fault partitions (is it partition?); there are kill,"),
        "{error}"
    );
    assert_eq!(
        told.into_inner(),
        "",
        "nothing is said of a run that is none"
    );
}

fn every_plot_is_drawn_and_is_well_formed() {
    let evidence = simulate(&Options::small(4, "mixed")).evidence();
    for plot in plots::ALL {
        let svg = (plot.draw)(&evidence).unwrap_or_else(|| panic!("{} shows nothing", plot.name));
        assert!(
            svg.starts_with("<svg ") && svg.ends_with("</svg>\n"),
            "{}",
            plot.name
        );
        assert!(
            svg.contains("kill") && svg.contains("on the leader"),
            "{}: no faults",
            plot.name
        );
        assert!(
            !svg.contains("NaN") && !svg.contains("inf"),
            "{}: not a number",
            plot.name
        );
    }
    for plot in plots::ALL {
        assert_eq!(
            (plot.draw)(&Evidence::default()),
            None,
            "{}: of nothing",
            plot.name
        );
    }
}

fn a_timeline_shows_shapes_what_was_sent_again_and_errors() {
    let cut = step(0, &[1, 2, 3], Some("halves: n1 | n2 n3"));
    let tale = format!(
        "-1 install partition {cut}\n0 > write k 1\n0 ok @1\n0 > again o0\n0 info\n1 > read k leader\n1 info\n\
         -1 heal partition {cut}\n-1 serving {{\"node\":1}}\n-1 serving {{\"node\":2}}\n-1 serving {{\"node\":3}}"
    );
    let mut events = super::tale::events(&tale);
    events[6].error = Some("nobody leads".to_owned());
    let evidence = Evidence {
        history: History::from_events("tale", events).expect("a tale must keep the format"),
        ..Evidence::default()
    };
    let html = crate::report::timeline::html(&report(&evidence), &evidence);
    let (_, data) = html
        .split_once("type=\"application/json\">")
        .expect("the page has data");
    let (data, _) = data.split_once("</script>").expect("the data ends");
    let data: serde_json::Value = serde_json::from_str(data).expect("the data is JSON");
    assert_eq!(data["faults"][0]["shape"], "halves: n1 | n2 n3");
    let times = (&data["faults"][0]["end"], &data["faults"][0]["ready"]);
    assert_eq!(
        (times.0.as_u64(), times.1.as_u64()),
        (Some(7000), Some(10_000))
    );
    let rows = data["operations"].as_array().expect("rows");
    let told = |at: usize| {
        (
            rows[at][11].as_u64(),
            rows[at][13].as_bool(),
            rows[at][14].as_str(),
        )
    };
    assert_eq!(told(0), (Some(1), Some(false), None));
    assert_eq!(told(1), (Some(3), Some(true), None));
    assert_eq!(told(2), (Some(5), Some(false), Some("nobody leads")));
    assert_eq!(
        (rows.len(), &rows[0][0]),
        (3, &rows[1][0]),
        "again, in the lane of its client"
    );
}

fn a_timeline_needs_nothing_from_outside() {
    let options = Options {
        flaw: Some(Flaw::LostWrite),
        ..Options::small(1, "register")
    };
    let mut evidence = simulate(&options).evidence();
    evidence.plan.workload = "</script><b>".to_owned();
    let report = report(&evidence);
    let html = crate::report::timeline::html(&report, &evidence);
    for outside in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(
        html.matches("</script>").count(),
        2,
        "a name must not end a script"
    );
    assert!(!html.contains("__DATA__") && !html.contains("__TITLE__"));
}
