//! AWS `ip-ranges.json`, Google `cloud.json`, Azure `ServiceTags_*.json`.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::civil::{Date, DateTime};
use serde::Deserialize;

use super::{Contents, Flaw, Range, Where, network};

/// The fields of all three formats that are read; which there are tells the format.
#[derive(Deserialize)]
struct File<'a> {
    /// AWS and Google.
    #[serde(borrow)]
    prefixes: Option<Vec<Prefix<'a>>>,
    /// AWS.
    #[serde(borrow)]
    ipv6_prefixes: Option<Vec<Prefix<'a>>>,
    /// Azure.
    #[serde(borrow)]
    values: Option<Vec<Tag<'a>>>,
    /// AWS: `2026-01-31-23-59-59`.
    #[serde(rename = "createDate")]
    create_date: Option<&'a str>,
    /// Google: `2026-01-31T23:59:59.12345`.
    #[serde(rename = "creationTime")]
    creation_time: Option<&'a str>,
}

#[derive(Deserialize)]
struct Prefix<'a> {
    ip_prefix: Option<&'a str>,
    ipv6_prefix: Option<&'a str>,
    region: Option<&'a str>,
    service: Option<&'a str>,
    network_border_group: Option<&'a str>,
    #[serde(rename = "ipv4Prefix")]
    google_v4: Option<&'a str>,
    #[serde(rename = "ipv6Prefix")]
    google_v6: Option<&'a str>,
    scope: Option<&'a str>,
}

#[derive(Deserialize)]
struct Tag<'a> {
    name: &'a str,
    #[serde(borrow)]
    properties: Properties<'a>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    region: &'a str,
    #[serde(rename = "systemService", default)]
    system_service: &'a str,
    #[serde(borrow, rename = "addressPrefixes")]
    address_prefixes: Vec<&'a str>,
}

/// One shared copy of each region's name: a file has thousands of ranges and some dozen regions.
#[derive(Default)]
struct Names<'a>(HashMap<&'a str, Arc<str>>);

impl<'a> Names<'a> {
    fn get(&mut self, name: &'a str) -> Arc<str> {
        Arc::clone(self.0.entry(name).or_insert_with(|| Arc::from(name)))
    }
}

pub(super) fn read(text: &str) -> Result<Contents, Flaw> {
    let file: File<'_> = serde_json::from_str(text).map_err(|error| {
        Flaw(format!("line {} column {}", error.line(), error.column()), format!("it can't be read: {error}"))
    })?;
    if let Some(values) = &file.values {
        return azure(values);
    }
    let prefixes = file.prefixes.as_deref().unwrap_or_default();
    if prefixes.iter().any(|prefix| prefix.google_v4.is_some() || prefix.google_v6.is_some()) {
        let date = file.creation_time.and_then(|time| Some(time.parse::<DateTime>().ok()?.date()));
        return google(prefixes, date);
    }
    let date = file.create_date.and_then(|date| date.get(..10)?.parse::<Date>().ok());
    aws(prefixes, file.ipv6_prefixes.as_deref().unwrap_or_default(), date)
}

/// <https://docs.aws.amazon.com/vpc/latest/userguide/aws-ip-syntax.html>. The network border group is where the range
/// is announced: a Local Zone of `us-east-1` may stand in Chile.
fn aws(v4: &[Prefix<'_>], v6: &[Prefix<'_>], date: Option<Date>) -> Result<Contents, Flaw> {
    let mut names = Names::default();
    let mut ranges = Vec::with_capacity(v4.len() + v6.len());
    let lists = [("prefixes", v4), ("ipv6_prefixes", v6)];
    for (list, at, prefix) in
        lists.iter().flat_map(|(list, all)| all.iter().enumerate().map(move |(at, p)| (list, at, p)))
    {
        let missing = |field: &str| {
            Flaw(format!("{list}[{at}]"), format!("it has no {field}: is this AWS's ip-ranges.json?"))
        };
        let text = prefix.ip_prefix.or(prefix.ipv6_prefix).ok_or_else(|| missing("ip_prefix"))?;
        let region = prefix.region.ok_or_else(|| missing("region"))?;
        let service = prefix.service.unwrap_or_default();
        let region = prefix.network_border_group.unwrap_or(region);
        let global = region == "GLOBAL" || prefix.region == Some("GLOBAL");
        let anycast = global || matches!(service, "CLOUDFRONT" | "GLOBALACCELERATOR");
        ranges.push(Range {
            net: network(text, || format!("{list}[{at}].ip_prefix"))?,
            provider: names.get("aws"),
            region: Some(names.get(region)),
            place: if anycast { Where::Anycast } else { Where::Region },
        });
    }
    Ok(Contents { provider: Some("aws"), date, ranges })
}

/// <https://cloud.google.com/compute/docs/faq#find_ip_range>.
fn google(prefixes: &[Prefix<'_>], date: Option<Date>) -> Result<Contents, Flaw> {
    let mut names = Names::default();
    let mut ranges = Vec::with_capacity(prefixes.len());
    for (at, prefix) in prefixes.iter().enumerate() {
        let flaw = |what: &str| Flaw(format!("prefixes[{at}]"), what.to_owned());
        let text = prefix
            .google_v4
            .or(prefix.google_v6)
            .ok_or_else(|| flaw("it has no ipv4Prefix or ipv6Prefix"))?;
        let scope =
            prefix.scope.ok_or_else(|| flaw("it has no scope: this may be goog.json: give cloud.json"))?;
        ranges.push(Range {
            net: network(text, || format!("prefixes[{at}].ipv4Prefix"))?,
            provider: names.get("google"),
            region: Some(names.get(scope)),
            place: if scope == "global" { Where::Anycast } else { Where::Region },
        });
    }
    Ok(Contents { provider: Some("google"), date, ranges })
}

/// <https://learn.microsoft.com/azure/virtual-network/service-tags-overview>. Tags with a region are read, and Front
/// Door, which is anycast; the tags of a whole service repeat the networks of its regional ones.
fn azure(tags: &[Tag<'_>]) -> Result<Contents, Flaw> {
    let mut names = Names::default();
    let mut ranges = Vec::new();
    for (tag_at, tag) in tags.iter().enumerate() {
        let properties = &tag.properties;
        let front_door =
            properties.system_service == "AzureFrontDoor" || tag.name.starts_with("AzureFrontDoor.");
        if properties.region.is_empty() && !front_door {
            continue;
        }
        for (at, text) in properties.address_prefixes.iter().enumerate() {
            ranges.push(Range {
                net: network(text, || format!("values[{tag_at}].properties.addressPrefixes[{at}]"))?,
                provider: names.get("azure"),
                region: (!properties.region.is_empty()).then(|| names.get(properties.region)),
                place: if front_door { Where::Anycast } else { Where::Region },
            });
        }
    }
    Ok(Contents { provider: Some("azure"), date: None, ranges })
}
