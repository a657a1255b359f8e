use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::http::error::Code;
use crate::http::routes as all_routes;

fn served() -> Value {
    serde_json::from_slice(&TEXT).unwrap()
}

/// Every `$ref` below `value`.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str().filter(|_| name == "$ref") {
                    Some(target) => drop(found.insert(target.to_owned())),
                    None => references(member, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    let text = std::str::from_utf8(&TEXT).unwrap().to_owned() + "\n";
    if std::env::var_os("QUORATE_RENEW").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = reviewed
        .lines()
        .zip(text.lines())
        .position(|(reviewed, now)| reviewed != now);
    assert!(
        reviewed == text,
        "the API differs from tests/openapi.json, first at line {}. If that is meant, renew the file and review it:\n  \
         QUORATE_RENEW=1 cargo test --release --lib the_document_is_the_one",
        differs.map_or(reviewed.lines().count().min(text.lines().count()), |at| at) + 1
    );
}

#[test]
fn every_endpoint_is_described_and_nothing_else() {
    let document = served();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let mut served = BTreeSet::new();
    for route in all_routes().listed() {
        let path = route.path.replace("{*", "{");
        served.insert(format!("{} {path}", route.method));
    }
    assert_eq!(described, served);
    assert!(served.len() > 20);
}

#[test]
fn what_the_document_refers_to_is_there_and_nothing_lies_idle() {
    let document = served();
    assert_eq!(document["openapi"], "3.1.0");
    let mut wanted = BTreeSet::new();
    references(&document, &mut wanted);
    let mut held = BTreeSet::new();
    for (kind, components) in document["components"].as_object().unwrap() {
        for name in components.as_object().unwrap().keys() {
            held.insert(format!("#/components/{kind}/{name}"));
        }
    }
    let missing: Vec<_> = wanted.difference(&held).collect();
    assert!(missing.is_empty(), "referred to, not there: {missing:?}");
    let idle: Vec<_> = held.difference(&wanted).collect();
    assert!(idle.is_empty(), "there, not referred to: {idle:?}");
}

#[test]
fn every_operation_has_a_name_of_its_own_a_success_and_problems() {
    let document = served();
    let mut names = BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap().to_owned();
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2')),
                "{name}"
            );
            assert!(responses.contains_key("500"), "{name}");
            assert!(operation["summary"].is_string(), "{name}");
            assert!(names.insert(name), "twice: {operation}");
        }
    }
}

#[test]
fn every_code_of_a_problem_belongs_to_an_endpoint() {
    let routes = all_routes();
    for code in Code::ALL {
        // Of no endpoint: what does not lead to one.
        let nowhere = matches!(code, Code::MethodNotAllowed);
        let listed = routes
            .listed()
            .iter()
            .any(|route| route.operation.problems().contains(code));
        assert_eq!(listed, !nowhere, "{code:?}");
    }
}
