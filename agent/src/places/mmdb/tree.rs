//! The search tree: a binary trie over address bits (<https://maxmind.github.io/MaxMind-DB/>, "Binary Search Tree").
//!
//! A damaged or hostile tree may have cycles, point outside the file, or share subtrees so that a hundred nodes
//! unfold to 2^100 networks. Depth, indices and the number of steps are bounded here; the `maxminddb` crate bounds
//! the first two.

/// Zero bytes between the tree and the data section.
const SEPARATOR: u32 = 16;

/// Nodes visited and leaves found, for both families together. The largest databases sold have some ten million nodes.
const MAX_STEPS: u32 = 1 << 25;

/// Why a tree can't be walked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum TreeError {
    #[error("the search tree is larger than the file")]
    Truncated,
    #[error("records of {0} bits are not in the format")]
    RecordSize(u16),
    #[error("the search tree has a cycle")]
    Cycle,
    #[error("the search tree unfolds to more than {MAX_STEPS} networks")]
    TooLarge,
    #[error("the search tree points into the separator of its data")]
    Separator,
    /// The visitor asked to stop.
    #[error("stopped")]
    Stopped,
}

/// A network without subnetworks.
pub(super) struct Leaf {
    /// Its first address, left-aligned in 128 bits.
    pub(super) first: u128,
    /// Where its record begins in the data section; `None` if it has none.
    pub(super) record: Option<u32>,
}

/// The nodes, and how many steps are left.
pub(super) struct Tree<'a> {
    nodes: &'a [u8],
    node_count: u32,
    record_size: u16,
    steps: u32,
}

impl<'a> Tree<'a> {
    pub(super) fn new(bytes: &'a [u8], node_count: u32, record_size: u16) -> Result<Self, TreeError> {
        let node_bytes = match record_size {
            24 => 6,
            28 => 7,
            32 => 8,
            other => return Err(TreeError::RecordSize(other)),
        };
        let size = usize::try_from(u64::from(node_count) * node_bytes).map_err(|_| TreeError::Truncated)?;
        let nodes = bytes.get(..size).ok_or(TreeError::Truncated)?;
        Ok(Self { nodes, node_count, record_size, steps: 0 })
    }

    /// Whether a record's value is another node.
    pub(super) fn is_inner(&self, value: u32) -> bool {
        value < self.node_count
    }

    /// The node or leaf under ::/96 of an IPv6 tree, where the IPv4 tree hangs.
    pub(super) fn v4_root(&self) -> u32 {
        let mut value = 0;
        for _ in 0..96 {
            if !self.is_inner(value) {
                break;
            }
            value = self.children(value)[0];
        }
        value
    }

    /// The two records of a node: what follows on a zero bit and on a one bit.
    fn children(&self, node: u32) -> [u32; 2] {
        let node = node as usize;
        let byte = |at: usize| u32::from(self.nodes[at]);
        match self.record_size {
            24 => {
                let at = node * 6;
                let left = byte(at) << 16 | byte(at + 1) << 8 | byte(at + 2);
                [left, byte(at + 3) << 16 | byte(at + 4) << 8 | byte(at + 5)]
            }
            28 => {
                // The middle byte holds the top four bits of both.
                let at = node * 7;
                let left = (byte(at + 3) & 0xf0) << 20 | byte(at) << 16 | byte(at + 1) << 8 | byte(at + 2);
                let right =
                    (byte(at + 3) & 0x0f) << 24 | byte(at + 4) << 16 | byte(at + 5) << 8 | byte(at + 6);
                [left, right]
            }
            _ => {
                let at = node * 8;
                let left = byte(at) << 24 | byte(at + 1) << 16 | byte(at + 2) << 8 | byte(at + 3);
                [left, byte(at + 4) << 24 | byte(at + 5) << 16 | byte(at + 6) << 8 | byte(at + 7)]
            }
        }
    }

    /// Visits the leaves under `root` in the order of addresses; together they cover all of it. `depth` is the number
    /// of address bits. The node `skip` counts as a leaf without a record. The visitor returns whether to go on.
    pub(super) fn walk(
        &mut self,
        root: u32,
        depth: u32,
        skip: Option<u32>,
        mut visit: impl FnMut(Leaf) -> bool,
    ) -> Result<(), TreeError> {
        let mut pending = vec![(root, 0u128, 0u32)];
        while let Some((value, first, bits)) = pending.pop() {
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return Err(TreeError::TooLarge);
            }
            if self.is_inner(value) && skip != Some(value) {
                if bits == depth {
                    return Err(TreeError::Cycle);
                }
                let [left, right] = self.children(value);
                pending.push((right, first | 1 << (127 - bits), bits + 1));
                pending.push((left, first, bits + 1));
                continue;
            }
            let record = if value <= self.node_count || skip == Some(value) {
                None
            } else {
                Some((value - self.node_count).checked_sub(SEPARATOR).ok_or(TreeError::Separator)?)
            };
            if !visit(Leaf { first, record }) {
                return Err(TreeError::Stopped);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Leaf, Tree, TreeError};

    /// A tree with records of 32 bits.
    fn tree(nodes: &[[u32; 2]]) -> Vec<u8> {
        nodes.iter().flatten().flat_map(|record| record.to_be_bytes()).collect()
    }

    fn leaves(
        bytes: &[u8],
        record_size: u16,
        node_count: u32,
    ) -> Result<Vec<(u128, Option<u32>)>, TreeError> {
        let mut found = Vec::new();
        Tree::new(bytes, node_count, record_size)?.walk(0, 32, None, |Leaf { first, record }| {
            found.push((first >> 96, record));
            true
        })?;
        Ok(found)
    }

    #[test]
    fn leaves_come_in_the_order_of_addresses() {
        let bytes = tree(&[[1, 2 + 16 + 7], [2, 2 + 16]]);
        assert_eq!(leaves(&bytes, 32, 2), Ok(vec![(0, None), (1 << 30, Some(0)), (1 << 31, Some(7))]));
    }

    #[test]
    fn records_of_24_and_28_bits_are_read_as_the_format_lays_them_out() {
        let long = leaves(&[0x00, 0x00, 0x01, 0x12, 0x34, 0x56, 0x78], 28, 1);
        assert_eq!(
            long,
            Ok(vec![(0, Some((0x0100_0001 - 1) - 16)), (1 << 31, Some((0x0234_5678 - 1) - 16))])
        );
        let short = leaves(&[0x00, 0x00, 0x01, 0x34, 0x56, 0x78], 24, 1);
        assert_eq!(short, Ok(vec![(0, None), (1 << 31, Some((0x0034_5678 - 1) - 16))]));
    }

    #[test]
    fn cycles_and_pointers_into_the_separator_are_refused() {
        assert_eq!(leaves(&tree(&[[0, 1]]), 32, 1), Err(TreeError::Cycle));
        assert_eq!(leaves(&tree(&[[1, 2]]), 32, 1), Err(TreeError::Separator));
        assert_eq!(leaves(&tree(&[[1, 1]]), 32, 2), Err(TreeError::Truncated));
        assert_eq!(leaves(&[], 26, 0), Err(TreeError::RecordSize(26)));
    }

    #[test]
    fn a_small_tree_that_unfolds_without_end_is_refused_in_bounded_time() {
        let nodes: Vec<[u32; 2]> = (1..=32).map(|next| [next, next]).collect();
        assert_eq!(leaves(&tree(&nodes), 32, 32), Err(TreeError::TooLarge));
    }
}
