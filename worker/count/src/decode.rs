//! Decodes the bytes of a document to text, chunk by chunk.

use std::{borrow::Cow, io::Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

use super::{
    Error, Hints,
    charset::{CHARSET_DECISION_BYTES_MAX, Charset, CharsetContradiction, CharsetDecision},
    format::Format,
    input::{HEAD_BYTES_MAX, Input, READ_BYTES_MAX},
};

/// Maximum length of the bytes from which a charset is detected, in bytes.
const UNDECIDED_BYTES_MAX: usize = HEAD_BYTES_MAX;

/// Maximum length of one chunk of decoded text, in bytes. The next call decodes the rest.
const TEXT_BYTES_MAX: usize = 32 * 1024;

/// Maximum memory for the detection of a charset and for decoding, in bytes.
pub const CHARSET_BYTES_MAX: usize = 256 * 1024;

// The head and later the undecided bytes (a growing vector: old + new <= 2 x HEAD_BYTES_MAX), the
// bytes of the next read, their text, and the state of the decision and of the decoder.
const _: () = assert!(
    2 * HEAD_BYTES_MAX
        + READ_BYTES_MAX
        + TEXT_BYTES_MAX
        + CHARSET_DECISION_BYTES_MAX
        + size_of::<Decoder>()
        <= CHARSET_BYTES_MAX
);

/// Text of a document. Invalid bytes become U+FFFD.
pub(super) struct TextReader<'w, R> {
    input: Input<'w, R>,
    decision: CharsetDecision,
    /// Decoder of all bytes from the decision on.
    decoder: Option<Decoder>,
    /// Bytes to decode: first the head, then one read at a time, or the undecided bytes.
    pending: Vec<u8>,
    /// Number of bytes of `pending` that are decoded.
    position: usize,
    /// Offset of `pending` in the document, in bytes.
    offset: u64,
    text: String,
    /// Whether the text lacks a U+FFFD for which there was no space.
    has_pending_replacement: bool,
    /// Whether there was a byte whose text depends on the charset.
    has_charset_dependent_bytes: bool,
    invalid: InvalidBytes,
    is_finished: bool,
}

/// Bytes that are invalid in the charset of the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct InvalidBytes {
    /// Number of sequences, each of which becomes one U+FFFD.
    pub(super) count: u64,
    /// Offset of the first one in the document, in bytes.
    pub(super) first_offset: u64,
}

/// The bytes of a document, and how they were decoded.
pub(super) struct DecodedSource {
    pub(super) charset: Charset,
    pub(super) contradiction: Option<CharsetContradiction>,
    pub(super) invalid: InvalidBytes,
    pub(super) size_bytes: u64,
    pub(super) sha256: String,
}

impl<'w, R: Read> TextReader<'w, R> {
    /// Creates a reader of `head` and the rest of `input`.
    pub(super) fn new(
        input: Input<'w, R>,
        head: Vec<u8>,
        format: Format,
        hints: &Hints<'_>,
    ) -> Self {
        let decision = CharsetDecision::new(&head, input.has_ended(), format, hints);
        let bom_bytes = Encoding::for_bom(&head).map_or(0, |(_, length)| length);
        let mut reader = Self {
            input,
            decision,
            decoder: None,
            pending: head,
            position: bom_bytes,
            offset: 0,
            text: String::with_capacity(TEXT_BYTES_MAX),
            has_pending_replacement: false,
            has_charset_dependent_bytes: false,
            invalid: InvalidBytes::default(),
            is_finished: false,
        };
        reader.start_decoder();
        reader
    }

    /// Returns the next chunk of text, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<&str>, Error> {
        self.text.clear();
        if self.decoder.is_none() {
            let start = self.read_ascii()?;
            if start < self.position {
                let plain = self.pending.get(start..self.position).unwrap_or_default();
                return Ok(Some(ascii_text(plain)));
            }
        }
        self.decode()?;
        Ok(Some(self.text.as_str()).filter(|text| !text.is_empty()))
    }

    /// Ends the document, and returns how its bytes were decoded.
    pub(super) fn finish(self) -> DecodedSource {
        let (size_bytes, sha256) = self.input.finish();
        DecodedSource {
            charset: self.decision.charset().unwrap_or(Charset::DEFAULT),
            contradiction: self
                .decision
                .contradiction()
                .filter(|_| self.has_charset_dependent_bytes),
            invalid: self.invalid,
            size_bytes,
            sha256,
        }
    }

    /// Moves the position past bytes that are the same text in every charset, and returns their
    /// start in `pending`. If there are none, the charset is decided.
    fn read_ascii(&mut self) -> Result<usize, Error> {
        loop {
            if self.position >= self.pending.len() {
                self.read_pending()?;
            }
            let start = self.position;
            let rest = self.pending.get(start..).unwrap_or_default();
            let length = self.decision.ascii_length(rest);
            if length > 0 {
                self.decision.add_ascii(rest.get(..length).unwrap_or_default());
                self.position = start.saturating_add(length);
                return Ok(start);
            }
            if rest.is_empty() {
                self.decision.decide_at_end();
            } else {
                self.read_undecided()?;
                self.decision.decide(&self.pending, self.input.has_ended());
                self.has_charset_dependent_bytes = self.decision.charset().is_some();
            }
            if self.start_decoder() {
                return Ok(self.position);
            }
        }
    }

    /// Starts the decoder if the charset is decided. Returns whether it is.
    fn start_decoder(&mut self) -> bool {
        let charset = self.decision.charset();
        self.decoder = charset.map(|charset| charset.encoding.new_decoder_without_bom_handling());
        self.decoder.is_some()
    }

    /// Replaces the pending bytes with those of the next read.
    fn read_pending(&mut self) -> Result<(), Error> {
        self.drop_decoded();
        self.input.read_into(&mut self.pending, READ_BYTES_MAX)?;
        self.decision.scan(&self.pending);
        Ok(())
    }

    /// Adds bytes to the pending ones, up to the number from which the charset is detected.
    fn read_undecided(&mut self) -> Result<(), Error> {
        self.drop_decoded();
        loop {
            let start = self.pending.len();
            self.input.read_into(&mut self.pending, UNDECIDED_BYTES_MAX.saturating_sub(start))?;
            let added = self.pending.get(start..).unwrap_or_default();
            if added.is_empty() {
                return Ok(());
            }
            self.decision.scan(added);
        }
    }

    fn drop_decoded(&mut self) {
        let position = self.position.min(self.pending.len());
        self.pending.drain(..position);
        self.offset = self.offset.saturating_add(u64::try_from(position).unwrap_or(u64::MAX));
        self.position = 0;
    }

    /// Decodes bytes until there is some text, or the document has ended.
    fn decode(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.has_pending_replacement) {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        while !self.is_finished {
            if self.position >= self.pending.len() {
                if !self.text.is_empty() {
                    break;
                }
                self.read_pending()?;
            }
            let Some(decoder) = &mut self.decoder else { break };
            let is_last = self.input.has_ended();
            let rest = self.pending.get(self.position..).unwrap_or_default();
            let (result, length) =
                decoder.decode_to_string_without_replacement(rest, &mut self.text, is_last);
            self.position = self.position.saturating_add(length);
            match result {
                DecoderResult::InputEmpty => self.is_finished = is_last,
                // Bytes remain for the next call, even after the last read.
                DecoderResult::OutputFull => break,
                DecoderResult::Malformed(bytes, bytes_after) => {
                    self.add_invalid(usize::from(bytes).saturating_add(bytes_after.into()));
                }
            }
        }
        // If the start of the document decided, all of its declarations are known by now.
        if !self.has_charset_dependent_bytes && self.decision.contradiction().is_some() {
            self.has_charset_dependent_bytes = !self.text.is_ascii();
        }
        Ok(())
    }

    /// Records an invalid sequence that starts the given number of bytes before the position, and
    /// adds its replacement to the text.
    fn add_invalid(&mut self, bytes_before: usize) {
        if self.invalid.count == 0 {
            let position = u64::try_from(self.position).unwrap_or(u64::MAX);
            let bytes_before = u64::try_from(bytes_before).unwrap_or(u64::MAX);
            // The sequence can have started in an earlier read.
            let offset = self.offset.saturating_add(position);
            self.invalid.first_offset = offset.saturating_sub(bytes_before);
        }
        self.invalid.count = self.invalid.count.saturating_add(1);
        // The text must not grow beyond its capacity.
        let space = self.text.capacity().saturating_sub(self.text.len());
        if space < char::REPLACEMENT_CHARACTER.len_utf8() {
            self.has_pending_replacement = true;
        } else {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// Returns bytes of ASCII as text.
fn ascii_text(plain: &[u8]) -> &str {
    // Faster than `str::from_utf8`, and never a copy.
    match UTF_8.decode_without_bom_handling_and_without_replacement(plain) {
        Some(Cow::Borrowed(text)) => text,
        Some(Cow::Owned(_)) | None => "",
    }
}
