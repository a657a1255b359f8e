//! Forming a cluster, and the probes around it.

use serde_json::json;

use crate::nodes::{Nodes, run};

#[test]
fn a_node_of_no_cluster_is_alive_and_not_ready() {
    run(async {
        let nodes = Nodes::start(1).await;
        assert_eq!(nodes.get(1, "/livez").await.status, 200);
        let ready = nodes.get(1, "/readyz").await;
        assert_eq!(ready.status, 503);
        let lines = String::from_utf8(ready.body.to_vec()).unwrap();
        assert!(
            lines.contains("[+]core ok") && lines.contains("[-]member"),
            "{lines}"
        );
        let version = nodes.get(1, "/version").await.json();
        assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
        for answer in [
            nodes.put(1, "/v1/kv/a", &[], "1").await,
            nodes.get(1, "/v1/kv/a").await,
            nodes.get(1, "/v1/kv/a?consistency=lease").await,
        ] {
            assert_eq!(answer.problem().0, 503, "{answer:?}");
            assert_eq!(answer.json()["retryable"], true);
            assert!(!answer.header("retry-after").is_empty());
        }
        let cluster = nodes.get(1, "/v1/cluster").await;
        assert_eq!(
            (cluster.status, &cluster.json()["members"]),
            (200, &json!([]))
        );

        let unknown = nodes.put(1, "/v1/kv/a?timeout=200ms", &[], "1").await;
        assert_eq!(unknown.json()["outcome"], "not_applied");
        nodes.end().await;
    });
}

#[test]
fn every_node_says_whether_the_states_are_the_same() {
    run(async {
        let nodes = Nodes::formed(3).await;
        assert_eq!(nodes.put(1, "/v1/kv/a", &[], "1").await.status, 201);
        for id in 1..=3 {
            let seen = async || nodes.get(id, "/v1/cluster/consistency").await.json();
            nodes
                .wait_for(|| async { seen().await["agree"] == true })
                .await;
            let seen = seen().await;
            let of = |id: usize| &seen["nodes"][id - 1];
            assert_eq!(of(3)["agreement"], "agrees");
            assert_eq!(of(3)["digest"].as_str().unwrap().len(), 64);
            assert_eq!(seen["disputed"], serde_json::Value::Null);
            let metrics = nodes.get(id, "/metrics").await;
            let text = String::from_utf8(metrics.body.to_vec()).unwrap();
            assert!(
                text.contains("quorate_consistency_nodes{agreement=\"agrees\"} 3"),
                "{text}"
            );
        }
        nodes.end().await;
    });
}

#[test]
fn a_cluster_is_formed_once() {
    run(async {
        let nodes = Nodes::start(3).await;
        let members = nodes.members();
        let formed = nodes.post(1, "/v1/cluster/init", &members).await;
        assert_eq!(
            (formed.status, &formed.json()["result"]),
            (201, &json!("formed"))
        );
        for id in 1..=3 {
            let again = nodes.post(id, "/v1/cluster/init", &members).await;
            assert_eq!(
                (again.status, &again.json()["result"]),
                (200, &json!("exists")),
                "{again:?}"
            );
        }
        let mut fewer = members.clone();
        fewer["members"].as_array_mut().unwrap().pop();
        let other = nodes.post(1, "/v1/cluster/init", &fewer).await;
        assert_eq!(other.problem(), (409, "already_initialized".to_owned()));
        nodes.wait_ready().await;

        let leader = nodes.leader().await;
        let cluster = nodes.get(leader, "/v1/cluster").await.json();
        assert_eq!(
            (&cluster["node"], &cluster["quorum"]),
            (&json!(leader), &json!(2))
        );
        assert_eq!(cluster["members"].as_array().unwrap().len(), 3);
        for member in cluster["members"].as_array().unwrap() {
            assert_eq!(member["role"], "voter");
        }
        assert!(cluster["cluster_id"].is_string());
        nodes.end().await;
    });
}

#[test]
fn a_cluster_is_not_formed_with_a_member_that_is_not_there() {
    run(async {
        let nodes = Nodes::start(1).await;
        let mut members = nodes.members();
        let nobody =
            json!({ "id": 2, "peer_addr": "127.0.0.1:1", "client_url": "http://127.0.0.1:1" });
        members["members"].as_array_mut().unwrap().push(nobody);
        let refused = nodes.post(1, "/v1/cluster/init", &members).await;
        assert_eq!(refused.problem(), (422, "peer_unreachable".to_owned()));
        assert_eq!(refused.json()["retryable"], true);
        let alone = nodes.post(1, "/v1/cluster/init", &nodes.members()).await;
        assert_eq!(alone.status, 201, "nothing was left behind: {alone:?}");
        nodes.end().await;
    });
}

#[test]
fn leadership_moves_to_the_node_that_is_named_whoever_is_asked() {
    run(async {
        let nodes = Nodes::formed(3).await;
        let path = "/v1/cluster/leader/transfer";
        for via in 1..=3 {
            let leader = nodes.leader().await;
            let heir = leader % 3 + 1;
            nodes.put(via, "/v1/kv/a", &[], "1").await;
            let mut moved = nodes.post(via, path, &json!({ "to": heir })).await;
            // A leader that was just elected may not have heard of everyone yet.
            while moved.status == 409 {
                assert_eq!(moved.problem().1, "no_heir");
                moved = nodes.post(via, path, &json!({ "to": heir })).await;
            }
            assert_eq!(moved.status, 200, "{moved:?}");
            assert_eq!(
                (&moved.json()["result"], &moved.json()["leader"]),
                (&json!("moved"), &json!(heir))
            );
            nodes
                .wait_for(|| async { nodes.leader().await == heir })
                .await;
            let again = nodes.post(heir, path, &json!({ "to": heir })).await;
            assert_eq!(again.json()["result"], "unchanged", "{again:?}");
            assert_eq!(again.json()["term"], moved.json()["term"]);
        }
        let leader = nodes.leader().await;
        nodes.put(leader, "/v1/kv/a", &[], "2").await;
        let mut any = nodes.post(leader, path, &json!({})).await;
        while any.status == 409 {
            any = nodes.post(leader, path, &json!({})).await;
        }
        assert_eq!(any.json()["result"], "moved", "{any:?}");
        assert_ne!(any.json()["leader"], leader);
        nodes.end().await;
    });
}

#[test]
fn leadership_stays_where_nobody_can_take_it_over() {
    run(async {
        let mut nodes = Nodes::formed(3).await;
        let path = "/v1/cluster/leader/transfer";
        let leader = nodes.leader().await;
        let stranger = nodes.post(leader, path, &json!({ "to": 9 })).await;
        assert_eq!(stranger.problem(), (422, "member_not_found".to_owned()));
        let typo = nodes.post(leader, path, &json!({ "node": 2 })).await;
        assert_eq!(typo.problem(), (400, "unknown_field".to_owned()));
        let gone = leader % 3 + 1;
        nodes.stop(gone).await;
        nodes
            .wait_for(|| async {
                let refused = nodes.post(leader, path, &json!({ "to": gone })).await;
                // Right after it stopped it counts as one that answered lately; asking it then only costs an election.
                refused.status == 409 && refused.problem().1 == "no_heir"
            })
            .await;
        nodes
            .wait_for(|| async { nodes.put(leader, "/v1/kv/a", &[], "1").await.status < 300 })
            .await;
        nodes.end().await;
    });
}
