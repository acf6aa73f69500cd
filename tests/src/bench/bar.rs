//! Goals and floors (design, section 10), and the word for how a figure stands to them.

use std::fmt;

/// What a figure must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// The more the better.
    AtLeast {
        /// What we want.
        goal: f64,
        /// What we must not fall below.
        floor: f64,
    },
    /// The less the better.
    AtMost {
        /// What we want.
        goal: f64,
        /// What we must not exceed.
        floor: f64,
    },
}

/// How a figure stands to its bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// The goal is reached.
    Met,
    /// The goal is not reached, the floor is.
    Floor,
    /// Not even the floor is.
    Missed,
    /// The effect is smaller than what the measurement itself scatters, and the goal is not clear of that either.
    NotResolvable,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Met => "met",
            Self::Floor => "floor",
            Self::Missed => "MISSED",
            Self::NotResolvable => "not resolvable",
        })
    }
}

impl Bar {
    /// What we want.
    pub(crate) const fn goal(self) -> f64 {
        match self {
            Self::AtLeast { goal, .. } | Self::AtMost { goal, .. } => goal,
        }
    }

    /// What must hold.
    pub(crate) const fn floor(self) -> f64 {
        match self {
            Self::AtLeast { floor, .. } | Self::AtMost { floor, .. } => floor,
        }
    }

    /// The sign that tells which way is good.
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::AtLeast { .. } => "≥",
            Self::AtMost { .. } => "≤",
        }
    }

    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::AtLeast { .. } => value >= limit,
            Self::AtMost { .. } => value <= limit,
        }
    }

    /// Judges `value`. `spread` is what the same measurement of two equal things shows, for figures that would be
    /// exactly 1 if there were no effect; `None` for all others.
    pub(crate) fn judge(self, value: f64, spread: Option<f64>) -> Word {
        if let Some(spread) = spread {
            let worst = match self {
                Self::AtLeast { .. } => value - spread,
                Self::AtMost { .. } => value + spread,
            };
            if !self.holds(worst, self.goal()) && (value - 1.0).abs() <= spread {
                return Word::NotResolvable;
            }
        }
        if self.holds(value, self.goal()) {
            Word::Met
        } else if self.holds(value, self.floor()) {
            Word::Floor
        } else {
            Word::Missed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bar, Word};

    const RATE: Bar = Bar::AtLeast { goal: 0.97, floor: 0.93 };
    const TIME: Bar = Bar::AtMost { goal: 60.0, floor: 100.0 };

    #[test]
    fn a_figure_is_held_against_goal_then_floor() {
        for (value, word) in [(0.98, Word::Met), (0.95, Word::Floor), (0.90, Word::Missed)] {
            assert_eq!(RATE.judge(value, Some(0.001)), word, "{value}");
        }
        for (value, word) in [(59.0, Word::Met), (99.0, Word::Floor), (101.0, Word::Missed)] {
            assert_eq!(TIME.judge(value, None), word, "{value}");
        }
    }

    #[test]
    fn an_effect_inside_the_spread_is_not_resolvable() {
        assert_eq!(RATE.judge(0.95, Some(0.06)), Word::NotResolvable);
        assert_eq!(RATE.judge(0.99, Some(0.06)), Word::NotResolvable);
    }

    #[test]
    fn a_goal_that_holds_even_with_the_spread_against_it_is_met() {
        assert_eq!(RATE.judge(1.0, Some(0.02)), Word::Met);
    }

    #[test]
    fn an_effect_beyond_the_spread_is_judged() {
        assert_eq!(RATE.judge(0.80, Some(0.06)), Word::Missed);
    }
}
