//! The graph of transactions and the shortest cycle of each kind.

use std::collections::{BTreeMap, VecDeque};

use crate::history::Operation;
use crate::promises::Fact;

use super::lists::{Orders, appends, reads};
use super::may_have_happened;

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    /// Its element is before the other's in a list.
    WriteWrite,
    /// The other read its element.
    WriteRead,
    /// It did not see the other's element.
    ReadWrite,
    /// It was over before the other began.
    RealTime,
}

/// Transactions, then moments: one node for each end, so that real time needs a number of edges linear in the run.
struct Graph {
    transactions: usize,
    out: Vec<Vec<(usize, Edge)>>,
}

/// A kind of cycle: which edges it may have, and how many overwritten reads.
struct Kind {
    name: &'static str,
    edges: &'static [Edge],
    read_writes: ReadWrites,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadWrites {
    None,
    One,
    Any,
}

/// Cycles are looked for through so many transactions; in a green run there is none, and in a red one enough.
const STARTS_MAX: usize = 500;

/// Worst first. A cycle with real time is looked for after the same without.
const KINDS: &[Kind] = {
    use Edge::{ReadWrite, RealTime, WriteRead, WriteWrite};
    &[
        Kind {
            name: "G0",
            edges: &[WriteWrite],
            read_writes: ReadWrites::None,
        },
        Kind {
            name: "G1c",
            edges: &[WriteWrite, WriteRead],
            read_writes: ReadWrites::None,
        },
        Kind {
            name: "G-single",
            edges: &[WriteWrite, WriteRead],
            read_writes: ReadWrites::One,
        },
        Kind {
            name: "G2-item",
            edges: &[WriteWrite, WriteRead, ReadWrite],
            read_writes: ReadWrites::Any,
        },
        Kind {
            name: "G0-realtime",
            edges: &[WriteWrite, RealTime],
            read_writes: ReadWrites::None,
        },
        Kind {
            name: "G1c-realtime",
            edges: &[WriteWrite, WriteRead, RealTime],
            read_writes: ReadWrites::None,
        },
        Kind {
            name: "G-single-realtime",
            edges: &[WriteWrite, WriteRead, RealTime],
            read_writes: ReadWrites::One,
        },
        Kind {
            name: "G2-item-realtime",
            edges: &[WriteWrite, WriteRead, ReadWrite, RealTime],
            read_writes: ReadWrites::Any,
        },
    ]
};

/// One fact for the first kind of cycle that there is: the worse kinds are cycles of the milder ones too.
pub(crate) fn anomalies(transactions: &[&Operation], orders: &Orders) -> Option<Fact> {
    let graph = Graph::new(transactions, orders);
    KINDS.iter().find_map(|kind| {
        let cycle = graph.shortest_cycle(kind)?;
        Some(told(kind.name, &cycle, transactions))
    })
}

fn told(name: &str, cycle: &[(usize, Edge)], transactions: &[&Operation]) -> Fact {
    // Moments are passed through: an edge into one and out of it is one step in real time.
    let shown: Vec<(&Operation, Edge)> = cycle
        .iter()
        .filter_map(|(node, edge)| Some((*transactions.get(*node)?, *edge)))
        .collect();
    let step = |(transaction, edge): &(&Operation, Edge)| {
        let why = match edge {
            Edge::WriteWrite => "wrote before",
            Edge::WriteRead => "was read by",
            Edge::ReadWrite => "did not see",
            Edge::RealTime => "was over before",
        };
        format!("T{} {why} ", transaction.invoked.index)
    };
    let steps: String = shown.iter().map(step).collect();
    let first = shown
        .first()
        .map_or(0, |(transaction, _)| transaction.invoked.index);
    let what = format!("{name}: {steps}T{first} (named by their index in the history)");
    Fact::new(what).about(shown.iter().map(|(transaction, _)| *transaction))
}

impl Graph {
    fn new(transactions: &[&Operation], orders: &Orders) -> Graph {
        let mut graph = Graph {
            transactions: transactions.len(),
            out: vec![Vec::new(); transactions.len()],
        };
        graph.add_lists(transactions, orders);
        graph.add_real_time(transactions);
        graph
    }

    fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.out[from].push((to, edge));
        }
    }

    fn add_lists(&mut self, transactions: &[&Operation], orders: &Orders) {
        let mut writers: BTreeMap<(&str, i64), usize> = BTreeMap::new();
        for (at, transaction) in transactions
            .iter()
            .enumerate()
            .filter(|(_, t)| may_have_happened(t))
        {
            writers.extend(appends(transaction).map(|(key, element)| ((key, element), at)));
        }
        for (key, order) in orders {
            for pair in order.windows(2) {
                if let (Some(a), Some(b)) =
                    (writers.get(&(key, pair[0])), writers.get(&(key, pair[1])))
                {
                    self.add(*a, *b, Edge::WriteWrite);
                }
            }
        }
        for (at, transaction) in transactions.iter().enumerate() {
            for (key, list) in reads(transaction) {
                if let Some(writer) = list.last().and_then(|last| writers.get(&(key, *last))) {
                    self.add(*writer, at, Edge::WriteRead);
                }
                let next = orders.get(key).and_then(|order| order.get(list.len()));
                if let Some(writer) = next.and_then(|next| writers.get(&(key, *next))) {
                    self.add(at, *writer, Edge::ReadWrite);
                }
            }
        }
        self.add_unread(transactions, orders);
    }

    /// An append that no read has shown comes after everything that the reads have shown, if its transaction certainly
    /// happened: it was answered, or another of its appends was read.
    fn add_unread(&mut self, transactions: &[&Operation], orders: &Orders) {
        let is_read = |(key, element): (&str, i64)| {
            orders
                .get(key)
                .is_some_and(|order| order.contains(&element))
        };
        let happened = |transaction: &Operation| {
            let is_seen = may_have_happened(transaction) && appends(transaction).any(is_read);
            transaction.answer().is_some() || is_seen
        };
        let mut unread: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, transaction) in transactions.iter().enumerate().filter(|(_, t)| happened(t)) {
            for (key, element) in appends(transaction) {
                if !is_read((key, element)) {
                    unread.entry(key).or_default().push(at);
                }
            }
        }
        for (at, transaction) in transactions.iter().enumerate() {
            for (key, list) in reads(transaction) {
                let whole = orders.get(key).map_or(0, Vec::len);
                for writer in unread
                    .get(key)
                    .into_iter()
                    .flatten()
                    .filter(|_| list.len() == whole)
                {
                    self.add(at, *writer, Edge::ReadWrite);
                }
            }
        }
    }

    /// A chain of moments, one for each end, in order; from a transaction to the moment of its end, and from the last
    /// moment before its begin to a transaction.
    fn add_real_time(&mut self, transactions: &[&Operation]) {
        let mut ends: Vec<(u64, usize)> = transactions
            .iter()
            .enumerate()
            .filter_map(|(at, transaction)| Some((transaction.returned()?, at)))
            .collect();
        ends.sort_unstable();
        let first = self.transactions;
        self.out.resize(first + ends.len(), Vec::new());
        for (moment, (_, at)) in ends.iter().enumerate() {
            self.add(*at, first + moment, Edge::RealTime);
            if moment > 0 {
                self.add(first + moment - 1, first + moment, Edge::RealTime);
            }
        }
        for (at, transaction) in transactions.iter().enumerate() {
            let before = ends.partition_point(|(end, _)| *end < transaction.invoked.index);
            if before > 0 {
                self.add(first + before - 1, at, Edge::RealTime);
            }
        }
    }

    /// The shortest cycle of a kind, as nodes with the edge that leaves each.
    fn shortest_cycle(&self, kind: &Kind) -> Option<Vec<(usize, Edge)>> {
        let all_edges = match kind.read_writes {
            ReadWrites::One => &[kind.edges, &[Edge::ReadWrite]].concat(),
            ReadWrites::None | ReadWrites::Any => kind.edges,
        };
        let component = self.components(all_edges);
        let mut sizes: BTreeMap<usize, usize> = BTreeMap::new();
        for id in &component {
            *sizes.entry(*id).or_default() += 1;
        }
        let in_cycle = (0..self.transactions).filter(|at| sizes[&component[*at]] > 1);
        let starts = in_cycle.take(STARTS_MAX);
        let cycles = starts.filter_map(|start| match kind.read_writes {
            ReadWrites::None | ReadWrites::Any => self.path(start, start, kind.edges, &component),
            // Out by the one read that was overwritten, and back without another.
            ReadWrites::One => {
                let ways = self.out[start]
                    .iter()
                    .filter(|(_, edge)| *edge == Edge::ReadWrite);
                let back =
                    ways.filter_map(|(next, _)| self.path(*next, start, kind.edges, &component));
                let shortest = back.min_by_key(Vec::len)?;
                Some([vec![(start, Edge::ReadWrite)], shortest].concat())
            }
        });
        cycles.min_by_key(Vec::len)
    }

    /// The shortest way of at least one step from `from` to `to` within a component.
    fn path(
        &self,
        from: usize,
        to: usize,
        edges: &[Edge],
        component: &[usize],
    ) -> Option<Vec<(usize, Edge)>> {
        let mut came: BTreeMap<usize, (usize, Edge)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(at) = queue.pop_front() {
            let ways = self.out[at].iter();
            for (next, edge) in ways
                .filter(|(next, edge)| edges.contains(edge) && component[*next] == component[from])
            {
                if came.contains_key(next) {
                    continue;
                }
                came.insert(*next, (at, *edge));
                if *next == to {
                    return Some(unwind(&came, from, to));
                }
                queue.push_back(*next);
            }
        }
        None
    }

    /// The strongly connected component of each node, by Tarjan, without recursion.
    fn components(&self, edges: &[Edge]) -> Vec<usize> {
        let len = self.out.len();
        let (mut number, mut low) = (vec![usize::MAX; len], vec![0; len]);
        let (mut component, mut stack, mut next) = (vec![usize::MAX; len], Vec::new(), 0);
        for root in 0..len {
            let mut calls = if number[root] == usize::MAX {
                vec![(root, 0)]
            } else {
                Vec::new()
            };
            while let Some((at, way)) = calls.pop() {
                if way == 0 && number[at] == usize::MAX {
                    (number[at], low[at]) = (next, next);
                    next += 1;
                    stack.push(at);
                }
                if let Some((to, edge)) = self.out[at].get(way) {
                    calls.push((at, way + 1));
                    if edges.contains(edge) && number[*to] == usize::MAX {
                        calls.push((*to, 0));
                    } else if edges.contains(edge) && component[*to] == usize::MAX {
                        low[at] = low[at].min(number[*to]);
                    }
                    continue;
                }
                if low[at] == number[at] {
                    while let Some(top) = stack.pop() {
                        component[top] = at;
                        if top == at {
                            break;
                        }
                    }
                }
                if let Some((caller, _)) = calls.last() {
                    low[*caller] = low[*caller].min(low[at]);
                }
            }
        }
        component
    }
}

fn unwind(came: &BTreeMap<usize, (usize, Edge)>, from: usize, to: usize) -> Vec<(usize, Edge)> {
    let mut way = vec![came[&to]];
    while way.last().is_some_and(|(at, _)| *at != from) {
        let (at, _) = way[way.len() - 1];
        way.push(came[&at]);
    }
    way.reverse();
    way
}
