//! Bugs that are built in on purpose stay where they belong: in builds that the fault tests alone make.

use std::fs;

use super::source::{Source, root};
use super::{assert_clean, project};

/// The one script that makes such builds.
const MAKER: &str = "scripts/faults.sh";
/// Where they are named.
const HOME: &str = "src/mutants.rs";

/// Features that the manifest switches on by themselves, or that switch on the mutants.
fn manifest(text: &str) -> Vec<String> {
    let features = text.split("[features]").nth(1).unwrap_or_default();
    let features = features.split("\n[").next().unwrap_or_default();
    features
        .lines()
        .filter_map(|line| line.split_once('='))
        .filter(|(name, list)| name.trim() == "default" || list.contains("mutants"))
        .map(|(name, _)| format!("Cargo.toml: feature {} has mutants", name.trim()))
        .collect()
}

/// Scripts, by path and text, that build with features.
fn scripts(files: &[(String, String)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (path, text) in files.iter().filter(|(path, _)| path != MAKER) {
        for (number, line) in text.lines().enumerate() {
            if line.contains("--features") || line.contains("--all-features") {
                complaints.push(format!("{path}:{}: builds with features", number + 1));
            }
        }
    }
    complaints
}

/// The feature asked about elsewhere than in [`HOME`], where being off costs nothing.
fn conditions(sources: &[Source]) -> Vec<String> {
    let asks = |source: &&Source| source.text.contains("feature = \"mutants\"");
    let others = sources
        .iter()
        .filter(|source| source.path.starts_with("src/") && source.path != HOME);
    others
        .filter(asks)
        .map(|source| format!("{}: asks for the feature itself", source.path))
        .collect()
}

/// Mutants that are named and built in nowhere.
fn unused(sources: &[Source]) -> Vec<String> {
    let home = sources.iter().find(|source| source.path == HOME);
    let list = home.map_or("", |home| &home.text);
    let list = list.split("\nmutants! {").nth(1).unwrap_or_default();
    let names = list.lines().map_while(|line| match line {
        "}" => None,
        line => Some(line.split_whitespace().next().unwrap_or_default()),
    });
    let is_used = |name: &&str| {
        let use_of = format!("Mutant::{name})");
        let mut others = sources.iter().filter(|source| source.path != HOME);
        others.any(|source| source.path.starts_with("src/") && source.code.contains(&use_of))
    };
    names
        .filter(|name| !name.is_empty() && !is_used(name))
        .map(|name| format!("{HOME}: {name} is built in nowhere"))
        .collect()
}

/// Crash points that are listed and passed nowhere, or passed and not listed.
fn crash_points(listed: &[&str], sources: &[Source]) -> Vec<String> {
    let sources = || {
        let others = sources.iter().filter(|source| source.path != HOME);
        others.filter(|source| source.path.starts_with("src/"))
    };
    let is_passed = |name: &&&str| {
        let ways = ["crash::at", ".point"].map(|way| format!("{way}(\"{name}\")"));
        sources().any(|source| ways.iter().any(|way| source.text.contains(way)))
    };
    let unpassed = listed.iter().filter(|name| !is_passed(name));
    let unpassed = unpassed.map(|name| format!("{HOME}: {name} is passed nowhere"));
    let unlisted = sources().flat_map(|source| {
        let passed = source.text.split("crash::at(\"").skip(1);
        let names = passed.filter_map(|rest| rest.split_once('"'));
        let strange = names.filter(|(name, _)| !listed.contains(name));
        strange.map(|(name, _)| format!("{}: {name} is not listed", source.path))
    });
    unpassed.chain(unlisted).collect()
}

#[test]
fn every_crash_point_is_passed_and_every_one_passed_is_listed() {
    let listed = quorate::mutants::CRASH_POINTS.iter();
    let listed: Vec<&str> = listed.map(|(name, _)| *name).collect();
    assert_clean(&crash_points(&listed, &project()));
    let at = |name: &str| Source::new("src/node.rs", &format!("crash::at(\"{name}\");"));
    assert_clean(&crash_points(&["a:b"], &[at("a:b")]));
    assert_eq!(crash_points(&["a:b"], &[]).len(), 1);
    assert_eq!(crash_points(&["a:b"], &[at("a:c")]).len(), 2);
}

#[cfg(not(feature = "mutants"))]
#[test]
fn nothing_of_the_crash_points_is_in_the_program() {
    let program = fs::read(env!("CARGO_BIN_EXE_quorate")).expect("the program that was built");
    let has = |text: &str| program.windows(text.len()).any(|at| at == text.as_bytes());
    assert!(has("QUORATE_MUTANT"), "what is looked for is not found");
    let traces = [
        quorate::mutants::CRASH_VARIABLE,
        "crash point",
        "log:synced",
        "purge:removed",
    ];
    assert_clean(
        &traces
            .into_iter()
            .filter(|trace| has(trace))
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_mutant_is_built_unless_asked_for() {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    assert!(text.contains("\nmutants = []\n"), "the feature is there");
    assert_clean(&manifest(&text));
    for broken in ["default = [\"mutants\"]", "fast = [\"mutants\"]"] {
        let broken = format!("[features]\nmutants = []\n{broken}\n[lints]\n");
        assert_eq!(manifest(&broken).len(), 1, "{broken}");
    }
    assert_clean(&conditions(&project()));
    let broken = Source::new("src/node.rs", "if cfg!(feature = \"mutants\") {}");
    assert_eq!(conditions(&[broken]).len(), 1);
}

#[test]
fn no_script_but_that_of_the_fault_tests_builds_mutants() {
    let mut files = Vec::new();
    for folder in ["scripts", ".ci"] {
        for entry in fs::read_dir(root().join(folder)).into_iter().flatten() {
            let path = entry.expect("a folder can be read").path();
            let name = path.file_name().expect("a name").to_string_lossy();
            let text = fs::read_to_string(&path).expect("scripts are text");
            files.push((format!("{folder}/{name}"), text));
        }
    }
    let maker = files.iter().find(|(path, _)| path == MAKER);
    assert!(maker.is_some_and(|(_, text)| text.contains("--features mutants")));
    assert_clean(&scripts(&files));
    let broken = (
        "scripts/demo.sh".to_owned(),
        "cargo build --features x".to_owned(),
    );
    assert_eq!(scripts(&[broken]).len(), 1);
}

#[test]
fn every_mutant_is_built_in_somewhere() {
    assert_clean(&unused(&project()));
    let named = "\nmutants! {\n    Gone \"gone\" \"It is gone.\"\n}\n";
    let home = Source::new(HOME, named);
    let used = Source::new("src/node.rs", "if mutants::on(Mutant::Gone) {}");
    assert_eq!(unused(std::slice::from_ref(&home)).len(), 1);
    assert_clean(&unused(&[home, used]));
}
