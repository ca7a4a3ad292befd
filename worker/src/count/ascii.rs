//! The fast way for ASCII: 64 bytes are classified at once, and the boundary rules become a few
//! operations on 64-bit masks.
//!
//! It is exact. What it is given are whole pieces of text between ASCII white space, without a byte
//! from outside ASCII; of all the rules of UAX #29 only those about letters, digits, connectors
//! and the signs between them apply there.

use super::{
    table::{SHORT_BYTES_MAX, Table, halves},
    words::{Listing, Words},
};

/// Bytes that are looked at together: one for each bit of a mask.
pub(super) const BLOCK_BYTES: usize = 64;

/// A bit for each byte of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) letter: u64,
    pub(super) digit: u64,
    /// The connector `_`.
    pub(super) connector: u64,
    /// `'`, `.` and `:`, which stay in a word between letters (WB6, WB7).
    pub(super) between_letters: u64,
    /// `'`, `.`, `,` and `;`, which stay in a number between digits (WB11, WB12).
    pub(super) between_digits: u64,
    /// White space.
    pub(super) space: u64,
    /// Whatever is not ASCII.
    pub(super) high: u64,
}

impl Masks {
    /// Classifies a block.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    #[expect(unsafe_code, reason = "the one place: masks of bytes need vector instructions")]
    pub(super) fn of(block: &[u8; BLOCK_BYTES]) -> Self {
        // SAFETY: SSE2 is part of x86-64, and nothing else is asked of the caller.
        unsafe { vector::classify(block) }
    }

    /// Classifies a block.
    #[cfg(not(target_arch = "x86_64"))]
    #[inline]
    pub(super) fn of(block: &[u8; BLOCK_BYTES]) -> Self {
        scalar::classify(block)
    }

    /// Returns the bytes that belong to segments which may be words.
    const fn segments(&self) -> u64 {
        let in_words = self.between_letters & (self.letter << 1) & (self.letter >> 1);
        let in_numbers = self.between_digits & (self.digit << 1) & (self.digit >> 1);
        self.letter | self.digit | self.connector | in_words | in_numbers
    }
}

/// Counts the first `length` bytes of a block, which is found in `bytes` at `start`.
///
/// They are ASCII, begin after white space or with it, and end with white space or at the end of
/// the text.
pub(super) fn count(bytes: &[u8], start: usize, length: u32, masks: &Masks, words: &mut Words) {
    let inside = u64::MAX >> 64_u32.saturating_sub(length).min(63);
    let solid = !masks.space & inside;
    let pieces = starts(solid).count_ones();
    let mut segments = masks.segments() & inside;
    if masks.connector & inside != 0 {
        segments = without_bare_connectors(segments, masks.letter | masks.digit);
    }

    let sums = &mut words.sums;
    let (spaces, found) = ((masks.space & inside).count_ones(), starts(segments).count_ones());
    let characters = length.saturating_sub(spaces);
    sums.unicode = sums.unicode.saturating_add(found.into());
    sums.whitespace = sums.whitespace.saturating_add(pieces.into());
    sums.office = sums.office.saturating_add(pieces.into());
    sums.characters_no_spaces = sums.characters_no_spaces.saturating_add(characters.into());
    if words.is_page {
        sums.characters = sums.characters.saturating_add(characters.into());
        sums.pieces = sums.pieces.saturating_add(pieces.into());
    } else {
        sums.characters = sums.characters.saturating_add(length.into());
    }

    match words.listing {
        Listing::Segments => list(bytes, start, segments, SHORT_BYTES_MAX, words.table()),
        Listing::Spaced | Listing::Office => {
            // A zero at the end of a word could not be told from the padding of a short one.
            let block = bytes.get(start..).unwrap_or_default();
            let has_zero = block.iter().take(BLOCK_BYTES).any(|byte| *byte == 0);
            let short_max = if has_zero { 0 } else { SHORT_BYTES_MAX };
            list(bytes, start, solid, short_max, words.table());
        }
        Listing::Nothing => {}
    }
}

/// Returns the first bit of every run of ones.
const fn starts(mask: u64) -> u64 {
    mask & !(mask << 1)
}

/// Takes out the runs of ones in which there is none of `needed`: connectors without a letter or
/// digit are no word.
fn without_bare_connectors(segments: u64, needed: u64) -> u64 {
    let mut kept = 0;
    let mut rest = segments;
    while rest != 0 {
        let from = rest & rest.wrapping_neg();
        // The carry runs to the end of the lowest run of ones.
        let run = rest & !rest.wrapping_add(from);
        if run & needed != 0 {
            kept |= run;
        }
        rest &= !run;
    }
    kept
}

/// Counts each run of ones as a word; those of up to `short_max` bytes go the shortest way.
#[inline]
fn list(bytes: &[u8], start: usize, runs: u64, short_max: usize, table: &mut Table) {
    let lowers = table.lowers();
    let mut starts = starts(runs);
    let mut ends = !runs & (runs << 1);
    while starts != 0 {
        let (from, to) = (starts.trailing_zeros() as usize, ends.trailing_zeros() as usize);
        starts &= starts.wrapping_sub(1);
        ends &= ends.wrapping_sub(1);
        let from_byte = start.wrapping_add(from);
        let length = to.wrapping_sub(from);
        if length <= short_max {
            let padding_bits = (SHORT_BYTES_MAX.wrapping_sub(length)).wrapping_mul(8);
            let (mut low, mut high) = halves(load(bytes, from_byte) & (u128::MAX >> padding_bits));
            if lowers {
                (low, high) = (lower(low), lower(high));
            }
            table.add_short(low, high);
        } else {
            list_long(bytes.get(from_byte..).and_then(|rest| rest.get(..length)), table);
        }
    }
}

/// Reads the sixteen bytes from `start` on; zeros follow the end of the text.
#[inline]
fn load(bytes: &[u8], start: usize) -> u128 {
    let rest = bytes.get(start..).unwrap_or_default();
    match rest.first_chunk() {
        Some(chunk) => u128::from_le_bytes(*chunk),
        None => load_last(rest),
    }
}

#[cold]
fn load_last(rest: &[u8]) -> u128 {
    let mut bytes = [0; SHORT_BYTES_MAX];
    for (to, from) in bytes.iter_mut().zip(rest) {
        *to = *from;
    }
    u128::from_le_bytes(bytes)
}

/// Returns eight ASCII characters in lower case.
#[inline]
const fn lower(characters: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The top bit of a byte says whether it is at or behind a letter; none is set in ASCII.
    let from_a = characters.wrapping_add(EACH * (0x80 - 'A' as u64));
    let behind_z = characters.wrapping_add(EACH * (0x80 - 1 - 'Z' as u64));
    let is_upper = from_a & !behind_z & (EACH << 7);
    characters | (is_upper >> 2)
}

#[cold]
fn list_long(word: Option<&[u8]>, table: &mut Table) {
    let mut key = [0; BLOCK_BYTES];
    let key = word.and_then(|word| {
        let key = key.get_mut(..word.len())?;
        key.copy_from_slice(word);
        if table.lowers() {
            key.make_ascii_lowercase();
        }
        std::str::from_utf8(key).ok()
    });
    if let Some(key) = key {
        table.add_key(key);
    }
}

/// Sixteen bytes at a time, with the instructions that every x86-64 has.
#[cfg(target_arch = "x86_64")]
mod vector {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi8, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_movemask_epi8, _mm_or_si128,
        _mm_set_epi64x, _mm_set1_epi8,
    };

    use super::{BLOCK_BYTES, Masks};

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn classify(block: &[u8; BLOCK_BYTES]) -> Masks {
        let mut masks = Masks::default();
        let (chunks, _) = block.as_chunks::<16>();
        for (chunk, shift) in chunks.iter().zip([0, 16, 32, 48]) {
            let part = classify_chunk(chunk);
            masks.letter |= part.letter << shift;
            masks.digit |= part.digit << shift;
            masks.connector |= part.connector << shift;
            masks.between_letters |= part.between_letters << shift;
            masks.between_digits |= part.between_digits << shift;
            masks.space |= part.space << shift;
            masks.high |= part.high << shift;
        }
        masks
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn classify_chunk(chunk: &[u8; 16]) -> Masks {
        let [low, high] = chunk.as_chunks::<8>().0 else { return Masks::default() };
        let bytes = _mm_set_epi64x(i64::from_le_bytes(*high), i64::from_le_bytes(*low));
        let is = |c: u8| _mm_cmpeq_epi8(bytes, splat(c));
        let dots = _mm_or_si128(is(b'\''), is(b'.'));
        let commas = _mm_or_si128(is(b','), is(b';'));
        let letters = in_range(_mm_or_si128(bytes, splat(0x20)), b'a', b'z');
        Masks {
            letter: bits(letters),
            digit: bits(in_range(bytes, b'0', b'9')),
            connector: bits(is(b'_')),
            between_letters: bits(_mm_or_si128(dots, is(b':'))),
            between_digits: bits(_mm_or_si128(dots, commas)),
            space: bits(_mm_or_si128(in_range(bytes, b'\t', b'\r'), is(b' '))),
            high: bits(bytes),
        }
    }

    /// Tells which bytes are from `first` to `last`: moved to the lower end of the signed numbers,
    /// they are below what follows them.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn in_range(bytes: __m128i, first: u8, last: u8) -> __m128i {
        let moved = _mm_add_epi8(bytes, splat(0x80_u8.wrapping_sub(first)));
        let end = 0x80_u8.wrapping_add(last.wrapping_sub(first)).wrapping_add(1);
        _mm_cmplt_epi8(moved, splat(end))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn splat(byte: u8) -> __m128i {
        _mm_set1_epi8(byte.cast_signed())
    }

    /// Returns the top bit of each byte.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn bits(bytes: __m128i) -> u64 {
        u64::from(_mm_movemask_epi8(bytes).cast_unsigned())
    }
}

/// One byte at a time: for other machines, and to check the fast one.
#[cfg(any(test, not(target_arch = "x86_64")))]
mod scalar {
    use super::{BLOCK_BYTES, Masks};

    pub(super) fn classify(block: &[u8; BLOCK_BYTES]) -> Masks {
        let mut masks = Masks::default();
        for (place, byte) in block.iter().enumerate() {
            let bit = |is: bool| u64::from(is) << place;
            masks.letter |= bit(byte.is_ascii_alphabetic());
            masks.digit |= bit(byte.is_ascii_digit());
            masks.connector |= bit(*byte == b'_');
            masks.between_letters |= bit(matches!(byte, b'\'' | b'.' | b':'));
            masks.between_digits |= bit(matches!(byte, b'\'' | b'.' | b',' | b';'));
            masks.space |= bit(matches!(byte, b'\t'..=b'\r' | b' '));
            masks.high |= bit(!byte.is_ascii());
        }
        masks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::random::Random;

    #[test]
    fn both_classifiers_agree() {
        let mut random = Random::new(3);
        for turn in 0..20_000 {
            let span = if turn % 2 == 0 { 256 } else { 128 };
            let block = [(); BLOCK_BYTES].map(|()| u8::try_from(random.below(span)).unwrap());
            assert_eq!(Masks::of(&block), scalar::classify(&block), "{block:?}");
        }
        for byte in 0..=u8::MAX {
            let block = [byte; BLOCK_BYTES];
            assert_eq!(Masks::of(&block), scalar::classify(&block), "{byte}");
        }
    }

    #[test]
    fn lower_case_is_that_of_the_standard_library() {
        for byte in 0..128_u8 {
            for place in 0..8 {
                let mut bytes = *b"aZ@[`{0 ";
                bytes[place] = byte;
                let expected = u64::from_le_bytes(bytes.map(|byte| byte.to_ascii_lowercase()));
                assert_eq!(lower(u64::from_le_bytes(bytes)), expected);
            }
        }
    }

    #[test]
    fn connectors_alone_are_no_words() {
        let needed = 0b0100_0000_1000;
        assert_eq!(without_bare_connectors(0b1110_0110_1101, needed), 0b1110_0000_1100);
        assert_eq!(without_bare_connectors(u64::MAX, 1 << 63), u64::MAX);
        assert_eq!(without_bare_connectors(u64::MAX, 0), 0);
    }
}
