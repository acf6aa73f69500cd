//! Ports cut into classes: two ports are in one class if no rule of any fence tells them apart.

use std::collections::HashMap;

use agent_common::limits::PORT_CLASSES;

use super::CompileError;
use crate::policy::ports::{Ports, Transport};
use crate::policy::set::Rule;

/// The classes of all ports. Class 0 is "port unknown"; no port is in it.
pub(super) struct PortClasses<'a> {
    /// By transport and port; entry 0, which is no port, is in the class of the first ports.
    classes: [Vec<u8>; 2],
    /// For each list of ports that some rule has: the classes in it.
    lists: HashMap<&'a [Ports], Vec<u8>>,
}

impl<'a> PortClasses<'a> {
    pub(super) fn new(rules: impl Iterator<Item = &'a Rule>) -> Result<Self, CompileError> {
        let mut lists: Vec<&[Ports]> = rules.map(|r| r.ports.as_slice()).filter(|p| !p.is_empty()).collect();
        lists.sort_unstable();
        lists.dedup();

        // A class is known by the lists that its ports are in.
        let mut numbers: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut classes = [vec![0u8; 1 << 16], vec![0u8; 1 << 16]];
        for (transport, table) in Transport::ALL.into_iter().zip(&mut classes) {
            for (from, to) in segments(&lists) {
                let signature: Vec<u32> = (0..)
                    .zip(&lists)
                    .filter(|(_, list)| list.iter().any(|ports| ports.has(transport, from)))
                    .map(|(at, _)| at)
                    .collect();
                let next = numbers.len() + 1;
                let class = *numbers.entry(signature).or_insert(next);
                // Too many are counted to the end, so that the error can say how many there are.
                table[usize::from(from)..=usize::from(to)].fill(u8::try_from(class).unwrap_or(u8::MAX));
            }
        }
        let count = numbers.len() + 1;
        if count > PORT_CLASSES {
            return Err(CompileError::PortClasses { count });
        }
        let mut members: HashMap<&[Ports], Vec<u8>> = lists.iter().map(|&list| (list, Vec::new())).collect();
        for (signature, class) in numbers {
            let class = u8::try_from(class).expect("invariant: counted above");
            for at in signature {
                members.entry(lists[at as usize]).or_default().push(class);
            }
        }
        Ok(Self { classes, lists: members })
    }

    /// The classes that a list of ports is made of.
    pub(super) fn of(&self, list: &[Ports]) -> &[u8] {
        self.lists.get(list).map_or(&[], Vec::as_slice)
    }

    pub(super) fn write(&self, out: &mut [[u8; 1 << 16]; 2]) {
        for (out, class) in out.iter_mut().zip(&self.classes) {
            out.copy_from_slice(class);
        }
    }
}

/// All ports, cut where some list begins or ends: first and last of each piece.
fn segments(lists: &[&[Ports]]) -> Vec<(u16, u16)> {
    let mut starts: Vec<u16> = lists
        .iter()
        .flat_map(|list| list.iter())
        .flat_map(|ports| [Some(ports.from), ports.to.checked_add(1)])
        .flatten()
        .chain([0])
        .collect();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
    starts.iter().copied().zip(ends).collect()
}
