//! The key-value store.

use serde_json::json;

use crate::nodes::{Nodes, run};

#[test]
fn a_key_is_written_read_and_removed() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let first = nodes.put(1, "/v1/kv/a/b%20c", &[], "one").await;
        assert_eq!(first.status, 201);
        assert_eq!(first.json()["version"], "1");
        let tag = first.header("etag").to_owned();
        assert_eq!(
            tag,
            format!("\"{}\"", first.json()["mod_index"].as_str().unwrap())
        );
        let second = nodes.put(1, "/v1/kv/a/b%20c", &[], "two").await;
        assert_eq!(
            (second.status, &second.json()["version"]),
            (200, &json!("2"))
        );
        assert_ne!(second.header("etag"), tag);

        let read = nodes.get(1, "/v1/kv/a/b%20c").await;
        assert_eq!((read.status, &read.body[..]), (200, b"two".as_slice()));
        assert_eq!(read.header("etag"), second.header("etag"));
        assert_eq!(read.header("kv-version"), "2");
        assert_eq!(read.header("kv-create-index"), first.json()["mod_index"]);
        let accept = [("accept", "application/json")];
        let record = nodes
            .ask(1, "GET", "/v1/kv/a/b%20c", &accept, "")
            .await
            .json();
        assert_eq!(record["key"], "a/b c");
        assert_eq!(
            (&record["value"], &record["encoding"]),
            (&json!("two"), &json!("utf8"))
        );
        let head = nodes.ask(1, "HEAD", "/v1/kv/a/b%20c", &[], "").await;
        assert_eq!(
            (head.status, head.header("etag")),
            (200, second.header("etag"))
        );
        assert!(head.body.is_empty());

        let removed = nodes.ask(1, "DELETE", "/v1/kv/a/b%20c", &[], "").await;
        assert_eq!(
            (removed.status, &removed.json()["deleted"]),
            (200, &json!(1))
        );
        let again = nodes.ask(1, "DELETE", "/v1/kv/a/b%20c", &[], "").await;
        assert_eq!(again.problem(), (404, "key_not_found".to_owned()));
        assert_eq!(nodes.get(1, "/v1/kv/a/b%20c").await.problem().0, 404);
        nodes.end().await;
    });
}

#[test]
fn conditions_hold_or_say_what_is_there() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let absent = [("if-none-match", "*")];
        let made = nodes.put(1, "/v1/kv/k", &absent, "1").await;
        assert_eq!(made.status, 201);
        let tag = made.header("etag").to_owned();
        let taken = nodes.put(1, "/v1/kv/k", &absent, "2").await;
        assert_eq!(taken.problem(), (412, "precondition_failed".to_owned()));
        assert_eq!(taken.header("etag"), tag);
        assert_eq!(taken.json()["current"], made.json()["mod_index"]);

        let swapped = nodes.put(1, "/v1/kv/k", &[("if-match", &tag)], "3").await;
        assert_eq!(swapped.status, 200);
        let late = nodes.put(1, "/v1/kv/k", &[("if-match", &tag)], "4").await;
        assert_eq!(late.problem(), (412, "precondition_failed".to_owned()));
        let late = nodes
            .ask(1, "DELETE", "/v1/kv/k", &[("if-match", &tag)], "")
            .await;
        assert_eq!(late.problem().0, 412);
        let nothing = nodes
            .put(1, "/v1/kv/other", &[("if-match", "*")], "5")
            .await;
        assert_eq!(nothing.problem().0, 412);
        assert_eq!(nothing.json()["current"], json!(null));
        assert_eq!(nodes.get(1, "/v1/kv/k").await.body, "3");

        let now = swapped.header("etag").to_owned();
        let known = nodes
            .ask(1, "GET", "/v1/kv/k", &[("if-none-match", &now)], "")
            .await;
        assert_eq!((known.status, known.body.len()), (304, 0));
        let unknown = nodes
            .ask(1, "GET", "/v1/kv/k", &[("if-none-match", &tag)], "")
            .await;
        assert_eq!(unknown.status, 200);
        for bad in ["40.0", "W/\"40.0\"", "\"a\""] {
            let refused = nodes.put(1, "/v1/kv/k", &[("if-match", bad)], "6").await;
            assert_eq!(refused.problem(), (400, "invalid_value".to_owned()));
        }
        nodes.end().await;
    });
}

#[test]
fn values_may_be_any_bytes_up_to_their_limit() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let bytes = vec![0xffu8, 0, 1, 0xfe];
        let put = nodes.ask(1, "PUT", "/v1/kv/bin", &[], bytes.clone()).await;
        assert_eq!(put.status, 201);
        assert_eq!(nodes.get(1, "/v1/kv/bin").await.body, bytes);
        let accept = [("accept", "text/html, application/json;q=0.9")];
        let record = nodes.ask(1, "GET", "/v1/kv/bin", &accept, "").await.json();
        assert_eq!(
            (&record["value"], &record["encoding"]),
            (&json!("/wAB/g=="), &json!("base64"))
        );
        assert_eq!(nodes.put(1, "/v1/kv/empty", &[], "").await.status, 201);
        assert_eq!(nodes.get(1, "/v1/kv/empty").await.body, "");

        let large = nodes
            .ask(1, "PUT", "/v1/kv/large", &[], vec![b'x'; 1 << 20])
            .await;
        assert_eq!(large.status, 201, "{large:?}");
        let larger = nodes
            .ask(1, "PUT", "/v1/kv/large", &[], vec![b'x'; (1 << 20) + 1])
            .await;
        assert_eq!(larger.problem(), (413, "body_too_large".to_owned()));
        assert_eq!(larger.json()["limit"], 1 << 20);
        let key = "k".repeat(1025);
        let refused = nodes.put(1, &format!("/v1/kv/{key}"), &[], "").await;
        assert_eq!(refused.problem(), (400, "invalid_value".to_owned()));
        assert_eq!(nodes.put(1, "/v1/kv/%ff", &[], "").await.problem().0, 400);
        nodes.end().await;
    });
}

#[test]
fn keys_are_listed_by_prefix_in_byte_order() {
    run(async {
        let nodes = Nodes::formed(1).await;
        for key in ["b/2", "a", "b/1", "b/3", "c", "b"] {
            nodes.put(1, &format!("/v1/kv/{key}"), &[], key).await;
        }
        let mut keys = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = nodes
                .get(1, &format!("/v1/kv?prefix=b&limit=2{cursor}"))
                .await
                .json();
            let rows = page["data"].as_array().unwrap();
            keys.extend(
                rows.iter()
                    .map(|row| row["key"].as_str().unwrap().to_owned()),
            );
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(keys, ["b", "b/1", "b/2", "b/3"]);

        // Pages are bounded by bytes too: five values of 1 MiB do not fit one of 4 MiB.
        for place in 0..5 {
            nodes
                .ask(
                    1,
                    "PUT",
                    &format!("/v1/kv/big{place}"),
                    &[],
                    vec![b'x'; 1 << 20],
                )
                .await;
        }
        let page = nodes.get(1, "/v1/kv?prefix=big").await.json();
        let rows = page["data"].as_array().unwrap().len();
        assert!((1..5).contains(&rows), "{rows} rows");
        assert_eq!(page["has_more"], true);
        nodes.end().await;
    });
}
