//! Bytes of any charset to text, as a stream.

use std::io::Read;

use encoding_rs::{CoderResult, Decoder, Encoding};

use super::Error;
use super::charset::FIND_BYTES_MAX;
use super::input::{HEAD_BYTES_MAX, Input, READ_BYTES_MAX};

/// Largest piece of text decoded at once, in bytes; the rest is decoded in the next call.
const TEXT_BYTES_MAX: usize = 32 * 1024;

/// The largest memory that finding a charset and decoding it take.
pub const CHARSET_BYTES_MAX: usize = 256 * 1024;

// Sum of the start of the document (a growing vector: old + new <= 3 x HEAD_BYTES_MAX), the bytes
// read after it, their text, and the state of detector and decoder.
const _: () = assert!(
    3 * HEAD_BYTES_MAX + READ_BYTES_MAX + TEXT_BYTES_MAX + FIND_BYTES_MAX + size_of::<Decoder>()
        <= CHARSET_BYTES_MAX
);

/// The text of a document; invalid bytes become U+FFFD.
pub(super) struct TextReader<'w, R> {
    input: Input<'w, R>,
    decoder: Decoder,
    /// Bytes that were read before the charset was known.
    pending: Vec<u8>,
    taken: usize,
    text: String,
    finished: bool,
}

impl<'w, R: Read> TextReader<'w, R> {
    /// Continues `input` after `head`, which is without byte order mark.
    pub(super) fn new(input: Input<'w, R>, head: Vec<u8>, encoding: &'static Encoding) -> Self {
        Self {
            input,
            decoder: encoding.new_decoder_without_bom_handling(),
            pending: head,
            taken: 0,
            text: String::with_capacity(TEXT_BYTES_MAX),
            finished: false,
        }
    }

    /// Returns the next piece of text, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<&str>, Error> {
        self.text.clear();
        while self.text.is_empty() && !self.finished {
            if self.taken >= self.pending.len() {
                self.pending.clear();
                self.taken = 0;
                let chunk = self.input.read()?;
                self.pending.extend_from_slice(chunk);
            }
            let last = self.input.has_ended();
            let rest = self.pending.get(self.taken..).unwrap_or_default();
            let (result, taken, _) = self.decoder.decode_to_string(rest, &mut self.text, last);
            self.taken = self.taken.saturating_add(taken);
            self.finished = last && result == CoderResult::InputEmpty;
        }
        Ok(Some(self.text.as_str()).filter(|text| !text.is_empty()))
    }

    pub(super) fn into_input(self) -> Input<'w, R> {
        self.input
    }
}
