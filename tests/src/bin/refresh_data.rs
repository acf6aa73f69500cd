//! Packs a country database into the form that is built into the binary.
//!
//! `cargo xtask refresh-data` runs it with what it has downloaded:
//! `refresh_data MMDB OUT key=value …`, for example `name=dbip-country-lite`.

use std::collections::BTreeMap;
use std::env::args;
use std::fs;

use agent::places::pack_country_db;
use anyhow::{Context, Result, bail};
use jiff::Zoned;
use jiff::tz::TimeZone;

fn main() -> Result<()> {
    let arguments: Vec<String> = args().skip(1).collect();
    let [mmdb, out, lines @ ..] = &arguments[..] else {
        bail!("usage: refresh_data MMDB OUT key=value …");
    };
    let mut head = BTreeMap::new();
    for line in lines {
        let (key, value) = line.split_once('=').with_context(|| format!("{line:?} is not key=value"))?;
        head.insert(key.to_owned(), value.to_owned());
    }
    let bytes = fs::read(mmdb).with_context(|| format!("reading {mmdb}"))?;
    let today = Zoned::now().with_time_zone(TimeZone::UTC).date();
    let packed = pack_country_db(&bytes, head, today)?;
    fs::write(out, &packed).with_context(|| format!("writing {out}"))?;
    println!("{mmdb}: {} bytes → {out}: {} bytes", bytes.len(), packed.len());
    Ok(())
}
