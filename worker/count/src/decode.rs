//! Decodes the bytes of a document to text, chunk by chunk.

use std::io::Read;

use encoding_rs::{CoderResult, Decoder, Encoding};

use super::Error;
use super::charset::DETECTION_BYTES_MAX;
use super::input::{HEAD_BYTES_MAX, Input, READ_BYTES_MAX};

/// Maximum length of one chunk of decoded text, in bytes. The next call decodes the rest.
const TEXT_BYTES_MAX: usize = 32 * 1024;

/// Maximum memory for the detection of a charset and for decoding, in bytes.
pub const CHARSET_BYTES_MAX: usize = 256 * 1024;

// The head (a growing vector: old + new <= 3 x HEAD_BYTES_MAX), the bytes of the next read, their
// text, and the state of the detector and the decoder.
const _: () = assert!(
    3 * HEAD_BYTES_MAX
        + READ_BYTES_MAX
        + TEXT_BYTES_MAX
        + DETECTION_BYTES_MAX
        + size_of::<Decoder>()
        <= CHARSET_BYTES_MAX
);

/// Text of a document. Invalid bytes become U+FFFD.
pub(super) struct TextReader<'w, R> {
    input: Input<'w, R>,
    decoder: Decoder,
    /// Bytes to decode: first the head, then one read at a time.
    pending: Vec<u8>,
    /// Number of bytes of `pending` that are decoded.
    position: usize,
    text: String,
    is_finished: bool,
}

impl<'w, R: Read> TextReader<'w, R> {
    /// Creates a reader of `head`, without its byte order mark, and the rest of `input`.
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
        // Read again if there is no text yet, because a character is still incomplete.
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
            // `OutputFull` means that bytes remain for the next call, even after the last read.
            self.is_finished = is_last && result == CoderResult::InputEmpty;
        }
        Ok(Some(self.text.as_str()).filter(|text| !text.is_empty()))
    }

    pub(super) fn into_input(self) -> Input<'w, R> {
        self.input
    }
}
