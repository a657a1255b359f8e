//! What every answer says of itself.

use crate::nodes::{Nodes, run};

#[test]
fn answers_say_who_answered_at_which_index_and_level() {
    run(async {
        let nodes = Nodes::formed(1).await;
        let written = nodes
            .put(1, "/v1/kv/a", &[("x-request-id", "mine-7")], "1")
            .await;
        assert_eq!(written.header("x-request-id"), "mine-7");
        let url = format!("http://{}", nodes.addresses[0]);
        for (target, requested, effective) in [
            ("/v1/kv/a", "leader", "leader"),
            ("/v1/kv/a?consistency=linearizable", "leader", "leader"),
            ("/v1/kv/a?consistency=lease", "lease", ""),
            ("/v1/kv/a?consistency=follower", "follower", "follower"),
            ("/v1/kv/a?consistency=stale", "follower", "follower"),
            (
                "/v1/kv/a?consistency=follower-stale",
                "follower",
                "follower",
            ),
        ] {
            let read = nodes.get(1, target).await;
            assert_eq!(read.status, 200, "{target}: {read:?}");
            assert_eq!(read.header("consistency-requested"), requested);
            if !effective.is_empty() {
                assert_eq!(read.header("consistency-effective"), effective);
            }
            for (name, value) in [
                ("quorate-node", "1"),
                ("quorate-role", "leader"),
                ("quorate-served-by", "1"),
                ("quorate-leader", "1"),
                ("quorate-leader-url", url.as_str()),
            ] {
                assert_eq!(read.header(name), value, "{target} {name}");
            }
            let number = |name: &str| read.header(name).parse::<u64>().expect("a number");
            assert!(number("quorate-term") > 0);
            assert_eq!(
                read.header("quorate-index"),
                written.header("quorate-index")
            );
            assert!(number("quorate-applied-index") >= number("quorate-index"));
            assert!(number("quorate-commit-index") >= number("quorate-applied-index"));
            let staleness = read.header("quorate-staleness");
            assert!(
                staleness == "unknown" || staleness.ends_with("ms"),
                "{staleness}"
            );
            assert!(!read.header("x-request-id").is_empty());
        }
        let header = [("quorate-consistency", "stale")];
        let read = nodes.ask(1, "GET", "/v1/kv/a", &header, "").await;
        assert_eq!(read.header("consistency-requested"), "follower");
        let read = nodes
            .ask(1, "GET", "/v1/kv/a?consistency=leader", &header, "")
            .await;
        assert_eq!(read.header("consistency-requested"), "leader");
        let strange = [("x-request-id", "a b")];
        let read = nodes.ask(1, "GET", "/v1/kv/a", &strange, "").await;
        assert_ne!(read.header("x-request-id"), "a b");
        nodes.end().await;
    });
}

#[test]
fn any_node_answers_and_says_who_did_the_work() {
    run(async {
        let nodes = Nodes::formed(3).await;
        let leader = nodes.leader().await;
        for id in 1..=3 {
            let target = format!("/v1/kv/from-{id}");
            let written = nodes
                .put(id, &target, &[("x-request-id", "mine")], "v")
                .await;
            assert_eq!(written.status, 201, "{written:?}");
            assert_eq!(written.header("x-request-id"), "mine");
            assert_eq!(written.header("quorate-node"), id.to_string());
            assert_eq!(written.header("quorate-served-by"), leader.to_string());
            for level in ["leader", "lease"] {
                let read = nodes
                    .get(id, &format!("{target}?consistency={level}"))
                    .await;
                assert_eq!(read.body, "v");
                assert_eq!(read.header("consistency-requested"), level);
                assert_eq!(read.header("quorate-node"), id.to_string());
                assert_eq!(read.header("quorate-served-by"), leader.to_string());
            }
            let role = if id == leader { "leader" } else { "follower" };
            assert_eq!(written.header("quorate-role"), role);
            nodes
                .wait_for(|| async {
                    let read = nodes
                        .get(id, &format!("{target}?consistency=follower"))
                        .await;
                    assert_eq!(read.header("quorate-served-by"), id.to_string());
                    read.body == "v"
                })
                .await;
            let refused = nodes.put(id, &target, &[("if-none-match", "*")], "w").await;
            assert_eq!(refused.problem(), (412, "precondition_failed".to_owned()));
            assert_eq!(refused.header("etag"), written.header("etag"));
        }
        nodes.end().await;
    });
}

#[test]
fn a_forwarded_request_goes_no_further() {
    run(async {
        let nodes = Nodes::formed(3).await;
        let leader = nodes.leader().await;
        let forwarded = [("quorate-forwarded", "1")];
        for id in 1..=3 {
            let answer = nodes.put(id, "/v1/kv/a", &forwarded, "v").await;
            if id == leader {
                assert!(answer.status < 300, "{answer:?}");
            } else {
                assert_eq!(answer.problem(), (503, "no_leader".to_owned()));
                assert!(!answer.header("retry-after").is_empty());
            }
        }
        nodes.end().await;
    });
}
