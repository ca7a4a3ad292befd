//! Fast path for ASCII: classifies 64 bytes at a time, and applies the boundary rules with a few
//! operations on 64-bit masks.
//!
//! Bit n of a mask belongs to byte n of a block. The result is the same as on the slow path: only
//! whole tokens of ASCII between ASCII white space are counted. Of UAX #29, only the rules about
//! letters, digits, connectors and the signs between them apply to such tokens.

mod portable;
mod vector;

use super::{
    rules::Sums,
    word_sink::{Listing, WordSink},
    word_table::{SHORT_BYTES_MAX, WordTable},
};

/// Number of bytes that are classified together: one for each bit of a mask.
const BLOCK_BYTES: usize = 64;

/// The bit that distinguishes lower-case from capital letters, in each of eight bytes.
const CASE_BITS: u64 = 0x2020_2020_2020_2020;

/// A block and the bytes after it, so that 16 bytes can be loaded from any position in the block.
const WINDOW_BYTES: usize = BLOCK_BYTES + SHORT_BYTES_MAX;

/// Counts text from `start`, which must be the start of a token or white space.
///
/// Stops after the last white space before the first byte outside ASCII, before a token that is
/// longer than a block, or at the end. Returns that position.
pub(super) fn count(bytes: &[u8], start: usize, words: &mut WordSink) -> usize {
    vector::count(bytes, start, words)
}

/// One bit for each byte of a block, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Masks {
    pub(super) letter: u64,
    pub(super) digit: u64,
    /// The connector `_`.
    pub(super) connector: u64,
    /// `'`, `.` and `:`, which do not end a word between two letters (WB6, WB7).
    pub(super) between_letters: u64,
    /// `'`, `.`, `,` and `;`, which do not end a number between two digits (WB11, WB12).
    pub(super) between_digits: u64,
    /// White space.
    pub(super) space: u64,
    /// Bytes outside ASCII.
    pub(super) non_ascii: u64,
}

impl Masks {
    /// Returns the bytes of segments that may be words.
    const fn segments(&self) -> u64 {
        // `letter << 1` marks the bytes after a letter, `letter >> 1` those before one. Neighbors
        // in other blocks do not matter, because counted text is next to white space at both ends.
        let in_words = self.between_letters & (self.letter << 1) & (self.letter >> 1);
        let in_numbers = self.between_digits & (self.digit << 1) & (self.digit >> 1);
        self.letter | self.digit | self.connector | in_words | in_numbers
    }
}

/// Like [`count`], with the given classifier. Inlined, so that the whole loop is compiled with the
/// instructions that the classifier uses.
#[inline(always)]
fn count_with(
    bytes: &[u8],
    start: usize,
    words: &mut WordSink,
    classify: impl Fn(&[u8; BLOCK_BYTES]) -> Masks,
) -> usize {
    let case_bits = if words.table().is_lowercasing() { CASE_BITS } else { 0 };
    let mut sums = BlockSums::default();
    let mut position = start;
    while let Some(rest) = bytes.get(position..).filter(|rest| !rest.is_empty()) {
        let last;
        let window = match rest.first_chunk::<WINDOW_BYTES>() {
            Some(window) => window,
            None => {
                last = pad_window(rest);
                &last
            }
        };
        let Some(block) = window.first_chunk() else { break };
        let masks = classify(block);
        // The last token of a block continues in the next block, or contains a byte outside ASCII.
        // So the text up to the last white space is counted: `the mill, ` of `the mill, café`. At
        // the end of the text, the last token is complete.
        let is_last = rest.len() <= BLOCK_BYTES && masks.non_ascii == 0;
        let length = if is_last {
            u32::try_from(rest.len()).unwrap_or(0)
        } else {
            length_through_last_space(masks.space, masks.non_ascii)
        };
        if length > 0 {
            count_block(window, length, &masks, case_bits, words, &mut sums);
        }
        position = position.saturating_add(usize::try_from(length).unwrap_or(0));
        // The slow path must count the next token.
        if masks.non_ascii != 0 || length == 0 {
            break;
        }
    }
    sums.add_to(&mut words.sums, words.is_page);
    position
}

/// Sums of the counted blocks. Local variables, so that the compiler can hold them in registers.
#[derive(Default)]
struct BlockSums {
    segments: u64,
    tokens: u64,
    spaces: u64,
    characters: u64,
}

impl BlockSums {
    fn add_to(&self, sums: &mut Sums, is_page: bool) {
        let non_space = self.characters.saturating_sub(self.spaces);
        let added = Sums {
            unicode: self.segments,
            whitespace: self.tokens,
            office: self.tokens,
            characters_no_spaces: non_space,
            characters: if is_page { non_space } else { self.characters },
            tokens: if is_page { self.tokens } else { 0 },
            ..Sums::default()
        };
        sums.add(&added);
    }
}

/// Counts the first `length` bytes of a block. They must be ASCII, start with a token or white
/// space, and end with white space or at the end of the text.
#[inline(always)]
fn count_block(
    window: &[u8; WINDOW_BYTES],
    length: u32,
    masks: &Masks,
    case_bits: u64,
    words: &mut WordSink,
    sums: &mut BlockSums,
) {
    // Ones for the first `length` bytes. `length` must not be 0: a shift by 64 bits overflows.
    let in_length = u64::MAX >> 64_u32.saturating_sub(length).min(63);
    let non_space = !masks.space & in_length;
    let mut segments = masks.segments() & in_length;
    let has_connectors = masks.connector & in_length != 0;
    if has_connectors {
        segments = without_bare_connectors(segments, masks.letter | masks.digit);
    }
    let count = |mask: u64| u64::from(mask.count_ones());
    sums.segments = sums.segments.wrapping_add(count(run_starts(segments)));
    sums.tokens = sums.tokens.wrapping_add(count(run_starts(non_space)));
    sums.spaces = sums.spaces.wrapping_add(count(masks.space & in_length));
    sums.characters = sums.characters.wrapping_add(length.into());

    match words.listing {
        // `_` has bit 6, so [`lowercase_letters`] would change it.
        Listing::Segments if has_connectors => {
            list_runs(window, segments, |half| lowercase(half, case_bits), words.table());
        }
        Listing::Segments => {
            list_runs(window, segments, |half| lowercase_letters(half, case_bits), words.table());
        }
        Listing::Whitespace | Listing::Office => {
            list_tokens(window, non_space, case_bits, words.table());
        }
        Listing::None => {}
    }
}

/// Returns the number of bytes through the last white space before the first byte outside ASCII.
const fn length_through_last_space(space: u64, non_ascii: u64) -> u32 {
    // Isolates the lowest bit and subtracts one, which sets all bits below it: 0b1100 becomes
    // 0b0100, then 0b0011. If no bit is set, zero minus one is all ones.
    let before = (non_ascii & non_ascii.wrapping_neg()).wrapping_sub(1);
    u64::BITS.saturating_sub((space & before).leading_zeros())
}

/// Copies the last bytes of a text to a window. The padding is white space.
#[cold]
fn pad_window(rest: &[u8]) -> [u8; WINDOW_BYTES] {
    let mut window = [b' '; WINDOW_BYTES];
    for (to, from) in window.iter_mut().zip(rest) {
        *to = *from;
    }
    window
}

/// Returns the first bit of every run of ones.
const fn run_starts(mask: u64) -> u64 {
    mask & !(mask << 1)
}

/// Removes the runs of ones that contain no bit of `needed`. Connectors without a letter or digit,
/// for example `__`, are not a word.
fn without_bare_connectors(segments: u64, needed: u64) -> u64 {
    let mut words = 0;
    let mut rest = segments;
    while rest != 0 {
        let from = rest & rest.wrapping_neg();
        // The carry clears the lowest run of ones: 0b1011_1000 + 0b1000 is 0b1100_0000. The cleared
        // bits, 0b0011_1000, are the run.
        let run = rest & !rest.wrapping_add(from);
        if run & needed != 0 {
            words |= run;
        }
        rest &= !run;
    }
    words
}

/// Adds the text of each run of ones to the table as a word.
#[inline(always)]
fn list_runs(
    window: &[u8; WINDOW_BYTES],
    runs: u64,
    lowercase: impl Fn(u64) -> u64,
    table: &mut WordTable,
) {
    let mut starts = run_starts(runs);
    // The bit after each run.
    let mut ends = !runs & (runs << 1);
    while starts != 0 {
        let start = starts.trailing_zeros() as usize;
        // 64 if no bit is left: the run ends with the block.
        let end = ends.trailing_zeros() as usize;
        // Continue with the next run: clear the lowest bit of both.
        starts &= starts.wrapping_sub(1);
        ends &= ends.wrapping_sub(1);
        let length = end.wrapping_sub(start);
        // `start` is below 64. The remainder shows the compiler that the slice is in bounds.
        let rest = window.get(start % BLOCK_BYTES..).unwrap_or_default();
        // Load 16 bytes, and clear those after the word. A longer word has no mask.
        match (SHORT_MASKS.get(length), rest.as_chunks().0) {
            (Some((low_mask, high_mask)), [low, high, ..]) => {
                let low = u64::from_le_bytes(*low) & low_mask;
                let high = u64::from_le_bytes(*high) & high_mask;
                table.add_short(lowercase(low), lowercase(high));
            }
            _ => add_long_word(rest.get(..length), table),
        }
    }
}

/// Masks that keep the first n of 16 bytes, indexed by n.
#[expect(clippy::indexing_slicing, reason = "an index out of bounds does not compile")]
const SHORT_MASKS: [(u64, u64); SHORT_BYTES_MAX + 1] = {
    let mut masks = [(0, 0); SHORT_BYTES_MAX + 1];
    let mut length = 1;
    while length <= SHORT_BYTES_MAX {
        let (low, high) = masks[length - 1];
        masks[length] = if length <= 8 { (low << 8 | 0xff, 0) } else { (low, high << 8 | 0xff) };
        length += 1;
    }
    masks
};

/// Adds each token to the table as a word. A token is the text between white space.
#[inline(never)]
fn list_tokens(window: &[u8; WINDOW_BYTES], non_space: u64, case_bits: u64, table: &mut WordTable) {
    // A packed word must not end with a zero byte, so the tokens of a block with zeros are added
    // one by one.
    if window.contains(&0) {
        let mut rest = non_space;
        while rest != 0 {
            let start = rest.trailing_zeros();
            let length = (rest >> start).trailing_ones();
            let word = window.get(start as usize..).and_then(|rest| rest.get(..length as usize));
            add_long_word(word, table);
            // The carry clears the lowest run, as in [`without_bare_connectors`].
            rest &= rest.wrapping_add(1 << start);
        }
    } else {
        list_runs(window, non_space, |half| lowercase(half, case_bits), table);
    }
}

/// Maps eight ASCII characters to lower case. `case_bits` is [`CASE_BITS`], or 0 to keep them.
#[inline(always)]
const fn lowercase(characters: u64, case_bits: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Bit 7 of an ASCII byte is free. The first sum sets it for characters from `A` on, the second
    // one for characters after `Z`. A shift by 2 makes it the bit of the case: 0x80 >> 2 is 0x20.
    let from_a = characters.wrapping_add(EACH * (0x80 - 'A' as u64));
    let after_z = characters.wrapping_add(EACH * (0x80 - 1 - 'Z' as u64));
    characters | ((from_a & !after_z) >> 2) & case_bits
}

/// Like [`lowercase`], for words without connectors. Of their characters, only letters have bit 6,
/// which the shift moves to bit 5: `M` (0x4d) becomes 0x6d. `7` (0x37) stays the same.
#[inline(always)]
const fn lowercase_letters(characters: u64, case_bits: u64) -> u64 {
    characters | (characters >> 1) & case_bits
}

/// Adds a word that does not fit into a slot, or that may end with a zero byte.
#[cold]
fn add_long_word(word: Option<&[u8]>, table: &mut WordTable) {
    let mut key = [0; BLOCK_BYTES];
    let key = word.and_then(|word| {
        let key = key.get_mut(..word.len())?;
        key.copy_from_slice(word);
        if table.is_lowercasing() {
            key.make_ascii_lowercase();
        }
        std::str::from_utf8(key).ok()
    });
    if let Some(key) = key {
        table.add_normalized(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lowercase_matches_the_standard_library() {
        for byte in 0..128_u8 {
            for index in 0..8 {
                let mut bytes = *b"aZ@[`{0 ";
                bytes[index] = byte;
                let expected = u64::from_le_bytes(bytes.map(|byte| byte.to_ascii_lowercase()));
                assert_eq!(lowercase(u64::from_le_bytes(bytes), CASE_BITS), expected);
                if byte.is_ascii_alphanumeric() || b"\0'.,:;".contains(&byte) {
                    bytes = [byte; 8];
                    let expected = u64::from_le_bytes(bytes.map(|byte| byte.to_ascii_lowercase()));
                    assert_eq!(lowercase_letters(u64::from_le_bytes(bytes), CASE_BITS), expected);
                }
            }
        }
    }

    #[test]
    fn connectors_alone_are_not_words() {
        let needed = 0b0100_0000_1000;
        assert_eq!(without_bare_connectors(0b1110_0110_1101, needed), 0b1110_0000_1100);
        assert_eq!(without_bare_connectors(u64::MAX, 1 << 63), u64::MAX);
        assert_eq!(without_bare_connectors(u64::MAX, 0), 0);
    }
}
