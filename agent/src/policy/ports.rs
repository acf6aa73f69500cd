//! Ports as a rule names them: `443`, `443/tcp`, `8000-8100`, `53/udp`.

use std::fmt;

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP, and UDP-Lite with it.
    Udp,
}

impl Transport {
    /// Both, in the order of `Policy::port_classes`.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];
}

/// A range of ports, ends included, host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    /// `None` means TCP and UDP alike.
    pub transport: Option<Transport>,
    /// First port, at least 1.
    pub from: u16,
    /// Last port.
    pub to: u16,
}

/// Why a text does not name ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    /// Not a number from 1 to 65535.
    #[error("a port is a number from 1 to 65535")]
    NotAPort,
    /// The range runs backwards.
    #[error("a range of ports runs upwards")]
    Backwards,
    /// Something else than tcp or udp behind the slash.
    #[error("only tcp and udp have ports here")]
    Protocol,
}

impl Ports {
    /// Reads `PORT`, `FROM-TO`, either with `/tcp` or `/udp` behind.
    pub fn parse(text: &str) -> Result<Self, PortsError> {
        let (range, transport) = match text.split_once('/') {
            None => (text, None),
            Some((range, "tcp" | "TCP")) => (range, Some(Transport::Tcp)),
            Some((range, "udp" | "UDP")) => (range, Some(Transport::Udp)),
            Some(_) => return Err(PortsError::Protocol),
        };
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let (from, to) = (port(from)?, port(to)?);
        if from > to {
            return Err(PortsError::Backwards);
        }
        Ok(Self { transport, from, to })
    }

    /// Whether a port of a protocol is in it.
    #[must_use]
    pub fn has(&self, transport: Transport, port: u16) -> bool {
        self.transport.is_none_or(|t| t == transport) && (self.from..=self.to).contains(&port)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        (self.transport.is_none() || self.transport == other.transport)
            && self.from <= other.from
            && other.to <= self.to
    }
}

fn port(text: &str) -> Result<u16, PortsError> {
    // `parse` alone would take `+443`.
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PortsError::NotAPort);
    }
    match text.parse() {
        Ok(0) | Err(_) => Err(PortsError::NotAPort),
        Ok(port) => Ok(port),
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.from)?;
        if self.to != self.from {
            write!(f, "-{}", self.to)?;
        }
        match self.transport {
            None => Ok(()),
            Some(Transport::Tcp) => f.write_str("/tcp"),
            Some(Transport::Udp) => f.write_str("/udp"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Ports, PortsError, Transport};

    #[test]
    fn the_four_ways_to_write_ports_are_read_and_printed_back() {
        for (text, transport, from, to) in [
            ("443", None, 443, 443),
            ("443/tcp", Some(Transport::Tcp), 443, 443),
            ("8000-8100", None, 8000, 8100),
            ("53/udp", Some(Transport::Udp), 53, 53),
            ("1-65535/tcp", Some(Transport::Tcp), 1, 65535),
        ] {
            let ports = Ports::parse(text).unwrap();
            assert_eq!(ports, Ports { transport, from, to });
            assert_eq!(ports.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for (text, why) in [
            ("", PortsError::NotAPort),
            ("0", PortsError::NotAPort),
            ("65536", PortsError::NotAPort),
            ("+443", PortsError::NotAPort),
            ("https", PortsError::NotAPort),
            ("1-", PortsError::NotAPort),
            ("10-9", PortsError::Backwards),
            ("443/sctp", PortsError::Protocol),
        ] {
            assert_eq!(Ports::parse(text), Err(why), "{text}");
        }
    }
}
