//! Networks as a policy writes them, brought to the form that addresses are judged in.

use std::net::{IpAddr, Ipv6Addr};

use agent_common::address::{Address, Judged};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Why a text is not a network that can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Neither a network nor an address.
    #[error("is not a network: write 203.0.113.0/24 or 2001:db8::/32")]
    NotANetwork,
    /// Bits are set that the prefix does not cover.
    #[error("has bits set behind its prefix: did you mean {0}?")]
    HostBits(IpNet),
    /// NAT64, 6to4 or Teredo: judged by the IPv4 address inside, so that no rule on the outside ever matches.
    #[error("is judged by the IPv4 address inside it: name the IPv4 network instead")]
    Embeds,
}

/// Reads `ADDRESS/PREFIX` or a single address. A v4-mapped network comes out as IPv4.
pub(crate) fn parse(text: &str) -> Result<IpNet, CidrError> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<IpAddr>().map_err(|_| CidrError::NotANetwork)?),
    };
    if net.trunc() != net {
        return Err(CidrError::HostBits(net.trunc()));
    }
    match net {
        IpNet::V4(_) => Ok(net),
        IpNet::V6(v6) => v6_net(v6),
    }
}

fn v6_net(net: Ipv6Net) -> Result<IpNet, CidrError> {
    if let (Some(v4), Some(prefix)) = (net.addr().to_ipv4_mapped(), net.prefix_len().checked_sub(96)) {
        return Ipv4Net::new(v4, prefix).map(IpNet::V4).map_err(|_| CidrError::NotANetwork);
    }
    // Both ends inside an embedding prefix: all of it is.
    let embeds = |address: Ipv6Addr| match Address::from(IpAddr::V6(address)).judged() {
        Judged::V6(_) => None,
        Judged::V4(_) => Some(false),
        Judged::Teredo { .. } => Some(true),
    };
    match (embeds(net.network()), embeds(net.broadcast())) {
        (Some(first), Some(last)) if first == last => Err(CidrError::Embeds),
        _ => Ok(IpNet::V6(net)),
    }
}

#[cfg(test)]
mod tests {
    use super::{CidrError, parse};

    #[test]
    fn networks_and_addresses_are_read_and_v4_mapped_becomes_ipv4() {
        for (text, printed) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2000::/3", "2000::/3"),
        ] {
            assert_eq!(parse(text).map(|n| n.to_string()).as_deref(), Ok(printed), "{text}");
        }
    }

    #[test]
    fn networks_that_no_lookup_can_meet_are_refused() {
        for text in ["64:ff9b::/96", "64:ff9b::102:300/120", "2002::/16", "2002:cb00::/24", "2001::/32", "2001:0:1::/48"] {
            assert_eq!(parse(text), Err(CidrError::Embeds), "{text}");
        }
    }

    #[test]
    fn host_bits_and_nonsense_are_refused_with_the_mend() {
        let e = parse("203.0.113.7/24").unwrap_err();
        assert_eq!(e.to_string(), "has bits set behind its prefix: did you mean 203.0.113.0/24?");
        for text in ["", "203.0.113.0/33", "1.2.3", "example.org", "203.0.113.0/-1", "fe80::1%eth0"] {
            assert_eq!(parse(text), Err(CidrError::NotANetwork), "{text}");
        }
    }
}
