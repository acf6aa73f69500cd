//! Features taken away on purpose, **for tests only**: `RINGFENCE_WITHOUT=tcx,birth` makes ringfence believe that this
//! kernel lacks them, so that what happens then can be tried on a kernel that has them.

use super::table::Need;
use super::{Feature, Presence, Probed};

/// The environment variable: names of features, separated by commas.
pub const WITHOUT: &str = "RINGFENCE_WITHOUT";

/// The variable names something that is no feature.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WITHOUT} names `{name}`, which is no feature; one of {}", known())]
pub struct UnknownFeature {
    name: String,
}

fn known() -> String {
    Feature::ALL.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ")
}

/// Which features are taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches(Vec<Feature>);

impl Switches {
    /// From the environment. A word that is not known is an error: a test would otherwise test nothing.
    ///
    /// # Errors
    /// See [`UnknownFeature`].
    pub fn from_environment() -> Result<Self, UnknownFeature> {
        Self::parse(&std::env::var(WITHOUT).unwrap_or_default())
    }

    fn parse(text: &str) -> Result<Self, UnknownFeature> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let feature = |name: &str| {
            let found = Feature::ALL.iter().copied().find(|f| f.name() == name);
            found.ok_or_else(|| UnknownFeature { name: name.to_owned() })
        };
        words.map(feature).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a feature is taken away.
    #[must_use]
    pub fn without(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// What is taken away although ringfence can't enforce without it.
    pub fn required(&self) -> impl Iterator<Item = Feature> {
        self.0.iter().copied().filter(|f| f.need() == Need::Required)
    }

    /// A feature that is taken away was not found.
    pub fn apply(&self, probed: &mut Probed) {
        if self.without(probed.feature) {
            probed.presence = Presence::Missing;
            probed.detail = format!("switched off by {WITHOUT}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Feature, Presence, Probed, Switches};

    #[test]
    fn a_feature_that_is_switched_off_was_not_found() {
        let switches = Switches::parse(" tcx, ringBuffer,").unwrap();
        assert!(switches.without(Feature::Tcx) && !switches.without(Feature::Clsact));
        assert_eq!(switches.required().collect::<Vec<_>>(), [Feature::RingBuffer]);
        let mut probed = Probed::found(Feature::Tcx, "tried");
        switches.apply(&mut probed);
        assert_eq!(probed.presence, Presence::Missing);
        let mut other = Probed::found(Feature::Clsact, "tried");
        switches.apply(&mut other);
        assert_eq!(other.presence, Presence::Found);
    }

    #[test]
    fn a_word_that_is_no_feature_is_refused() {
        let error = Switches::parse("tcx,tcxx").unwrap_err().to_string();
        assert!(error.contains("`tcxx`") && error.contains("clsact"), "{error}");
        assert_eq!(Switches::parse(""), Ok(Switches::default()));
    }
}
