//! The fast way for ASCII: 64 bytes are classified at once, and the boundary rules become a few
//! operations on 64-bit masks.
//!
//! It is exact. What it is given are whole pieces of text between ASCII white space, without a byte
//! from outside ASCII; of all the rules of UAX #29 only those about letters, digits, connectors
//! and the signs between them apply there.

mod portable;
mod vector;

use super::{
    rules::Sums,
    word_sink::{Listing, Words},
    word_table::{SHORT_BYTES_MAX, Table},
};

/// Bytes that are looked at together: one for each bit of a mask.
const BLOCK_BYTES: usize = 64;

/// The bit of each byte in which the cases of a letter differ.
const CASE_BITS: u64 = 0x2020_2020_2020_2020;

/// A block and what is read behind it, so that a short word can be loaded from any place in it.
const WINDOW_BYTES: usize = BLOCK_BYTES + SHORT_BYTES_MAX;

/// Counts text from `start` on, which is where a piece begins or white space, up to the last white
/// space before the first byte that is not ASCII or the end of the block that is all one piece.
/// Returns where that is.
pub(super) fn count(bytes: &[u8], start: usize, words: &mut Words) -> usize {
    vector::count(bytes, start, words)
}

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
    /// Returns the bytes that belong to segments which may be words.
    const fn segments(&self) -> u64 {
        let in_words = self.between_letters & (self.letter << 1) & (self.letter >> 1);
        let in_numbers = self.between_digits & (self.digit << 1) & (self.digit >> 1);
        self.letter | self.digit | self.connector | in_words | in_numbers
    }
}

/// As [`count`], with the given way to classify a block.
#[inline(always)]
fn count_with(
    bytes: &[u8],
    start: usize,
    words: &mut Words,
    classify: impl Fn(&[u8; BLOCK_BYTES]) -> Masks,
) -> usize {
    let case_bits = if words.table().lowers() { CASE_BITS } else { 0 };
    let mut sums = BlockSums::default();
    let mut at = start;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let last;
        let window = match rest.first_chunk::<WINDOW_BYTES>() {
            Some(window) => window,
            None => {
                last = padded(rest);
                &last
            }
        };
        let Some(block) = window.first_chunk() else { break };
        let masks = classify(block);
        // Up to the first character that needs care, and there up to the last white space.
        let is_last = rest.len() <= BLOCK_BYTES && masks.high == 0;
        let length = if is_last {
            u32::try_from(rest.len()).unwrap_or(0)
        } else {
            after_last_space(masks.space, masks.high)
        };
        if length > 0 {
            count_block(window, length, &masks, case_bits, words, &mut sums);
        }
        at = at.saturating_add(usize::try_from(length).unwrap_or(0));
        if masks.high != 0 || length == 0 {
            break;
        }
    }
    sums.add_to(&mut words.sums, words.is_page);
    at
}

/// What was counted in blocks.
#[derive(Default)]
struct BlockSums {
    segments: u64,
    pieces: u64,
    spaces: u64,
    characters: u64,
}

impl BlockSums {
    fn add_to(&self, sums: &mut Sums, is_page: bool) {
        let solid = self.characters.saturating_sub(self.spaces);
        let added = Sums {
            unicode: self.segments,
            whitespace: self.pieces,
            office: self.pieces,
            characters_no_spaces: solid,
            characters: if is_page { solid } else { self.characters },
            pieces: if is_page { self.pieces } else { 0 },
            ..Sums::default()
        };
        sums.add(&added);
    }
}

/// Counts the first `length` bytes of a block: ASCII that begins after white space or with it, and
/// ends with white space or at the end of the text.
#[inline(always)]
fn count_block(
    window: &[u8; WINDOW_BYTES],
    length: u32,
    masks: &Masks,
    case_bits: u64,
    words: &mut Words,
    sums: &mut BlockSums,
) {
    let inside = u64::MAX >> 64_u32.saturating_sub(length).min(63);
    let solid = !masks.space & inside;
    let mut segments = masks.segments() & inside;
    let has_connectors = masks.connector & inside != 0;
    if has_connectors {
        segments = without_bare_connectors(segments, masks.letter | masks.digit);
    }
    let count = |mask: u64| u64::from(mask.count_ones());
    sums.segments = sums.segments.wrapping_add(count(starts(segments)));
    sums.pieces = sums.pieces.wrapping_add(count(starts(solid)));
    sums.spaces = sums.spaces.wrapping_add(count(masks.space & inside));
    sums.characters = sums.characters.wrapping_add(length.into());

    match words.listing {
        Listing::Segments if has_connectors => {
            list(window, segments, |half| lower(half, case_bits), words.table());
        }
        Listing::Segments => {
            list(window, segments, |half| lower_letters(half, case_bits), words.table());
        }
        Listing::Spaced | Listing::Office => list_pieces(window, solid, case_bits, words.table()),
        Listing::Nothing => {}
    }
}

/// Returns the number of bytes up to and with the last white space before the first of `high`.
const fn after_last_space(space: u64, high: u64) -> u32 {
    let before = (high & high.wrapping_neg()).wrapping_sub(1);
    u64::BITS.saturating_sub((space & before).leading_zeros())
}

/// Returns the last bytes of a text as a window; the padding is white space.
#[cold]
fn padded(rest: &[u8]) -> [u8; WINDOW_BYTES] {
    let mut window = [b' '; WINDOW_BYTES];
    for (to, from) in window.iter_mut().zip(rest) {
        *to = *from;
    }
    window
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

/// Lists each run of ones as a word.
#[inline(always)]
fn list(window: &[u8; WINDOW_BYTES], runs: u64, lower: impl Fn(u64) -> u64, table: &mut Table) {
    let mut starts = starts(runs);
    let mut ends = !runs & (runs << 1);
    while starts != 0 {
        // A run that goes on to the end of the block ends at 64, which is the number for no bit.
        let (from, to) = (starts.trailing_zeros() as usize, ends.trailing_zeros() as usize);
        starts &= starts.wrapping_sub(1);
        ends &= ends.wrapping_sub(1);
        let length = to.wrapping_sub(from);
        let rest = window.get(from % BLOCK_BYTES..).unwrap_or_default();
        match (SHORT_MASKS.get(length), rest.as_chunks().0) {
            (Some((low_mask, high_mask)), [low, high, ..]) => {
                let low = u64::from_le_bytes(*low) & low_mask;
                let high = u64::from_le_bytes(*high) & high_mask;
                table.add_short(lower(low), lower(high));
            }
            _ => list_long(rest.get(..length), table),
        }
    }
}

/// The halves of sixteen bytes of which so many are kept.
#[expect(clippy::indexing_slicing, reason = "done by the compiler, which would refuse")]
const SHORT_MASKS: [(u64, u64); SHORT_BYTES_MAX + 1] = {
    let mut masks = [(0, 0); SHORT_BYTES_MAX + 1];
    let mut kept = 1;
    while kept <= SHORT_BYTES_MAX {
        let (low, high) = masks[kept - 1];
        masks[kept] = if kept <= 8 { (low << 8 | 0xff, 0) } else { (low, high << 8 | 0xff) };
        kept += 1;
    }
    masks
};

/// Lists what is between white space.
#[inline(never)]
fn list_pieces(window: &[u8; WINDOW_BYTES], solid: u64, case_bits: u64, table: &mut Table) {
    // A zero at the end of a word could not be told from the padding of a short one.
    if window.contains(&0) {
        let mut rest = solid;
        while rest != 0 {
            let from = rest.trailing_zeros();
            let length = (rest >> from).trailing_ones();
            let word = window.get(from as usize..).and_then(|rest| rest.get(..length as usize));
            list_long(word, table);
            rest &= rest.wrapping_add(1 << from);
        }
    } else {
        list(window, solid, |half| lower(half, case_bits), table);
    }
}

/// Returns eight ASCII characters in lower case; `case_bits` are those in which cases differ, or
/// none.
#[inline(always)]
const fn lower(characters: u64, case_bits: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // The top bit of a byte says whether it is at or behind a letter; none is set in ASCII.
    let from_a = characters.wrapping_add(EACH * (0x80 - 'A' as u64));
    let behind_z = characters.wrapping_add(EACH * (0x80 - 1 - 'Z' as u64));
    characters | ((from_a & !behind_z) >> 2) & case_bits
}

/// As [`lower`], for characters that are in words, connectors aside: of those, only letters are in
/// the upper half of ASCII, and only capitals lack the bit.
#[inline(always)]
const fn lower_letters(characters: u64, case_bits: u64) -> u64 {
    characters | (characters >> 1) & case_bits
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_is_that_of_the_standard_library() {
        for byte in 0..128_u8 {
            for place in 0..8 {
                let mut bytes = *b"aZ@[`{0 ";
                bytes[place] = byte;
                let expected = u64::from_le_bytes(bytes.map(|byte| byte.to_ascii_lowercase()));
                assert_eq!(lower(u64::from_le_bytes(bytes), CASE_BITS), expected);
                if byte.is_ascii_alphanumeric() || b"\0'.,:;".contains(&byte) {
                    bytes = [byte; 8];
                    let expected = u64::from_le_bytes(bytes.map(|byte| byte.to_ascii_lowercase()));
                    assert_eq!(lower_letters(u64::from_le_bytes(bytes), CASE_BITS), expected);
                }
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
