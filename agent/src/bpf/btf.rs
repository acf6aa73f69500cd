//! Where a field lies in a struct of the running kernel: from the kernel's own type information.
//!
//! Only what is needed of the format (Documentation/bpf/btf.rst): one walk over the type section, nothing kept. Every
//! read is checked: the file is the kernel's, but a wrong offset would be read as an address.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use thiserror::Error;

/// Where the kernel shows its types (CONFIG_DEBUG_INFO_BTF; sysfs must be mounted).
pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
/// Bytes that follow `struct btf_type` by kind; kinds with a list have the size of one entry in the second place.
const TAILS: [(usize, usize); 20] = [
    (0, 0),  // void
    (4, 0),  // int
    (0, 0),  // pointer
    (12, 0), // array
    (0, 12), // struct
    (0, 12), // union
    (0, 8),  // enum
    (0, 0),  // forward
    (0, 0),  // typedef
    (0, 0),  // volatile
    (0, 0),  // const
    (0, 0),  // restrict
    (0, 0),  // function
    (0, 8),  // function prototype
    (4, 0),  // variable
    (0, 12), // data section
    (0, 0),  // float
    (4, 0),  // declaration tag
    (0, 0),  // type tag
    (0, 12), // enum64
];

/// Why an offset is not known.
#[derive(Debug, Error)]
pub(crate) enum BtfError {
    /// No type information.
    #[error("{VMLINUX}: {0}")]
    Read(#[from] io::Error),
    /// Not in the form that is documented.
    #[error("{VMLINUX} can't be read at byte {at}")]
    Form {
        /// Where.
        at: usize,
    },
    /// The kernel has no such field.
    #[error("this kernel's struct {0} has no field {1} of its own")]
    Missing(&'static str, &'static str),
}

/// The offsets in bytes of fields of structs, in the order asked for.
pub(crate) fn offsets<const N: usize>(
    fields: [(&'static str, &'static str); N],
) -> Result<[u32; N], BtfError> {
    offsets_in(&fs::read(Path::new(VMLINUX))?, fields)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u32(&self, at: usize) -> Result<u32, BtfError> {
        let bytes = at.checked_add(4).and_then(|end| self.0.get(at..end)).and_then(|b| b.first_chunk());
        bytes.map(|b| u32::from_ne_bytes(*b)).ok_or(BtfError::Form { at })
    }

    fn usize(&self, at: usize) -> Result<usize, BtfError> {
        usize::try_from(self.u32(at)?).map_err(|_| BtfError::Form { at })
    }

    /// The bytes of a string, without its zero.
    fn string(&self, at: usize) -> Result<&'a [u8], BtfError> {
        let rest = self.0.get(at..).ok_or(BtfError::Form { at })?;
        rest.split(|b| *b == 0).next().ok_or(BtfError::Form { at })
    }
}

fn offsets_in<const N: usize>(
    btf: &[u8],
    fields: [(&'static str, &'static str); N],
) -> Result<[u32; N], BtfError> {
    let r = Reader(btf);
    if btf.first_chunk().map(|b| u16::from_ne_bytes(*b)) != Some(MAGIC) {
        return Err(BtfError::Form { at: 0 });
    }
    let header = r.usize(4)?;
    let types = header.saturating_add(r.usize(8)?);
    let end = types.saturating_add(r.usize(12)?);
    let strings = header.saturating_add(r.usize(16)?);
    let mut found: HashMap<(&str, &str), u32> = HashMap::new();
    let mut at = types;
    while at < end {
        let info = r.u32(at + 4)?;
        let (kind, entries) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let (fixed, each) = TAILS.get(kind as usize).ok_or(BtfError::Form { at })?;
        if kind == KIND_STRUCT {
            let name = r.string(strings.saturating_add(r.usize(at)?))?;
            for (of, field) in fields.iter().filter(|(of, _)| of.as_bytes() == name) {
                // With the top bit, an offset carries a bit field's width in its first byte.
                let bits = if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
                for entry in 0..entries {
                    let member = at + 12 + entry * each;
                    if r.string(strings.saturating_add(r.usize(member)?))? == field.as_bytes() {
                        found.insert((of, field), (r.u32(member + 8)? & bits) / 8);
                    }
                }
            }
        }
        at += 12 + fixed + entries * each;
    }
    let mut offsets = [0; N];
    for (offset, (of, field)) in offsets.iter_mut().zip(fields) {
        *offset = *found.get(&(of, field)).ok_or(BtfError::Missing(of, field))?;
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::{BtfError, offsets_in};

    /// `int`, `struct cgroup {int a; int kn;}`, a forward `struct cgroup`.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0cgroup\0a\0kn\0";
        let types: [u32; 16 - 3 + 3 + 6] = [
            1,
            1 << 24,
            4,
            32, // int, 32 bits
            5,
            4 << 24 | 2,
            16,
            12,
            1,
            0,
            14,
            1,
            64, // struct with two members at bits 0 and 64
            5,
            7 << 24,
            0, // forward
            0,
            2 << 24,
            1,
            0,
            2 << 24,
            1, // two pointers
        ];
        let length = u32::try_from(types.len() * 4).unwrap();
        let mut btf = vec![];
        btf.extend(0xeb9f_u16.to_ne_bytes());
        btf.extend([1, 0]);
        for word in [24, 0, length, length, u32::try_from(strings.len()).unwrap()] {
            btf.extend(word.to_ne_bytes());
        }
        btf.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        btf.extend(strings);
        btf
    }

    #[test]
    fn a_field_is_found_where_the_struct_has_it() {
        assert_eq!(offsets_in(&sample(), [("cgroup", "kn"), ("cgroup", "a")]).unwrap(), [8, 0]);
    }

    #[test]
    fn what_the_kernel_does_not_have_is_an_error_with_its_name() {
        let error = offsets_in(&sample(), [("cgroup", "root")]).unwrap_err();
        assert!(matches!(error, BtfError::Missing("cgroup", "root")), "{error}");
        assert!(offsets_in(&sample(), [("kernfs_node", "id")]).is_err());
    }

    #[test]
    fn no_cut_and_no_flipped_byte_makes_it_panic() {
        let whole = sample();
        for end in 0..whole.len() {
            // Cut inside the strings, the names that are left may still be enough.
            let _: Result<_, _> = offsets_in(&whole[..end], [("cgroup", "kn")]);
        }
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                let _: Result<_, _> = offsets_in(&bytes, [("cgroup", "kn")]);
            }
        }
        assert!(offsets_in(&whole[..20], [("cgroup", "kn")]).is_err());
        assert!(offsets_in(b"", [("cgroup", "kn")]).is_err());
    }
}
