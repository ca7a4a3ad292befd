//! One slot of the table, and how a short word is packed into it.

/// The longest word that is kept within its slot, in bytes.
pub(crate) const SHORT_BYTES_MAX: usize = 16;

/// A word of up to [`SHORT_BYTES_MAX`] bytes, padded with zeros; a count of 0 is a free slot.
#[derive(Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) low: u64,
    pub(super) high: u64,
    pub(super) count: u64,
}

impl Slot {
    /// Returns whether the word is certainly listed as it is written: ASCII without capitals.
    pub(super) const fn is_key(&self) -> bool {
        const EACH: u64 = 0x0101_0101_0101_0101;
        // What has one of the two bits of letters has the other one, too.
        let either = self.low | self.high;
        let has_capitals =
            ((self.low & !(self.low << 1)) | (self.high & !(self.high << 1))) & (EACH << 6);
        either & (EACH << 7) == 0 && has_capitals == 0
    }
}

/// Returns a short word as its slot holds it; `None` for one that does not fit.
#[inline]
pub(crate) fn pack(word: &[u8]) -> Option<(u64, u64)> {
    // A zero at the end could not be told from the padding.
    if word.len() > SHORT_BYTES_MAX || word.last().is_none_or(|last| *last == 0) {
        return None;
    }
    if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        let (low, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        // What the lower half has already is shifted out of the upper one.
        return Some((low, last.checked_shr(padding_bits(word.len())).unwrap_or(0)));
    }
    if let (Some(first), Some(last)) = (word.first_chunk(), word.last_chunk()) {
        // Where the two overlap they are the same.
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        let shift = word.len().saturating_sub(size_of::<u32>()).saturating_mul(8);
        return Some((u64::from(first) | u64::from(last) << shift, 0));
    }
    let low = word.iter().rev().fold(0, |low, byte| low << 8 | u64::from(*byte));
    Some((low, 0))
}

/// Returns by how many bits sixteen bytes are longer than so many.
fn padding_bits(bytes: usize) -> u32 {
    u32::try_from(SHORT_BYTES_MAX.saturating_sub(bytes)).unwrap_or(0).saturating_mul(8)
}

/// Returns the lower and the upper half.
#[expect(clippy::cast_possible_truncation, reason = "each cast takes the half that it names")]
pub(super) const fn halves(whole: u128) -> (u64, u64) {
    (whole as u64, (whole >> 64) as u64)
}

/// Returns the bytes of a word, padded, and how many it has.
pub(super) fn unpack(slot: &Slot) -> ([u8; SHORT_BYTES_MAX], usize) {
    let whole = u128::from(slot.low) | u128::from(slot.high) << 64;
    let padding = whole.leading_zeros() / 8;
    (whole.to_le_bytes(), SHORT_BYTES_MAX.saturating_sub(padding as usize))
}
