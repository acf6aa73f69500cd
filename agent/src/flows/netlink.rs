//! Netlink as bytes: messages and attributes in, messages and attributes out. Decoding is total: whatever bytes come,
//! there is an answer, and what does not fit ends the reading instead of being guessed at.
//!
//! Integers are in the machine's own byte order (netlink(7)); everything is padded to four bytes.

/// `NLMSG_ERROR`: an error, or with code 0 an acknowledgement.
pub(super) const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub(super) const DONE: u16 = 3;
/// `NLM_F_REQUEST`.
pub(super) const REQUEST: u16 = 1;
/// `NLM_F_ACK`: answer also if all is well.
pub(super) const ACK: u16 = 4;
/// `NLM_F_DUMP`: all that match.
pub(super) const DUMP: u16 = 0x300;

/// `struct nlmsghdr`: length u32, type u16, flags u16, sequence u32, port u32.
const HEADER: usize = 16;
/// `struct nlattr`: length u16, type u16.
const ATTRIBUTE: usize = 4;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER` sit on top of an attribute's type.
const TYPE_MASK: u16 = 0x3fff;

/// One message of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    /// Its type.
    pub(super) kind: u16,
    /// Which request it answers.
    pub(super) sequence: u32,
    /// What follows the header.
    pub(super) body: &'a [u8],
}

/// The messages of a datagram, as far as they can be told apart.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let body = datagram.get(HEADER..length)?;
        let message = Message { kind: u16_at(datagram, 4)?, sequence: u32_at(datagram, 8)?, body };
        datagram = datagram.get(padded(length)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes by type and value, as far as they can be told apart.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let value = bytes.get(ATTRIBUTE..length)?;
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        bytes = bytes.get(padded(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of a type.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, _)| *k == kind).map(|(_, value)| value)
}

/// The error number of an [`ERROR`] message, positive; 0 is an acknowledgement, `None` a message that is cut short.
pub(super) fn errno(body: &[u8]) -> Option<i32> {
    i32_at(body, 0).map(i32::saturating_neg)
}

/// A request.
pub(super) fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    let length = u32::try_from(HEADER + body.len()).expect("invariant: requests are short");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // The kernel fills in the port.
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

/// Appends an attribute.
pub(super) fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTRIBUTE + value.len()).expect("invariant: attributes of requests are short");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(padded(bytes.len()), 0);
}

const fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop, proptest};

    use super::{ERROR, Message, attribute, attributes, errno, messages, put, request};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_bytes_make_it_panic_or_go_on_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let messages = messages(&bytes).take(1_000).collect::<Vec<_>>();
            assert!(messages.len() <= bytes.len() / 16);
            for message in messages {
                errno(message.body);
            }
            assert!(attributes(&bytes).take(1_000).count() <= bytes.len() / 4);
        }

        #[test]
        fn what_is_written_is_read(
            kind in any::<u16>(),
            sequence in any::<u32>(),
            values in prop::collection::vec((0u16..0x3fff, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        ) {
            let mut body = Vec::new();
            values.iter().for_each(|(kind, value)| put(&mut body, *kind, value));
            let bytes = request(kind, 0, sequence, &body);
            let read: Vec<_> = messages(&bytes).collect();
            assert_eq!(read, [Message { kind, sequence, body: &body }]);
            let again: Vec<_> = attributes(&body).map(|(kind, value)| (kind, value.to_vec())).collect();
            assert_eq!(again, values);
        }
    }

    #[test]
    fn a_length_that_is_too_small_ends_the_reading() {
        let mut bytes = request(ERROR, 0, 1, &[0; 4]);
        bytes[0] = 15;
        assert_eq!(messages(&bytes).count(), 0);
        assert_eq!(attribute(&[3, 0, 1, 0, 0, 0, 0, 0], 1), None);
    }

    #[test]
    fn an_error_is_positive_and_an_acknowledgement_is_zero() {
        assert_eq!(errno(&(-95i32).to_ne_bytes()), Some(95));
        assert_eq!(errno(&0i32.to_ne_bytes()), Some(0));
        assert_eq!(errno(&[1, 2]), None);
    }
}
