//! Step functions over an address space: the one shape that every layer is brought to.
//!
//! A step function gives every address a value. It is kept as the addresses where the value changes, so it has no
//! gaps and no overlaps, and laying one over another is one merge of two sorted lists.

use std::fmt::Debug;

/// An address of either family as a number in host order.
pub(crate) trait Key: Copy + Ord + Debug {
    /// The lowest address.
    const ZERO: Self;
    /// The address after this one; `None` after the last.
    fn next(self) -> Option<Self>;
}

impl Key for u32 {
    const ZERO: Self = 0;
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Key for u128 {
    const ZERO: Self = 0;
    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// A network with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Net<K> {
    pub(crate) first: K,
    pub(crate) last: K,
    pub(crate) value: u16,
}

/// A step function: starts rise strictly from zero, neighbours differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Steps<K>(Vec<(K, u16)>);

impl<K: Key> Steps<K> {
    /// The same value everywhere.
    pub(crate) fn constant(value: u16) -> Self {
        Self(vec![(K::ZERO, value)])
    }

    /// Takes starts in rising order; the first must be zero. Neighbours with one value are merged.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// From `start` on the value is `value`. Starts must not fall; of equal starts the last counts.
    pub(crate) fn push(&mut self, start: K, value: u16) {
        debug_assert!(self.0.last().map_or(start == K::ZERO, |last| last.0 <= start));
        if self.0.last().is_some_and(|last| last.0 == start) {
            self.0.pop();
        }
        if self.0.last().is_none_or(|last| last.1 != value) {
            self.0.push((start, value));
        }
    }

    /// Networks that nest or are disjoint, never overlap in part (prefixes can't). `value` is asked for the networks
    /// that cover an address, widest first; an empty list where there is none.
    pub(crate) fn nested(mut nets: Vec<Net<K>>, mut value: impl FnMut(&[Net<K>]) -> u16) -> Self {
        nets.sort_by(|a, b| a.first.cmp(&b.first).then(b.last.cmp(&a.last)));
        let mut steps = Self::with_capacity(nets.len() * 2 + 1);
        steps.push(K::ZERO, value(&[]));
        let mut open: Vec<Net<K>> = Vec::new();
        for net in nets {
            steps.close(&mut open, Some(net.first), &mut value);
            open.push(net);
            steps.push(net.first, value(&open));
        }
        steps.close(&mut open, None, &mut value);
        steps
    }

    /// Ends the open networks that end before `until`.
    fn close(&mut self, open: &mut Vec<Net<K>>, until: Option<K>, value: &mut impl FnMut(&[Net<K>]) -> u16) {
        while let Some(inner) = open.last().copied()
            && until.is_none_or(|start| inner.last < start)
        {
            open.pop();
            if let Some(after) = inner.last.next() {
                self.push(after, value(open));
            }
        }
    }

    /// Lays two step functions over each other.
    pub(crate) fn zip(&self, other: &Self, mut value: impl FnMut(u16, u16) -> u16) -> Self {
        let mut steps = Self::with_capacity(self.0.len() + other.0.len());
        let (mut a, mut b) = (0, 0);
        while let (Some(&(start_a, value_a)), Some(&(start_b, value_b))) = (self.0.get(a), other.0.get(b)) {
            steps.push(start_a.max(start_b), value(value_a, value_b));
            let (next_a, next_b) = (self.0.get(a + 1).map(|s| s.0), other.0.get(b + 1).map(|s| s.0));
            match (next_a, next_b) {
                (None, None) => break,
                (Some(_), None) => a += 1,
                (None, Some(_)) => b += 1,
                (Some(next_a), Some(next_b)) => {
                    a += usize::from(next_a <= next_b);
                    b += usize::from(next_b <= next_a);
                }
            }
        }
        steps
    }

    pub(crate) fn as_slice(&self) -> &[(K, u16)] {
        &self.0
    }

    pub(crate) fn into_vec(self) -> Vec<(K, u16)> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{Net, Steps};

    fn net(first: u32, last: u32, value: u16) -> Net<u32> {
        Net { first, last, value }
    }

    fn innermost(open: &[Net<u32>]) -> u16 {
        open.last().map_or(0, |net| net.value)
    }

    #[test]
    fn the_longest_prefix_wins_and_the_wider_one_resumes_after_it() {
        let steps = Steps::nested(vec![net(16, 31, 1), net(20, 23, 2), net(20, 21, 3)], innermost);
        assert_eq!(steps.into_vec(), [(0, 0), (16, 1), (20, 3), (22, 2), (24, 1), (32, 0)]);
    }

    #[test]
    fn networks_that_reach_the_last_address_end_there() {
        let steps =
            Steps::nested(vec![net(u32::MAX - 3, u32::MAX, 1), net(u32::MAX, u32::MAX, 2)], innermost);
        assert_eq!(steps.into_vec(), [(0, 0), (u32::MAX - 3, 1), (u32::MAX, 2)]);
    }

    #[test]
    fn a_network_is_open_through_its_last_address() {
        let all = |open: &[Net<u32>]| open.iter().map(|net| net.value).sum();
        let steps = Steps::nested(vec![net(16, 31, 1), net(31, 31, 2), net(16, 16, 4)], all);
        assert_eq!(steps.into_vec(), [(0, 0), (16, 5), (17, 1), (31, 3), (32, 0)]);
    }

    #[test]
    fn equal_neighbours_are_merged() {
        let steps = Steps::nested(vec![net(0, 7, 1), net(8, 15, 1)], innermost);
        assert_eq!(steps.into_vec(), [(0, 1), (16, 0)]);
    }

    #[test]
    fn zip_asks_for_both_values_at_every_change() {
        let a = Steps::nested(vec![net(0, 9, 1)], innermost);
        let b = Steps::nested(vec![net(8, 15, 2)], innermost);
        assert_eq!(a.zip(&b, |a, b| a * 10 + b).into_vec(), [(0, 10), (8, 12), (10, 2), (16, 0)]);
    }
}
