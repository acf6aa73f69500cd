//! Answers, made once a place: a run over a million addresses meets some hundred places.

use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;

use agent_common::address::{Address, Judged};
use agent_common::image::PlaceKind;
use agent_common::place_index::PlaceIndex;
use anyhow::Result;
use jiff::civil::Date;
use serde::Serialize;

use crate::cli::output::{Colour, Style};
use crate::places::{Found, Groups, PlaceTable, World, special_name};

/// A place in JSON. Absent is null.
#[derive(Serialize)]
struct Answer<'a> {
    /// What the data says, also where `kind` is no country (design: anycast has a code underneath).
    country: Option<&'a str>,
    jurisdictions: Vec<Arc<str>>,
    source: &'a str,
    data_date: Option<Date>,
    layer: &'a str,
    /// `COUNTRY`, or the special that the place is.
    kind: &'a str,
    provider: Option<&'a str>,
    region: Option<&'a str>,
    registered: Option<&'a str>,
}

/// How an address with its place is written.
enum Form {
    Json,
    Text { style: Style, width: usize },
}

/// The index, and what is printed of each place.
pub(super) struct Answers {
    index: Box<PlaceIndex>,
    table: Arc<PlaceTable>,
    groups: Groups,
    today: Date,
    form: Form,
    /// By place id; made when first asked for.
    made: Vec<Option<String>>,
}

impl Answers {
    pub(super) fn json(world: &World, today: Date) -> Result<Self> {
        Self::new(world, today, Form::Json)
    }

    /// Columns as wide as the longest of the given addresses, or any address where they come from elsewhere.
    pub(super) fn text(world: &World, today: Date, style: Style, given: &[String]) -> Result<Self> {
        let width =
            given.iter().map(|text| if text == "-" { 39 } else { text.len() }).max().unwrap_or_default();
        Self::new(world, today, Form::Text { style, width: width.clamp(7, 45) })
    }

    fn new(world: &World, today: Date, form: Form) -> Result<Self> {
        let mut index = PlaceIndex::boxed();
        world.fill(&mut index)?;
        let table = world.table();
        let made = vec![None; table.places.len()];
        Ok(Self { index, table, groups: Groups::builtin()?, today, form, made })
    }

    /// Writes the answer to one address.
    pub(super) fn write(&mut self, address: IpAddr, out: &mut impl Write) -> io::Result<()> {
        let found = Found::in_index(&self.index, address);
        let shown = IpAddr::from(Address::from(address));
        match self.form {
            Form::Json => {
                write!(out, "{{\"address\":\"{shown}\",\"judged_as\":")?;
                match judged_as(address) {
                    Some(v4) => write!(out, "[{v4}],")?,
                    None => write!(out, "null,")?,
                }
            }
            Form::Text { width, .. } => write!(out, "{:width$}  ", shown.to_string())?,
        }
        match found {
            Found::One(id) => out.write_all(self.made(id).as_bytes()),
            Found::Teredo { server, client } if server == client => {
                out.write_all(self.made(server).as_bytes())
            }
            Found::Teredo { server, client } => {
                let both = self.both(server, client);
                out.write_all(both.as_bytes())
            }
        }
    }

    /// The rest of the line for a place, with its end.
    fn made(&mut self, id: u16) -> &str {
        let at = usize::from(id);
        if self.made[at].is_none() {
            let answer = self.answer(id);
            self.made[at] = Some(self.line(&answer));
        }
        self.made[at].as_deref().unwrap_or_default()
    }

    /// Teredo with its server and its client in different places: what counts is what both lie in.
    fn both(&self, server: u16, client: u16) -> String {
        let (server, client) = (self.answer(server), self.answer(client));
        let shared = server.jurisdictions.iter().filter(|name| client.jurisdictions.contains(name));
        let same = |a, b| if a == b { a } else { None };
        self.line(&Answer {
            country: same(server.country, client.country),
            jurisdictions: shared.cloned().collect(),
            data_date: server.data_date.min(client.data_date),
            kind: if server.kind == client.kind { server.kind } else { "UNKNOWN" },
            provider: None,
            region: None,
            registered: None,
            ..server
        })
    }

    fn answer(&self, id: u16) -> Answer<'_> {
        let place = &self.table.places[usize::from(id)];
        let source = &self.table.sources[usize::from(place.source)];
        Answer {
            country: place.country.as_ref().map(|code| code.as_str()),
            jurisdictions: self.groups.jurisdictions_of(place, self.today),
            source: &source.name,
            data_date: source.date,
            layer: source.layer.as_str(),
            kind: special_name(place.kind).unwrap_or("COUNTRY"),
            provider: place.provider.as_deref(),
            region: place.region.as_deref(),
            registered: place.registered.as_ref().map(|code| code.as_str()),
        }
    }

    fn line(&self, answer: &Answer<'_>) -> String {
        match self.form {
            Form::Json => {
                let object =
                    serde_json::to_string(answer).expect("invariant: strings, dates and lists of strings");
                // The address stands in front: the object's opening brace is already written.
                format!("{}\n", &object[1..])
            }
            Form::Text { style, .. } => text(answer, style),
        }
    }
}

/// Place, jurisdictions, provider and source, in columns.
fn text(answer: &Answer<'_>, style: Style) -> String {
    let country = answer.country.unwrap_or_default();
    let special = special_of(answer.kind);
    let place = if special.is_some() { answer.kind } else { country };
    let colour = match special {
        None => Colour::Good,
        Some(PlaceKind::Unknown | PlaceKind::Anycast) => Colour::Warn,
        Some(_) => Colour::Dim,
    };
    let place = style.paint(colour, &format!("{place:10}"));
    let groups: Vec<&str> = answer
        .jurisdictions
        .iter()
        .map(|name| &**name)
        .filter(|name| *name != country && *name != answer.kind)
        .collect();
    let provider: Vec<&str> = [answer.provider, answer.region].into_iter().flatten().collect();
    let date = answer.data_date.map(|date| format!(" of {date}")).unwrap_or_default();
    let source = match answer.source == answer.layer {
        true => answer.source.to_owned(),
        false => format!("{} ({}{date})", answer.layer, answer.source),
    };
    let source = style.paint(Colour::Dim, &source);
    let line = format!("{place}  {:28}  {:24}  {source}", groups.join(" "), provider.join(" "));
    format!("{line}\n")
}

fn special_of(kind: &str) -> Option<PlaceKind> {
    PlaceKind::ALL.into_iter().find(|known| special_name(*known) == Some(kind))
}

/// The IPv4 addresses that an IPv6 address is judged by, as JSON strings; `None` where it is judged as it is.
fn judged_as(address: IpAddr) -> Option<String> {
    let v4 = |bits: u32| format!("\"{}\"", std::net::Ipv4Addr::from_bits(bits));
    match Address::from(address).judged() {
        Judged::V6(_) => None,
        Judged::V4(_) if Address::from(address).as_v4().is_some() => None,
        Judged::V4(bits) => Some(v4(bits)),
        Judged::Teredo { server, client } => Some(format!("{},{}", v4(server), v4(client))),
    }
}
