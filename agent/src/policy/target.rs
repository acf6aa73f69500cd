//! A destination as a person writes it: `192.0.2.7:443/tcp`, `[2001:db8::1]:53/udp`, `192.0.2.7/icmp`.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use agent_common::flow::protocol::{ICMP, ICMPV6, TCP, UDP, UDPLITE};
use agent_common::protocols;

/// Address, port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// The port; `None` where the protocol has none.
    pub port: Option<u16>,
    /// IANA protocol number.
    pub protocol: u8,
}

/// Why a text is not a destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No address in it.
    #[error("{0:?} is not an address: write 192.0.2.7:443/tcp or [2001:db8::1]:443/tcp")]
    Address(String),
    /// A port that is none.
    #[error("{0:?} is not a port: write a number from 1 to 65535")]
    Port(String),
    /// A protocol that is not known.
    #[error("{0:?} is not a protocol: write tcp, udp, udplite, icmp, sctp, gre or a number from 0 to 255")]
    Protocol(String),
    /// TCP and UDP flows have a port.
    #[error("a port is missing: write {0}:443/tcp (IPv6 in brackets)")]
    NoPort(String),
    /// ICMP and its like have none.
    #[error("{0} has no ports: leave out the port")]
    Portless(String),
}

impl Target {
    /// The protocol's name, or its number.
    #[must_use]
    pub fn protocol_name(&self) -> String {
        protocols::name_of(self.protocol).map_or_else(|| self.protocol.to_string(), str::to_owned)
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (place, name) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let (address, port) = split(place)?;
        let mut protocol = number(name).ok_or_else(|| TargetError::Protocol(name.to_owned()))?;
        if protocol == ICMP && address.is_ipv6() {
            protocol = ICMPV6;
        }
        match (matches!(protocol, TCP | UDP | UDPLITE), port) {
            (true, None) => Err(TargetError::NoPort(place.to_owned())),
            (false, Some(_)) => Err(TargetError::Portless(name.to_owned())),
            (true, Some(_)) | (false, None) => Ok(Self { address, port, protocol }),
        }
    }
}

fn number(name: &str) -> Option<u8> {
    protocols::number_of(name).or_else(|| name.parse().ok())
}

fn split(place: &str) -> Result<(IpAddr, Option<u16>), TargetError> {
    let bad = || TargetError::Address(place.to_owned());
    if let Some(rest) = place.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or_else(bad)?;
        let address = address.parse::<Ipv6Addr>().map_err(|_| bad())?;
        return match rest.strip_prefix(':') {
            Some(text) => Ok((address.into(), Some(port(text)?))),
            None if rest.is_empty() => Ok((address.into(), None)),
            None => Err(bad()),
        };
    }
    if let Ok(address) = place.parse::<IpAddr>() {
        return Ok((address, None));
    }
    let (address, text) = place.rsplit_once(':').ok_or_else(bad)?;
    // More colons: an IPv6 address without brackets, whose last part could be either.
    if address.contains(':') {
        return Err(bad());
    }
    Ok((address.parse().map_err(|_| bad())?, Some(port(text)?)))
}

fn port(text: &str) -> Result<u16, TargetError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0).ok_or_else(|| TargetError::Port(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Target, TargetError};

    #[test]
    fn destinations_are_read_with_and_without_port_and_protocol() {
        for (text, address, port, protocol) in [
            ("192.0.2.7:443", "192.0.2.7", Some(443), "tcp"),
            ("192.0.2.7:53/udp", "192.0.2.7", Some(53), "udp"),
            ("[2001:db8::1]:443/tcp", "2001:db8::1", Some(443), "tcp"),
            ("192.0.2.7/icmp", "192.0.2.7", None, "icmp"),
            ("2001:db8::1/icmp", "2001:db8::1", None, "icmpv6"),
            ("[2001:db8::1]/47", "2001:db8::1", None, "gre"),
            ("192.0.2.7/99", "192.0.2.7", None, "99"),
            ("192.0.2.7/SCTP", "192.0.2.7", None, "sctp"),
        ] {
            let target: Target = text.parse().unwrap();
            let read = (target.address.to_string(), target.port, target.protocol_name());
            assert_eq!(read, (address.to_owned(), port, protocol.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_destination_is_refused_for_its_own_reason() {
        let why = |text: &str| text.parse::<Target>().unwrap_err();
        assert!(matches!(why("example.org:443"), TargetError::Address(_)));
        assert!(matches!(why("2001:db8::1:x"), TargetError::Address(_)));
        assert!(matches!(why("[2001:db8::1]443"), TargetError::Address(_)));
        assert!(matches!(why(""), TargetError::Address(_)));
        assert!(matches!(why("192.0.2.7:0"), TargetError::Port(_)));
        assert!(matches!(why("192.0.2.7:+1"), TargetError::Port(_)));
        assert!(matches!(why("192.0.2.7:443/quic"), TargetError::Protocol(_)));
        assert!(matches!(why("192.0.2.7"), TargetError::NoPort(_)));
        assert!(matches!(why("192.0.2.7:1/icmp"), TargetError::Portless(_)));
    }
}
