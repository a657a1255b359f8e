//! The description of the API, held against the API.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::nodes::{Answer, Nodes, run};

/// Headers that HTTP itself brings, and the one of the answers about methods.
const UNDESCRIBED: [&str; 4] = ["content-type", "content-length", "date", "allow"];
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"];

/// The document, and every path with its operations.
async fn document(nodes: &Nodes) -> (Value, Vec<(String, Map<String, Value>)>) {
    let answer = nodes.get(1, "/openapi.json").await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.json();
    let paths = document["paths"].as_object().expect("paths");
    let paths = paths
        .iter()
        .map(|(path, item)| (path.clone(), item.as_object().expect("an item").clone()))
        .collect();
    (document, paths)
}

/// A path with something in place of its parameter.
fn filled(path: &str) -> String {
    path.replace("{id}", "some:id")
        .replace("{key}", "some/key")
        .replace("{code}", "internal")
}

#[track_caller]
fn assert_described(what: &str, document: &Value, operation: &Value, answer: &Answer) {
    let mut response = &operation["responses"][answer.status.to_string()];
    if let Some(target) = response["$ref"].as_str() {
        response = document
            .pointer(target.trim_start_matches('#'))
            .expect("it leads somewhere");
    }
    assert!(
        response.is_object(),
        "{what}: {} is not described: {answer:?}",
        answer.status
    );
    let described: BTreeSet<String> = response["headers"]
        .as_object()
        .expect("headers")
        .keys()
        .map(|name| name.to_ascii_lowercase())
        .collect();
    for name in answer.headers.keys() {
        let name = name.as_str();
        assert!(
            described.contains(name) || UNDESCRIBED.contains(&name),
            "{what}: the header {name} is not described"
        );
    }
    if answer.status != 304 && !what.starts_with("HEAD") {
        let media = answer
            .header("content-type")
            .split(';')
            .next()
            .unwrap_or_default();
        assert!(
            response["content"][media].is_object(),
            "{what}: {} in {media} is not described",
            answer.status
        );
    }
}

#[test]
fn every_path_takes_the_methods_that_are_described_and_no_other() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let (document, paths) = document(&nodes).await;
        for (path, operations) in paths {
            let target = filled(&path);
            let mut allowed = BTreeSet::from(["OPTIONS".to_owned()]);
            for method in METHODS {
                let what = format!("{method} {path}");
                let answer = nodes.ask(1, method, &target, &[], "").await;
                // HEAD stands for GET without the body.
                let described = method.to_lowercase().replace("head", "get");
                if let Some(operation) = operations.get(&described) {
                    allowed.insert(method.to_owned());
                    assert_described(&what, &document, operation, &answer);
                    if answer.status == 404 && method != "HEAD" {
                        assert_ne!(answer.problem().1, "not_found", "{what}");
                    }
                } else if method == "HEAD" {
                    assert_eq!(answer.status, 405, "{what}");
                } else {
                    assert_eq!(
                        answer.problem(),
                        (405, "method_not_allowed".to_owned()),
                        "{what}"
                    );
                }
            }
            let options = nodes.ask(1, "OPTIONS", &target, &[], "").await;
            assert_eq!((options.status, options.body.len()), (204, 0), "{path}");
            let listed = options.header("allow").split(',').map(str::to_owned);
            assert_eq!(listed.collect::<BTreeSet<_>>(), allowed, "{path}");
        }
        nodes.end().await;
    });
}

#[test]
fn every_example_of_a_body_is_understood() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let (document, paths) = document(&nodes).await;
        let bank = json!({ "id": "bank", "ledger": "usd" });
        let mut met = 0;
        // What later examples need comes first.
        for path in [
            "/v1/ledgers",
            "/v1/accounts",
            "/v1/transfers",
            "/v1/transfers/batch",
        ] {
            let operation = &paths.iter().find(|(known, _)| known == path).expect("it").1["post"];
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            if path == "/v1/transfers" {
                assert_eq!(nodes.post(1, "/v1/accounts", &bank).await.status, 201);
            }
            let answer = nodes.post(1, path, example).await;
            assert!(answer.status < 300, "{path}: {answer:?}");
            assert_described(&format!("POST {path}"), &document, operation, &answer);
            met += 1;
        }
        let bodies = paths.iter().filter(|(_, item)| {
            let content = item.get("post").map(|post| &post["requestBody"]["content"]);
            content.is_some_and(|content| content["application/json"].is_object())
        });
        // The examples that form a cluster, move its leadership and change its members name nodes that do not run: other tests
        // send such bodies.
        let others: Vec<_> = bodies.map(|(path, _)| path.as_str()).collect();
        assert_eq!(others.len(), met + 6, "{others:?}");
        nodes.end().await;
    });
}

#[test]
fn what_a_client_cannot_read_is_neither_done_nor_sent() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let (_, paths) = document(&nodes).await;
        for (path, operations) in &paths {
            for method in operations.keys() {
                let method = method.to_uppercase();
                let headers = [
                    ("accept", "image/png"),
                    ("content-type", "application/json"),
                ];
                let answer = nodes.ask(1, &method, &filled(path), &headers, "{}").await;
                assert_eq!(
                    answer.problem(),
                    (406, "not_acceptable".to_owned()),
                    "{method} {path}"
                );
                assert!(answer.json()["available"].is_array());
            }
        }
        assert_eq!(nodes.get(1, "/v1/kv/some/key").await.status, 404);
        let either = [("accept", "image/png, application/json;q=0.5, */*;q=0.1")];
        nodes.put(1, "/v1/kv/some/key", &either, "v").await;
        let read = nodes.ask(1, "GET", "/v1/kv/some/key", &either, "").await;
        assert_eq!(read.json()["value"], "v");
        nodes.end().await;
    });
}

#[test]
fn every_get_may_be_asked_without_the_body() {
    run(async {
        let nodes = Nodes::formed(1).await;
        nodes.put(1, "/v1/kv/some/key", &[], "value").await;
        let (document, paths) = document(&nodes).await;
        for (path, operations) in &paths {
            if !operations.contains_key("get") {
                continue;
            }
            let target = filled(path);
            let get = nodes.get(1, &target).await;
            let head = nodes.ask(1, "HEAD", &target, &[], "").await;
            assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
            let length = head.header("content-length");
            assert!(length.is_empty() || length != "0", "{path}");
            for name in ["content-type", "etag", "quorate-index", "kv-version"] {
                assert_eq!(head.header(name), get.header(name), "{path} {name}");
            }
            assert_described(
                &format!("HEAD {path}"),
                &document,
                &operations["get"],
                &head,
            );
        }
        nodes.end().await;
    });
}

#[test]
fn the_type_of_a_problem_leads_to_its_page() {
    run(async {
        let nodes = Nodes::start(1).await;
        let problem = nodes.get(1, "/v1/kv/a").await;
        let page = nodes
            .get(1, problem.json()["type"].as_str().expect("a path"))
            .await;
        let text = String::from_utf8(page.body.to_vec()).expect("text");
        assert_eq!(page.status, 200);
        assert!(
            text.contains(problem.json()["title"].as_str().expect("a title")),
            "{text}"
        );
        let list = nodes.get(1, "/errors").await;
        let list = String::from_utf8(list.body.to_vec()).expect("text");
        for line in list.lines() {
            let code = line.split(' ').next().expect("a code");
            assert_eq!(
                nodes.get(1, &format!("/errors/{code}")).await.status,
                200,
                "{code}"
            );
        }
        let unknown = nodes.get(1, "/errors/no_such_code").await;
        assert_eq!(unknown.problem(), (404, "not_found".to_owned()));
        nodes.end().await;
    });
}
