//! Which steps must wait for which, from the bytes that they read and write.
//!
//! Two steps conflict when they touch a byte in common and at least one of them writes it: read after write, write
//! after read, write after write. Conflicting steps keep the order in which they were appended; all others are free.
//! The edges are the transitive reduction of the conflicts, so none follows from the others: on a GPU an edge costs
//! time at every replay.

use super::memory_map::Span;

/// What a step reads and writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accesses {
    /// Bytes that may be read.
    pub reads: Vec<Span>,
    /// Bytes that may be written.
    pub writes: Vec<Span>,
}

impl Accesses {
    /// Whether the two cannot change places.
    pub fn conflicts_with(&self, other: &Accesses) -> bool {
        let meet = |a: &[Span], b: &[Span]| a.iter().any(|x| b.iter().any(|y| x.overlaps(*y)));
        meet(&self.writes, &other.reads)
            || meet(&self.reads, &other.writes)
            || meet(&self.writes, &other.writes)
    }
}

/// `to` starts after `from` has finished. Both are indices of steps, and `from < to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The step that runs first.
    pub from: usize,
    /// The step that waits.
    pub to: usize,
}

/// The fewest edges that order every pair of conflicting steps, sorted by [`Edge::to`], then [`Edge::from`].
///
/// Takes O(steps x (live ranges + steps / 64)): ranges that a later write covers are forgotten, because whatever
/// conflicts with them conflicts with that write too.
pub fn dependencies(steps: &[Accesses]) -> Vec<Edge> {
    let mut live: Vec<LiveRanges> = Vec::new();
    let mut before: Vec<BitSet> = Vec::with_capacity(steps.len());
    let mut edges = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let mut predecessors = Vec::new();
        for (spans, writes) in [(&step.reads, false), (&step.writes, true)] {
            for span in spans {
                if let Some(region) = live.get(span.region.index()) {
                    region.conflicts(*span, writes, &mut predecessors);
                }
            }
        }
        predecessors.sort_unstable();
        predecessors.dedup();
        // Latest first: a predecessor that another predecessor already waits for is then found in the closure.
        let mut reachable = BitSet::new(steps.len());
        let first_edge = edges.len();
        for &from in predecessors.iter().rev() {
            if !reachable.contains(from) {
                edges.push(Edge { from, to: index });
                reachable.insert(from);
                reachable.union(&before[from]);
            }
        }
        edges[first_edge..].reverse();
        before.push(reachable);
        for span in &step.reads {
            ranges_of(&mut live, *span).reads.push((index, *span));
        }
        for span in &step.writes {
            let region = ranges_of(&mut live, *span);
            // Ranges of this very step stay: its write does not order its own reads before others.
            region.reads.retain(|(step, range)| *step == index || !span.covers(*range));
            region.writes.retain(|(step, range)| *step == index || !span.covers(*range));
            region.writes.push((index, *span));
        }
    }
    edges
}

fn ranges_of(live: &mut Vec<LiveRanges>, span: Span) -> &mut LiveRanges {
    let region = span.region.index();
    if live.len() <= region {
        live.resize_with(region + 1, LiveRanges::default);
    }
    &mut live[region]
}

/// The accesses to one region that a later step could still conflict with directly.
#[derive(Debug, Clone, Default)]
struct LiveRanges {
    reads: Vec<(usize, Span)>,
    writes: Vec<(usize, Span)>,
}

impl LiveRanges {
    fn conflicts(&self, span: Span, writes: bool, predecessors: &mut Vec<usize>) {
        let readers = if writes { self.reads.as_slice() } else { &[] };
        let overlapping = self.writes.iter().chain(readers).filter(|(_, range)| range.overlaps(span));
        predecessors.extend(overlapping.map(|(step, _)| *step));
    }
}

/// A set of step indices.
#[derive(Debug, Clone)]
struct BitSet {
    words: Vec<u64>,
}

impl BitSet {
    fn new(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)] }
    }

    fn contains(&self, index: usize) -> bool {
        self.words[index / 64] >> (index % 64) & 1 == 1
    }

    fn insert(&mut self, index: usize) {
        self.words[index / 64] |= 1 << (index % 64);
    }

    fn union(&mut self, other: &BitSet) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::memory_map::{MemoryMap, Region, RegionId, RegionKind};
    use proptest::prelude::*;

    fn regions(n: usize) -> Vec<RegionId> {
        let mut map = MemoryMap::new();
        (0..n)
            .map(|i| {
                map.add(Region { name: i.to_string(), kind: RegionKind::State, base: 0, bytes: 1 << 20 })
            })
            .collect()
    }

    fn span(offset: u64, bytes: u64) -> Span {
        Span { region: regions(1)[0], offset, bytes }
    }

    fn step(reads: &[Span], writes: &[Span]) -> Accesses {
        Accesses { reads: reads.to_vec(), writes: writes.to_vec() }
    }

    fn pairs(steps: &[Accesses]) -> Vec<(usize, usize)> {
        dependencies(steps).into_iter().map(|edge| (edge.from, edge.to)).collect()
    }

    #[test]
    fn each_hazard_makes_an_edge() {
        let x = span(0, 8);
        assert_eq!(pairs(&[step(&[], &[x]), step(&[x], &[])]), [(0, 1)], "read after write");
        assert_eq!(pairs(&[step(&[x], &[]), step(&[], &[x])]), [(0, 1)], "write after read");
        assert_eq!(pairs(&[step(&[], &[x]), step(&[], &[x])]), [(0, 1)], "write after write");
        assert_eq!(pairs(&[step(&[x], &[]), step(&[x], &[])]), [], "two reads");
    }

    #[test]
    fn neighbours_do_not_conflict_but_one_shared_byte_does() {
        assert_eq!(pairs(&[step(&[], &[span(0, 8)]), step(&[span(8, 8)], &[])]), []);
        assert_eq!(pairs(&[step(&[], &[span(0, 9)]), step(&[span(8, 8)], &[])]), [(0, 1)]);
    }

    #[test]
    fn query_key_and_value_projections_run_side_by_side() {
        let [x, q, k, v, out] = [0, 100, 200, 300, 400].map(|offset| span(offset, 100));
        let steps = [
            step(&[], &[x]),
            step(&[x], &[q]),
            step(&[x], &[k]),
            step(&[x], &[v]),
            step(&[q, k, v], &[out]),
            step(&[out], &[x]),
        ];
        assert_eq!(pairs(&steps), [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4), (4, 5)]);
    }

    #[test]
    fn a_write_that_covers_an_older_one_hides_it() {
        let steps = [step(&[], &[span(0, 8)]), step(&[], &[span(0, 16)]), step(&[span(4, 2)], &[])];
        assert_eq!(pairs(&steps), [(0, 1), (1, 2)]);
    }

    #[test]
    fn a_write_that_covers_a_part_hides_nothing() {
        let steps = [step(&[], &[span(0, 16)]), step(&[], &[span(0, 8)]), step(&[span(4, 8)], &[])];
        assert_eq!(pairs(&steps), [(0, 1), (1, 2)]);
        let steps = [step(&[], &[span(0, 16)]), step(&[], &[span(0, 8)]), step(&[span(8, 8)], &[])];
        assert_eq!(pairs(&steps), [(0, 1), (0, 2)]);
    }

    #[test]
    fn a_step_may_update_in_place() {
        let x = span(0, 8);
        assert_eq!(pairs(&[step(&[], &[x]), step(&[x], &[x]), step(&[x], &[])]), [(0, 1), (1, 2)]);
    }

    #[test]
    fn no_steps_no_edges() {
        assert_eq!(dependencies(&[]), []);
    }

    /// `reach[i][j]` says whether there is a path from `j` to `i`, by the definition and nothing cleverer.
    fn reachability(n: usize, edges: &[Edge]) -> Vec<Vec<bool>> {
        let mut reach = vec![vec![false; n]; n];
        for to in 0..n {
            for edge in edges.iter().filter(|edge| edge.to == to) {
                let mut before = reach[edge.from].clone();
                before[edge.from] = true;
                for (known, more) in reach[to].iter_mut().zip(before) {
                    *known |= more;
                }
            }
        }
        reach
    }

    fn accesses() -> impl Strategy<Value = Vec<Accesses>> {
        let span = (0..3usize, 0..24u64, 0..10u64).prop_map(|(region, offset, bytes)| Span {
            region: regions(3)[region],
            offset,
            bytes,
        });
        let spans = |most| prop::collection::vec(span.clone(), 0..most);
        let step = (spans(4), spans(3)).prop_map(|(reads, writes)| Accesses { reads, writes });
        prop::collection::vec(step, 0..24)
    }

    proptest! {
        #[test]
        fn conflicts_are_ordered_and_nothing_else_is(steps in accesses()) {
            let n = steps.len();
            let reach = reachability(n, &dependencies(&steps));
            let mut all = Vec::new();
            for to in 0..n {
                for from in 0..to {
                    if steps[from].conflicts_with(&steps[to]) {
                        all.push(Edge { from, to });
                    }
                }
            }
            let expected = reachability(n, &all);
            prop_assert_eq!(reach, expected);
        }

        #[test]
        fn no_edge_follows_from_the_others(steps in accesses()) {
            let edges = dependencies(&steps);
            for skipped in 0..edges.len() {
                let mut others = edges.clone();
                let edge = others.remove(skipped);
                prop_assert!(!reachability(steps.len(), &others)[edge.to][edge.from], "{:?} is redundant", edge);
            }
        }

        #[test]
        fn edges_point_forward_are_sorted_and_join_conflicting_steps(steps in accesses()) {
            let edges = dependencies(&steps);
            prop_assert!(edges.is_sorted_by_key(|edge| (edge.to, edge.from)));
            for edge in edges {
                prop_assert!(edge.from < edge.to);
                prop_assert!(steps[edge.from].conflicts_with(&steps[edge.to]));
            }
        }
    }
}
