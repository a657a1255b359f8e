//! A cluster that was made of one node of another, whose majority was lost: what the identity file says of it.

use serde::{Deserialize, Serialize};

use super::Identity;
use crate::storage::LogId;

/// How a cluster came to be of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// The cluster it was before (32 hex digits).
    pub from: String,
    /// The entry that makes this node the only member. If the log ends right before it, it is still to be written.
    pub at: LogId,
}

impl Recovered {
    /// Its lines of the identity file.
    pub(super) fn encode(&self) -> String {
        let LogId { term, node, index } = self.at;
        let from = &self.from;
        format!("recovered_from {from}\nrecovered_at {term} {node} {index}\n")
    }

    /// Reads [`Recovered::encode`] back from the lines that `value` gives by their names.
    pub(super) fn decode<'a>(value: &mut impl FnMut(&str) -> Option<&'a str>) -> Option<Recovered> {
        let from = value("recovered_from")?.to_owned();
        let mut numbers = value("recovered_at")?.split(' ').map(str::parse);
        let mut number = || numbers.next()?.ok();
        let at = LogId {
            term: number()?,
            node: number()?,
            index: number()?,
        };
        Some(Recovered { from, at })
    }
}

/// Who `identity` is once its cluster is another one, from entry `at` on. `Err` says why it cannot be.
pub(super) fn changed(identity: &Identity, at: LogId) -> Result<Identity, String> {
    let Some(from) = identity.cluster_id.clone() else {
        return Err(format!("node {} belongs to no cluster", identity.node_id));
    };
    let salt = uuid::Uuid::new_v4().simple().to_string();
    Ok(Identity {
        cluster_id: Some(derived(&from, identity, at, &salt)),
        recovered: Some(Recovered { from, at }),
        ..identity.clone()
    })
}

/// 32 hex digits, never those of the old cluster. Two nodes of it, or a node and a copy of its directory, that both were made
/// clusters of their own must not meet as one: so the directory is in it, and `salt`.
fn derived(from: &str, identity: &Identity, at: LogId, salt: &str) -> String {
    let LogId { term, node, index } = at;
    let uuid = &identity.node_uuid;
    let mut text = format!("quorate recovered {from} {uuid} {term} {node} {index} {salt}");
    loop {
        let mut hex = blake3::hash(text.as_bytes()).to_hex().to_string();
        hex.truncate(32);
        if hex != from {
            return hex;
        }
        text.push('+');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_recovered_cluster_is_new_each_time() {
        let node = |uuid: &str| Identity {
            cluster_id: Some("0123456789abcdef0123456789abcdef".to_owned()),
            node_id: 1,
            node_uuid: uuid.to_owned(),
            recovered: None,
        };
        let at = LogId {
            term: 2,
            node: 1,
            index: 9,
        };
        let id = |node: &Identity, at| changed(node, at).unwrap().cluster_id.unwrap();
        let first = changed(&node("a"), at).unwrap();
        assert_eq!(
            first.recovered.as_ref().map(|recovered| &recovered.from),
            node("a").cluster_id.as_ref()
        );
        let again = changed(&first, LogId { index: 30, ..at }).unwrap();
        let ids = [
            node("a").cluster_id.unwrap(),
            id(&node("a"), at),
            id(&node("a"), at),
            id(&node("b"), at),
            again.cluster_id.unwrap(),
        ];
        let distinct: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "{ids:?}");
        assert!(ids.iter().all(|id| id.len() == 32));
        let alone = Identity {
            cluster_id: None,
            ..node("a")
        };
        assert!(changed(&alone, at).is_err());
    }
}
