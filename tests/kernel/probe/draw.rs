//! Random numbers that are the same each time, so that a difference can be found again.

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2016).
pub(super) struct Draw(u64);

impl Draw {
    /// `seed` must not be zero.
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) const fn u32(&mut self) -> u32 {
        (self.u64() >> 32) as u32
    }

    pub(super) const fn u128(&mut self) -> u128 {
        (self.u64() as u128) << 64 | self.u64() as u128
    }

    /// Below `end`, which must not be zero.
    pub(super) const fn below(&mut self, end: u64) -> u64 {
        self.u64() % end
    }

    /// True once in `n`.
    pub(super) const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the values.
    pub(super) fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    /// A 64-bit mask with about one bit in `2^n` set.
    pub(super) fn sparse(&mut self, n: u32) -> u64 {
        (0..n).fold(u64::MAX, |mask, _| mask & self.u64())
    }
}
