//! Where the regions of cloud providers are: `agent/data/regions.csv`.

use std::collections::HashMap;

use super::country::CountryCode;
use super::csv;
use super::error::PlacesError;

const DATA: &str = include_str!("../../data/regions.csv");
const NAME: &str = "regions.csv";

/// Provider and region to country.
pub(crate) struct Regions(HashMap<(&'static str, &'static str), CountryCode>);

impl Regions {
    /// The built-in table.
    pub(crate) fn builtin() -> Result<Self, PlacesError> {
        let mut table = HashMap::new();
        for (line, [provider, region, country]) in csv::lines(DATA, NAME)? {
            let bad = |what: &str| PlacesError::BuiltIn { name: NAME, what: format!("line {line}: {what}") };
            let country = CountryCode::parse(country).ok_or_else(|| bad("no country"))?;
            if table.insert((provider, region), country).is_some() {
                return Err(bad("the region stands here twice"));
            }
        }
        Ok(Self(table))
    }

    /// The country of a region, in the provider's own spelling.
    pub(crate) fn country(&self, provider: &str, region: &str) -> Option<CountryCode> {
        self.0.get(&(provider, region)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::Regions;

    #[test]
    fn regions_are_where_their_providers_say() {
        let regions = Regions::builtin().unwrap();
        for (provider, region, country) in [
            ("aws", "eu-central-1", "DE"),
            ("aws", "eu-central-1-waw-1", "PL"),
            ("aws", "us-east-1-scl-1", "CL"),
            ("google", "europe-west6", "CH"),
            ("azure", "westeurope", "NL"),
            ("azure", "germanywc", "DE"),
        ] {
            assert_eq!(
                regions.country(provider, region).map(|c| c.to_string()).as_deref(),
                Some(country),
                "{region}"
            );
        }
        assert_eq!(regions.country("aws", "eu-central-9"), None);
        let of = |provider: &str| regions.0.keys().filter(|key| key.0 == provider).count();
        assert!(of("aws") >= 40 && of("google") >= 40 && of("azure") >= 60);
    }
}
