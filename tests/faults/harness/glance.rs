//! Short looks at nodes that run: who leads, and how far they are.

use std::net::SocketAddr;
use std::time::Duration;

use super::http::{self, Connection, Request};
use super::nodes::Nodes;

/// How long a look at a node may take.
const GLANCE: Duration = Duration::from_millis(250);

impl Nodes {
    /// Who leads, with its term: the one with the highest term of those that say so and are awake.
    pub(crate) fn leader(&self) -> Option<(u64, u64)> {
        let awake = self.awake().into_iter();
        let leading = awake.filter_map(|id| Some((id, term_of_leader(self.addr(id))?)));
        leading.max_by_key(|(_, term)| *term)
    }

    /// The last index in any log of those that are awake.
    pub(crate) fn last_index(&self) -> Option<u64> {
        let awake = self.awake().into_iter();
        let last = awake.filter_map(|id| metric(self.addr(id), "quorate_raft_last_log_index"));
        last.max()
    }

    /// Whether the logs of all but `away` begin after `index`.
    pub(crate) fn all_purged(&self, away: u64, index: u64) -> bool {
        let others = self.ids().into_iter().filter(|id| *id != away);
        let purged = |id| metric(self.addr(id), "quorate_raft_purged_index");
        let awake = self.awake();
        let mut others = others.map(|id| awake.contains(&id).then(|| purged(id)).flatten());
        others.all(|purged| purged >= Some(index))
    }
}

/// The term in which the node at `addr` says it leads.
pub(crate) fn term_of_leader(addr: SocketAddr) -> Option<u64> {
    leading(addr, &mut Connection::default())
}

/// The same, over a connection that is kept.
pub(crate) fn leading(addr: SocketAddr, connection: &mut Connection) -> Option<u64> {
    let request = Request {
        method: "GET",
        path: "/livez".to_owned(),
        ..Request::default()
    };
    let reply = connection.ask(addr, &request, GLANCE).ok()?;
    let leads = reply.header("quorate-role") == Some("leader");
    reply.number("quorate-term").filter(|_| leads)
}

/// What the node at `addr` measures as `name`, a whole number.
pub(crate) fn metric(addr: SocketAddr, name: &str) -> Option<u64> {
    let reply = http::ask(addr, "GET", "/metrics", "", GLANCE).ok()?;
    let text = reply.text();
    let mut values = text
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next()?.parse().ok()
}
