//! Decodes bytes of any charset to text, chunk by chunk.

use std::io::Read;

use encoding_rs::{CoderResult, Decoder, Encoding};

use super::Error;
use super::charset::DETECTION_BYTES_MAX;
use super::input::{HEAD_BYTES_MAX, Input, READ_BYTES_MAX};

/// Largest chunk of text decoded at once, in bytes; the rest is decoded in the next call.
const TEXT_BYTES_MAX: usize = 32 * 1024;

/// The largest memory that finding a charset and decoding it take.
pub const CHARSET_BYTES_MAX: usize = 256 * 1024;

// Sum of the start of the document (a growing vector: old + new <= 3 x HEAD_BYTES_MAX), the bytes
// read after it, their text, and the state of detector and decoder.
const _: () = assert!(
    3 * HEAD_BYTES_MAX
        + READ_BYTES_MAX
        + TEXT_BYTES_MAX
        + DETECTION_BYTES_MAX
        + size_of::<Decoder>()
        <= CHARSET_BYTES_MAX
);

/// The text of a document; invalid bytes become U+FFFD.
pub(super) struct TextReader<'w, R> {
    input: Input<'w, R>,
    decoder: Decoder,
    /// Bytes that were read before the charset was known.
    pending: Vec<u8>,
    /// How much of `pending` has been decoded.
    position: usize,
    text: String,
    is_finished: bool,
}

impl<'w, R: Read> TextReader<'w, R> {
    /// Continues `input` after `head`, which is without byte order mark.
    pub(super) fn new(input: Input<'w, R>, head: Vec<u8>, encoding: &'static Encoding) -> Self {
        Self {
            input,
            decoder: encoding.new_decoder_without_bom_handling(),
            pending: head,
            position: 0,
            text: String::with_capacity(TEXT_BYTES_MAX),
            is_finished: false,
        }
    }

    /// Returns the next chunk of text, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<&str>, Error> {
        self.text.clear();
        while self.text.is_empty() && !self.is_finished {
            if self.position >= self.pending.len() {
                self.pending.clear();
                self.position = 0;
                let chunk = self.input.read()?;
                self.pending.extend_from_slice(chunk);
            }
            let is_last = self.input.has_ended();
            let rest = self.pending.get(self.position..).unwrap_or_default();
            let (result, length, _) = self.decoder.decode_to_string(rest, &mut self.text, is_last);
            self.position = self.position.saturating_add(length);
            self.is_finished = is_last && result == CoderResult::InputEmpty;
        }
        Ok(Some(self.text.as_str()).filter(|text| !text.is_empty()))
    }

    pub(super) fn into_input(self) -> Input<'w, R> {
        self.input
    }
}
