//! Classifier for any processor: a table look-up for each byte, and a multiplication that gathers
//! the bits of eight bytes.

use super::{BLOCK_BYTES, Masks};

/// Numbers of the bits in [`CLASSES`], one for each mask.
const LETTER: u32 = 0;
const DIGIT: u32 = 1;
const CONNECTOR: u32 = 2;
const BETWEEN_LETTERS: u32 = 3;
const BETWEEN_DIGITS: u32 = 4;
const SPACE: u32 = 5;
const NON_ASCII: u32 = 6;

/// Classes of each byte value, as bits.
#[expect(clippy::indexing_slicing, reason = "an index out of bounds does not compile")]
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = classes_of(byte);
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

const fn classes_of(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' => 1 << LETTER,
        b'0'..=b'9' => 1 << DIGIT,
        b'_' => 1 << CONNECTOR,
        b'\'' | b'.' => 1 << BETWEEN_LETTERS | 1 << BETWEEN_DIGITS,
        b':' => 1 << BETWEEN_LETTERS,
        b',' | b';' => 1 << BETWEEN_DIGITS,
        b'\t'..=b'\r' | b' ' => 1 << SPACE,
        0x80.. => 1 << NON_ASCII,
        _ => 0,
    }
}

/// Classifies a block.
pub(super) fn classify(block: &[u8; BLOCK_BYTES]) -> Masks {
    let mut masks = Masks::default();
    for (group, shift) in block.as_chunks::<8>().0.iter().zip((0_u32..).step_by(8)) {
        let classes = group.map(|byte| CLASSES.get(usize::from(byte)).copied().unwrap_or(0));
        let classes = u64::from_le_bytes(classes);
        let bits = |class: u32| gather(classes >> class) << shift;
        masks.letter |= bits(LETTER);
        masks.digit |= bits(DIGIT);
        masks.connector |= bits(CONNECTOR);
        masks.between_letters |= bits(BETWEEN_LETTERS);
        masks.between_digits |= bits(BETWEEN_DIGITS);
        masks.space |= bits(SPACE);
        masks.non_ascii |= bits(NON_ASCII);
    }
    masks
}

/// Gathers the lowest bits of eight bytes in one byte. Bit n of the result is from byte n.
const fn gather(bytes: u64) -> u64 {
    const LOWEST: u64 = 0x0101_0101_0101_0101;
    // The product moves the bit of byte n to bit 56 + n. Its other terms are below bit 56 or
    // overflow, and no two of them meet at one bit, so nothing carries.
    const SIDE_BY_SIDE: u64 = 0x0102_0408_1020_4080;
    (bytes & LOWEST).wrapping_mul(SIDE_BY_SIDE) >> 56
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_bits_at_every_index() {
        for byte in 0..=u8::MAX {
            for index in 0..BLOCK_BYTES {
                let mut block = [b'*'; BLOCK_BYTES];
                block[index] = byte;
                let bit = |is: bool| u64::from(is) << index;
                let expected = Masks {
                    letter: bit(byte.is_ascii_alphabetic()),
                    digit: bit(byte.is_ascii_digit()),
                    connector: bit(byte == b'_'),
                    between_letters: bit(b"'.:".contains(&byte)),
                    between_digits: bit(b"'.,;".contains(&byte)),
                    space: bit(matches!(byte, b'\t'..=b'\r' | b' ')),
                    non_ascii: bit(!byte.is_ascii()),
                };
                assert_eq!(classify(&block), expected, "{byte} at {index}");
            }
        }
    }
}
