//! What one subscriber wants: `allow_filters` less `deny_filters`, decided before an event is converted.

use std::fmt::Display;
use std::net::IpAddr;

use agent_proto::v1;
use ipnet::IpNet;

use super::backend::Backend;
use super::convert::words::Word;
use super::error::RequestError;
use crate::events::model::Event;
use crate::events::model::flow::FlowEvent;
use crate::events::model::words::{Kind, Verdict};

/// Filters in one list of a request, and values in one field of a filter: far beyond what a person
/// writes, and little enough that a request can't slow the stream of everybody else.
const MAX_FILTERS: usize = 64;
const MAX_VALUES: usize = 256;

/// The filters of one request, checked and in domain types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    allow: Vec<Clause>,
    deny: Vec<Clause>,
    all: bool,
}

/// One filter: fields are AND, values of one field are OR, an empty field matches anything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    kinds: Vec<Kind>,
    flow: Option<FlowClause>,
}

/// The part of a filter that only a flow can match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct FlowClause {
    cgroups: Vec<String>,
    workloads: Vec<String>,
    verdicts: Vec<Verdict>,
    would_be: Vec<Verdict>,
    jurisdictions: Vec<String>,
    nets: Vec<IpNet>,
    ports: Vec<u16>,
    fences: Vec<String>,
}

impl Filter {
    /// Checks a request's filters.
    ///
    /// # Errors
    /// `InvalidField` for the first value that could never match, with the path of its field.
    pub fn new(request: &v1::WatchRequest, backend: &dyn Backend) -> Result<Self, RequestError> {
        let clauses = |name: &str, filters: &[v1::EventFilter]| -> Result<Vec<Clause>, RequestError> {
            at_most(name, filters.len(), MAX_FILTERS)?;
            let each = filters.iter().enumerate();
            each.map(|(at, filter)| Clause::new(&format!("{name}[{at}]"), filter, backend)).collect()
        };
        Ok(Self {
            allow: clauses("allow_filters", &request.allow_filters)?,
            deny: clauses("deny_filters", &request.deny_filters)?,
            all: request.all,
        })
    }

    /// Whether the subscriber wants this event. What weakens the evidence or the fence always passes: it is never
    /// silent.
    #[must_use]
    pub fn passes(&self, event: &Event) -> bool {
        let kind = event.kind();
        let wanted = match kind {
            Kind::Lost | Kind::Gap | Kind::Tamper => return true,
            Kind::Violation => self.allows(event),
            Kind::Flow => (self.all || self.names_kind(Kind::Flow)) && self.allows(event),
            // Not about a flow: only a filter that names kinds can mean them.
            Kind::Heartbeat | Kind::PolicyChange | Kind::NodeState => {
                self.allow.iter().all(|clause| clause.kinds.is_empty()) || self.names_kind(kind)
            }
        };
        wanted && !self.deny.iter().any(|clause| clause.matches(event))
    }

    fn allows(&self, event: &Event) -> bool {
        self.allow.is_empty() || self.allow.iter().any(|clause| clause.matches(event))
    }

    fn names_kind(&self, kind: Kind) -> bool {
        self.allow.iter().any(|clause| clause.kinds.contains(&kind))
    }
}

impl Clause {
    fn new(path: &str, filter: &v1::EventFilter, backend: &dyn Backend) -> Result<Self, RequestError> {
        let v1::EventFilter {
            cgroups,
            workloads,
            verdicts,
            would_be,
            kinds,
            jurisdictions,
            cidrs,
            ports,
            fences,
        } = filter;
        let field = |name: &str| format!("{path}.{name}");
        let flow = FlowClause {
            cgroups: each(&field("cgroups"), cgroups, |path| cgroup(path))?,
            workloads: each(&field("workloads"), workloads, |name| named(name))?,
            verdicts: each(&field("verdicts"), verdicts, |&word| word_of(word))?,
            would_be: each(&field("would_be"), would_be, |&word| word_of(word))?,
            jurisdictions: each(&field("jurisdictions"), jurisdictions, |code| jurisdiction(code, backend))?,
            nets: each(&field("cidrs"), cidrs, |text| net(text))?,
            ports: each(&field("ports"), ports, |&number| port(number))?,
            fences: each(&field("fences"), fences, |name| named(name))?,
        };
        let kinds = each(&field("kinds"), kinds, |&word| word_of(word))?;
        let flow = (flow != FlowClause::default()).then_some(flow);
        if kinds.is_empty() && flow.is_none() {
            return Err(RequestError::field(path, "a filter without any field: leave it out or give it one"));
        }
        Ok(Self { kinds, flow })
    }

    fn matches(&self, event: &Event) -> bool {
        one_of(&self.kinds, |kind| *kind == event.kind())
            && self.flow.as_ref().is_none_or(|clause| event.flow().is_some_and(|flow| clause.matches(flow)))
    }
}

impl FlowClause {
    fn matches(&self, flow: &FlowEvent) -> bool {
        let (remote, place) = (flow.remote, &flow.place);
        one_of(&self.verdicts, |verdict| *verdict == flow.verdict)
            && one_of(&self.would_be, |verdict| *verdict == flow.would_be)
            && one_of(&self.ports, |port| *port == remote.port())
            && one_of(&self.nets, |net| net.contains(&remote.address()))
            && one_of(&self.workloads, |name| flow.workload.as_deref() == Some(name))
            && one_of(&self.cgroups, |path| {
                flow.cgroup.as_deref().is_some_and(|cgroup| is_below(cgroup, path))
            })
            && one_of(&self.jurisdictions, |code| {
                place.country.as_deref() == Some(code) || place.jurisdictions.iter().any(|of| **of == **code)
            })
            && one_of(&self.fences, |name| flow.outcomes.iter().any(|outcome| *outcome.fence == **name))
    }
}

/// An empty field matches anything.
fn one_of<T>(values: &[T], matches: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(matches)
}

/// Whether `cgroup` is `path` or lies below it; `path` has no slash at its end.
fn is_below(cgroup: &str, path: &str) -> bool {
    cgroup.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn at_most(field: &str, count: usize, most: usize) -> Result<(), RequestError> {
    if count > most {
        return Err(RequestError::field(field, format!("{count} entries, at most {most} are taken")));
    }
    Ok(())
}

/// Checks every value of a field; a problem gets the value's path.
fn each<T, U>(
    field: &str,
    values: &[T],
    check: impl Fn(&T) -> Result<U, String>,
) -> Result<Vec<U>, RequestError> {
    at_most(field, values.len(), MAX_VALUES)?;
    let checked = values.iter().enumerate();
    checked
        .map(|(at, value)| {
            check(value).map_err(|problem| RequestError::field(format!("{field}[{at}]"), problem))
        })
        .collect()
}

fn cgroup(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("{path:?} is no path below the cgroup2 mount: begin with `/`"));
    }
    Ok(path.trim_end_matches('/').to_owned())
}

fn named(name: &str) -> Result<String, String> {
    if name.is_empty() { Err("an empty name matches nothing".to_owned()) } else { Ok(name.to_owned()) }
}

fn jurisdiction(code: &str, backend: &dyn Backend) -> Result<String, String> {
    match backend.check_jurisdiction(code) {
        Ok(()) => Ok(code.to_owned()),
        Err(unknown) => Err(match unknown.suggestion {
            Some(other) => format!("{code:?} names no jurisdiction; did you mean {other:?}?"),
            None => format!("{code:?} names no jurisdiction (a country code, a group or a special)"),
        }),
    }
}

/// A block, or one address; IPv4-mapped blocks become the IPv4 blocks that events carry.
fn net(text: &str) -> Result<IpNet, String> {
    let bad = |error: &dyn Display| format!("{text:?} is no address or CIDR block: {error}");
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let net: IpNet = text.parse().map_err(|error| bad(&error))?;
    match (net.addr().to_canonical(), net.prefix_len().checked_sub(96)) {
        (IpAddr::V4(v4), Some(length)) if net.addr().is_ipv6() => {
            IpNet::new(v4.into(), length).map_err(|error| bad(&error))
        }
        _ => Ok(net.trunc()),
    }
}

fn port(number: u32) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(port),
        Ok(_) | Err(_) => Err(format!("{number} is no port: 1 to 65535")),
    }
}

fn word_of<W: Word>(number: i32) -> Result<W, String> {
    W::from_wire(number).ok_or_else(|| format!("{number} is no value of {} to filter by", W::NAME))
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
