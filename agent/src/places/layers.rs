//! What lies above the country database: layers of networks, stacked into one step function of candidates.

use std::sync::Arc;

use agent_common::image::PlaceKind;
use ipnet::IpNet;

use super::country::CountryCode;
use super::error::PlacesError;
use super::intern::Interner;
use super::net::{Nets, normalise};
use super::place::{Layer, Source};
use super::special::Special;
use super::steps::{Key, Net, Steps};

/// Position of the source "none" among the sources.
pub(crate) const NO_SOURCE: u16 = 0;
/// Position of the source "special" among the sources.
const SPECIAL_SOURCE: u16 = 1;

/// What a layer above the country database says of an address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Candidate {
    pub(crate) kind: PlaceKind,
    /// For kind `Country`: which. For other kinds the country database underneath is asked.
    pub(crate) country: Option<CountryCode>,
    pub(crate) provider: Option<Arc<str>>,
    pub(crate) region: Option<Arc<str>>,
    pub(crate) source: u16,
}

impl Candidate {
    /// A place of a kind that needs no more words.
    pub(crate) fn plain(kind: PlaceKind, source: u16) -> Self {
        Self { kind, country: None, provider: None, region: None, source }
    }
}

/// The layers that have been stacked so far, lowest first.
pub(crate) struct Stack {
    /// Number 0 stands for "ask the country database".
    pub(crate) candidates: Interner<Option<Candidate>>,
    pub(crate) sources: Vec<Source>,
    pub(crate) warnings: Vec<String>,
    pub(crate) v4: Steps<u32>,
    pub(crate) v6: Steps<u128>,
}

impl Stack {
    pub(crate) fn new() -> Self {
        let known = |name: &str, layer| Source { name: name.to_owned(), layer, date: None, digest: None };
        Self {
            candidates: Interner::new(None),
            sources: vec![known("none", Layer::None), known("special", Layer::Special)],
            warnings: Vec::new(),
            v4: Steps::constant(0),
            v6: Steps::constant(0),
        }
    }

    /// Adds a source and says where it stands. Sources are documents and files: far fewer than `u16` holds; beyond
    /// that the last number is shared, and the interner of places overflows first.
    pub(crate) fn source(&mut self, source: Source) -> u16 {
        self.sources.push(source);
        u16::try_from(self.sources.len() - 1).unwrap_or(u16::MAX)
    }

    /// Lays networks on top; inside the layer the longest prefix wins. A value of 0 is a hole.
    pub(crate) fn lay(&mut self, nets: Nets) {
        self.v4 = over(&self.v4, nets.v4);
        self.v6 = over(&self.v6, nets.v6);
    }

    /// Lays fixed networks on top.
    pub(crate) fn lay_special(&mut self, table: &[Special]) -> Result<(), PlacesError> {
        let mut nets = Nets::default();
        for (cidr, kind, _) in table {
            let value = match kind {
                Some(kind) => self.candidates.number(Some(Candidate::plain(*kind, SPECIAL_SOURCE))),
                None => 0,
            };
            let net: IpNet = cidr.parse().map_err(|_| PlacesError::NotACidr { text: (*cidr).to_owned() })?;
            nets.push(net, value);
        }
        self.lay(nets);
        Ok(())
    }

    /// Lays the cluster's networks on top.
    pub(crate) fn lay_cluster(&mut self, cluster: &[IpNet]) -> Result<(), PlacesError> {
        if cluster.is_empty() {
            return Ok(());
        }
        let source = self.source(Source {
            name: "cluster".to_owned(),
            layer: Layer::Cluster,
            date: None,
            digest: None,
        });
        let value = self.candidates.number(Some(Candidate::plain(PlaceKind::Cluster, source)));
        let mut nets = Nets::default();
        for net in cluster {
            nets.push(normalise(*net)?, value);
        }
        self.lay(nets);
        Ok(())
    }
}

fn over<K: Key>(below: &Steps<K>, nets: Vec<Net<K>>) -> Steps<K> {
    let layer = Steps::nested(nets, |open| open.last().map_or(0, |net| net.value));
    below.zip(&layer, |below, above| if above == 0 { below } else { above })
}
