//! Netlink messages to values: total, whatever the bytes are. What is cut off is left out, what is unknown skipped: a
//! newer kernel's attributes are no error.
//!
//! Layouts are of `linux/netlink.h` and `linux/rtnetlink.h`: integers in the machine's byte order, lengths that count
//! their own header, everything aligned to four bytes.

/// Length of `struct nlmsghdr`.
const MESSAGE_HEADER: usize = 16;
/// Length of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_TYPE_MASK`: the upper two bits of an attribute's type are flags.
const TYPE_MASK: u16 = 0x3fff;

/// `N` bytes at `at`, if they are there.
pub(super) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// A 32-bit number.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

/// A 16-bit number.
fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

/// One message of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// `nlmsg_type`.
    pub(super) kind: u16,
    /// `nlmsg_flags`.
    pub(super) flags: u16,
    /// `nlmsg_seq`: of the request that it answers.
    pub(super) sequence: u32,
    /// What follows the header.
    pub(super) body: &'a [u8],
}

/// The messages of a datagram; ends at the first that is cut off.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(rest, 0)?).ok()?;
        let (kind, flags, sequence) = (u16_at(rest, 4)?, u16_at(rest, 6)?, u32_at(rest, 8)?);
        let body = rest.get(MESSAGE_HEADER..length)?;
        rest = rest.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
        Some(Message { kind, flags, sequence, body })
    })
}

/// The attributes after a message's fixed header of `header` bytes, as (type, value); ends at the first that is cut off.
pub(super) fn attributes(body: &[u8], header: usize) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body.get(header..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE_MASK;
        let value = rest.get(ATTRIBUTE_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Text that ends at its first NUL.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// Appends an attribute. A value that does not fit into an attribute is not ours to send: 64 KiB.
pub(super) fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = ATTRIBUTE_HEADER + value.len();
    message.extend(u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{attributes, messages, put, text};

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut m = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
        m.extend(kind.to_ne_bytes());
        m.extend([2, 0]);
        m.extend(7u32.to_ne_bytes());
        m.extend([0; 4]);
        m.extend(body);
        m.resize(m.len().next_multiple_of(4), 0);
        m
    }

    #[test]
    fn messages_and_attributes_come_back_in_order() {
        let mut body = vec![0; 8];
        put(&mut body, 3, b"veth0\0");
        put(&mut body, 0x8000 | 18, &[1, 2, 3]);
        let datagram = [message(16, &body), message(3, &[])].concat();
        let found: Vec<_> = messages(&datagram).collect();
        assert_eq!(found.iter().map(|m| (m.kind, m.sequence)).collect::<Vec<_>>(), [(16, 7), (3, 7)]);
        let found: Vec<_> = attributes(found[0].body, 8).collect();
        assert_eq!(found, [(3, b"veth0\0".as_slice()), (18, [1, 2, 3].as_slice())]);
        assert_eq!(text(found[0].1), "veth0");
    }

    #[test]
    fn what_is_cut_off_is_left_out() {
        let mut body = Vec::new();
        put(&mut body, 1, &[9; 8]);
        let whole = message(16, &body);
        for length in 0..whole.len() {
            assert_eq!(messages(&whole[..length]).count(), 0, "{length}");
        }
        for length in 0..body.len() {
            assert_eq!(attributes(&body[..length], 0).count(), 0, "{length}");
        }
        // A length that does not even cover the header would never end.
        assert_eq!(attributes(&[3, 0, 1, 0, 0, 0], 0).count(), 0);
        assert_eq!(messages(&[15; 40]).count(), 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_run_on(bytes in prop::collection::vec(any::<u8>(), 0..200), header in 0usize..300) {
            let found: usize = messages(&bytes).map(|m| attributes(m.body, header).count()).sum();
            assert!(found <= bytes.len());
            assert!(attributes(&bytes, header).count() <= bytes.len());
        }
    }
}
