//! Where packet bytes come from: an skb in the kernel, a slice on the host.
//!
//! Slices are not used in BPF: the verifier does not follow `ptr + len`, and a panic path per index remains.

/// One turn of a bounded loop.
///
/// In BPF every field of the implementing struct is a `u64` (or a pointer), and starts from [`Loop::hide`] when it
/// is a constant: then no two values share a stack slot, and the verifier has no known number to count up.
pub trait Step {
    /// Runs turn `i`; `true` stops the loop.
    fn step(&mut self, i: u32) -> bool;
}

/// Runs `step` at most `n` times, and hides numbers from the verifier.
///
/// `bpf_loop` in the kernel (5.17): its body is verified once, whatever `n` is. Bounded loops cost 7 to 34 times
/// more of the verifier's instruction budget and change by a factor of four on harmless edits.
pub trait Loop: Copy {
    /// Runs `s.step(0..n)` until it says stop.
    #[inline(always)]
    fn repeat<S: Step>(&self, n: u32, s: &mut S) {
        let mut i = 0;
        while i < n {
            if s.step(i) {
                break;
            }
            i += 1;
        }
    }

    /// The same number, but neither the verifier nor LLVM knows it any more.
    #[inline(always)]
    fn hide(&self, x: u64) -> u64 {
        x
    }
}

/// Bounded reads of packet bytes; offsets count from the network header.
pub trait Bytes: Loop {
    /// `N` bytes at `at`, or `None` if they are not all there.
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]>;

    /// One byte.
    #[inline(always)]
    fn u8(&self, at: u32) -> Option<u8> {
        self.load::<1>(at).map(|b| b[0])
    }

    /// Two bytes in network order, as a number.
    #[inline(always)]
    fn u16(&self, at: u32) -> Option<u16> {
        self.load::<2>(at).map(u16::from_be_bytes)
    }
}

/// A packet in memory: what tests, fuzzers and the simulator read from.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a>(pub &'a [u8]);

impl Loop for Slice<'_> {}

impl Bytes for Slice<'_> {
    fn load<const N: usize>(&self, at: u32) -> Option<[u8; N]> {
        let at = usize::try_from(at).ok()?;
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }
}
