//! `ringfence lookup`: where an address is, and who says so. Needs no agent and no privilege.
//!
//! The answer comes from the index that the kernel reads, built from the same files and searched by the same code.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::Zoned;
use jiff::tz::TimeZone;

use super::output::{Exit, Style};
use crate::places::{MIN_KNOWN_SHARE, WorldBuilder, read_data_file};

mod answer;
#[cfg(test)]
mod tests;

use answer::Answers;

const EXAMPLES: &str = "\
Examples:
  ringfence lookup 13.110.54.10 2606:4700::1111
  ringfence lookup -o json --country-db GeoLite2-Country.mmdb 8.8.8.8
  ringfence lookup --provider-ranges ip-ranges.json --provider-ranges cloud.json 3.120.0.1
  ss -Htn | awk '{print $5}' | sed 's/:[0-9]*$//; s/[][]//g' | ringfence lookup -

Exit codes: 0 fine, 1 failed or some address was none (the others are answered), 2 usage.
Country data that is built in: IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0.";

/// The longest line that is read as one; an address has 45 letters at most.
const MAX_LINE: u64 = 4096;

/// Where places come from: the same options for every verb that needs them.
#[derive(Debug, Clone, clap::Args)]
pub struct DataArgs {
    /// Country database (MMDB) instead of the one that is built in
    #[arg(long, value_name = "FILE", env = "RINGFENCE_COUNTRY_DB")]
    pub country_db: Option<PathBuf>,
    /// The share of IPv4 addresses, 0 to 1, that the country database must know; lower it for a deliberately small one
    #[arg(long, value_name = "SHARE", default_value_t = MIN_KNOWN_SHARE, value_parser = parse_share)]
    pub country_db_min_share: f64,
    /// Ranges that a provider publishes (AWS ip-ranges.json, Google cloud.json, Azure ServiceTags, CSV); repeatable
    #[arg(long, value_name = "FILE")]
    pub provider_ranges: Vec<PathBuf>,
}

impl DataArgs {
    /// Reads the files. The database itself is checked when the world is built.
    ///
    /// # Errors
    /// A file that can't be read, and provider ranges in no known format.
    pub fn builder(&self) -> Result<WorldBuilder> {
        let mut builder = match &self.country_db {
            None => WorldBuilder::builtin(),
            Some(path) => {
                let bytes = read_data_file(path)?;
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                WorldBuilder::country_db(bytes, name)
            }
        };
        for path in &self.provider_ranges {
            let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            builder = builder.provider_file(&name, &read_data_file(path)?)?;
        }
        Ok(builder.min_known_share(self.country_db_min_share))
    }
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "give a number from 0 to 1, such as 0.6".to_owned())
}

/// Arguments of `ringfence lookup`.
#[derive(Debug, Clone, clap::Args)]
#[command(about = "Say where addresses are, and which data says so", after_help = EXAMPLES)]
pub struct LookupArgs {
    /// How to print it
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
    #[command(flatten)]
    data: DataArgs,
    /// Addresses; `-` reads them from standard input, one a line
    #[arg(required = true, value_name = "ADDR")]
    addresses: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Looks up and prints. What is no address is named on `errors`, and the rest is answered.
///
/// # Errors
/// Data that can't be read or used, and output that can't be written.
pub fn lookup(
    args: &LookupArgs,
    style: Style,
    input: impl Read,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<Exit> {
    let world = args.data.builder()?.build()?;
    for warning in &world.table().warnings {
        writeln!(errors, "warning: {warning}")?;
    }
    let today = Zoned::now().with_time_zone(TimeZone::UTC).date();
    let answers = match args.output {
        Format::Json => Answers::json(&world, today)?,
        Format::Text => Answers::text(&world, today, style, &args.addresses)?,
    };
    drop(world);
    let mut session =
        Session { answers, input: BufReader::with_capacity(1 << 16, input), out, errors, exit: Exit::Fine };
    match session.run(&args.addresses) {
        Ok(()) => Ok(session.exit),
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(session.exit),
        Err(error) => Err(error).context("printing the answers"),
    }
}

struct Session<'a, I, O, E> {
    answers: Answers,
    input: BufReader<I>,
    out: &'a mut O,
    errors: &'a mut E,
    exit: Exit,
}

impl<I: Read, O: Write, E: Write> Session<'_, I, O, E> {
    fn run(&mut self, addresses: &[String]) -> io::Result<()> {
        for text in addresses {
            match text.as_str() {
                "-" => self.lines()?,
                text => self.one(text, None)?,
            }
        }
        self.out.flush()
    }

    /// Answers standard input line by line; what is there is answered before more is waited for.
    fn lines(&mut self) -> io::Result<()> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            if self.input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let text = String::from_utf8_lossy(&line);
            if !text.trim().is_empty() {
                self.one(text.trim(), Some(number))?;
            }
            if self.input.buffer().is_empty() {
                self.out.flush()?;
            }
        }
        Ok(())
    }

    fn one(&mut self, text: &str, line: Option<u64>) -> io::Result<()> {
        match text.parse::<IpAddr>() {
            Ok(address) => self.answers.write(address, self.out),
            Err(_) => {
                self.exit = Exit::Failed;
                let at = line.map(|line| format!("standard input, line {line}: ")).unwrap_or_default();
                writeln!(self.errors, "{at}{:?} is not an IP address{}", text, mend(text))
            }
        }
    }
}

/// What to write instead of a text that is no address.
fn mend(text: &str) -> String {
    let without_zone = text.split('%').next().unwrap_or_default();
    let bare = without_zone.trim_start_matches('[').trim_end_matches(']');
    let bare = bare.split_once("]:").map_or(bare, |(address, _)| address);
    let bare = bare.split_once('/').map_or(bare, |(address, _)| address);
    let bare = if bare.parse::<IpAddr>().is_ok() {
        bare
    } else {
        bare.split_once(':').map_or(bare, |(address, _)| address)
    };
    match bare.parse::<IpAddr>() {
        Ok(address) => format!(": write {address}"),
        Err(_) if text.bytes().any(|byte| byte.is_ascii_alphabetic()) && !text.contains(':') => {
            ": names are not resolved, give the address".to_owned()
        }
        Err(_) => String::new(),
    }
}
