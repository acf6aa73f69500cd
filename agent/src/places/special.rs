//! What no data file may decide: loopback, link-local, private, metadata, multicast and reserved networks.
//!
//! Sources: the IANA IPv4 and IPv6 Special-Purpose Address Registries, the IANA IPv6 address space registry, and the
//! documentation of the clouds for their metadata services. Networks that the registries call globally reachable and
//! that are announced from many places (AS112, AMT) are not here but in the anycast list.

use agent_common::image::PlaceKind;

use PlaceKind::{LinkLocal, Loopback, Metadata, Multicast, Private, Reserved};

/// A network, its kind (`None`: an ordinary part of the internet), and who says so.
pub(crate) type Special = (&'static str, Option<PlaceKind>, &'static str);

/// Never overridden by anything.
pub(crate) const LOOPBACK: &[Special] = &[
    ("127.0.0.0/8", Some(Loopback), "RFC 1122 section 3.2.1.3"),
    ("0.0.0.0/32", Some(Loopback), "RFC 1122 section 3.2.1.3; Linux connects it to the host itself"),
    ("::1/128", Some(Loopback), "RFC 4291 section 2.5.3"),
    ("::/128", Some(Loopback), "RFC 4291 section 2.5.2; Linux connects it to the host itself"),
];

/// Below the operator's and the cluster's entries, above all data files. The longest prefix wins.
pub(crate) const SPECIAL: &[Special] = &[
    ("0.0.0.0/8", Some(Reserved), "RFC 791 section 3.2: this network"),
    ("10.0.0.0/8", Some(Private), "RFC 1918"),
    ("100.64.0.0/10", Some(Private), "RFC 6598: shared address space"),
    ("169.254.0.0/16", Some(LinkLocal), "RFC 3927"),
    ("169.254.169.254/32", Some(Metadata), "instance metadata of AWS, Azure, Google Cloud and others"),
    ("168.63.129.16/32", Some(Metadata), "Azure's wire server"),
    ("172.16.0.0/12", Some(Private), "RFC 1918"),
    ("192.0.0.0/24", Some(Reserved), "RFC 6890: IETF protocol assignments"),
    ("192.0.2.0/24", Some(Reserved), "RFC 5737: documentation"),
    ("192.88.99.0/24", Some(Reserved), "RFC 7526: deprecated 6to4 relay anycast"),
    ("192.168.0.0/16", Some(Private), "RFC 1918"),
    ("198.18.0.0/15", Some(Reserved), "RFC 2544: benchmarking"),
    ("198.51.100.0/24", Some(Reserved), "RFC 5737: documentation"),
    ("203.0.113.0/24", Some(Reserved), "RFC 5737: documentation"),
    ("224.0.0.0/4", Some(Multicast), "RFC 5771"),
    ("240.0.0.0/4", Some(Reserved), "RFC 1112 section 4: future use; 255.255.255.255 is RFC 919's broadcast"),
    // IPv6: what is neither global unicast nor named below is reserved by the IETF (RFC 4291 section 2.4). That
    // includes IPv4-compatible (::/96), IPv4-translated (::ffff:0:0:0/96, RFC 7915), local NAT64 (64:ff9b:1::/48,
    // RFC 8215), discard-only (100::/64, RFC 6666), dummy (100:0:0:1::/64, RFC 9780), segment routing (5f00::/16,
    // RFC 9602) and site-local (fec0::/10, RFC 3879).
    ("::/0", Some(Reserved), "RFC 4291 section 2.4"),
    ("::/96", Some(Reserved), "RFC 4291 section 2.5.5.1: IPv4-compatible, deprecated"),
    ("::ffff:0:0:0/96", Some(Reserved), "RFC 7915: IPv4-translated"),
    ("64:ff9b:1::/48", Some(Reserved), "RFC 8215: IPv4/IPv6 translation inside a network"),
    ("100::/64", Some(Reserved), "RFC 6666: discard only"),
    ("100:0:0:1::/64", Some(Reserved), "RFC 9780: dummy prefix"),
    ("5f00::/16", Some(Reserved), "RFC 9602: segment routing"),
    ("fec0::/10", Some(Reserved), "RFC 3879: site-local, deprecated"),
    ("2000::/3", None, "RFC 4291 section 2.4: global unicast"),
    ("2001::/23", Some(Reserved), "RFC 2928: IETF protocol assignments"),
    ("2001:1::1/128", Some(Reserved), "RFC 7723: port control protocol"),
    ("2001:1::2/128", Some(Reserved), "RFC 8155: TURN"),
    ("2001:1::3/128", Some(Reserved), "RFC 9665: service registration"),
    ("2001:2::/48", Some(Reserved), "RFC 5180: benchmarking"),
    ("2001:3::/32", None, "RFC 7450: AMT, globally reachable"),
    ("2001:4:112::/48", None, "RFC 7535: AS112, globally reachable"),
    ("2001:10::/28", Some(Reserved), "RFC 4843: ORCHID, deprecated"),
    ("2001:20::/28", Some(Reserved), "RFC 7343: ORCHIDv2"),
    ("2001:30::/28", Some(Reserved), "RFC 9374: drone remote identification"),
    ("2001:db8::/32", Some(Reserved), "RFC 3849: documentation"),
    ("3fff::/20", Some(Reserved), "RFC 9637: documentation"),
    ("fc00::/7", Some(Private), "RFC 4193"),
    ("fd00:ec2::254/128", Some(Metadata), "instance metadata of AWS"),
    ("fe80::/10", Some(LinkLocal), "RFC 4291 section 2.5.6"),
    ("ff00::/8", Some(Multicast), "RFC 4291 section 2.7"),
    // Never looked up: `Address::judged` takes the IPv4 address out first. Listed so that a database's copies of its
    // IPv4 tree under these prefixes don't fill the index.
    ("::ffff:0:0/96", Some(Reserved), "RFC 4291 section 2.5.5.2: IPv4-mapped"),
    ("64:ff9b::/96", Some(Reserved), "RFC 6052: NAT64"),
    ("64:ff9b::/48", Some(Reserved), "RFC 6052: around NAT64"),
    ("2001::/32", Some(Reserved), "RFC 4380: Teredo"),
    ("2002::/16", Some(Reserved), "RFC 3056: 6to4"),
];
