//! Reads the bytes of a document, hashes them, and reports the progress.

use std::io::{ErrorKind, Read};

use sha2::{Digest, Sha256};

use super::Error;

/// Maximum length of the head, from which the format and, if it can, the charset is decided, in
/// bytes.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Maximum length of one read, in bytes. `on_progress` is called after each read.
pub(super) const READ_BYTES_MAX: usize = 16 * 1024;

/// Reads a document once, from start to end.
pub(super) struct Input<'w, R> {
    reader: R,
    on_progress: &'w dyn Fn(u64) -> bool,
    hasher: Sha256,
    size_bytes: u64,
    buffer: Vec<u8>,
    has_ended: bool,
}

impl<'w, R: Read> Input<'w, R> {
    pub(super) fn new(reader: R, on_progress: &'w dyn Fn(u64) -> bool) -> Self {
        Self {
            reader,
            on_progress,
            hasher: Sha256::new(),
            size_bytes: 0,
            buffer: vec![0; READ_BYTES_MAX],
            has_ended: false,
        }
    }

    /// Reads the first [`HEAD_BYTES_MAX`] bytes, or the whole document if it is shorter.
    pub(super) fn read_head(&mut self) -> Result<Vec<u8>, Error> {
        let mut head = Vec::new();
        loop {
            let bytes_max = HEAD_BYTES_MAX.saturating_sub(head.len());
            if self.read_into(&mut head, bytes_max)? == 0 {
                return Ok(head);
            }
        }
    }

    /// Reads a chunk of at most `bytes_max` bytes and appends it to `bytes`. Returns its length,
    /// which is 0 at the end of the document.
    ///
    /// The capacity of `bytes` doubles, as usual, but not beyond [`HEAD_BYTES_MAX`].
    pub(super) fn read_into(
        &mut self,
        bytes: &mut Vec<u8>,
        bytes_max: usize,
    ) -> Result<usize, Error> {
        let chunk = self.read_up_to(bytes_max)?;
        let length = bytes.len().saturating_add(chunk.len());
        if length > bytes.capacity() {
            let capacity = bytes.capacity().saturating_mul(2).min(HEAD_BYTES_MAX).max(length);
            bytes.reserve_exact(capacity.saturating_sub(bytes.len()));
        }
        bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    /// Returns whether the end of the document was reached.
    pub(super) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns the number of bytes that were read, and their SHA-256 in hexadecimal.
    pub(super) fn finish(self) -> (u64, String) {
        let mut hex = String::with_capacity(64);
        for byte in self.hasher.finalize() {
            for digit in [byte >> 4, byte & 15] {
                hex.extend(char::from_digit(u32::from(digit), 16));
            }
        }
        (self.size_bytes, hex)
    }

    fn read_up_to(&mut self, bytes_max: usize) -> Result<&[u8], Error> {
        if self.has_ended || bytes_max == 0 {
            return Ok(&[]);
        }
        let bytes_max = bytes_max.min(self.buffer.len());
        let buffer = self.buffer.get_mut(..bytes_max).unwrap_or_default();
        let length = read_uninterrupted(&mut self.reader, buffer)?;
        self.has_ended = length == 0;
        let chunk = buffer.get(..length).unwrap_or_default();
        self.hasher.update(chunk);
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        self.size_bytes = self.size_bytes.saturating_add(length);
        if !(self.on_progress)(self.size_bytes) {
            return Err(Error::Interrupted);
        }
        Ok(chunk)
    }
}

/// Reads from `reader`, and retries if a signal interrupts the read.
fn read_uninterrupted(reader: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Error> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result.map_err(Error::Read),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reader that returns chunks of one size, without end.
    struct EndlessReader(usize);

    impl Read for EndlessReader {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            Ok(self.0.min(buffer.len()))
        }
    }

    #[test]
    fn the_memory_of_the_head_does_not_depend_on_chunks() {
        for size in [1, 1000, 5000, 16_000, READ_BYTES_MAX] {
            let head = Input::new(EndlessReader(size), &|_| true).read_head().unwrap();
            assert_eq!((head.len(), head.capacity()), (HEAD_BYTES_MAX, HEAD_BYTES_MAX), "{size}");
        }
    }
}
