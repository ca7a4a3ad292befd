//! Zstandard frames (RFC 8878) that no encoder produces.

/// Maximum size of the content of a block.
const BLOCK_BYTES: u32 = 128 << 10;
/// Size of a frame that decoders skip. Without it, the body would exceed the maximum compression
/// ratio.
const PADDING_BYTES: usize = 2 << 20;

/// Returns frames for which a decoder needs as much memory as RFC 9659 allows. The windows grow by
/// an eighth or less, up to 8 MiB, and each is filled, so that no earlier buffer can be reused.
pub fn worst() -> Vec<u8> {
    let mut frames = 0x184d_2a50_u32.to_le_bytes().to_vec();
    frames.extend_from_slice(&u32::try_from(PADDING_BYTES).expect("a size").to_le_bytes());
    frames.resize(frames.len() + PADDING_BYTES, 0);
    let windows = (7..13).flat_map(|exponent| (0..8).map(move |eighths| (exponent, eighths)));
    for (exponent, eighths) in windows.chain([(13, 0)]) {
        frame(&mut frames, exponent, eighths);
    }
    frames
}

/// Writes a frame with a window of `8 + eighths` eighths of 2^(10 + `exponent`) bytes. Spaces fill
/// the window, and words follow.
fn frame(frames: &mut Vec<u8>, exponent: u8, eighths: u8) {
    let window = (8 + u32::from(eighths)) << (7 + exponent);
    // Magic number. No checksum, no content size.
    frames.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0x00, exponent << 3 | eighths]);
    for _ in 0..window.div_ceil(BLOCK_BYTES) {
        // A block that repeats one byte.
        let header = BLOCK_BYTES << 3 | 1 << 1;
        frames.extend_from_slice(&header.to_le_bytes()[..3]);
        frames.push(b' ');
    }
    let words = b"abc ".repeat(1 << 12);
    let header = u32::try_from(words.len()).expect("a length") << 3 | 1;
    frames.extend_from_slice(&header.to_le_bytes()[..3]);
    frames.extend_from_slice(&words);
}
