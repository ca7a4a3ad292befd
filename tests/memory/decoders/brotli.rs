//! Brotli streams that no encoder writes, bit by bit (RFC 7932).

/// Bytes of a block of metadata, which decoders skip. Without it, the stream would exceed the limit
/// of the ratio of sizes.
const PADDING_BYTES: usize = 2 << 20;

/// Returns a stream that takes a decoder as much memory as RFC 7932 allows.
///
/// The window is the largest, 16 MiB, and the blocks are such that a decoder which allocates it on
/// demand has to double it four times. Before the last time, a block has 256 types of each kind,
/// and as many prefix codes whose tables are nearly as large as they can be.
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

/// The bits of a stream, the lowest of each byte first.
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

    /// Writes the code of a symbol: its first bit is its highest.
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
        // The highest of at least four hexadecimal digits must not be 0.
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

    /// Writes a prefix code of one symbol, which takes no bits.
    fn only(&mut self, symbol: u32, alphabet_bits: u32) {
        self.push(1, 2);
        self.push(0, 2);
        self.push(symbol, alphabet_bits);
    }

    /// Writes 16 MiB of `aaa `: four letters, and a copy of them for all the rest.
    fn repetition(&mut self) {
        const BYTES: u32 = 1 << 24;
        self.block(1 << 24);
        self.push(0, 1);
        // One type of blocks of each kind, no postfix, no direct distances.
        self.push(0, 3);
        self.push(0, 6);
        // One context mode, and one code of each kind.
        self.push(0, 2);
        self.push(0, 2);
        // Two literals of one bit.
        self.push(1, 2);
        self.push(1, 2);
        self.push(u32::from(b' '), 8);
        self.push(u32::from(b'a'), 8);
        // Insert four, copy a length with 24 extra bits, from an explicit distance.
        self.only(384 + (4 << 3) + 7, 10);
        // The last distance, which is four at the beginning of a stream. With large windows, the
        // alphabet of distances has 140 symbols.
        self.only(0, 8);
        self.push(BYTES - 4 - 2118, 24);
        self.push(0b0111, 4);
    }

    /// Writes a block of four letters with as many and as large prefix codes as there can be.
    fn many_codes(&mut self) {
        self.block(4);
        self.push(0, 1);
        for _ in 0..3 {
            // 256 types of blocks, of which only the first is used.
            self.push_256();
            self.only(0, 9);
            self.only(25, 5);
            self.push(0, 24);
        }
        // The largest alphabet of distances: a postfix of 3 bits and 15 << 3 direct ones.
        self.push(3, 2);
        self.push(15, 4);
        for _ in 0..256 {
            self.push(0, 2);
        }
        for _ in 0..2 {
            // 256 codes; a context map without runs, whose entries take no bits, not transformed.
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
        // Insert four, copy two; the block is full before it comes to the copy.
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

    /// Writes a prefix code in which so many symbols after each other have codes of so many bits.
    fn prefix_code(&mut self, runs: &[(usize, u8)]) {
        const ORDER: [u8; 18] = [1, 2, 3, 4, 0, 5, 17, 6, 16, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let space: usize = runs.iter().map(|(symbols, bits)| symbols << (15 - bits)).sum();
        assert_eq!(space, 1 << 15, "an incomplete code: {runs:?}");
        // The code of the lengths: 0 and 1 for two of them; 0, 10 and 11 for three.
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
