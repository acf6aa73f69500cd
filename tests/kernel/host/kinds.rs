//! Frames that are not plain IP: nothing but IP and ARP leaves a fenced pod, and IP says what it is.

use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

use agent_tests::craft::{ETH_V4, ETH_V6, Header, ethernet};
use agent_tests::frame::UDP;
use agent_tests::node::GATEWAY;
use anyhow::{Context, Result, ensure};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};

use super::stage::{FRAMES, SOON, Stage, hand_over, target};
use crate::flows::{Address, Destination};
use crate::suite::Outcome;

/// IEEE 802 local experimental EtherType 1, and what marks a VLAN.
const EXPERIMENTAL: u16 = 0x88b5;
const VLAN: u16 = 0x8100;
const ARP: u16 = 0x0806;

/// In every frame that this file makes.
const MARK: &[u8] = b"RFxx";
const ETH_P_ALL: u16 = 3;

/// A judge in far for frames that are not IP. Hears in the order of the sniffer's frames.
struct Ear(OwnedFd);

impl Ear {
    fn new(stage: &Stage) -> Result<Self> {
        let protocol = NonZeroU32::new(u32::from(ETH_P_ALL.to_be())).map(Protocol::from_raw);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = || Ok(socket_with(AddressFamily::PACKET, SocketType::RAW, flags, protocol)?);
        stage.node.world().far().run(open).map(Self)
    }

    /// Frames of the test's since the last question.
    fn heard(&self, stage: &Stage) -> Result<u64> {
        stage.sniffer.flush()?;
        let mut buffer = [0; 2048];
        let mut count = 0;
        while let Ok((length, _)) = recv(&self.0, &mut buffer, RecvFlags::empty()) {
            count += u64::from(buffer[..length].windows(MARK.len()).any(|w| w == MARK));
        }
        Ok(count)
    }
}

pub(super) fn foreign(kind: u16, name: &'static str, passes: bool) -> Result<Outcome> {
    let stage = Stage::new()?;
    let mut crm = stage.actor()?;
    let payload = if kind == VLAN {
        // What is tagged would pass without the tag.
        let to = target(Address::V4, Destination::Allowed).ip();
        let packet = Header::new(stage.pod.v4, to, UDP).udp((1, 2), MARK);
        [&[0, 5][..], &ETH_V4.to_be_bytes(), &packet].concat()
    } else {
        [MARK, &[0; 60]].concat()
    };
    let frame = ethernet(GATEWAY, stage.pod.mac, kind, &payload);
    let ear = Ear::new(&stage)?;
    hand_over(&mut crm, &frame)?;
    let arrived = ear.heard(&stage)?;
    ensure!(arrived >= FRAMES, "no fence: {arrived} of {FRAMES} frames of {name} arrived");

    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", ""))?;
    let agent = setup.start()?;
    let watch = agent.watch(&["--all"])?;
    hand_over(&mut crm, &frame)?;
    let arrived = ear.heard(&stage)?;
    if passes {
        ensure!(arrived >= FRAMES, "only {arrived} of {FRAMES} frames of {name} arrived");
        return Ok(Outcome::Passed);
    }
    ensure!(arrived == 0, "{arrived} frames of {name} arrived");
    watch.wait_for(&format!("the violation of {name}"), SOON, |event| {
        event.is("hook", "Host") && event.is("reason", "Fault") && event.is("verdict", "Block")
    })?;
    Ok(Outcome::Passed)
}

/// IPv6's EtherType around an IPv4 header, and the other way round: who parses by the one shall not be fooled by the
/// other.
pub(super) fn mislabelled() -> Result<Outcome> {
    let stage = Stage::new()?;
    // The bridge's own filter would drop them as malformed, fence or no fence.
    stage.host().run(|| {
        for family in ["iptables", "ip6tables"] {
            let switch = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
            if fs::exists(&switch)? {
                fs::write(&switch, "0").with_context(|| format!("cannot write {switch}"))?;
            }
        }
        Ok(())
    })?;
    let mut crm = stage.actor()?;
    let packet = |address: Address| {
        let to: IpAddr = target(address, Destination::Allowed).ip();
        Header::new(stage.pod.address_like(to), to, UDP).udp((1, 2), MARK)
    };
    let frames = [(ETH_V6, packet(Address::V4)), (ETH_V4, packet(Address::V6))]
        .map(|(kind, packet)| ethernet(GATEWAY, stage.pod.mac, kind, &packet));
    let ear = Ear::new(&stage)?;
    for frame in &frames {
        hand_over(&mut crm, frame)?;
        let arrived = ear.heard(&stage)?;
        ensure!(arrived >= FRAMES, "no fence, and {arrived} of {FRAMES} frames arrived");
    }
    let setup = stage.agent("auto")?.policy(&stage.policy("Enforce", ""))?;
    let _agent = setup.start()?;
    for frame in &frames {
        hand_over(&mut crm, frame)?;
        let arrived = ear.heard(&stage)?;
        ensure!(arrived == 0, "{arrived} mislabelled frames arrived");
    }
    Ok(Outcome::Passed)
}

/// EtherTypes, their names, and whether they pass.
pub(super) const KINDS: [(u16, &str, bool); 3] =
    [(EXPERIMENTAL, "an_unknown_ethertype", false), (VLAN, "a_vlan_tag", false), (ARP, "arp", true)];
