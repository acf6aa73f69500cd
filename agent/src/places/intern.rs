//! Equal values get one small number.

use std::collections::HashMap;
use std::hash::Hash;

/// Numbers values from zero in the order in which they come. Numbers beyond `u16` are not given out:
/// [`Interner::overflowed`] then says so, and what was built with them must be thrown away.
pub(crate) struct Interner<T> {
    values: Vec<T>,
    numbers: HashMap<T, u16>,
    overflowed: bool,
}

impl<T: Clone + Eq + Hash> Interner<T> {
    /// With a first value, number zero.
    pub(crate) fn new(zero: T) -> Self {
        Self { values: vec![zero.clone()], numbers: HashMap::from([(zero, 0)]), overflowed: false }
    }

    /// The number of a value.
    pub(crate) fn number(&mut self, value: T) -> u16 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let Ok(number) = u16::try_from(self.values.len()) else {
            self.overflowed = true;
            return 0;
        };
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// The value of a number that this interner gave out.
    pub(crate) fn value(&self, number: u16) -> &T {
        &self.values[usize::from(number)]
    }

    pub(crate) fn into_values(self) -> Vec<T> {
        self.values
    }
}
