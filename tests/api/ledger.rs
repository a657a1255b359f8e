//! Ledgers, accounts, transfers and batches.

use serde_json::{Value, json};

use crate::nodes::{Answer, Nodes, run};

fn transfer(id: &str, debit: &str, credit: &str, amount: &str) -> Value {
    json!({ "id": id, "debit_account": debit, "credit_account": credit, "amount": amount })
}

async fn account(nodes: &Nodes, id: &str, ledger: &str, limits: Value) -> Answer {
    let body = json!({ "id": id, "ledger": ledger, "code": 7, "limits": limits });
    nodes.post(1, "/v1/accounts", &body).await
}

/// Two ledgers and some accounts.
async fn filled() -> Nodes {
    let nodes = Nodes::formed(1).await;
    for (id, asset) in [("usd", "USD"), ("eur", "EUR")] {
        let body = json!({ "id": id, "asset": asset, "scale": 2 });
        assert_eq!(nodes.post(1, "/v1/ledgers", &body).await.status, 201);
    }
    let wallet = json!({ "debits_must_not_exceed_credits": true });
    let loan = json!({ "credits_must_not_exceed_debits": true });
    for (id, ledger, limits) in [
        ("bank", "usd", json!({})),
        ("marks", "eur", json!({})),
        ("alice", "usd", wallet),
        ("loan", "usd", loan),
        ("euros", "eur", json!({})),
    ] {
        assert_eq!(account(&nodes, id, ledger, limits).await.status, 201);
    }
    nodes
}

#[test]
fn creates_are_idempotent_and_conflicts_name_their_fields() {
    run(async {
        let nodes = filled().await;
        let usd = json!({ "id": "usd", "asset": "USD", "scale": 2 });
        let again = nodes.post(1, "/v1/ledgers", &usd).await;
        assert_eq!(
            (again.status, &again.json()["result"]),
            (200, &json!("exists"))
        );
        assert_eq!(again.header("location"), "/v1/ledgers/usd");
        let other = json!({ "id": "usd", "asset": "EUR", "scale": 3 });
        let conflict = nodes.post(1, "/v1/ledgers", &other).await;
        assert_eq!(
            conflict.problem(),
            (409, "exists_with_different_fields".to_owned())
        );
        assert_eq!(conflict.json()["fields"], json!(["asset", "scale"]));

        let again = account(&nodes, "bank", "usd", json!({})).await;
        assert_eq!(
            (again.status, &again.json()["result"]),
            (200, &json!("exists"))
        );
        let conflict = account(&nodes, "bank", "eur", json!({})).await;
        assert_eq!(conflict.json()["fields"], json!(["ledger"]));
        let lost = account(&nodes, "x", "gbp", json!({})).await;
        assert_eq!(lost.problem(), (422, "ledger_not_found".to_owned()));
        assert_eq!(lost.json()["index"], lost.header("quorate-index"));

        let mut sent = transfer("t1", "bank", "alice", "1250");
        sent["metadata"] = json!({ "order": "77" });
        let first = nodes.post(1, "/v1/transfers", &sent).await;
        assert_eq!(
            (first.status, &first.json()["result"]),
            (201, &json!("created"))
        );
        assert_eq!(first.json()["index"], first.header("quorate-index"));
        assert_eq!(first.json()["metadata"]["order"], "77");
        let again = nodes.post(1, "/v1/transfers", &sent).await;
        assert_eq!(
            (again.status, &again.json()["result"]),
            (200, &json!("exists"))
        );
        assert_eq!(again.json()["created_index"], first.json()["index"]);
        sent["amount"] = json!(1251);
        let conflict = nodes.post(1, "/v1/transfers", &sent).await;
        assert_eq!(
            conflict.problem(),
            (409, "exists_with_different_fields".to_owned())
        );
        assert_eq!(conflict.json()["fields"], json!(["amount"]));
        let alice = nodes.get(1, "/v1/accounts/alice").await.json();
        assert_eq!(alice["balance"]["balance"], "1250", "moved once: {alice}");
        assert_eq!(alice["balance"]["display"], "12.50");
        nodes.end().await;
    });
}

#[test]
fn every_refusal_has_its_code_and_moves_nothing() {
    run(async {
        let nodes = filled().await;
        let max = u128::MAX.to_string();
        let set_up = nodes
            .post(1, "/v1/transfers", &transfer("all", "marks", "euros", &max))
            .await;
        assert_eq!(set_up.status, 201, "{set_up:?}");
        let before = nodes.get(1, "/v1/ledgers/usd").await.json();
        let mut linked = transfer("open", "bank", "alice", "1");
        linked["linked"] = json!(true);
        for (body, code) in [
            (
                transfer("r1", "nobody", "alice", "1"),
                "debit_account_not_found",
            ),
            (
                transfer("r2", "bank", "nobody", "1"),
                "credit_account_not_found",
            ),
            (transfer("r3", "bank", "bank", "1"), "accounts_must_differ"),
            (
                transfer("r4", "bank", "alice", "0"),
                "amount_must_not_be_zero",
            ),
            (transfer("r5", "bank", "euros", "1"), "ledger_mismatch"),
            (transfer("r6", "alice", "bank", "1"), "exceeds_credits"),
            (transfer("r7", "bank", "loan", "1"), "exceeds_debits"),
            (transfer("r8", "marks", "euros", "1"), "amount_overflow"),
            (linked, "chain_open"),
        ] {
            let refused = nodes.post(1, "/v1/transfers", &body).await;
            assert_eq!(refused.problem(), (422, code.to_owned()), "{body}");
        }
        let after = nodes.get(1, "/v1/ledgers/usd").await.json();
        assert_eq!(before["totals"], after["totals"]);

        // What was refused because of state stays refused, though it would be possible now.
        let body = json!({ "id": "nobody", "ledger": "usd" });
        assert_eq!(nodes.post(1, "/v1/accounts", &body).await.status, 201);
        let again = nodes
            .post(1, "/v1/transfers", &transfer("r2", "bank", "nobody", "1"))
            .await;
        assert_eq!(
            again.problem(),
            (422, "credit_account_not_found".to_owned())
        );
        let shown = nodes.get(1, "/v1/transfers/r2").await.json();
        assert_eq!(
            (&shown["status"], &shown["refusal"]),
            (&json!("refused"), &json!("credit_account_not_found"))
        );
        nodes.end().await;
    });
}

#[test]
fn a_batch_tells_the_fate_of_each_transfer() {
    run(async {
        let nodes = filled().await;
        let good: Vec<_> = (0..3)
            .map(|i| transfer(&format!("g{i}"), "bank", "alice", "10"))
            .collect();
        let all = nodes
            .post(1, "/v1/transfers/batch", &json!({ "transfers": good }))
            .await;
        assert_eq!(all.status, 200, "{all:?}");
        assert_eq!(
            all.json()["summary"],
            json!({ "created": 3, "exists": 0, "refused": 0 })
        );

        let mut first = transfer("c1", "bank", "alice", "10");
        first["linked"] = json!(true);
        let chain = [
            first,
            transfer("c2", "alice", "bank", "9999"),
            transfer("c3", "bank", "alice", "1"),
        ];
        let some = nodes
            .post(1, "/v1/transfers/batch", &json!({ "transfers": chain }))
            .await;
        assert_eq!(some.status, 207);
        let results = some.json()["results"].clone();
        assert_eq!(results[0]["code"], "chain_failed");
        assert_eq!(results[1]["code"], "exceeds_credits");
        assert_eq!(results[2]["result"], "created");

        let again = nodes
            .post(1, "/v1/transfers/batch", &json!({ "transfers": good }))
            .await;
        assert_eq!(again.json()["summary"]["exists"], 3);
        let alice = nodes.get(1, "/v1/accounts/alice").await.json();
        assert_eq!(alice["balance"]["balance"], "31");

        let many: Vec<_> = (0..8190)
            .map(|i| transfer(&format!("m{i}"), "bank", "alice", "1"))
            .collect();
        let full = nodes
            .post(1, "/v1/transfers/batch", &json!({ "transfers": many }))
            .await;
        assert_eq!(full.json()["summary"]["created"], 8190, "{}", full.status);
        nodes.end().await;
    });
}

#[test]
fn lists_are_paged_without_holes_or_repeats() {
    run(async {
        let nodes = filled().await;
        let sent: Vec<_> = (0..25)
            .map(|i| transfer(&format!("t{i:02}"), "bank", "alice", "1"))
            .collect();
        nodes
            .post(1, "/v1/transfers/batch", &json!({ "transfers": sent }))
            .await;

        let ids = pages(&nodes, "/v1/accounts/alice/transfers?limit=7").await;
        let expected: Vec<_> = (0..25).map(|i| format!("t{i:02}")).collect();
        assert_eq!(ids, expected);
        let mut newest_first = pages(
            &nodes,
            "/v1/accounts/alice/transfers?limit=10&sort=-created_at",
        )
        .await;
        newest_first.reverse();
        assert_eq!(newest_first, expected);

        let everyone = ["alice", "bank", "euros", "loan", "marks"];
        assert_eq!(pages(&nodes, "/v1/accounts?limit=2").await, everyone);
        assert_eq!(
            pages(&nodes, "/v1/accounts?ledger=eur").await,
            ["euros", "marks"]
        );
        assert_eq!(pages(&nodes, "/v1/accounts?prefix=l").await, ["loan"]);
        assert_eq!(pages(&nodes, "/v1/ledgers?limit=1").await, ["eur", "usd"]);

        let absent = nodes.get(1, "/v1/accounts/nobody/transfers").await;
        assert_eq!(absent.problem(), (404, "account_not_found".to_owned()));
        let trial = nodes.get(1, "/v1/ledgers/usd/trial-balance").await.json();
        assert_eq!(
            (&trial["balanced"], &trial["accounts"]),
            (&json!(true), &json!("3"))
        );
        assert_eq!(
            trial["summed"],
            json!({ "debits_posted": "25", "credits_posted": "25" })
        );
        nodes.end().await;
    });
}

/// The ids of a list, page by page.
async fn pages(nodes: &Nodes, target: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = nodes.get(1, &format!("{target}{cursor}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let page = page.json();
        let rows = page["data"].as_array().unwrap();
        ids.extend(
            rows.iter()
                .map(|row| row["id"].as_str().unwrap().to_owned()),
        );
        assert_eq!(page["has_more"], page["next_cursor"].is_string());
        match page["next_cursor"].as_str() {
            Some(next) => {
                let joint = if target.contains('?') { '&' } else { '?' };
                cursor = format!("{joint}cursor={next}");
            }
            None => return ids,
        }
    }
}

#[test]
fn what_is_not_there_is_a_dated_fact() {
    run(async {
        let nodes = filled().await;
        for (target, code) in [
            ("/v1/ledgers/nope", "ledger_not_found"),
            ("/v1/ledgers/nope/trial-balance", "ledger_not_found"),
            ("/v1/accounts/nope", "account_not_found"),
            ("/v1/transfers/nope", "transfer_not_found"),
            ("/v1/kv/nope", "key_not_found"),
        ] {
            let absent = nodes.get(1, target).await;
            assert_eq!(absent.problem(), (404, code.to_owned()));
            let index: u64 = absent.json()["index"].as_str().unwrap().parse().unwrap();
            assert!(index > 0);
        }
        nodes.end().await;
    });
}
