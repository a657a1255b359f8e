//! The rules of the house, as tests: which layer may name which, what a file may look like, what may lie where.
//!
//! Each rule is a function from sources to complaints. It runs over the project, and over a small sample that breaks it:
//! a rule that cannot fail is no rule.

#[path = "support/source.rs"]
mod source;

#[path = "tidy/mutants.rs"]
mod mutants;

use std::collections::BTreeSet;
use std::fs;

use source::{Source, root, rust_files};

/// A layer and the layers it may name. `main` and `lib` stand outside: they wire, they do not decide.
const LAYERS: &[(&str, &[&str])] = &[
    (
        "cli",
        &["node", "http", "client", "storage", "machine", "mutants"],
    ),
    ("node", &["http", "raft", "storage", "machine"]),
    ("http", &["client", "raft", "machine", "mutants"]),
    ("client", &["machine"]),
    ("raft", &["storage", "machine", "mutants"]),
    ("storage", &["machine", "mutants"]),
    ("machine", &["mutants"]),
    ("mutants", &[]),
];

/// A foreign crate and the only layers that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["http"]),
    ("utoipa", &["http"]),
    ("prometheus", &["http"]),
    ("csv", &["http"]),
    ("tower", &["node", "http"]),
    ("openraft", &["raft"]),
    ("rocksdb", &["storage"]),
    ("clap", &["cli", "config"]),
    ("clap_complete", &["cli"]),
    ("anyhow", &["cli", "node", "config", "raft", "storage"]),
];

/// All that the deterministic core may name: an encoding, hashes, error derives. No clock, no disk, no network.
const MACHINE_CRATES: &[&str] = &[
    "serde",
    "thiserror",
    "blake3",
    "crc32c",
    "postcard",
    "hashbrown",
];

const LINES_MAX: usize = 500;
const FOLDERS: &[&str] = &["src", "tests", "scripts", "benches"];
const FILES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
];

fn project() -> Vec<Source> {
    rust_files(&["src", "tests", "benches"])
}

/// Fails with every complaint on its own line.
fn assert_clean(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// Fails unless `rule` complains about the one-file sample.
fn assert_caught(rule: impl Fn(&[Source]) -> Vec<String>, path: &str, text: &str) {
    let complaints = rule(&[Source::new(path, text)]);
    assert!(!complaints.is_empty(), "not caught: {text}");
}

/// Fails if `rule` complains about the one-file sample.
fn assert_passed(rule: impl Fn(&[Source]) -> Vec<String>, path: &str, text: &str) {
    assert_clean(&rule(&[Source::new(path, text)]));
}

/// Every path in the code, as its segments: `a::b` of `use a::b;`. Braced lists are followed one level: `a::{b, c::d}`
/// gives `a::b` and `a::c`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(word) {
        let joined = rest[..start].ends_with("::");
        let tail = &rest[start..];
        let len = tail.find(|c| !word(c)).unwrap_or(tail.len());
        let mut path = vec![tail[..len].to_owned()];
        let after = tail[len..].trim_start();
        if !joined && let Some(next) = after.strip_prefix("::") {
            for name in heads(next.trim_start()) {
                path.truncate(1);
                path.push(name);
                found.push(path.clone());
            }
        }
        rest = &tail[len..];
    }
    found
}

/// The first name of what follows `::`, or of each item of the braced list that does.
fn heads(next: &str) -> Vec<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |text: &str| text.trim().chars().take_while(|c| word(*c)).collect();
    let Some(list) = next.strip_prefix('{') else {
        return vec![name(next)];
    };
    let mut depth = 0;
    let (mut items, mut item) = (Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(std::mem::take(&mut item)),
            _ => item.push(c),
        }
    }
    items.push(item);
    items.iter().map(|item| name(item)).collect()
}

fn layering(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let Some((layer, allowed)) = LAYERS.iter().find(|(name, _)| source.layer() == Some(name))
        else {
            continue;
        };
        for path in paths(&source.code) {
            // The library's own name is how `main` and doc examples see it; inside the library `crate` is.
            let inner = path[0] == "crate" || path[0] == "quorate";
            let names_layer = LAYERS.iter().any(|(name, _)| *name == path[1]);
            if inner && names_layer && path[1] != *layer && !allowed.contains(&path[1].as_str()) {
                complaints.push(format!("{}: {layer} names {}", source.path, path[1]));
            }
        }
    }
    complaints
}

fn foreign_crates(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        let Some(layer) = source.layer() else {
            continue;
        };
        for path in paths(&source.code) {
            let home = HOMES.iter().find(|(name, _)| *name == path[0]);
            if home.is_some_and(|(_, homes)| !homes.contains(&layer)) {
                complaints.push(format!("{}: {layer} names {}", source.path, path[0]));
            }
        }
    }
    complaints
}

/// Crates that the manifest lists, as code names them.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let list = manifest.split("[dependencies]").nth(1).expect("a list");
    let list = list.split("\n[").next().expect("split gives one part");
    list.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect()
}

fn machine_purity(sources: &[Source]) -> Vec<String> {
    let known = dependencies();
    let effects = ["fs", "net", "thread", "env", "process", "time", "io"];
    let mut complaints = Vec::new();
    // What the machine may name must be as pure as itself.
    let pure = [Some("machine"), Some("mutants")];
    for source in sources.iter().filter(|s| pure.contains(&s.layer())) {
        for path in paths(&source.code) {
            let foreign = known.contains(&path[0]) && !MACHINE_CRATES.contains(&path[0].as_str());
            let effect = path[0] == "std" && effects.contains(&path[1].as_str());
            if foreign || effect {
                let named = path.join("::");
                complaints.push(format!("{}: the pure core names {named}", source.path));
            }
        }
    }
    complaints
}

fn module_prose(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| {
            ["mod.rs", "lib.rs", "main.rs"]
                .iter()
                .any(|n| source.path.ends_with(n))
        })
        .filter(|source| !source.text.starts_with("//!"))
        .map(|source| format!("{}: does not open with //!", source.path))
        .collect()
}

fn file_length(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .filter(|source| source.text.lines().count() > LINES_MAX)
        .map(|source| format!("{}: over {LINES_MAX} lines, split it by verb", source.path))
        .collect()
}

fn ascii(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources {
        for (number, line) in source.text.lines().enumerate() {
            if !line.is_ascii() {
                complaints.push(format!("{}:{}: not ASCII", source.path, number + 1));
            }
        }
    }
    complaints
}

fn unfinished(sources: &[Source]) -> Vec<String> {
    let banned = ["#[ignore", "todo!(", "unimplemented!(", "dbg!("];
    let mut complaints = Vec::new();
    for source in sources {
        for (number, line) in source.code.lines().enumerate() {
            if let Some(what) = banned.iter().find(|what| line.contains(**what)) {
                complaints.push(format!("{}:{}: {what}", source.path, number + 1));
            }
        }
    }
    complaints
}

/// Names at the top of the tree that nobody agreed to. `ignored` are those that version control ignores.
fn top_level(entries: &[(String, bool)], ignored: &[String]) -> Vec<String> {
    entries
        .iter()
        .filter(|(name, _)| !name.starts_with('.') && !ignored.contains(name))
        .filter(|(name, is_dir)| {
            let agreed = if *is_dir { FOLDERS } else { FILES };
            !agreed.contains(&name.as_str())
        })
        .map(|(name, _)| format!("{name}: not agreed at the top level"))
        .collect()
}

/// The paths in backticks in the `//!` prose of `lib`, such as `raft::batcher::Batcher::run`.
fn named_in_prose(lib: &Source) -> Vec<String> {
    let prose = lib.text.lines().filter(|line| line.starts_with("//!"));
    let text = prose.collect::<Vec<_>>().join("\n");
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(|span| span.trim_start_matches("crate::"))
        .filter(|span| span.contains("::"))
        .filter(|span| {
            span.chars()
                .all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
        })
        .filter(|span| {
            LAYERS
                .iter()
                .any(|(layer, _)| span.split("::").next() == Some(layer))
        })
        .map(str::to_owned)
        .collect()
}

fn declares(source: &Source, name: &str) -> bool {
    [
        "fn ", "struct ", "enum ", "trait ", "type ", "const ", "static ", "mod ",
    ]
    .iter()
    .any(|keyword| {
        source
            .code
            .match_indices(&format!("{keyword}{name}"))
            .any(|(at, found)| {
                let after = source.code[at + found.len()..].chars().next();
                !after.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_')
            })
    })
}

/// Whether `path` leads somewhere: its modules to a file or folder, its names to declarations in one file there.
fn exists(path: &str, sources: &[Source]) -> bool {
    let segments: Vec<&str> = path.split("::").collect();
    let is_module = |depth: &usize| {
        let base = format!("src/{}", segments[..*depth].join("/"));
        let (file, folder) = (format!("{base}.rs"), format!("{base}/"));
        sources
            .iter()
            .any(|s| s.path == file || s.path.starts_with(&folder))
    };
    let depth = (1..=segments.len())
        .take_while(is_module)
        .last()
        .unwrap_or(0);
    if depth == 0 {
        return false;
    }
    let base = format!("src/{}", segments[..depth].join("/"));
    let (file, folder) = (format!("{base}.rs"), format!("{base}/"));
    let names = &segments[depth..];
    names.is_empty()
        || sources
            .iter()
            .filter(|source| source.path == file || source.path.starts_with(&folder))
            .any(|source| {
                let (last, types) = names.split_last().expect("not empty");
                declares(source, last) && types.iter().all(|name| source.code.contains(name))
            })
}

fn prose_is_true(sources: &[Source]) -> Vec<String> {
    let Some(lib) = sources.iter().find(|source| source.path == "src/lib.rs") else {
        return vec!["src/lib.rs is missing".to_owned()];
    };
    named_in_prose(lib)
        .into_iter()
        .filter(|path| !exists(path, sources))
        .map(|path| format!("src/lib.rs names {path}, which is not there"))
        .collect()
}

#[test]
fn each_layer_names_only_those_below_it() {
    assert_clean(&layering(&project()));
    assert_caught(layering, "src/http/kv.rs", "use crate::storage::log::Log;");
    assert_caught(layering, "src/http/kv.rs", "use crate::{raft, storage};");
    assert_caught(
        layering,
        "src/machine/mod.rs",
        "fn f() { crate :: raft::go() }",
    );
    assert_caught(layering, "src/node.rs", "use crate::cli::Args;");
    assert_passed(
        layering,
        "src/http/kv.rs",
        "// crate::storage\nuse crate::raft::View;",
    );
}

#[test]
fn each_foreign_crate_has_one_home() {
    assert_clean(&foreign_crates(&project()));
    assert_caught(foreign_crates, "src/raft/client.rs", "use axum::Router;");
    assert_caught(
        foreign_crates,
        "src/http/kv.rs",
        "fn f(x: openraft::Raft) {}",
    );
    assert_caught(foreign_crates, "src/raft/log.rs", "use rocksdb::DB;");
    assert_passed(
        foreign_crates,
        "src/raft/log.rs",
        "const A: &str = \"rocksdb::DB\";",
    );
}

#[test]
fn the_machine_names_no_clock_disk_or_network() {
    assert_clean(&machine_purity(&project()));
    assert_caught(
        machine_purity,
        "src/machine/kv/put.rs",
        "use tokio::sync::watch;",
    );
    assert_caught(
        machine_purity,
        "src/machine/apply.rs",
        "use std::{fmt, time};",
    );
    assert_caught(
        machine_purity,
        "src/machine/apply.rs",
        "let a = std::fs::read(p);",
    );
    assert_passed(
        machine_purity,
        "src/machine/apply.rs",
        "use serde::Serialize;",
    );
}

#[test]
fn every_module_opens_with_its_prose() {
    assert_clean(&module_prose(&project()));
    assert_caught(
        module_prose,
        "src/http/mod.rs",
        "use axum::Router;\n//! Late.",
    );
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    assert_clean(&file_length(&project()));
    assert_caught(file_length, "src/node.rs", &"\n".repeat(LINES_MAX + 1));
    assert_passed(file_length, "src/node.rs", &"\n".repeat(LINES_MAX));
}

#[test]
fn source_is_ascii() {
    assert_clean(&ascii(&project()));
    assert_caught(ascii, "src/node.rs", "// at most \u{2264} 3\n");
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    assert_clean(&unfinished(&project()));
    assert_caught(
        unfinished,
        "tests/a.rs",
        "#[test]\n#[ignore = \"slow\"]\nfn a() {}",
    );
    assert_caught(unfinished, "src/node.rs", "fn f() { todo!() }");
    assert_passed(unfinished, "src/node.rs", "// todo!() was here\n");
}

#[test]
fn the_top_level_holds_only_what_was_agreed() {
    let ignore = fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let ignored: Vec<String> = ignore
        .lines()
        .map(|l| l.trim_matches('/').to_owned())
        .collect();
    let entries = fs::read_dir(root())
        .expect("the root can be read")
        .flatten();
    let entries: Vec<(String, bool)> = entries
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                entry.path().is_dir(),
            )
        })
        .collect();
    assert_clean(&top_level(&entries, &ignored));
    let stray = [("docs".to_owned(), true), ("Makefile".to_owned(), false)];
    assert_eq!(top_level(&stray, &[]).len(), 2);
}

#[test]
fn what_the_overview_names_is_there() {
    let sources = rust_files(&["src"]);
    assert_clean(&prose_is_true(&sources));
    let overview = sources
        .iter()
        .find(|source| source.path == "src/lib.rs")
        .expect("an overview");
    assert!(
        named_in_prose(overview).len() >= 10,
        "the story of a write and of a read names functions"
    );
    let lib = |prose: &str| Source::new("src/lib.rs", prose);
    let batcher = Source::new(
        "src/raft/batcher.rs",
        "impl Batcher { fn run_all(self) {} }",
    );
    let all = |prose: &str| prose_is_true(&[lib(prose), Source::new(&batcher.path, &batcher.text)]);
    assert_eq!(
        all("//! 1. `raft::batcher::Batcher::run` collects").len(),
        1
    );
    assert_eq!(all("//! 1. `raft::gone::Batcher::run_all`").len(), 1);
    assert_clean(&all(
        "//! 1. [`raft::batcher::Batcher::run_all`], then `raft::batcher`",
    ));
}

#[test]
fn strings_and_comments_are_not_code() {
    let text =
        "let a = \"x::y\\\"\"; /* b::c */ let r = r#\"d\"::e\"#; let c = '\"'; f::<'a>() // g::h";
    let code = source::blank(text);
    assert_eq!(code.len(), text.len());
    for gone in ["x::y", "b::c", "e\"#", "g::h"] {
        assert!(!code.contains(gone), "{gone} in {code}");
    }
    assert!(code.contains("f::<'a>()"), "{code}");
}
