//! Networks that are announced from many countries: `agent/data/anycast.csv`.

use std::sync::Arc;

use agent_common::image::PlaceKind;
use jiff::civil::Date;
use sha2::{Digest, Sha256};

use super::age;
use super::csv;
use super::error::PlacesError;
use super::layers::{Candidate, Stack};
use super::mmdb::hex;
use super::net::{Nets, parse_cidr};
use super::place::{Layer, Source};

const DATA: &str = include_str!("../../data/anycast.csv");
const NAME: &str = "anycast.csv";

impl Stack {
    /// Lays the built-in list on top.
    pub(crate) fn lay_anycast(&mut self, today: Date) -> Result<(), PlacesError> {
        let source = Source {
            name: "anycast-list".to_owned(),
            layer: Layer::Anycast,
            date: Some(csv::date(DATA, NAME)?),
            digest: Some(hex(&Sha256::digest(DATA))),
        };
        self.warnings.extend(age::warning(&source, today));
        let source = self.source(source);
        let mut nets = Nets::default();
        for (line, [cidr, operator, _source]) in csv::lines(DATA, NAME)? {
            let bad = |error: PlacesError| PlacesError::BuiltIn {
                name: NAME,
                what: format!("line {line}: {error}"),
            };
            let candidate = Candidate {
                provider: Some(Arc::from(operator)),
                ..Candidate::plain(PlaceKind::Anycast, source)
            };
            let value = self.candidates.number(Some(candidate));
            nets.push(parse_cidr(cidr).map_err(bad)?, value);
        }
        self.lay(nets);
        Ok(())
    }
}
