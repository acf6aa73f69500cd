//! Medians and quartiles: what one disturbed round can't move.

/// The middle of what was measured, and how far it scatters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Half of the values are below.
    pub(crate) median: f64,
    /// A quarter is below.
    pub(crate) q1: f64,
    /// A quarter is above.
    pub(crate) q3: f64,
}

impl Sample {
    /// Of these values; `None` if there are none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self { median: at(&sorted, 0.5)?, q1: at(&sorted, 0.25)?, q3: at(&sorted, 0.75)? })
    }

    /// Of one value, which does not scatter.
    pub(crate) const fn one(value: f64) -> Self {
        Self { median: value, q1: value, q3: value }
    }

    /// How far half of the values are from 1: the spread of a ratio of two things that are the same.
    pub(crate) fn spread_about_one(self) -> f64 {
        (self.q1 - 1.0).abs().max((self.q3 - 1.0).abs())
    }
}

/// The value below which the share `share` of the sorted values lies, interpolated.
pub(crate) fn at(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let position = share * last as f64;
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let part = position - below as f64;
    Some(sorted[below] * (1.0 - part) + sorted[above] * part)
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn one_wild_value_moves_neither_median_nor_quartiles() {
        let calm = Sample::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let wild = Sample::of(&[1.0, 2.0, 3.0, 4.0, 5e9]).unwrap();
        assert_eq!(calm, wild);
        assert_eq!(calm, Sample { median: 3.0, q1: 2.0, q3: 4.0 });
    }

    #[test]
    fn what_is_not_a_number_does_not_count() {
        assert_eq!(Sample::of(&[f64::NAN, 2.0]), Some(Sample::one(2.0)));
        assert_eq!(Sample::of(&[]), None);
    }

    #[test]
    fn the_spread_is_the_farther_quartile() {
        assert!((Sample { median: 1.0, q1: 0.98, q3: 1.05 }.spread_about_one() - 0.05).abs() < 1e-9);
    }
}
