//! Frames as the sniffer reads them. A parser of the judge's own, independent of the product's on purpose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

/// What the judge needs to know of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame<'a> {
    /// IP protocol number after all extension headers.
    pub protocol: u8,
    /// Source address on the wire.
    pub source: IpAddr,
    /// Destination address on the wire.
    pub destination: IpAddr,
    /// Destination port of TCP and UDP, host order; 0 for other protocols and for later fragments.
    pub port: u16,
    /// The bytes after the transport header (after the IP header for other protocols).
    pub payload: &'a [u8],
    /// How many payload bytes the packet says it has: more than `payload` if the capture was cut.
    pub payload_length: usize,
}

/// Reads an Ethernet frame. `None`: not IP, or too short to be.
pub fn parse(bytes: &[u8]) -> Option<Frame<'_>> {
    let ip = bytes.get(14..)?;
    match u16_at(bytes, 12)? {
        0x0800 => parse_v4(ip),
        0x86dd => parse_v6(ip),
        _ => None,
    }
}

fn parse_v4(ip: &[u8]) -> Option<Frame<'_>> {
    let header = usize::from(ip.first()? & 0x0f) * 4;
    let total = usize::from(u16_at(ip, 2)?);
    let later_fragment = u16_at(ip, 6)? & 0x1fff != 0;
    let address =
        |at: usize| Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?)));
    transport(*ip.get(9)?, address(12)?, address(16)?, ip, header, total, later_fragment)
}

fn parse_v6(ip: &[u8]) -> Option<Frame<'_>> {
    let address =
        |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?)));
    let (source, destination) = (address(8)?, address(24)?);
    let total = 40 + usize::from(u16_at(ip, 4)?);
    let (mut next, mut at, mut later_fragment) = (*ip.get(6)?, 40, false);
    // Hop-by-hop, routing, fragment, destination options (RFC 8200 §4).
    while let 0 | 43 | 44 | 60 = next {
        let length = if next == 44 { 8 } else { 8 + usize::from(*ip.get(at + 1)?) * 8 };
        later_fragment |= next == 44 && u16_at(ip, at + 2)? & 0xfff8 != 0;
        next = *ip.get(at)?;
        at += length;
    }
    transport(next, source, destination, ip, at, total, later_fragment)
}

fn transport(
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    ip: &[u8],
    at: usize,
    total: usize,
    later_fragment: bool,
) -> Option<Frame<'_>> {
    let (port, header) = match protocol {
        TCP if !later_fragment => (u16_at(ip, at + 2)?, usize::from(*ip.get(at + 12)? >> 4) * 4),
        UDP if !later_fragment => (u16_at(ip, at + 2)?, 8),
        _ => (0, 0),
    };
    let start = at + header;
    // Ethernet pads short frames: the IP header's length counts, not the frame's.
    let payload = ip.get(start..total.min(ip.len())).unwrap_or_default();
    let payload_length = total.saturating_sub(start);
    Some(Frame { protocol, source, destination, port, payload, payload_length })
}

/// Big-endian, as on the wire.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::{TCP, UDP, parse};

    fn ethernet(kind: u16) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(kind.to_be_bytes());
        frame
    }

    fn v4(protocol: u8, options: u8, rest: &[u8]) -> Vec<u8> {
        let header = 20 + usize::from(options) * 4;
        let mut ip = vec![0; header];
        ip[0] = 0x45 + options;
        ip[2..4].copy_from_slice(&u16::try_from(header + rest.len()).unwrap().to_be_bytes());
        ip[9] = protocol;
        ip[16..20].copy_from_slice(&[13, 110, 54, 10]);
        let mut frame = ethernet(0x0800);
        frame.extend(ip);
        frame.extend(rest);
        frame
    }

    #[test]
    fn ip_options_do_not_move_the_port() {
        let udp = [0, 9, 0x01, 0xbb, 0, 11, 0, 0, b'a', b'b', b'c'];
        for options in [0, 3, 10] {
            let bytes = v4(UDP, options, &udp);
            let frame = parse(&bytes).unwrap();
            assert_eq!((frame.port, frame.payload), (443, b"abc".as_slice()));
        }
    }

    #[test]
    fn a_syn_with_ethernet_padding_has_no_payload() {
        let mut tcp = [0; 40];
        tcp[3] = 80;
        tcp[12] = 0xa0;
        let mut bytes = v4(TCP, 0, &tcp);
        bytes.extend([0xff; 6]);
        let frame = parse(&bytes).unwrap();
        assert_eq!((frame.port, frame.payload_length, frame.payload), (80, 0, b"".as_slice()));
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let mut ip = vec![0; 40];
        ip[0] = 0x60;
        ip[6] = 0; // hop-by-hop
        ip[39] = 9;
        ip[4..6].copy_from_slice(&(8u16 + 16 + 9).to_be_bytes());
        ip.extend([60, 0, 0, 0, 0, 0, 0, 0]); // then destination options
        ip.extend([UDP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        ip.extend([0, 9, 0, 53, 0, 9, 0, 0, b'x']);
        let mut bytes = ethernet(0x86dd);
        bytes.extend(ip);
        let frame = parse(&bytes).unwrap();
        assert_eq!((frame.protocol, frame.port, frame.payload), (UDP, 53, b"x".as_slice()));
        assert_eq!(frame.destination.to_string(), "::9");
    }

    #[test]
    fn a_later_fragment_still_counts_for_its_address() {
        let mut bytes = v4(UDP, 0, &[1, 2, 3, 4]);
        bytes[14 + 7] = 5;
        let frame = parse(&bytes).unwrap();
        assert_eq!(
            (frame.destination.to_string().as_str(), frame.port, frame.payload_length),
            ("13.110.54.10", 0, 4)
        );
    }

    #[test]
    fn cut_and_foreign_frames_are_no_frames() {
        let bytes = v4(UDP, 0, &[0; 8]);
        for length in 0..bytes.len() - 8 {
            assert_eq!(parse(&bytes[..length]), None, "{length}");
        }
        assert_eq!(parse(&ethernet(0x0806)), None);
    }
}
