//! What the `maxminddb` crate's own lookup says, field by field: no walk, no visitor of ours.

use std::net::IpAddr;

use agent::places::{CountryCode, Found, Layer, PlacesError, World, WorldBuilder};
use agent_common::address::{Address, Judged};
use maxminddb::{PathElement, Reader};

/// Reads a file that may be small.
pub(crate) fn world(bytes: &[u8]) -> Result<World, PlacesError> {
    WorldBuilder::country_db(bytes.to_vec(), "file").min_known_share(0.0).build()
}

/// What our world has of an address from the country database, whatever layers lie above it.
pub(crate) fn ours(world: &World, address: IpAddr) -> Option<CountryCode> {
    let Found::One(id) = world.lookup(address) else { panic!("{address} has two places") };
    world.table().places[usize::from(id)].country
}

/// What the file says of an address, in any of the forms: more than one only if its records disagree with themselves.
pub(crate) fn theirs(reader: &Reader<&[u8]>, address: IpAddr) -> Result<Vec<Option<CountryCode>>, String> {
    let found = reader.lookup(address).map_err(|error| error.to_string())?;
    let paths: [&[PathElement<'_>]; 3] = [
        &[PathElement::Key("country"), PathElement::Key("iso_code")],
        &[PathElement::Key("country")],
        &[PathElement::Key("country_code")],
    ];
    // A path that leads through text instead of a map is an error here, and no country in the form looked for.
    let code = |path: &[PathElement<'_>]| {
        found.decode_path::<&str>(path).ok().flatten().and_then(CountryCode::parse)
    };
    Ok(paths.into_iter().map(code).collect())
}

/// Whether the address is judged as it is: those that carry IPv4 addresses have no place of their own.
pub(crate) fn native(address: IpAddr) -> bool {
    match Address::from(address).judged() {
        Judged::V4(_) => address.is_ipv4(),
        Judged::V6(_) => u128::from_be_bytes(Address::from(address).to_bytes()) >> 32 != 0,
        Judged::Teredo { .. } => false,
    }
}

/// Whether the answer to an address comes from the country database alone.
pub(crate) fn from_database(world: &World, address: IpAddr) -> bool {
    let table = world.table();
    world
        .lookup(address)
        .ids()
        .filter_map(|id| table.get(id))
        .all(|(_, source)| source.layer == Layer::Country)
}
