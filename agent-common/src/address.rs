//! An IP address as one 128-bit number, and the IPv4 address that may hide in an IPv6 one.

/// An IPv6 address, or an IPv4 address in its v4-mapped form (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2).
/// Both halves are in host order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Address {
    /// The network half: the first 64 bits.
    pub hi: u64,
    /// The interface half: the last 64 bits.
    pub lo: u64,
}

/// What an address must be judged by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judged {
    /// The IPv4 address itself, or the one that a translator or tunnel will send to (host order).
    V4(u32),
    /// The IPv6 address as it is.
    V6(Address),
    /// Teredo (RFC 4380 section 4): the bytes go to the server *or* to the client, so the stricter verdict counts.
    Teredo {
        /// The Teredo server (host order).
        server: u32,
        /// The client behind it (host order).
        client: u32,
    },
}

const V4_MAPPED: u64 = 0x0000_ffff;
const NAT64: u64 = 0x0064_ff9b_0000_0000;
const SIX_TO_FOUR: u64 = 0x2002;
const TEREDO: u64 = 0x2001_0000;

impl Address {
    /// An IPv4 address (host order).
    #[inline(always)]
    #[must_use]
    pub const fn v4(address: u32) -> Self {
        Self { hi: 0, lo: V4_MAPPED << 32 | address as u64 }
    }

    /// An IPv6 address from its 16 bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_bytes(b: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(b);
        Self { hi: (bits >> 64) as u64, lo: bits as u64 }
    }

    /// The 16 bytes in network order.
    #[inline(always)]
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        ((self.hi as u128) << 64 | self.lo as u128).to_be_bytes()
    }

    /// The IPv4 address (host order), if this is a v4-mapped one.
    #[inline(always)]
    #[must_use]
    pub const fn as_v4(self) -> Option<u32> {
        if self.hi == 0 && self.lo >> 32 == V4_MAPPED { Some(self.lo as u32) } else { None }
    }

    /// The address or addresses whose place decides: v4-mapped, NAT64 (`64:ff9b::/96`, RFC 6052) and 6to4
    /// (`2002::/16`, RFC 3056) carry the IPv4 address that the bytes really go to; Teredo carries two.
    #[inline(always)]
    #[must_use]
    pub const fn judged(self) -> Judged {
        if self.hi == 0 && self.lo >> 32 == V4_MAPPED {
            return Judged::V4(self.lo as u32);
        }
        if self.hi == NAT64 && self.lo >> 32 == 0 {
            return Judged::V4(self.lo as u32);
        }
        if self.hi >> 48 == SIX_TO_FOUR {
            return Judged::V4((self.hi >> 16) as u32);
        }
        if self.hi >> 32 == TEREDO {
            // The client's address is stored inverted (RFC 4380 section 4).
            return Judged::Teredo { server: self.hi as u32, client: !(self.lo as u32) };
        }
        Judged::V6(self)
    }
}

#[cfg(not(target_arch = "bpf"))]
mod host {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::Address;

    impl From<IpAddr> for Address {
        fn from(ip: IpAddr) -> Self {
            match ip {
                IpAddr::V4(a) => Self::v4(a.to_bits()),
                IpAddr::V6(a) => Self::from_bytes(a.octets()),
            }
        }
    }

    impl From<Address> for IpAddr {
        /// v4-mapped comes out as IPv4.
        fn from(a: Address) -> Self {
            match a.as_v4() {
                Some(v4) => Self::V4(Ipv4Addr::from_bits(v4)),
                None => Self::V6(Ipv6Addr::from(a.to_bytes())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use core::net::{IpAddr, Ipv4Addr};

    use super::{Address, Judged};

    fn judged(s: &str) -> Judged {
        Address::from(s.parse::<IpAddr>().unwrap()).judged()
    }

    fn v4(s: &str) -> u32 {
        s.parse::<Ipv4Addr>().unwrap().to_bits()
    }

    #[test]
    fn embedded_ipv4_addresses_are_judged_as_ipv4() {
        for a in ["13.110.54.10", "::ffff:13.110.54.10", "64:ff9b::13.110.54.10", "2002:0d6e:360a::1"] {
            assert_eq!(judged(a), Judged::V4(v4("13.110.54.10")), "{a}");
        }
    }

    #[test]
    fn teredo_carries_server_and_inverted_client() {
        // The example of RFC 4380 section 5.2.1's form: server 65.54.227.120, client 192.0.2.45.
        let j = judged("2001:0:4136:e378:8000:63bf:3fff:fdd2");
        assert_eq!(j, Judged::Teredo { server: v4("65.54.227.120"), client: v4("192.0.2.45") });
    }

    #[test]
    fn neighbours_of_the_embedding_prefixes_stay_ipv6() {
        for a in ["::ffff:0:1.2.3.4", "64:ff9b:1::1", "2003::1", "2001:1::1", "::1.2.3.4"] {
            assert!(matches!(judged(a), Judged::V6(_)), "{a}");
        }
    }

    #[test]
    fn v4_mapped_prints_as_ipv4() {
        let a: IpAddr = Address::from("::ffff:1.2.3.4".parse::<IpAddr>().unwrap()).into();
        assert_eq!(a, IpAddr::V4(Ipv4Addr::new(1, 2, 3, 4)));
    }
}
