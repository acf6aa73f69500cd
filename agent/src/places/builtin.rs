//! The data that is built into the binary: `agent/data/`.

use jiff::civil::Date;

use super::age;
use super::database::CountryData;
use super::error::PlacesError;
use super::mmdb::{self, Demand};
use super::packed::{self, Head};

const COUNTRY: &[u8] = include_bytes!("../../data/dbip-country-lite.zst");
const COUNTRY_FILE: &str = "dbip-country-lite.zst";

/// The notice that the licence of the built-in country database asks for, for `--version` and reports.
pub const COUNTRY_NOTICE: &str = "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0";

/// The built-in country database.
pub(crate) fn country(today: Date) -> Result<CountryData, PlacesError> {
    let damaged =
        |error: packed::PackedError| PlacesError::BuiltIn { name: COUNTRY_FILE, what: error.to_string() };
    let mut data = packed::decode(COUNTRY).map_err(damaged)?;
    data.warnings.extend(age::warning(&data.source, today));
    Ok(data)
}

/// What the built-in country database says of itself: name, version, date, licence, SHA-256 of its source.
///
/// # Errors
/// Only if the binary is damaged.
pub fn country_head() -> Result<Head, PlacesError> {
    let read = packed::head(COUNTRY).map(|(head, _)| head);
    read.map_err(|error| PlacesError::BuiltIn { name: COUNTRY_FILE, what: error.to_string() })
}

/// Packs an MMDB into the form that is built in: what `cargo xtask refresh-data` runs. The lines of `head` go into
/// the file; date and SHA-256 are added from the MMDB.
///
/// # Errors
/// A file that [`WorldBuilder::country_db`](super::WorldBuilder::country_db) would refuse, or that gives no date.
pub fn pack_country_db(mmdb: &[u8], mut head: Head, today: Date) -> Result<Vec<u8>, PlacesError> {
    let name = head.get("name").cloned().unwrap_or_default();
    let demand = Demand { share: super::MIN_KNOWN_SHARE, small: false };
    let data = mmdb::read(mmdb, &name, demand, today)?;
    let refused = |what: String| PlacesError::Database { name: name.clone(), what };
    let date = data.source.date.ok_or_else(|| refused("it does not say when it was built".to_owned()))?;
    head.insert("date".to_owned(), date.to_string());
    head.insert("sha256".to_owned(), data.source.digest.clone().unwrap_or_default());
    packed::encode(&data, head).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use sha2::{Digest, Sha256};

    use super::{COUNTRY_NOTICE, country, country_head};
    use crate::places::mmdb::hex;

    /// Over every range's start and country, both families; changes with each refresh.
    const DIGEST: &str = "afd7b0501801e177803def1d787c168dffba335e2cc58439aa6ed6c9cf61f708";

    #[test]
    fn no_range_of_the_built_in_database_has_changed() {
        let data = country(date(2026, 6, 2)).unwrap();
        let mut digest = Sha256::new();
        let name = |fact: u16| {
            data.facts[usize::from(fact)].country.map_or("--".to_owned(), |code| code.to_string())
        };
        let starts = data.v4.as_slice().iter().map(|step| (u128::from(step.0), step.1));
        for (start, fact) in starts.chain(data.v6.as_slice().iter().copied()) {
            digest.update(start.to_be_bytes());
            digest.update(name(fact));
        }
        assert_eq!(hex(&digest.finalize()), DIGEST, "after a refresh this is the new digest");
        assert!(data.v4.as_slice().len() > 300_000 && data.v6.as_slice().len() > 300_000);
        assert!(data.warnings.is_empty(), "{:?}", data.warnings);
    }

    #[test]
    fn the_head_carries_source_licence_and_notice_in_clear_text() {
        let head = country_head().unwrap();
        assert_eq!(head["licence"], "CC BY 4.0");
        assert_eq!(head["date"], "2026-06-01");
        assert_eq!(head["sha256"].len(), 64);
        assert!(COUNTRY_NOTICE.starts_with(&head["notice"]));
    }
}
