//! What is noted of the acts on a cluster.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::nodes::{Nodes, run};

/// The lines of a node's audit file.
fn lines(nodes: &Nodes, id: u64) -> Vec<Value> {
    let text = std::fs::read_to_string(nodes.data_dir(id).join("audit.jsonl")).unwrap_or_default();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_act_on_the_cluster_has_a_line_and_nothing_else_has() {
    run(async {
        let nodes = Nodes::formed(3).await;
        let formed = lines(&nodes, 1);
        assert_eq!(formed.len(), 1, "{formed:?}");
        assert_eq!(
            (&formed[0]["target"], &formed[0]["body"]),
            (&json!("/v1/cluster/init"), &nodes.members())
        );
        assert_eq!(
            (&formed[0]["line"], &formed[0]["status"]),
            (&json!(0), &json!(201))
        );
        assert!(
            formed[0]["from"]
                .as_str()
                .unwrap()
                .starts_with("127.0.0.1:")
        );

        let leader = nodes.leader().await;
        let before = lines(&nodes, leader).len();
        nodes.put(leader, "/v1/kv/a", &[], "1").await;
        nodes.get(leader, "/v1/cluster").await;
        nodes.post(leader, "/v1/cluster/nothing", &json!({})).await;
        assert_eq!(
            lines(&nodes, leader).len(),
            before,
            "none of these is an act"
        );

        let refused = nodes
            .post(leader, "/v1/cluster/members/9/promote", &json!({}))
            .await;
        let noted = lines(&nodes, leader);
        let last = noted.last().unwrap();
        assert_eq!(noted.len(), before + 1);
        assert_eq!(last["request_id"], refused.header("x-request-id"));
        assert_eq!(
            (&last["code"], &last["outcome"], &last["status"]),
            (
                &json!("member_not_found"),
                &json!("not_applied"),
                &json!(refused.status)
            )
        );
        nodes.end().await;
    });
}

#[test]
fn an_act_that_is_forwarded_has_a_line_where_it_came_in_and_where_it_was_done() {
    run(async {
        let nodes = Nodes::formed(3).await;
        let path = "/v1/cluster/members/9/promote";
        let leader = nodes.leader().await;
        let other = leader % 3 + 1;
        let answer = nodes.post(other, path, &json!({ "force": true })).await;
        let [came_in, done] = [other, leader].map(|id| lines(&nodes, id).pop().unwrap());
        for (line, forwarded) in [(&came_in, false), (&done, true)] {
            assert_eq!(line["request_id"], answer.header("x-request-id"), "{line}");
            assert_eq!(
                (&line["forwarded"], &line["served_by"]),
                (&json!(forwarded), &json!(leader))
            );
            assert_eq!(line["code"], "member_not_found", "{line}");
            assert_eq!(line["body"], json!({ "force": true }));
        }
        assert_ne!(came_in["from"], done["from"]);
        nodes.end().await;
    });
}

/// It asks a node to be added that takes connections and says nothing, and goes away while that one is waited for.
#[test]
fn an_act_is_noted_though_the_client_goes_away() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let before = lines(&nodes, 1).len();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let member = json!({
            "id": 2, "peer_addr": silent.local_addr().unwrap().to_string(), "client_url": "http://127.0.0.1:9",
        });
        let body = member.to_string();
        let mut client = TcpStream::connect(&nodes.addresses[0]).unwrap();
        let head =
            "POST /v1/cluster/members HTTP/1.1\r\nhost: n1\r\ncontent-type: application/json";
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        client.write_all(request.as_bytes()).unwrap();
        let waits = tokio::task::spawn_blocking(move || silent.accept().unwrap().0);
        let waits = waits.await.unwrap();
        drop(client);
        // Only then does it get its verdict.
        drop(waits);
        nodes
            .wait_for(|| async { lines(&nodes, 1).len() > before })
            .await;
        let noted = lines(&nodes, 1);
        let last = noted.last().unwrap();
        assert_eq!(
            (&last["code"], &last["body"]),
            (&json!("peer_unreachable"), &member)
        );
        nodes.end().await;
    });
}
