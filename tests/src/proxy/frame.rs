//! Parses the NATS protocol as far as the rules need it.

use std::io::{self, BufRead};

/// Verbs of operations with a payload.
const WITH_PAYLOAD: [&str; 6] = ["PUB", "HPUB", "MSG", "HMSG", "RMSG", "LMSG"];

/// One operation of the protocol.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Words of the first line. The verb is the first word.
    pub(crate) words: Vec<String>,
    /// All received bytes: the line, and the payload if there is one.
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    /// Reads the next operation, or `None` at the end of the stream.
    pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        if reader.read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&bytes);
        let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        if words.first().is_some_and(|verb| WITH_PAYLOAD.contains(&verb.as_str())) {
            let size = words.last().and_then(|word| word.parse::<usize>().ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            let line_length = bytes.len();
            // The payload is followed by CRLF.
            bytes.resize(line_length + size + 2, 0);
            reader.read_exact(&mut bytes[line_length..])?;
        }
        Ok(Some(Self { words, bytes }))
    }

    /// Returns a word of the line, or an empty string. The verb has index 0.
    pub(crate) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// Returns the reply subject of a publish operation.
    pub(crate) fn reply(&self) -> Option<&str> {
        let with_reply = match self.word(0) {
            "PUB" => 4,
            "HPUB" => 5,
            _ => return None,
        };
        (self.words.len() == with_reply).then(|| self.word(2))
    }

    /// Returns whether the operation contains a text.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let wanted = text.as_bytes();
        wanted.is_empty() || self.bytes.windows(wanted.len()).any(|window| window == wanted)
    }
}
