//! `PlaceOverride` documents: the operator knows better than the data.

use std::collections::HashMap;
use std::sync::Arc;

use agent_common::image::PlaceKind;
use ipnet::IpNet;

use super::country::CountryCode;
use super::error::PlacesError;
use super::layers::{Candidate, Stack};
use super::net::{Nets, normalise};
use super::place::{Layer, Source};
use super::regions::Regions;

/// A `PlaceOverride` document.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Override {
    /// The document's name.
    pub name: String,
    /// The networks that it speaks of.
    pub cidrs: Vec<IpNet>,
    /// Where they are. Without it, provider and region must be in the region table.
    pub country: Option<CountryCode>,
    /// They are announced from many countries.
    pub anycast: bool,
    /// Whose they are.
    pub provider: Option<String>,
    /// The provider's region.
    pub region: Option<String>,
}

impl Override {
    fn judged(&self, regions: &Regions) -> Result<(PlaceKind, Option<CountryCode>), PlacesError> {
        let (provider, region) = (self.provider.as_deref(), self.region.as_deref());
        let of_region = || regions.country(provider?, region?);
        match (self.anycast, self.country.or_else(of_region)) {
            (true, _) if self.country.is_some() => {
                Err(PlacesError::OverrideContradiction { name: self.name.clone() })
            }
            (true, _) => Ok((PlaceKind::Anycast, None)),
            (false, Some(country)) => Ok((PlaceKind::Country, Some(country))),
            (false, None) => Err(PlacesError::OverrideWithoutPlace {
                name: self.name.clone(),
                place: match (provider, region) {
                    (Some(provider), Some(region)) => format!("region {region} of {provider}"),
                    _ => "what it says of provider and region".to_owned(),
                },
            }),
        }
    }
}

impl Stack {
    /// Lays the overrides on top: the longest prefix wins between them.
    ///
    /// # Errors
    /// Networks that can't be judged; documents that contradict themselves or, on one network, each other.
    pub(crate) fn lay_overrides(&mut self, overrides: &[Override]) -> Result<(), PlacesError> {
        if overrides.is_empty() {
            return Ok(());
        }
        let regions = Regions::builtin()?;
        let mut nets = Nets::default();
        let mut seen: HashMap<IpNet, (&Override, u16)> = HashMap::new();
        for document in overrides {
            let (kind, country) = document.judged(&regions)?;
            let source = self.source(Source {
                name: format!("PlaceOverride/{}", document.name),
                layer: Layer::Operator,
                date: None,
                digest: None,
            });
            let value = self.candidates.number(Some(Candidate {
                kind,
                country,
                provider: document.provider.as_deref().map(Arc::from),
                region: document.region.as_deref().map(Arc::from),
                source,
            }));
            for cidr in &document.cidrs {
                let net = normalise(*cidr)?;
                match seen.get(&net) {
                    None => {
                        seen.insert(net, (document, value));
                        nets.push(net, value);
                    }
                    Some((first, _)) if first.says_the_same(document) => {}
                    Some((first, _)) => {
                        return Err(PlacesError::OverrideConflict {
                            cidr: net.to_string(),
                            first: first.name.clone(),
                            second: document.name.clone(),
                        });
                    }
                }
            }
        }
        self.lay(nets);
        Ok(())
    }
}

impl Override {
    fn says_the_same(&self, other: &Self) -> bool {
        self.anycast == other.anycast
            && self.country == other.country
            && self.provider == other.provider
            && self.region == other.region
    }
}
