//! Brotli streams (RFC 7932) that no encoder produces, written bit by bit.

/// Size of a metadata block, which decoders skip. Without it, the stream would exceed the maximum
/// compression ratio.
const PADDING_BYTES: usize = 2 << 20;

/// Returns a stream for which a decoder needs as much memory as RFC 7932 allows.
///
/// The window has the maximum size, 16 MiB. A decoder that grows it on demand must double it four
/// times for these blocks. Before the last doubling, one block has 256 block types of each kind,
/// and the maximum number of prefix codes with nearly the largest tables.
pub fn worst(word: [u8; 4]) -> Vec<u8> {
    let mut stream = Stream::default();
    stream.push(0b1111, 4);
    for megabytes in [1, 1, 2] {
        stream.uncompressed(&word.repeat(megabytes << 18));
    }
    stream.many_codes();
    for megabytes in [3, 9] {
        stream.uncompressed(&word.repeat(megabytes << 18));
    }
    stream.end()
}

/// Returns a stream of `blocks` times 16 MiB of `aaa `, with a large window of 2^`window_log`
/// bytes.
pub fn with_large_window(window_log: u32, blocks: usize) -> Vec<u8> {
    let mut stream = Stream::default();
    stream.push(0x11, 8);
    stream.push(window_log, 6);
    stream.padding();
    for _ in 0..blocks {
        stream.repetition();
    }
    stream.end()
}

/// A bit stream. The lowest bit of each byte is the first.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    bits: u32,
}

impl Stream {
    fn push(&mut self, value: u32, bits: u32) {
        for bit in 0..bits {
            if self.bits.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let last = self.bytes.last_mut().expect("a byte");
            *last |= u8::try_from(value >> bit & 1).expect("a bit") << (self.bits % 8);
            self.bits += 1;
        }
    }

    /// Writes a prefix code, the highest bit first.
    fn push_code(&mut self, code: u32, bits: u32) {
        for bit in (0..bits).rev() {
            self.push(code >> bit & 1, 1);
        }
    }

    fn align(&mut self) {
        self.bits = u32::try_from(self.bytes.len()).expect("a length") * 8;
    }

    /// Begins a block that is not the last one.
    fn block(&mut self, bytes: usize) {
        let length = u32::try_from(bytes - 1).expect("a length");
        // A length of more than four hexadecimal digits must not begin with 0.
        let digits = (32 - length.leading_zeros()).div_ceil(4).max(4);
        self.push(0, 1);
        self.push(digits - 4, 2);
        self.push(length, 4 * digits);
    }

    fn uncompressed(&mut self, text: &[u8]) {
        self.block(text.len());
        self.push(1, 1);
        self.align();
        self.bytes.extend_from_slice(text);
        self.align();
    }

    fn padding(&mut self) {
        self.push(0, 1);
        self.push(3, 2);
        self.push(0, 1);
        self.push(3, 2);
        self.push(u32::try_from(PADDING_BYTES - 1).expect("a length"), 24);
        self.align();
        self.bytes.resize(self.bytes.len() + PADDING_BYTES, 0);
        self.align();
    }

    /// Writes a prefix code with a single symbol, which is encoded in zero bits.
    fn only(&mut self, symbol: u32, alphabet_bits: u32) {
        self.push(1, 2);
        self.push(0, 2);
        self.push(symbol, alphabet_bits);
    }

    /// Writes 16 MiB of `aaa `: four literals, and a copy for the rest.
    fn repetition(&mut self) {
        const BYTES: u32 = 1 << 24;
        self.block(1 << 24);
        self.push(0, 1);
        // One block type of each kind, no postfix bits, no direct distances.
        self.push(0, 3);
        self.push(0, 6);
        // One context mode, and one prefix code of each kind.
        self.push(0, 2);
        self.push(0, 2);
        // Two literals of one bit each.
        self.push(1, 2);
        self.push(1, 2);
        self.push(u32::from(b' '), 8);
        self.push(u32::from(b'a'), 8);
        // Insert four literals, and copy with 24 extra bits of length and an explicit distance.
        self.only(384 + (4 << 3) + 7, 10);
        // The last distance, initially four. With a large window, the distance alphabet has 140
        // symbols.
        self.only(0, 8);
        self.push(BYTES - 4 - 2118, 24);
        self.push(0b0111, 4);
    }

    /// Writes a block of four literals with the maximum number of prefix codes, nearly as large as
    /// allowed.
    fn many_codes(&mut self) {
        self.block(4);
        self.push(0, 1);
        for _ in 0..3 {
            // 256 block types, of which only the first is used.
            self.push_256();
            self.only(0, 9);
            self.only(25, 5);
            self.push(0, 24);
        }
        // The largest distance alphabet: 3 postfix bits and 15 << 3 direct distances.
        self.push(3, 2);
        self.push(15, 4);
        for _ in 0..256 {
            self.push(0, 2);
        }
        for _ in 0..2 {
            // 256 prefix codes. The context map has no run lengths and no transform, and its
            // entries take no bits.
            self.push_256();
            self.push(0, 1);
            self.only(0, 8);
            self.push(0, 1);
        }
        for _ in 0..256 {
            self.prefix_code(&[(64, 7), (64, 8), (128, 9)]);
        }
        for _ in 0..256 {
            self.prefix_code(&[(320, 9), (384, 10)]);
        }
        for _ in 0..256 {
            self.prefix_code(&[(504, 9), (16, 10)]);
        }
        // Insert four literals, copy two. The block ends before the copy.
        self.push_code(4 << 3, 9);
        for letter in *b"abc " {
            match u32::from(letter) {
                symbol @ 0..64 => self.push_code(symbol, 7),
                symbol => self.push_code((64 << 1) + symbol - 64, 8),
            }
        }
    }

    fn push_256(&mut self) {
        self.push(1, 1);
        self.push(7, 3);
        self.push(127, 7);
    }

    /// Writes a prefix code. Each run is a number of consecutive symbols and the length of their
    /// codes.
    fn prefix_code(&mut self, runs: &[(usize, u8)]) {
        const ORDER: [u8; 18] = [1, 2, 3, 4, 0, 5, 17, 6, 16, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let space: usize = runs.iter().map(|(symbols, bits)| symbols << (15 - bits)).sum();
        assert_eq!(space, 1 << 15, "an incomplete code: {runs:?}");
        // Codes of the code lengths: 0 and 1 for two lengths; 0, 10 and 11 for three.
        let lengths: Vec<u8> = runs.iter().map(|(_, bits)| *bits).collect();
        let codes: &[(u32, u32)] = match lengths.len() {
            2 => &[(0, 1), (1, 1)],
            3 => &[(0, 1), (0b10, 2), (0b11, 2)],
            other => panic!("no code for {other} lengths"),
        };
        self.push(0, 2);
        let mut left = lengths.len();
        for length in ORDER {
            match lengths.iter().position(|other| *other == length).map(|index| codes[index].1) {
                None => self.push(0b00, 2),
                Some(1) => self.push(0b0111, 4),
                Some(_) => self.push(0b011, 3),
            }
            left -= usize::from(lengths.contains(&length));
            if left == 0 {
                break;
            }
        }
        for ((symbols, _), (code, bits)) in runs.iter().zip(codes) {
            for _ in 0..*symbols {
                self.push_code(*code, *bits);
            }
        }
    }

    /// Writes the empty last block.
    fn end(mut self) -> Vec<u8> {
        self.push(3, 2);
        self.bytes
    }
}
