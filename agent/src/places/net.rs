//! Networks as people write them, brought to the form in which they are judged.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::error::PlacesError;
use super::steps::Net;

/// IPv6 prefixes whose addresses carry IPv4 addresses: `Address::judged` (agent-common) judges by those.
const CARRIERS: [(u128, u8); 3] = [(0x0064_ff9b << 96, 96), (0x2002 << 112, 16), (0x2001_0000 << 96, 32)];

/// Networks of both families, each with a value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nets {
    pub(crate) v4: Vec<Net<u32>>,
    pub(crate) v6: Vec<Net<u128>>,
}

impl Nets {
    /// Adds a network that [`normalise`] has passed.
    pub(crate) fn push(&mut self, net: IpNet, value: u16) {
        match net {
            IpNet::V4(n) => {
                self.v4.push(Net { first: n.network().to_bits(), last: n.broadcast().to_bits(), value });
            }
            IpNet::V6(n) => {
                self.v6.push(Net { first: n.network().to_bits(), last: n.broadcast().to_bits(), value });
            }
        }
    }
}

/// Reads a network, or a single address as the network of it alone, and [`normalise`]s it.
///
/// # Errors
/// Text that is neither; and what [`normalise`] refuses.
pub fn parse_cidr(text: &str) -> Result<IpNet, PlacesError> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => return Err(PlacesError::NotACidr { text: text.to_owned() }),
        },
    };
    normalise(net)
}

/// The network in the form in which addresses are judged: v4-mapped networks become IPv4 networks.
///
/// An IPv6 network that is *wider* than a prefix which carries IPv4 addresses (`::/0`, `2000::/3`) is fine and means
/// the native IPv6 addresses in it.
///
/// # Errors
/// Bits beyond the prefix length, and IPv6 networks whose every address is judged by an IPv4 address.
pub fn normalise(net: IpNet) -> Result<IpNet, PlacesError> {
    if net.trunc() != net {
        return Err(PlacesError::HostBits { cidr: net.to_string(), mend: net.trunc().to_string() });
    }
    let IpNet::V6(v6) = net else { return Ok(net) };
    if let Some(mapped) = v4_mapped(v6) {
        return Ok(IpNet::V4(mapped));
    }
    let carried = |(prefix, len): (u128, u8)| {
        v6.prefix_len() >= len && (v6.network().to_bits() ^ prefix) >> (128 - len) == 0
    };
    if CARRIERS.into_iter().any(carried) {
        return Err(PlacesError::CarriesV4 { cidr: net.to_string() });
    }
    Ok(net)
}

fn v4_mapped(net: Ipv6Net) -> Option<Ipv4Net> {
    let address = net.network().to_ipv4_mapped()?;
    Ipv4Net::new(address, net.prefix_len().checked_sub(96)?).ok()
}

#[cfg(test)]
mod tests {
    use super::parse_cidr;

    fn parsed(text: &str) -> String {
        match parse_cidr(text) {
            Ok(net) => net.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn networks_and_single_addresses_are_read() {
        for (text, net) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(parsed(text), net);
        }
    }

    #[test]
    fn host_bits_are_refused_with_the_network_that_was_meant() {
        assert!(parsed("192.0.2.1/24").ends_with("write 192.0.2.0/24"));
        assert!(parsed("2001:db8::1/32").ends_with("write 2001:db8::/32"));
        assert!(parsed("::ffff:192.0.2.1/120").contains("write ::ffff:192.0.2.0/120"));
    }

    #[test]
    fn networks_that_carry_ipv4_addresses_would_never_match_and_are_refused() {
        for text in ["64:ff9b::/96", "64:ff9b::c000:0200/120", "2002::/16", "2002:c000:200::/40", "2001::/32"]
        {
            assert!(parsed(text).contains("judged by them"), "{text}: {}", parsed(text));
        }
        for text in ["2001::/16", "64:ff9b:1::/48", "2000::/3"] {
            assert_eq!(parsed(text), text);
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "example.org", "192.0.2.0/33", "192.0.2/24", "2001:db8::/129", "192.0.2.0/-1"] {
            assert!(parsed(text).contains("is not a network"), "{text}");
        }
    }
}
