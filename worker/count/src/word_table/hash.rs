//! Hash function of the word table.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::slot::{SHORT_BYTES_MAX, split_halves};

/// Random seeds of the hash function. They are secret, so an attacker cannot prepare a text whose
/// words collide.
#[derive(Clone, Copy)]
pub(super) struct Seeds {
    pub(super) low: u64,
    pub(super) high: u64,
}

impl Seeds {
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self { low: random.hash_one(0_u8), high: random.hash_one(1_u8) }
    }

    /// Hashes a packed word with one multiplication, as wyhash and foldhash do.
    ///
    /// The low bits of the result select the slot. The low bits of a product depend only on the low
    /// bits of its factors, so the upper half is folded in.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
    pub(super) fn hash(self, low: u64, high: u64) -> usize {
        let product = u128::from(low ^ self.low).wrapping_mul(u128::from(high ^ self.high));
        let (low, high) = split_halves(product);
        (low ^ high) as usize
    }
}

impl BuildHasher for Seeds {
    type Hasher = FoldHasher;

    fn build_hasher(&self) -> FoldHasher {
        FoldHasher { seeds: *self, state: self.low }
    }
}

/// Hasher of long words: folds 16 bytes at a time by a multiplication.
pub(super) struct FoldHasher {
    seeds: Seeds,
    state: u64,
}

impl FoldHasher {
    fn mix(&mut self, low: u64, high: u64) {
        // Both factors contain the state, so that the result depends on all earlier chunks.
        let product = u128::from(low ^ self.state)
            .wrapping_mul(u128::from(high ^ self.seeds.high ^ self.state.rotate_left(32)));
        let (low, high) = split_halves(product);
        self.state = low ^ high;
    }
}

impl Hasher for FoldHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<SHORT_BYTES_MAX>();
        for chunk in chunks {
            let (low, high) = split_halves(u128::from_le_bytes(*chunk));
            self.mix(low, high);
        }
        // The rest, padded with zeros. Words that differ only in trailing zeros collide, but at
        // most 16 of them.
        let mut last = [0; SHORT_BYTES_MAX];
        if let Some(start) = last.get_mut(..rest.len()) {
            start.copy_from_slice(rest);
        }
        let (low, high) = split_halves(u128::from_le_bytes(last));
        self.mix(low, high);
    }

    // `str` hashes its bytes, then 0xff with this method.
    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte), 0);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}
