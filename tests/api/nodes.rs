//! Nodes in this process, and asking them.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{HeaderMap, Request, Response};
use quorate::client::{Pool, SendError};
use quorate::config::Config;
use quorate::node::Node;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};

/// Longest wait for a condition.
const WAIT: Duration = Duration::from_secs(30);

/// Runs a test on threads that outlive it: a node whose threads are taken away takes it for a failure of its core and aborts.
pub(crate) fn run(test: impl Future<Output = ()>) {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads")
    });
    RUNTIME.block_on(test);
}

/// Some nodes. A test ends with [`Nodes::end`]; if it fails, they run on and their directories stay.
pub(crate) struct Nodes {
    /// By node id minus one; `None` once stopped.
    pub(crate) nodes: Vec<Option<Node>>,
    /// Their client addresses.
    pub(crate) addresses: Vec<String>,
    peers: Vec<String>,
    dir: Option<TempDir>,
    pool: Pool,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn new(response: Response<Bytes>) -> Answer {
        let (head, body) = response.into_parts();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        }
    }

    /// The body as JSON; null if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header's text; empty if absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("ASCII"))
    }

    /// Status and code of a problem, after checking that it is a whole one.
    #[track_caller]
    pub(crate) fn problem(&self) -> (u16, String) {
        let problem = self.json();
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        let code = problem["code"].as_str().expect("a code").to_owned();
        assert_eq!(problem["type"], format!("/errors/{code}"));
        for member in ["title", "detail", "instance"] {
            assert!(
                !problem[member].as_str().expect("a text").is_empty(),
                "{member}: {problem}"
            );
        }
        assert!(problem["retryable"].is_boolean());
        assert!(problem["raft"]["node"].is_u64());
        let outcome = if matches!(code.as_str(), "commit_timeout" | "internal") {
            "unknown"
        } else {
            "not_applied"
        };
        assert_eq!(problem["outcome"], outcome, "{problem}");
        (self.status, code)
    }
}

impl Nodes {
    /// Starts nodes that belong to no cluster yet.
    pub(crate) async fn start(count: u64) -> Nodes {
        let dir = tempfile::tempdir().unwrap();
        let (mut nodes, mut addresses, mut peers) = (Vec::new(), Vec::new(), Vec::new());
        for id in 1..=count {
            let node = start_node(id, dir.path()).await;
            addresses.push(node.client_addr.to_string());
            peers.push(node.peer_addr.to_string());
            nodes.push(Some(node));
        }
        Nodes {
            nodes,
            addresses,
            peers,
            dir: Some(dir),
            pool: Pool::default(),
        }
    }

    /// Starts nodes and forms a cluster of them.
    pub(crate) async fn formed(count: u64) -> Nodes {
        let nodes = Nodes::start(count).await;
        let formed = nodes.post(1, "/v1/cluster/init", &nodes.members()).await;
        assert_eq!(formed.status, 201, "{formed:?}");
        nodes.wait_ready().await;
        nodes
    }

    /// The body that forms the cluster.
    pub(crate) fn members(&self) -> Value {
        let member = |(place, (peer, client)): (usize, (&String, &String))| json!({ "id": place + 1, "peer_addr": peer, "client_url": format!("http://{client}") });
        let members = self
            .peers
            .iter()
            .zip(&self.addresses)
            .enumerate()
            .map(member);
        json!({ "members": members.collect::<Vec<_>>() })
    }

    /// Data directory of a node.
    pub(crate) fn data_dir(&self, id: u64) -> std::path::PathBuf {
        self.dir
            .as_ref()
            .expect("not ended")
            .path()
            .join(format!("n{id}"))
    }

    /// Stops a node in good order.
    pub(crate) async fn stop(&mut self, id: u64) {
        let place = usize::try_from(id).unwrap() - 1;
        let node = self.nodes[place].take().expect("it runs");
        node.stop().await.expect("it stops");
    }

    /// Stops every node and removes what they wrote.
    pub(crate) async fn end(mut self) {
        let running: Vec<_> = self.nodes.iter_mut().filter_map(Option::take).collect();
        let stopping = running.into_iter().map(Node::stop);
        for stopped in futures_util::future::join_all(stopping).await {
            stopped.expect("a node stops");
        }
        self.dir
            .take()
            .expect("not ended")
            .close()
            .expect("directories can be removed");
    }

    /// Waits until every running node is ready.
    pub(crate) async fn wait_ready(&self) {
        for (place, node) in self.nodes.iter().enumerate() {
            if node.is_some() {
                let id = u64::try_from(place).unwrap() + 1;
                self.wait_for(|| async move { self.get(id, "/readyz").await.status == 200 })
                    .await;
            }
        }
    }

    /// Polls until `condition` holds.
    pub(crate) async fn wait_for<F: Future<Output = bool>>(
        &self,
        mut condition: impl FnMut() -> F,
    ) {
        let until = Instant::now() + WAIT;
        while !condition().await {
            assert!(Instant::now() < until, "waited in vain");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The node that leads.
    pub(crate) async fn leader(&self) -> u64 {
        let until = Instant::now() + WAIT;
        loop {
            for (place, node) in self.nodes.iter().enumerate() {
                let id = u64::try_from(place).unwrap() + 1;
                if node.is_some() && self.get(id, "/v1/cluster").await.json()["role"] == "leader" {
                    return id;
                }
            }
            assert!(Instant::now() < until, "no leader");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks a node; whatever cannot be asked fails the test.
    #[track_caller]
    pub(crate) fn ask<'a>(
        &'a self,
        id: u64,
        method: &'a str,
        target: &'a str,
        headers: &'a [(&'a str, &'a str)],
        body: impl Into<Bytes>,
    ) -> impl Future<Output = Answer> + 'a {
        let body = body.into();
        async move {
            let sent = self.try_ask(id, method, target, headers, body).await;
            sent.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
        }
    }

    /// Asks a node.
    pub(crate) async fn try_ask(
        &self,
        id: u64,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, SendError> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        let address = &self.addresses[usize::try_from(id).unwrap() - 1];
        self.pool
            .send(address, request, Instant::now() + WAIT)
            .await
            .map(Answer::new)
    }

    /// GET.
    pub(crate) async fn get(&self, id: u64, target: &str) -> Answer {
        self.ask(id, "GET", target, &[], "").await
    }

    /// POST of JSON.
    pub(crate) async fn post(&self, id: u64, target: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.ask(id, "POST", target, &headers, body.to_string())
            .await
    }

    /// PUT of bytes.
    pub(crate) async fn put(
        &self,
        id: u64,
        target: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.ask(id, "PUT", target, headers, body.to_owned()).await
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if let Some(dir) = self.dir.take() {
            #[expect(clippy::print_stdout, reason = "for whoever looks into the failure")]
            {
                println!("what the nodes wrote stays in {}", dir.keep().display());
            }
            // Dropping a node that was not stopped takes its core away, which aborts the process and hides the failure.
            std::mem::forget(std::mem::take(&mut self.nodes));
        }
    }
}

/// A node with timings that suit a test: the code is the same.
async fn start_node(id: u64, dir: &Path) -> Node {
    let any = "127.0.0.1:0".parse().unwrap();
    let mut config = Config::new(id, dir.join(format!("n{id}")), any, any);
    config.raft.heartbeat = Duration::from_millis(50);
    config.raft.election_min = Duration::from_millis(300);
    config.raft.election_max = Duration::from_millis(600);
    config.raft.quorum_loss_probe = Duration::from_millis(1200);
    config.log.segment_bytes = 8 << 20;
    Node::start(config, &Handle::current())
        .await
        .expect("a node starts")
}
