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
