//! Sets of bytes, kept as disjoint ranges.

use std::collections::BTreeMap;

/// A set of byte offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ByteSet {
    /// Start to end of each range. Ranges neither overlap nor touch.
    ranges: BTreeMap<u64, u64>,
}

impl ByteSet {
    /// Adds the bytes from `start` to `end`, the latter excluded.
    pub(crate) fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let (mut start, mut end) = (start, end);
        // From the right: the last range that starts at or before `end` may touch, and so may those before it.
        while let Some((&other_start, &other_end)) = self.ranges.range(..=end).next_back() {
            if other_end < start {
                break;
            }
            self.ranges.remove(&other_start);
            start = start.min(other_start);
            end = end.max(other_end);
        }
        self.ranges.insert(start, end);
    }

    /// The first byte from `start` to `end` (excluded) that is not in the set.
    pub(crate) fn first_missing(&self, start: u64, end: u64) -> Option<u64> {
        let covered_to = match self.ranges.range(..=start).next_back() {
            Some((_, &other_end)) if other_end > start => other_end,
            _ => start,
        };
        (covered_to < end).then_some(covered_to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_offsets(
            ranges in prop::collection::vec((0..60u64, 0..12u64), 0..12), start in 0..60u64, len in 0..20u64,
        ) {
            let mut set = ByteSet::default();
            let mut model = [false; 80];
            for (from, len) in ranges {
                set.insert(from, from + len);
                model[from as usize..(from + len) as usize].fill(true);
            }
            let expected = (start..start + len).find(|&at| !model[at as usize]);
            prop_assert_eq!(set.first_missing(start, start + len), expected);
            let mut last_end = None;
            for (&from, &to) in &set.ranges {
                prop_assert!(from < to && last_end.is_none_or(|end| end < from), "{:?}", set.ranges);
                last_end = Some(to);
            }
        }
    }
}
