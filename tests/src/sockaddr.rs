//! `struct sockaddr_*` as bytes: what a test hands to the kernel when it wants to say something that [`SocketAddr`]
//! can't. Families are in the machine's byte order, ports and addresses in network order, as the kernel has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `sun_path` of `struct sockaddr_un`, with its terminating zero.
const UNIX_PATH: usize = 108;

/// `struct sockaddr_in` or `struct sockaddr_in6`.
pub fn inet(to: SocketAddr) -> Vec<u8> {
    match to.ip() {
        IpAddr::V4(ip) => v4(libc::AF_INET, ip, to.port()),
        IpAddr::V6(ip) => v6(ip, to.port(), 0),
    }
}

/// `struct sockaddr_in6` with a scope: the interface that a link-local or multicast address is meant for.
pub fn scoped(ip: Ipv6Addr, port: u16, interface: u32) -> Vec<u8> {
    v6(ip, port, interface)
}

/// `struct sockaddr_in` whose family is `AF_UNSPEC`: `udp_sendmsg` takes it for `AF_INET`, `connect` dissolves the
/// association.
pub fn unspecified(ip: Ipv4Addr, port: u16) -> Vec<u8> {
    v4(libc::AF_UNSPEC, ip, port)
}

/// `struct sockaddr_un`. `None`: the path is too long for it.
pub fn unix(path: &Path) -> Option<Vec<u8>> {
    let path = path.as_os_str().as_bytes();
    if path.len() >= UNIX_PATH {
        return None;
    }
    let mut bytes = family(libc::AF_UNIX);
    bytes.extend(path);
    bytes.push(0);
    Some(bytes)
}

/// `struct sockaddr_vm` (`linux/vm_sockets.h`): context id and port.
pub fn vsock(context: u32, port: u32) -> Vec<u8> {
    let mut bytes = family(libc::AF_VSOCK);
    bytes.extend([0; 2]);
    bytes.extend(port.to_ne_bytes());
    bytes.extend(context.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn family(number: i32) -> Vec<u8> {
    u16::try_from(number).expect("invariant: address families are small").to_ne_bytes().to_vec()
}

fn v4(number: i32, ip: Ipv4Addr, port: u16) -> Vec<u8> {
    let mut bytes = family(number);
    bytes.extend(port.to_be_bytes());
    bytes.extend(ip.octets());
    bytes.extend([0; 8]);
    bytes
}

fn v6(ip: Ipv6Addr, port: u16, interface: u32) -> Vec<u8> {
    let mut bytes = family(libc::AF_INET6);
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(ip.octets());
    bytes.extend(interface.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::{inet, unix, vsock};

    #[test]
    fn addresses_have_the_kernels_sizes() {
        assert_eq!(inet("1.2.3.4:443".parse().unwrap()).len(), size_of::<libc::sockaddr_in>());
        assert_eq!(inet("[::1]:443".parse().unwrap()).len(), size_of::<libc::sockaddr_in6>());
        assert_eq!(vsock(2, 1).len(), size_of::<libc::sockaddr_vm>());
    }

    #[test]
    fn a_path_that_a_unix_address_cannot_hold_is_refused() {
        assert!(unix("/tmp/socket".as_ref()).is_some());
        assert!(unix("x".repeat(108).as_ref()).is_none());
    }
}
