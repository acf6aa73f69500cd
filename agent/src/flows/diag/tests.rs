//! Decoding by made-up bytes, and the kernel's own answers on sockets of this process. Ending a socket takes privilege
//! and is tested in the kernel suite.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};

use agent_common::address::Address;
use agent_common::sock::SockState;
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::{
    DIAG_MSG, Destroyed, Diag, ENDABLE, INET_DIAG_CGROUP_ID, INET_DIAG_SK_BPF_STORAGES, LISTENING, Socket,
};
use super::{SK_DIAG_BPF_STORAGE, SK_DIAG_BPF_STORAGE_MAP_VALUE};
use crate::flows::netlink::put;

/// `struct inet_diag_msg` of a connection `local:4321` to `remote:443`.
fn message(family: u8, local: &[u8], remote: &[u8]) -> Vec<u8> {
    let mut body = vec![family, 1, 0, 0];
    body.extend(4321u16.to_be_bytes());
    body.extend(443u16.to_be_bytes());
    for address in [local, remote] {
        let mut bytes = address.to_vec();
        bytes.resize(16, 0);
        body.extend(bytes);
    }
    body.extend(7u32.to_ne_bytes());
    body.extend(0x0102_0304u32.to_ne_bytes());
    body.extend(0x0a0b_0c0du32.to_ne_bytes());
    body.resize(DIAG_MSG, 0);
    body
}

#[test]
fn a_listed_socket_has_its_addresses_cookie_cgroup_and_storage() {
    let mut body = message(2, &[10, 0, 0, 1], &[13, 110, 54, 10]);
    put(&mut body, INET_DIAG_CGROUP_ID, &99u64.to_ne_bytes());
    let (mut one, mut list) = (Vec::new(), Vec::new());
    put(&mut one, SK_DIAG_BPF_STORAGE_MAP_VALUE, &[0x11; size_of::<SockState>()]);
    put(&mut list, SK_DIAG_BPF_STORAGE, &one);
    put(&mut body, INET_DIAG_SK_BPF_STORAGES, &list);
    let socket = Socket::decode(ENDABLE[0], &body).unwrap();
    let v4 = |a, b, c, d| Address::from(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
    assert_eq!((socket.local, socket.remote), ((v4(10, 0, 0, 1), 4321), (v4(13, 110, 54, 10), 443)));
    assert_eq!((socket.cookie, socket.cgroup), (0x0a0b_0c0d_0102_0304, Some(99)));
    assert_eq!(socket.state.unwrap().workload, 0x1111_1111);
}

#[test]
fn an_ipv4_peer_of_an_ipv6_socket_is_judged_as_ipv4() {
    let mapped = Ipv4Addr::new(13, 110, 54, 10).to_ipv6_mapped().octets();
    let socket = Socket::decode(ENDABLE[1], &message(10, &mapped, &mapped)).unwrap();
    assert_eq!(IpAddr::from(socket.remote.0), IpAddr::V4(Ipv4Addr::new(13, 110, 54, 10)));
    let v6: Ipv6Addr = "2601:600::10".parse().unwrap();
    let socket = Socket::decode(ENDABLE[1], &message(10, &v6.octets(), &v6.octets())).unwrap();
    assert_eq!(IpAddr::from(socket.remote.0), IpAddr::V6(v6));
}

#[test]
fn storage_of_another_build_counts_as_none() {
    let mut body = message(2, &[10, 0, 0, 1], &[13, 110, 54, 10]);
    let (mut one, mut list) = (Vec::new(), Vec::new());
    put(&mut one, SK_DIAG_BPF_STORAGE_MAP_VALUE, &[0x11; size_of::<SockState>() - 8]);
    put(&mut list, SK_DIAG_BPF_STORAGE, &one);
    put(&mut body, INET_DIAG_SK_BPF_STORAGES, &list);
    assert!(Socket::decode(ENDABLE[0], &body).unwrap().state.is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        for kind in ENDABLE {
            if let Some(socket) = Socket::decode(kind, &bytes) {
                assert!(bytes.len() >= DIAG_MSG, "{socket:?} out of {} bytes", bytes.len());
            }
        }
    }

    #[test]
    fn every_answer_to_an_end_is_understood(errno in any::<i32>()) {
        match Destroyed::from_errno(Some(errno)) {
            Destroyed::Done => assert_eq!(errno, 0),
            Destroyed::Gone => assert!([libc::ENOENT, libc::ESTALE].contains(&errno)),
            Destroyed::Unsupported => assert_eq!(errno, libc::EOPNOTSUPP),
            Destroyed::Refused(error) => assert_eq!(error.raw_os_error(), Some(errno)),
        }
    }
}

/// The kernel's own answers: sockets of this process, in whatever namespace the test runs.
#[test]
fn connected_sockets_are_listed_and_listening_or_unconnected_ones_are_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
    connected.connect(("127.0.0.1", port)).unwrap();
    let unconnected = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port_of = |address: std::io::Result<std::net::SocketAddr>| address.unwrap().port();

    let Ok(mut diag) = Diag::open() else {
        println!("SKIP flows::diag::tests: this kernel has no socket diagnostics");
        return;
    };
    let mut ports = |kind| match diag.dump(kind, None) {
        Ok(sockets) => Some(sockets.iter().map(|s| s.local.1).collect::<Vec<_>>()),
        Err(error) => {
            println!("SKIP flows::diag::tests: {error}");
            None
        }
    };
    let (Some(tcp), Some(udp), Some(listening)) = (ports(ENDABLE[0]), ports(ENDABLE[2]), ports(LISTENING[0]))
    else {
        return;
    };
    assert!(tcp.contains(&port_of(stream.local_addr())), "the connection is not listed");
    assert!(udp.contains(&port_of(connected.local_addr())), "the connected UDP socket is not listed");
    assert!(!udp.contains(&port_of(unconnected.local_addr())), "an unconnected UDP socket is listed");
    assert!(listening.contains(&port), "the listener is not listed");
    drop(listener);
}
