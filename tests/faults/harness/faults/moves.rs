//! The leadership is moved to another node.

use std::time::Duration;

use super::{Fault, Installed, NotInstalled};
use crate::harness::http::{self, Lost};
use crate::harness::nodes::Nodes;
use crate::random::Random;

/// How long a move may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// See the module.
pub(crate) struct Moves;

impl Fault for Moves {
    fn name(&self) -> &'static str {
        "moves"
    }

    fn says(&self) -> &'static str {
        "the leadership is moved to another node"
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        _: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        let skipped = |why: &str| NotInstalled::Skipped(why.to_owned());
        let (leader, _) = nodes.leader().ok_or_else(|| skipped("nobody leads"))?;
        let others: Vec<u64> = nodes.ids().into_iter().filter(|id| *id != leader).collect();
        let to = *random.pick(&others);
        let body = format!("{{\"to\":{to}}}");
        let path = "/v1/cluster/leader/transfer?timeout=2s";
        match http::ask(nodes.addr(leader), "POST", path, &body, PATIENCE) {
            Ok(reply) if reply.status == 200 => Ok(Installed {
                nodes: vec![leader, to],
                aim: vec![leader],
                how: Some(format!("from n{leader} to n{to}")),
                lasts: Duration::ZERO,
                until: None,
                heal: Box::new(|_| Ok(())),
            }),
            // A refusal changes nothing; one that timed out may yet come true, which is as good.
            Ok(reply) => Err(NotInstalled::Skipped(format!(
                "{} {}",
                reply.status,
                reply.field("code")
            ))),
            Err(Lost::NotSent(why) | Lost::Unknown(why)) => Err(NotInstalled::Skipped(why)),
        }
    }
}
