//! Short words in packed form, for the word table.

use std::hash::BuildHasher;

/// Maximum length of a packed word, in bytes.
pub(crate) const SHORT_BYTES_MAX: usize = 16;

/// A short word and its count.
///
/// The bytes of the word are in `low` and then in `high`, in little-endian order and padded with
/// zeros.
#[derive(Clone, Copy)]
pub(super) struct PackedWord {
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) count: u64,
}

impl PackedWord {
    /// Hashes the text of the word.
    #[inline]
    pub(super) fn hash(&self, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(u128::from(self.low) | u128::from(self.high) << 64)
    }

    /// Returns whether both words have the same text.
    #[inline]
    pub(super) const fn has_text_of(&self, other: &Self) -> bool {
        self.low == other.low && self.high == other.high
    }

    /// Returns whether the word is certainly in normal form: ASCII without capital letters.
    pub(super) const fn is_normalized(&self) -> bool {
        const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
        // All letters have bit 6, and of these, only lower-case letters have bit 5: `M` is 0x4d,
        // `m` is 0x6d. The shift moves bit 5 to bit 6, so the result marks the bytes with bit 6 but
        // without bit 5. These also include `_` and a few other signs, which are normalized
        // needlessly.
        let has_capitals =
            ((self.low & !(self.low << 1)) | (self.high & !(self.high << 1))) & (EACH_BYTE << 6);
        let either_half = self.low | self.high;
        // Bit 7 marks bytes outside ASCII.
        either_half & (EACH_BYTE << 7) == 0 && has_capitals == 0
    }
}

/// Packs a word into two halves of eight bytes. Returns `None` if the word is empty, longer than
/// [`SHORT_BYTES_MAX`], or ends with a zero byte.
#[inline]
pub(crate) fn pack(word: &[u8]) -> Option<(u64, u64)> {
    // A zero at the end is indistinguishable from the padding: `a` and `a\0` are two words.
    if word.len() > SHORT_BYTES_MAX || word.last().is_none_or(|last| *last == 0) {
        return None;
    }
    // 8 to 16 bytes: two loads that may overlap. For `marketplace` (11 bytes) they are `marketpl`
    // and `ketplace`. A shift by 5 bytes reduces the second one to `ace`.
    if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        let low = u64::from_le_bytes(*first);
        let last = u64::from_le_bytes(*last);
        // For 8 bytes nothing is left, and `checked_shr` returns `None` for the shift by 64 bits.
        return Some((low, last.checked_shr(padding_bits(word.len())).unwrap_or(0)));
    }
    // 4 to 7 bytes: two loads of 4 bytes. For `river` they are `rive` and `iver`, and the second
    // one is shifted up by one byte. The loads are equal where they overlap, so `|` merges them.
    if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        let first = u32::from_le_bytes(*first);
        let last = u32::from_le_bytes(*last);
        let shift = word.len().saturating_sub(size_of::<u32>()).saturating_mul(8);
        return Some((u64::from(first) | u64::from(last) << shift, 0));
    }
    // 1 to 3 bytes.
    let low = word.iter().rev().fold(0, |low, byte| low << 8 | u64::from(*byte));
    Some((low, 0))
}

/// Returns the number of bits of padding after a word of `bytes` bytes.
fn padding_bits(bytes: usize) -> u32 {
    u32::try_from(SHORT_BYTES_MAX.saturating_sub(bytes)).unwrap_or(0).saturating_mul(8)
}

/// Returns the padded bytes of a word, and its length.
pub(super) fn unpack(word: &PackedWord) -> ([u8; SHORT_BYTES_MAX], usize) {
    let whole = u128::from(word.low) | u128::from(word.high) << 64;
    // The last byte of a word is not zero, so all leading zero bytes are padding.
    let padding_bytes = whole.leading_zeros() / 8;
    (whole.to_le_bytes(), SHORT_BYTES_MAX.saturating_sub(padding_bytes as usize))
}
