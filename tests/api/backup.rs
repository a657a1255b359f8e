//! The backup of a node: what it says of itself over HTTP, and of which moment it is.

use quorate::storage::backup;

use crate::nodes::{Answer, Nodes, run};

/// What is in a backup.
#[track_caller]
fn opened(answer: &Answer) -> (backup::Manifest, backup::Summary) {
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(answer.header("content-type"), "application/x-tar");
    assert_eq!(
        answer.header("content-length"),
        answer.body.len().to_string()
    );
    let (manifest, summary) = backup::read(&answer.body[..], |_| Ok(())).unwrap();
    assert_eq!(answer.header("quorate-index"), manifest.index().to_string());
    (manifest, summary)
}

#[test]
fn every_node_gives_a_backup_of_its_own_state_that_holds_what_was_acknowledged_before() {
    run(async {
        let nodes = Nodes::formed(3).await;
        for round in 0..4_u64 {
            let key = format!("/v1/kv/key-{round}");
            let written = nodes.put(1 + round % 3, &key, &[], "1").await;
            assert_eq!(written.status, 201);
            for id in 1..=3 {
                let answer = nodes.get(id, "/v1/backup").await;
                let (manifest, summary) = opened(&answer);
                assert_eq!(answer.header("quorate-served-by"), id.to_string());
                assert_eq!(answer.header("consistency-requested"), "leader");
                assert_eq!(answer.header("consistency-effective"), "leader");
                assert_eq!(answer.header("quorate-staleness"), "0ms");
                let index: u64 = written.header("quorate-index").parse().unwrap();
                assert!(manifest.index() >= index, "node {id}, round {round}");
                assert_eq!(summary.keys, round + 1, "node {id}");
            }
        }
        let stale = nodes.get(2, "/v1/backup?consistency=follower").await;
        opened(&stale);
        assert_eq!(stale.header("consistency-effective"), "follower");
        assert_eq!(stale.header("quorate-staleness"), "unknown");
        nodes.end().await;
    });
}

#[test]
fn a_follower_without_a_leader_gives_what_it_has_and_does_not_call_it_more() {
    run(async {
        let mut nodes = Nodes::formed(3).await;
        let written = nodes.put(1, "/v1/kv/key", &[], "1").await;
        assert_eq!(written.status, 201);
        let leader = nodes.leader().await;
        let follower = leader % 3 + 1;
        let third = 6 - leader - follower;
        opened(&nodes.get(follower, "/v1/backup").await);
        nodes.stop(third).await;
        nodes.stop(leader).await;
        let refused = nodes.get(follower, "/v1/backup?timeout=1s").await;
        let (status, code) = refused.problem();
        assert!(status == 503 || status == 504, "{status} {code}");
        opened(&nodes.get(follower, "/v1/backup?consistency=follower").await);
        nodes.end().await;
    });
}

#[test]
fn a_node_of_no_cluster_and_a_wrong_question_get_a_problem() {
    run(async {
        let nodes = Nodes::start(1).await;
        let target = "/v1/backup?consistency=follower";
        assert_eq!(nodes.get(1, target).await.problem().0, 503);
        assert_eq!(nodes.get(1, "/v1/backup").await.problem().0, 503);
        let wrong = nodes.get(1, "/v1/backup?since=3").await.problem();
        assert_eq!(wrong, (400, "unknown_parameter".to_owned()));
        let accept = [("accept", "application/json")];
        let other = nodes.ask(1, "GET", "/v1/backup", &accept, "").await;
        assert_eq!(other.problem(), (406, "not_acceptable".to_owned()));
        let page = nodes.get(1, "/errors/backup_in_progress").await;
        assert_eq!(page.status, 200);
        let document = nodes.get(1, "/openapi.json").await.json();
        let about = &document["paths"]["/v1/backup"]["get"];
        assert_eq!(about["operationId"], "getBackup");
        assert!(about["responses"]["429"].is_object(), "{about}");
        nodes.end().await;
    });
}
