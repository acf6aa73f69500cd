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
