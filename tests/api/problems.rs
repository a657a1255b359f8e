//! Requests that are wrong.

use serde_json::{Value, json};

use crate::nodes::{Nodes, run};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[test]
fn wrong_requests_are_named_and_change_nothing() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let before = nodes.get(1, "/v1/cluster").await.json()["last_log_index"].clone();
        let long = format!("/v1/kv/a?{}=1", "x".repeat(100));
        for (method, target, headers, body, status, code) in [
            ("GET", "/", &[][..], "", 404, "not_found"),
            ("GET", "/v1", &[], "", 404, "not_found"),
            ("GET", "/v1/ledgers/", &[], "", 404, "not_found"),
            ("GET", "/v1//ledgers", &[], "", 404, "not_found"),
            ("GET", "/v1/../v1/ledgers", &[], "", 404, "not_found"),
            ("DELETE", "/v1/ledgers", &[], "", 405, "method_not_allowed"),
            ("PATCH", "/v1/kv/a", &[], "", 405, "method_not_allowed"),
            (
                "POST",
                "/v1/ledgers",
                &[],
                "{}",
                415,
                "unsupported_media_type",
            ),
            (
                "POST",
                "/v1/transfers",
                &[("content-type", "text/plain")],
                "{}",
                415,
                "unsupported_media_type",
            ),
            ("POST", "/v1/transfers", &JSON, "{", 400, "malformed_json"),
            (
                "POST",
                "/v1/transfers",
                &JSON,
                "{} {}",
                400,
                "malformed_json",
            ),
            ("POST", "/v1/transfers", &JSON, "[]", 400, "invalid_value"),
            (
                "POST",
                "/v1/transfers/batch",
                &JSON,
                "{}",
                400,
                "missing_field",
            ),
            (
                "POST",
                "/v1/transfers?x=1",
                &JSON,
                "{}",
                400,
                "unknown_parameter",
            ),
            (
                "POST",
                "/v1/transfers?consistency=leader",
                &JSON,
                "{}",
                400,
                "unknown_parameter",
            ),
            (
                "GET",
                "/v1/ledgers?limit=1&limit=2",
                &[],
                "",
                400,
                "duplicate_parameter",
            ),
            ("GET", "/v1/ledgers?limit=0", &[], "", 400, "invalid_value"),
            (
                "GET",
                "/v1/ledgers?cursor=abc",
                &[],
                "",
                400,
                "invalid_cursor",
            ),
            (
                "GET",
                "/v1/accounts/a/transfers?sort=amount",
                &[],
                "",
                400,
                "unsupported_sort",
            ),
            (
                "GET",
                "/v1/accounts?ledger=%20",
                &[],
                "",
                400,
                "invalid_value",
            ),
            ("GET", "/v1/accounts/%20", &[], "", 400, "invalid_value"),
            (
                "GET",
                "/v1/kv/a?consistency=weak",
                &[],
                "",
                400,
                "invalid_value",
            ),
            (
                "GET",
                "/v1/kv/a",
                &[("quorate-consistency", "weak")],
                "",
                400,
                "invalid_value",
            ),
            ("GET", "/v1/kv/a?timeout=5", &[], "", 400, "invalid_value"),
            ("GET", "/v1/kv/a?timeout=61s", &[], "", 400, "invalid_value"),
            (
                "PUT",
                "/v1/kv/a",
                &[("quorate-timeout", "x")],
                "",
                400,
                "invalid_value",
            ),
            ("GET", &long, &[], "", 400, "unknown_parameter"),
            ("GET", "/readyz?verbose", &[], "", 400, "unknown_parameter"),
            (
                "POST",
                "/v1/cluster/init",
                &JSON,
                "{\"members\":[]}",
                422,
                "invalid_members",
            ),
        ] {
            let answer = nodes.ask(1, method, target, headers, body.to_owned()).await;
            assert_eq!(
                answer.problem(),
                (status, code.to_owned()),
                "{method} {target} {body}"
            );
        }
        let after = nodes.get(1, "/v1/cluster").await.json()["last_log_index"].clone();
        assert_eq!(before, after, "nothing was written");
        let allow = nodes.ask(1, "DELETE", "/v1/ledgers", &[], "").await;
        let mut methods: Vec<_> = allow.header("allow").split(',').collect();
        methods.sort_unstable();
        assert_eq!(methods, ["GET", "HEAD", "OPTIONS", "POST"]);
        nodes.end().await;
    });
}

#[test]
fn all_that_is_wrong_with_a_body_is_listed() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let body =
            json!({ "id": "", "debit_account": 1, "amount": "1.5", "code": -1, "more": null });
        let answer = nodes.post(1, "/v1/transfers", &body).await;
        assert_eq!(answer.problem().0, 400);
        let mut pointers: Vec<_> = answer.json()["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|wrong| wrong["pointer"].as_str().unwrap().to_owned())
            .collect();
        pointers.sort();
        assert_eq!(
            pointers,
            [
                "/amount",
                "/code",
                "/credit_account",
                "/debit_account",
                "/id",
                "/more"
            ]
        );

        let query = nodes
            .get(1, "/v1/kv/a?consistency=weak&timeout=1&x=2")
            .await
            .json();
        let allowed = query["errors"]
            .as_array()
            .unwrap()
            .iter()
            .find(|wrong| !wrong["allowed"].is_null());
        assert_eq!(allowed.unwrap()["allowed"][0], "leader");
        assert_eq!(query["errors"].as_array().unwrap().len(), 3);
        nodes.end().await;
    });
}

#[test]
fn bodies_have_limits() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let padded = |len: usize| format!("{{}}{}", " ".repeat(len - 2));
        let large = nodes
            .ask(1, "POST", "/v1/transfers", &JSON, padded(1 << 20))
            .await;
        assert_eq!(large.problem(), (400, "missing_field".to_owned()));
        let larger = nodes
            .ask(1, "POST", "/v1/transfers", &JSON, padded((1 << 20) + 1))
            .await;
        assert_eq!(larger.problem(), (413, "body_too_large".to_owned()));
        let batch = nodes
            .ask(1, "POST", "/v1/transfers/batch", &JSON, padded(8 << 20))
            .await;
        assert_eq!(batch.problem(), (400, "missing_field".to_owned()));
        let larger = nodes
            .ask(
                1,
                "POST",
                "/v1/transfers/batch",
                &JSON,
                padded((8 << 20) + 1),
            )
            .await;
        assert_eq!(larger.problem(), (413, "body_too_large".to_owned()));
        let many = vec![Value::Null; 8191];
        let batch = nodes
            .post(1, "/v1/transfers/batch", &json!({ "transfers": many }))
            .await;
        assert_eq!(batch.problem(), (413, "too_many_items".to_owned()));
        assert_eq!(batch.json()["limit"], 8190);
        assert_eq!(nodes.get(1, "/readyz").await.status, 200, "it lives on");
        nodes.end().await;
    });
}
