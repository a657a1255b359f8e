//! The transfers of an account: filters, pages of one moment, and the whole as CSV or NDJSON.

use serde_json::{Value, json};

use crate::nodes::{Answer, Nodes, run};

/// A bank and a shop; `count` transfers between them, every third one back, codes 0 to 4 in turn.
async fn with_transfers(nodes: &Nodes, count: usize) {
    let ledger = json!({ "id": "usd", "asset": "USD", "scale": 2 });
    assert_eq!(nodes.post(1, "/v1/ledgers", &ledger).await.status, 201);
    for id in ["bank", "shop"] {
        let account = json!({ "id": id, "ledger": "usd" });
        assert_eq!(nodes.post(1, "/v1/accounts", &account).await.status, 201);
    }
    post(nodes, 0, count).await;
}

async fn post(nodes: &Nodes, first: usize, count: usize) {
    let transfers: Vec<Value> = (first..first + count)
        .map(|number| {
            let (debit, credit) = if number % 3 == 0 { ("shop", "bank") } else { ("bank", "shop") };
            json!({
                "id": format!("t{number:05}"), "debit_account": debit, "credit_account": credit, "amount": "1",
                "code": number % 5, "metadata": { "note": "a, \"b\"" },
            })
        })
        .collect();
    for batch in transfers.chunks(8000) {
        let answer = nodes
            .post(1, "/v1/transfers/batch", &json!({ "transfers": batch }))
            .await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

fn ids(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    let rows = body["data"].as_array().expect("rows");
    rows.iter()
        .map(|row| row["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// Every id of a list, page by page along its links.
async fn all(nodes: &Nodes, target: &str) -> Vec<String> {
    let (mut found, mut next) = (Vec::new(), target.to_owned());
    loop {
        let page = nodes.get(1, &next).await;
        found.extend(ids(&page));
        let link = page.header("link");
        assert_eq!(page.json()["has_more"], !link.is_empty());
        if link.is_empty() {
            return found;
        }
        let link = link.strip_prefix('<').expect("an address");
        next = link
            .strip_suffix(">; rel=\"next\"")
            .expect("the next page")
            .to_owned();
        assert!(next.ends_with(page.json()["next_cursor"].as_str().expect("a cursor")));
    }
}

fn expected(count: usize, keep: impl Fn(usize) -> bool) -> Vec<String> {
    (0..count)
        .filter(|number| keep(*number))
        .map(|number| format!("t{number:05}"))
        .collect()
}

#[test]
fn a_list_holds_what_its_filters_let_through_and_nothing_else() {
    run(async {
        let nodes = Nodes::formed(1).await;
        with_transfers(&nodes, 25).await;
        for list in [
            "/v1/accounts/bank/transfers?",
            "/v1/transfers?account=bank&",
        ] {
            let of = |filter: &str| {
                let (nodes, target) = (&nodes, format!("{list}{filter}"));
                async move { all(nodes, &target).await }
            };
            assert_eq!(of("limit=7").await, expected(25, |_| true));
            assert_eq!(of("side=debit&limit=3").await, expected(25, |n| n % 3 != 0));
            assert_eq!(
                of("side=credit&code=4&limit=1").await,
                expected(25, |n| n % 3 == 0 && n % 5 == 4)
            );
            let mut newest_first = expected(25, |n| n % 5 == 2);
            newest_first.reverse();
            assert_eq!(of("code=2&sort=-created_at&limit=2").await, newest_first);
        }
        post(&nodes, 25, 5).await;
        let last = nodes.get(1, "/v1/transfers/t00025").await.json();
        let time = last["created_at"].as_str().expect("a time");
        for sort in ["created_at", "-created_at"] {
            let mut later = all(
                &nodes,
                &format!("/v1/transfers?account=bank&from={time}&limit=2&sort={sort}"),
            )
            .await;
            later.sort();
            assert_eq!(later, expected(30, |n| n >= 25), "{sort}");
            let mut earlier = all(
                &nodes,
                &format!("/v1/transfers?account=bank&to={time}&sort={sort}"),
            )
            .await;
            earlier.sort();
            assert_eq!(earlier, expected(25, |_| true), "{sort}");
        }
        let none = all(&nodes, "/v1/transfers?account=bank&to=2001-01-31").await;
        assert!(none.is_empty());
        nodes.end().await;
    });
}

#[test]
fn every_page_shows_the_moment_of_the_first() {
    run(async {
        let nodes = Nodes::formed(1).await;
        with_transfers(&nodes, 6).await;
        for (sort, rest) in [
            ("created_at", expected(6, |n| n >= 4)),
            (
                "-created_at",
                vec!["t00001".to_owned(), "t00000".to_owned()],
            ),
        ] {
            let target = format!("/v1/accounts/bank/transfers?sort={sort}&limit=4");
            let first = nodes.get(1, &target).await;
            post(&nodes, 6, 3).await;
            let cursor = first.json()["next_cursor"]
                .as_str()
                .expect("more")
                .to_owned();
            let second = nodes.get(1, &format!("{target}&cursor={cursor}")).await;
            assert_eq!(first.header("quorate-staleness"), "0ms");
            assert_eq!(
                second.header("quorate-staleness"),
                "unknown",
                "it shows what the first one showed"
            );
            if sort == "created_at" {
                assert_eq!(ids(&second), rest);
                assert_eq!(second.json()["index"], first.json()["index"]);
                assert_eq!(
                    second.header("quorate-index"),
                    first.header("quorate-index")
                );
                assert_eq!(second.json()["has_more"], false);
            }
            for other in [
                "sort=created_at&side=debit",
                "sort=created_at&code=1",
                "sort=created_at&from=2020-01-01",
            ] {
                let target = format!("/v1/accounts/bank/transfers?{other}&cursor={cursor}");
                assert_eq!(
                    nodes.get(1, &target).await.problem(),
                    (400, "invalid_cursor".to_owned())
                );
            }
        }
        nodes.end().await;
    });
}

#[test]
fn a_page_that_found_too_little_says_that_there_is_more() {
    run(async {
        let nodes = Nodes::formed(1).await;
        with_transfers(&nodes, 12_000).await;
        let rare = json!({ "id": "rare", "debit_account": "bank", "credit_account": "shop", "amount": "1", "code": 99 });
        assert_eq!(nodes.post(1, "/v1/transfers", &rare).await.status, 201);
        let first = nodes.get(1, "/v1/transfers?account=bank&code=99").await;
        assert_eq!(ids(&first), Vec::<String>::new());
        assert_eq!(first.json()["has_more"], true);
        assert_eq!(
            all(&nodes, "/v1/transfers?account=bank&code=99").await,
            ["rare"]
        );
        let csv = [("accept", "text/csv")];
        let whole = nodes
            .ask(1, "GET", "/v1/transfers?account=bank&code=99", &csv, "")
            .await;
        let whole = String::from_utf8(whole.body.to_vec()).expect("text");
        assert_eq!(whole.lines().count(), 2, "a head and a row: {whole}");
        nodes.end().await;
    });
}

#[test]
fn a_whole_history_is_sent_as_csv_or_ndjson() {
    run(async {
        let nodes = Nodes::formed(1).await;
        with_transfers(&nodes, 2500).await;
        let target = "/v1/accounts/bank/transfers?side=debit";
        let listed = all(&nodes, &format!("{target}&limit=1000")).await;
        let csv = nodes
            .ask(1, "GET", target, &[("accept", "text/csv")], "")
            .await;
        assert_eq!(
            csv.header("content-type"),
            "text/csv; charset=utf-8; header=present"
        );
        assert!(!csv.header("quorate-index").is_empty());
        let text = String::from_utf8(csv.body.to_vec()).expect("text");
        let mut lines = text.split_terminator("\r\n");
        assert!(
            lines
                .next()
                .expect("a head")
                .starts_with("id,ledger,debit_account,")
        );
        let lines: Vec<&str> = lines.collect();
        let first: Vec<&str> = lines
            .iter()
            .map(|line| line.split(',').next().expect("an id"))
            .collect();
        assert_eq!(first, listed);
        assert!(
            lines[0].contains(r#""{""note"":""a, \""b\""""}""#),
            "{}",
            lines[0]
        );
        for line in &lines {
            assert!(
                line.starts_with('t'),
                "no cell begins as a formula does: {line}"
            );
        }
        let ndjson = nodes
            .ask(1, "GET", target, &[("accept", "application/x-ndjson")], "")
            .await;
        let text = String::from_utf8(ndjson.body.to_vec()).expect("text");
        let rows: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let found: Vec<_> = rows
            .iter()
            .map(|row| row["id"].as_str().expect("an id"))
            .collect();
        assert_eq!(found, listed);
        let page = format!("{target}&limit=1");
        let refused = nodes
            .ask(1, "GET", &page, &[("accept", "text/csv")], "")
            .await;
        assert_eq!(refused.problem(), (400, "unknown_parameter".to_owned()));
        let absent = nodes
            .ask(
                1,
                "GET",
                "/v1/accounts/nobody/transfers",
                &[("accept", "text/csv")],
                "",
            )
            .await;
        assert_eq!(absent.problem(), (404, "account_not_found".to_owned()));
        nodes.end().await;
    });
}

#[test]
fn wrong_filters_are_named() {
    run(async {
        let nodes = Nodes::formed(1).await;
        for (target, code) in [
            ("/v1/transfers", "invalid_value"),
            ("/v1/transfers?account=a&side=left", "invalid_value"),
            ("/v1/transfers?account=a&code=-1", "invalid_value"),
            ("/v1/transfers?account=a&from=yesterday", "invalid_value"),
            ("/v1/transfers?account=a&to=2026-02-30", "invalid_value"),
            ("/v1/transfers?account=a&sort=amount", "unsupported_sort"),
            ("/v1/accounts/a/transfers?account=a", "unknown_parameter"),
            ("/v1/accounts?code=x", "invalid_value"),
        ] {
            assert_eq!(
                nodes.get(1, target).await.problem(),
                (400, code.to_owned()),
                "{target}"
            );
        }
        nodes.end().await;
    });
}

#[test]
fn accounts_are_listed_by_ledger_prefix_and_code() {
    run(async {
        let nodes = Nodes::formed(1).await;
        for id in ["usd", "eur"] {
            let ledger = json!({ "id": id, "asset": "X", "scale": 0 });
            assert_eq!(nodes.post(1, "/v1/ledgers", &ledger).await.status, 201);
        }
        for number in 0..12 {
            let ledger = if number % 2 == 0 { "usd" } else { "eur" };
            let account =
                json!({ "id": format!("a:{number:02}"), "ledger": ledger, "code": number % 3 });
            assert_eq!(nodes.post(1, "/v1/accounts", &account).await.status, 201);
        }
        let name = |number: usize| format!("a:{number:02}");
        let of =
            |keep: fn(usize) -> bool| (0..12).filter(|n| keep(*n)).map(name).collect::<Vec<_>>();
        assert_eq!(all(&nodes, "/v1/accounts?limit=5").await, of(|_| true));
        assert_eq!(
            all(&nodes, "/v1/accounts?code=2&limit=1").await,
            of(|n| n % 3 == 2)
        );
        assert_eq!(
            all(&nodes, "/v1/accounts?ledger=usd&code=0&limit=1").await,
            of(|n| n % 6 == 0)
        );
        assert_eq!(
            all(&nodes, "/v1/accounts?prefix=a:1&limit=1").await,
            of(|n| n > 9)
        );
        assert_eq!(
            all(&nodes, "/v1/accounts?code=7").await,
            Vec::<String>::new()
        );
        nodes.end().await;
    });
}
