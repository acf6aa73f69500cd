//! Country databases from outside: read exactly, or refused. Needs no privilege.
//!
//! - [`exact`]: whole databases, the built-in one among them, against the `maxminddb` crate's own lookups;
//! - [`shapes`]: every shape of MaxMind's `bad-data`, and worse ones;
//! - [`damage`]: truncation, holes, flipped bits.
//!
//! `RINGFENCE_TIER=all` runs full counts. The real database that the built-in one was made from is looked for at
//! `RINGFENCE_DBIP_MMDB`, else at `target/data/dbip-country.mmdb`; `docs/data.md` says how to get it.
#![allow(clippy::unwrap_used, reason = "tests: helpers outside test functions count as other code")]

mod damage;
mod exact;
mod fixture;
mod reference;
mod shapes;

/// A count for the default tier, and one for the full tier.
fn tier<T>(default: T, all: T) -> T {
    if std::env::var("RINGFENCE_TIER").is_ok_and(|tier| tier == "all") { all } else { default }
}
