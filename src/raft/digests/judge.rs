//! Who differs from whom: pure.

use std::collections::{BTreeMap, BTreeSet};

use super::Mark;

/// How a node's state compares with those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// At an index that another node was at too it has the same digest, and at none another one than most voters.
    Agrees,
    /// At some index most voters have another digest.
    Differs,
    /// At some index another node has another digest, and no majority has the same.
    Disputed,
    /// It was not reached, or was at no index that others were at.
    Unknown,
}

impl Agreement {
    /// Every one.
    pub const ALL: [Agreement; 4] = [
        Agreement::Agrees,
        Agreement::Differs,
        Agreement::Disputed,
        Agreement::Unknown,
    ];
}

/// What comes of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Each member.
    pub(super) agreement: BTreeMap<u64, Agreement>,
    /// The first index at which a node differs from most voters.
    pub(super) differs_at: BTreeMap<u64, u64>,
    /// Why nobody knows who is right, if nobody does.
    pub(super) disputed: Option<String>,
}

/// Judges `members` by the marks `heard` of them, where each of `configs` is a set of voters of which a majority decides, and of
/// several each must.
///
/// A state that differs once differs from there on. So one index at which most voters agree says who of all others is wrong, and
/// what they are at other indexes, where nobody else was, need not be known.
pub(super) fn judge(
    members: &BTreeSet<u64>,
    heard: &BTreeMap<u64, Vec<Mark>>,
    configs: &[BTreeSet<u64>],
) -> Judgement {
    let mut judgement = Judgement::default();
    let mut disputes: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut compared: BTreeSet<u64> = BTreeSet::new();
    for (index, digests) in by_index(heard) {
        let nodes: BTreeSet<u64> = digests.values().flatten().copied().collect();
        if nodes.len() < 2 {
            continue;
        }
        compared.extend(&nodes);
        let most = digests.values().find(|nodes| is_majority(nodes, configs));
        match most {
            Some(most) => {
                for wrong in nodes.difference(most) {
                    judgement.differs_at.entry(*wrong).or_insert(index);
                }
            }
            None if digests.len() > 1 => drop(disputes.insert(index, nodes)),
            None => {}
        }
    }
    // Without those that are wrong for certain there may be nothing left to dispute.
    let mut disputed: BTreeSet<u64> = BTreeSet::new();
    for (index, nodes) in &disputes {
        let open = nodes.iter().copied();
        let open = open.filter(|id| !judgement.differs_at.contains_key(id));
        let open: BTreeSet<u64> = open.collect();
        let at = |id: &u64| heard[id].iter().find(|(at, _)| at == index);
        let digests: BTreeSet<_> = open.iter().filter_map(at).collect();
        if digests.len() > 1 {
            disputed.extend(&open);
            judgement.disputed.get_or_insert_with(|| {
                format!(
                    "at index {index} nodes {open:?} have applied the same entries and come to different states, and no majority \
                     has the same"
                )
            });
        }
    }
    for id in members {
        let agreement = if judgement.differs_at.contains_key(id) {
            Agreement::Differs
        } else if disputed.contains(id) {
            Agreement::Disputed
        } else if compared.contains(id) {
            Agreement::Agrees
        } else {
            Agreement::Unknown
        };
        judgement.agreement.insert(*id, agreement);
    }
    judgement
}

/// By index, who has which digest.
fn by_index(heard: &BTreeMap<u64, Vec<Mark>>) -> BTreeMap<u64, BTreeMap<[u8; 32], BTreeSet<u64>>> {
    let mut found: BTreeMap<u64, BTreeMap<[u8; 32], BTreeSet<u64>>> = BTreeMap::new();
    for (id, marks) in heard {
        for (index, digest) in marks {
            let at = found.entry(*index).or_default();
            at.entry(*digest).or_default().insert(*id);
        }
    }
    found
}

fn is_majority(nodes: &BTreeSet<u64>, configs: &[BTreeSet<u64>]) -> bool {
    let most = |voters: &BTreeSet<u64>| voters.intersection(nodes).count() * 2 > voters.len();
    !configs.is_empty() && configs.iter().all(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Agreement::{Agrees, Differs, Disputed, Unknown};

    /// Members 1 to `count`, all voters, each with marks `(index, digest)`.
    fn judged(count: u64, heard: &[(u64, &[(u64, u8)])]) -> Judgement {
        let members: BTreeSet<u64> = (1..=count).collect();
        let heard = heard.iter().map(|(id, marks)| {
            let marks = marks.iter().map(|(index, digest)| (*index, [*digest; 32]));
            (*id, marks.collect())
        });
        judge(&members, &heard.collect(), std::slice::from_ref(&members))
    }

    fn agreements(judgement: &Judgement) -> Vec<Agreement> {
        judgement.agreement.values().copied().collect()
    }

    #[test]
    fn nodes_that_were_at_no_common_index_say_nothing_of_each_other() {
        let alone = judged(3, &[(1, &[(10, 1)]), (2, &[(11, 2)])]);
        assert_eq!(agreements(&alone), [Unknown; 3]);
        assert_eq!(alone.disputed, None);
        let two = judged(3, &[(1, &[(10, 1), (20, 2)]), (2, &[(11, 2), (20, 2)])]);
        assert_eq!(agreements(&two), [Agrees, Agrees, Unknown]);
    }

    #[test]
    fn who_differs_from_most_voters_is_wrong_at_the_first_index_where_it_does() {
        let marks: &[(u64, u8)] = &[(10, 1), (20, 2), (30, 3)];
        let wrong: &[(u64, u8)] = &[(10, 1), (20, 9), (30, 8)];
        let judgement = judged(3, &[(1, marks), (2, wrong), (3, marks)]);
        assert_eq!(agreements(&judgement), [Agrees, Differs, Agrees]);
        assert_eq!(judgement.differs_at, BTreeMap::from([(2, 20)]));
        assert_eq!(judgement.disputed, None);
        // One that lags was not where they differ.
        let behind = judged(3, &[(1, marks), (2, wrong), (3, &[(10, 1)])]);
        assert_eq!(agreements(&behind), [Disputed, Disputed, Agrees]);
    }

    #[test]
    fn where_no_majority_has_the_same_nobody_is_wrong_and_it_is_disputed() {
        let judgement = judged(3, &[(1, &[(10, 1)]), (2, &[(10, 2)])]);
        assert_eq!(agreements(&judgement), [Disputed, Disputed, Unknown]);
        let why = judgement.disputed.unwrap();
        assert!(why.contains("index 10") && why.contains("{1, 2}"), "{why}");
        let all = judged(3, &[(1, &[(10, 1)]), (2, &[(10, 2)]), (3, &[(10, 3)])]);
        assert_eq!(agreements(&all), [Disputed; 3]);
        let halves = judged(
            4,
            &[
                (1, &[(10, 1)]),
                (2, &[(10, 1)]),
                (3, &[(10, 2)]),
                (4, &[(10, 2)]),
            ],
        );
        assert_eq!(agreements(&halves), [Disputed; 4]);
    }

    #[test]
    fn one_index_that_a_majority_was_at_settles_what_is_disputed_at_others() {
        let judgement = judged(
            3,
            &[
                (1, &[(20, 2), (30, 3)]),
                (2, &[(20, 9), (30, 8)]),
                (3, &[(20, 2)]),
            ],
        );
        assert_eq!(agreements(&judgement), [Agrees, Differs, Agrees]);
        assert_eq!(judgement.disputed, None);
    }

    #[test]
    fn learners_are_judged_and_do_not_decide_and_of_two_sets_of_voters_both_must() {
        let members = BTreeSet::from([1, 2, 3]);
        let mark = |digest: u8| vec![(10, [digest; 32])];
        let heard = BTreeMap::from([(1, mark(1)), (2, mark(2)), (3, mark(2))]);
        let voters = BTreeSet::from([1]);
        let judgement = judge(&members, &heard, std::slice::from_ref(&voters));
        assert_eq!(agreements(&judgement), [Agrees, Differs, Differs]);
        let joint = [voters, BTreeSet::from([2, 3])];
        assert_eq!(agreements(&judge(&members, &heard, &joint)), [Disputed; 3]);
        assert_eq!(agreements(&judge(&members, &heard, &[])), [Disputed; 3]);
    }
}
