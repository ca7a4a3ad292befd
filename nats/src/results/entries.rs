//! Reads the words of a stored histogram one by one, without parsing the whole histogram.

use bytes::{Buf, BytesMut};

use super::{DecompressedJson, corrupt};
use crate::Error;

/// Maximum size of an entry, in bytes. Words are far shorter, even with every character escaped.
const ENTRY_BYTES_MAX: usize = 64 << 10;

/// The words of a histogram, sorted by descending count.
#[derive(Debug)]
pub struct Entries {
    json: DecompressedJson,
    buffer: BytesMut,
    /// Whether the opening brace of the object has been read.
    has_begun: bool,
}

/// Result of parsing the front of the buffer.
#[derive(Debug, PartialEq, Eq)]
enum Front {
    /// An entry. `bytes` is its length in JSON, including its separator.
    Entry { word: String, count: u64, bytes: usize },
    /// The end of the object.
    End,
    /// An incomplete entry, or nothing. More bytes are needed.
    Incomplete,
}

impl Entries {
    pub(super) fn new(json: DecompressedJson) -> Self {
        Self { json, buffer: BytesMut::new(), has_begun: false }
    }

    /// Returns the next word and its count; `None` after the last one.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Gone`] if the object is removed while it is read, and
    /// [`Error::Corrupt`].
    pub async fn next(&mut self) -> Result<Option<(String, u64)>, Error> {
        loop {
            if self.has_begun {
                match parse_front(&self.buffer).map_err(|reason| self.corrupt(reason))? {
                    Front::Entry { word, count, bytes } => {
                        self.buffer.advance(bytes);
                        return Ok(Some((word, count)));
                    }
                    Front::End => return Ok(None),
                    Front::Incomplete if self.buffer.len() > ENTRY_BYTES_MAX => {
                        return Err(self.corrupt("an entry is too long"));
                    }
                    Front::Incomplete => {}
                }
            } else if let Some(first) = self.buffer.first() {
                if *first != b'{' {
                    return Err(self.corrupt("it is not a JSON object"));
                }
                self.buffer.advance(1);
                self.has_begun = true;
                continue;
            }
            match self.json.next().await? {
                Some(piece) => self.buffer.extend_from_slice(&piece),
                None => return Err(self.corrupt("it is truncated")),
            }
        }
    }

    fn corrupt(&self, reason: &str) -> Error {
        corrupt(&self.json.compressed.name, reason)
    }
}

/// Parses the entry at the front: `"word":count` and its separator. Only handles the JSON that this
/// crate writes, without white space.
fn parse_front(bytes: &[u8]) -> Result<Front, &'static str> {
    match bytes.first() {
        None => return Ok(Front::Incomplete),
        Some(b'}') => return Ok(Front::End),
        Some(b'"') => {}
        Some(_) => return Err("expected a word"),
    }
    let Some(end) = end_of_string(bytes) else {
        return Ok(Front::Incomplete);
    };
    let (word, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    // `rest` begins with the colon.
    let digits = rest.iter().skip(1).take_while(|byte| byte.is_ascii_digit()).count();
    let separator = match (rest.first(), rest.get(digits + 1)) {
        (Some(b':'), Some(separator @ (b',' | b'}'))) => *separator,
        (None | Some(b':'), None) => return Ok(Front::Incomplete),
        _ => return Err("expected a count"),
    };
    let count = rest.get(1..=digits).and_then(|digits| serde_json::from_slice(digits).ok());
    let word = serde_json::from_slice(word).ok();
    let (Some(word), Some(count)) = (word, count) else {
        return Err("an entry is invalid");
    };
    // A closing brace stays in the buffer, and is the next front.
    let bytes = end + 1 + digits + usize::from(separator == b',');
    Ok(Front::Entry { word, count, bytes })
}

/// Returns the end of the string at the front, after its closing quotation mark.
fn end_of_string(bytes: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    for (at, byte) in bytes.iter().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use wordmill_common::histogram::Histogram;

    use super::*;

    #[test]
    fn entries_are_parsed_at_every_cut_of_the_json() {
        let words = [("mill", 12), ("l’été", 3), ("a\"b\\", 2), ("\u{1}", 2), ("水", 1)];
        let histogram: Histogram = words.into_iter().collect();
        let json = serde_json::to_vec(&histogram).unwrap();
        let mut rest = &json[1..];
        let mut entries = Vec::new();
        while let Front::Entry { word, count, bytes } = parse_front(rest).unwrap() {
            for cut in 0..bytes {
                assert_eq!(parse_front(&rest[..cut]), Ok(Front::Incomplete), "{word} at {cut}");
            }
            entries.push((word, count));
            rest = &rest[bytes..];
        }
        assert_eq!(parse_front(rest), Ok(Front::End));
        assert_eq!(entries.into_iter().collect::<Histogram>(), histogram);
    }

    #[test]
    fn invalid_entries_are_refused() {
        for bad in ["1", "x", "\"a\"1", "\"a\":x", "\"a\":-1,", "\"a\":,", "\"a\":1;", "\"\\x\":1,"]
        {
            assert!(parse_front(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
