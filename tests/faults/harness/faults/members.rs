//! The members are changed while other faults are in force: nodes come under new ids and others go, as an operator would have it
//! who asks again until it is so. A removed node stops by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Fault, Installed, NotInstalled, leader_first};
use crate::harness::nodes::Nodes;
use crate::harness::operator::{Change, Operator, Request, Step};
use crate::random::Random;

/// See the module.
pub(crate) struct Members;

/// A change that is not completed in this time, or long after everything else is healed, never will be.
const LASTS: Duration = Duration::from_secs(600);

/// How long a healed cluster may take to complete it.
const PATIENCE: Duration = Duration::from_secs(30);

impl Fault for Members {
    fn name(&self) -> &'static str {
        "members"
    }

    fn says(&self) -> &'static str {
        "nodes come and go, lose and get votes, are wiped and replaced; two operators at once"
    }

    fn is_beside(&self) -> bool {
        true
    }

    fn install(
        &self,
        nodes: &mut Nodes,
        leader: Option<u64>,
        random: &mut Random,
    ) -> Result<Installed, NotInstalled> {
        let before = nodes.membership().clone();
        let mut order = leader_first(&nodes.ids(), leader, random);
        if leader.is_none()
            && let Some(at) = order.iter().position(|id| before.either.contains(id))
        {
            // Whoever may lose its vote at any time is the first to go: then it cannot any more.
            order.swap(0, at);
        }
        let (change, how, touched) = drawn(nodes, &order, random)?;
        let addrs = nodes.roster().present();
        let log = nodes.operator_log(&how)?;
        let operator = Operator::start(change, &before, addrs, random.next(), log);
        let is_done = operator.is_done();
        Ok(Installed {
            aim: touched.clone(),
            nodes: touched,
            how: Some(how),
            lasts: LASTS,
            until: Some(Box::new(move |_| is_done())),
            heal: Box::new(move |nodes| {
                let now = operator.finish(PATIENCE)?;
                nodes.settle(now)
            }),
        })
    }
}

/// A change, told for people, and whom it touches.
type Drawn = (Change, String, Vec<u64>);

/// Draws what is to be done to the nodes in `order`, first to the first, and does what takes no request: nodes are started or
/// wiped.
fn drawn(nodes: &mut Nodes, order: &[u64], random: &mut Random) -> anyhow::Result<Drawn> {
    let one = order[0];
    let two = order[1 % order.len()];
    let votes = |voters: &[u64]| voters.iter().copied().collect::<BTreeSet<u64>>();
    let kind = random.below(10);
    if kind < 2 {
        let (change, how) = match kind {
            0 => (vec![demoted(one), promoted(one)], "loses its vote and"),
            _ => (
                vec![
                    Step::Race([Request::demote(one), Request::demote(two)], false),
                    promoted(one),
                    promoted(two),
                ],
                "and another one lose their votes at once, and each",
            ),
        };
        let touched = if kind == 0 { vec![one] } else { vec![one, two] };
        let change = Change {
            steps: change,
            legal: vec![votes(order)],
        };
        return Ok((change, format!("n{one} {how} gets it back"), touched));
    }
    // A wiped voter must not be one of two that may be all there are.
    let may_wipe = order.len() > 2 && nodes.membership().either.is_empty();
    let is_wiped = kind > 7 && may_wipe && nodes.awake().contains(&one);
    if is_wiped {
        nodes.wipe(one, kind == 9)?;
    }
    let new = nodes.join()?;
    nodes.may_leave(&[one, two]);
    let without = |gone: u64| {
        let mut voters = votes(order);
        voters.remove(&gone);
        voters.insert(new);
        voters
    };
    let mut steps = vec![Step::Until(vec![Request::add(new, &nodes.member(new))])];
    let mut legal = vec![without(one)];
    let how = match kind {
        2 | 3 => {
            steps.extend([promoted(new), removed(one)]);
            format!("n{new} joins, n{one} is removed")
        }
        4 => {
            steps.extend([promoted(new), demoted(one), removed(one)]);
            format!("n{new} joins, n{one} loses its vote and is removed")
        }
        5 => {
            let both = [Request::replace(one, new), Request::replace(two, new)];
            steps.extend([Step::Race(both.clone(), true), Step::Until(both.to_vec())]);
            legal.push(without(two));
            format!("n{new} takes the place of n{one} and of n{two} at once")
        }
        6 => {
            let both = [Request::remove(one), Request::replace(one, new)];
            steps.extend([Step::Race(both, true), promoted(new), removed(one)]);
            format!("n{one} is removed, and replaced by n{new}, at once")
        }
        _ => {
            steps.push(Step::Until(vec![Request::replace(one, new)]));
            let wiped = match kind {
                8 if is_wiped => ", which was wiped",
                9 if is_wiped => ", which was wiped and came back with nothing",
                _ => "",
            };
            format!("n{new} takes the place of n{one}{wiped}")
        }
    };
    let touched = if kind == 5 {
        vec![one, two, new]
    } else {
        vec![one, new]
    };
    Ok((Change { steps, legal }, how, touched))
}

fn promoted(id: u64) -> Step {
    Step::Until(vec![Request::promote(id)])
}

fn demoted(id: u64) -> Step {
    Step::Until(vec![Request::demote(id)])
}

fn removed(id: u64) -> Step {
    Step::Until(vec![Request::remove(id)])
}
