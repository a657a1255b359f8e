//! A line for each act on the cluster: who asked what of this node, and what it answered. See [`crate::raft::Client::audit`].
//!
//! Acts are the requests that change the cluster. One that was forwarded has a line on both nodes, with the same `request_id`: where it
//! came in with the client's address, where it was done as `forwarded`. What reached no endpoint was no act.

use std::net::SocketAddr;

use axum::body::Body;
use axum::http::response::Parts;
use axum::response::Response;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};

use super::answer::INDEX;
use super::call::Call;
use super::edge::SERVED_BY;
use super::time::rfc3339_now;
use crate::raft;

/// Bytes of a request's body that a line takes over.
const BODY_LEN_MAX: usize = 4 << 10;

/// Members of an answer's body that a line takes over.
const TOLD: [&str; 4] = ["code", "outcome", "result", "membership_index"];

/// Notes the request, which [may be an act](may_be_act), if it reached an endpoint; the response is as it was.
pub(super) async fn note(raft: &raft::Client, call: &Call, response: Response) -> Response {
    if call.endpoint.get().is_none() {
        return response;
    }
    let (head, body) = response.into_parts();
    let bytes = match body.collect().now_or_never() {
        Some(Ok(bytes)) => bytes.to_bytes(),
        Some(Err(_)) | None => unreachable!("what is answered to an act is in memory"),
    };
    let standing = raft.standing();
    let line = line(call, &head, &bytes, standing.node, &rfc3339_now());
    raft.audit(line.to_string()).await;
    Response::from_parts(head, Body::from(bytes))
}

/// Whether it asks for a change of the cluster.
pub(super) fn may_be_act(call: &Call) -> bool {
    !call.is_safe() && call.is_of_cluster()
}

/// What is noted, without what makes it a link of the chain.
fn line(call: &Call, head: &Parts, body: &Bytes, node: u64, at: &str) -> Value {
    let number =
        |name: &str| -> Option<u64> { head.headers.get(name)?.to_str().ok()?.parse().ok() };
    let target = call
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let mut line = json!({
        "at": at,
        "node": node,
        "from": call.remote.map(|from: SocketAddr| from.to_string()),
        "forwarded": call.is_forwarded(),
        "request_id": call.request_id,
        "method": call.method.as_str(),
        "target": target,
        "body": asked(&call.body),
        "served_by": number(SERVED_BY.as_str()),
        "status": head.status.as_u16(),
        "index": number(INDEX.as_str()).map(|index| index.to_string()),
    });
    let told: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    for name in TOLD {
        if let Some(value) = told.get(name) {
            line[name] = value.clone();
        }
    }
    line
}

/// The body of a request: as JSON if it is some, else as text; of a long one its length.
fn asked(body: &Bytes) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    if body.len() > BODY_LEN_MAX {
        return json!({ "bytes": body.len() });
    }
    serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into())
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::super::call::tests::call;
    use super::*;

    #[test]
    fn a_line_says_what_was_asked_and_what_came_of_it() {
        let call = call(
            Method::DELETE,
            "/v1/cluster/members/2?force=true",
            &[],
            "{\"a\": 1}",
        );
        let answer = Response::builder()
            .status(409)
            .header(INDEX, 17)
            .header(SERVED_BY, 3)
            .body(())
            .unwrap();
        let body =
            Bytes::from_static(br#"{"code":"last_voter","outcome":"not_applied","title":"x"}"#);
        let at = "1970-01-02T00:00:00.000000000Z";
        let told = line(&call, &answer.into_parts().0, &body, 1, at);
        let expected = json!({
            "at": "1970-01-02T00:00:00.000000000Z", "node": 1, "from": null, "forwarded": false, "request_id": call.request_id,
            "method": "DELETE", "target": "/v1/cluster/members/2?force=true", "body": {"a": 1}, "served_by": 3,
            "status": 409, "index": "17", "code": "last_voter", "outcome": "not_applied",
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn a_body_is_taken_over_as_what_it_is_and_not_without_bound() {
        assert_eq!(asked(&Bytes::new()), Value::Null);
        assert_eq!(
            asked(&Bytes::from_static(b"{no json\n")),
            json!("{no json\n")
        );
        let long = Bytes::from(vec![b'x'; BODY_LEN_MAX + 1]);
        assert_eq!(asked(&long), json!({ "bytes": BODY_LEN_MAX + 1 }));
    }
}
