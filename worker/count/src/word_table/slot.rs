//! One slot of the table, and how a short word is packed into it.

/// The longest word that fits into a slot, in bytes.
pub(crate) const SHORT_BYTES_MAX: usize = 16;

/// A word of up to [`SHORT_BYTES_MAX`] bytes, padded with zeros; a count of 0 is a free slot.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) count: u64,
}

impl Slot {
    /// Returns whether the word is certainly normalized: ASCII without capitals.
    pub(super) const fn is_normalized(&self) -> bool {
        const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
        // Bit 6 of a byte is set in all letters, bit 5 in small ones: `M` is 0x4d, `m` is 0x6d. The
        // shift moves bit 5 to bit 6, so what remains has bit 6 and not bit 5. That is also true of
        // `_` and a few other signs, which only costs a needless normalization.
        let has_capitals =
            ((self.low & !(self.low << 1)) | (self.high & !(self.high << 1))) & (EACH_BYTE << 6);
        let either_half = self.low | self.high;
        // Bit 7 marks bytes outside ASCII.
        either_half & (EACH_BYTE << 7) == 0 && has_capitals == 0
    }
}

/// Returns a short word as its slot holds it; `None` for one that does not fit.
#[inline]
pub(crate) fn pack(word: &[u8]) -> Option<(u64, u64)> {
    // A zero at the end could not be told from the padding: `a` and `a\0` are two words.
    if word.len() > SHORT_BYTES_MAX || word.last().is_none_or(|last| *last == 0) {
        return None;
    }
    // Words of 8 to 16 bytes, by two loads that may overlap. Of `marketplace` (11 bytes) they are
    // `marketpl` and `ketplace`; a shift by 5 bytes leaves `ace` of the second one.
    if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        let low = u64::from_le_bytes(*first);
        let last = u64::from_le_bytes(*last);
        // A word of 8 bytes has nothing left, and a shift by 64 bits would be an error.
        return Some((low, last.checked_shr(padding_bits(word.len())).unwrap_or(0)));
    }
    // Words of 4 to 7 bytes, in the same way. Where the two loads overlap they are equal, so the
    // upper one is shifted up to its position and nothing has to be cut off.
    if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        let first = u32::from_le_bytes(*first);
        let last = u32::from_le_bytes(*last);
        let shift = word.len().saturating_sub(size_of::<u32>()).saturating_mul(8);
        return Some((u64::from(first) | u64::from(last) << shift, 0));
    }
    let low = word.iter().rev().fold(0, |low, byte| low << 8 | u64::from(*byte));
    Some((low, 0))
}

/// Returns the number of bits between a word of `bytes` bytes and the end of its slot.
fn padding_bits(bytes: usize) -> u32 {
    u32::try_from(SHORT_BYTES_MAX.saturating_sub(bytes)).unwrap_or(0).saturating_mul(8)
}

/// Returns the lower and the upper half.
#[expect(clippy::cast_possible_truncation, reason = "each cast takes the half that it names")]
pub(super) const fn split_halves(whole: u128) -> (u64, u64) {
    (whole as u64, (whole >> 64) as u64)
}

/// Returns the bytes of a word, padded, and its length.
pub(super) fn unpack(slot: &Slot) -> ([u8; SHORT_BYTES_MAX], usize) {
    let whole = u128::from(slot.low) | u128::from(slot.high) << 64;
    // The last byte of a word is not zero, so every leading zero byte is padding.
    let padding_bytes = whole.leading_zeros() / 8;
    (whole.to_le_bytes(), SHORT_BYTES_MAX.saturating_sub(padding_bytes as usize))
}
