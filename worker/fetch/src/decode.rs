//! Content encodings of bodies, and their decoders.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{
    BrotliDecoder, DeflateDecoder, GzipDecoder, ZlibDecoder, ZstdDecoder,
};
use async_compression::zstd::DParameter;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use tokio::io::{AsyncBufRead, AsyncRead};

use super::error::DecodeFault;

/// Supported encodings, as the value of the `Accept-Encoding` header.
pub(super) const ACCEPT_ENCODINGS: &str = "gzip, br, zstd, deflate";

/// Maximum zstd window, as a power of two. RFC 9659 allows no larger one for HTTP.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Maximum content of a zstd block, in bytes (RFC 8878).
const ZSTD_BLOCK_BYTES_MAX: usize = 128 << 10;

/// Maximum brotli window, as a power of two. RFC 7932 defines no larger one.
const BROTLI_WINDOW_LOG_MAX: u32 = 24;

/// Memory of the prefix codes of one brotli block, in bytes: 256 codes for each of literals,
/// lengths and distances, each with a table of at most 1,080 entries of 4 bytes.
const BROTLI_CODES_BYTES: usize = 3 * 256 * 1080 * 4;

/// Maximum memory of a gzip or deflate decoder, in bytes: a window of 32 KiB, three tables, and the
/// rest of its state. The name, the comment and the extra field of a gzip header are skipped.
pub const INFLATE_BYTES_MAX: usize = 64 << 10;

/// Maximum memory of a brotli decoder, in bytes.
///
/// The window grows by doubling, so the old and the new one (1.5 windows in total) coexist briefly.
/// The tables of the prefix codes grow by half, and one of the three kinds may exist twice at a
/// time: `(3 * 1.5 + 1) / 3 = 1.83` times their size, so twice is an upper bound. Context maps (17
/// KiB) and the rest of the state are small in comparison. Metadata is skipped.
pub const BROTLI_BYTES_MAX: usize = (3 << (BROTLI_WINDOW_LOG_MAX - 1)) + 2 * BROTLI_CODES_BYTES;

/// Maximum memory of a zstd decoder, in bytes.
///
/// The window with two blocks, one block of input, and the state, which takes at most one block
/// (`ZSTD_estimateDStreamSize` returns 8.47 MiB). The next frame reuses the buffer, or frees it
/// before it allocates another one. Skippable frames are skipped.
pub const ZSTD_BYTES_MAX: usize = (1 << ZSTD_WINDOW_LOG_MAX) + 4 * ZSTD_BLOCK_BYTES_MAX;

/// Low seven bits of the first byte of a brotli stream with a large window. RFC 7932 defines the
/// pattern as invalid; the decoder interprets it as a window of up to 1 GiB.
const BROTLI_LARGE_WINDOW: u8 = 0x11;

/// Maximum number of characters of an unknown encoding's name in a message.
const NAME_CHARS_MAX: usize = 40;

/// Content encoding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentEncoding {
    /// No compression.
    Identity,
    /// Gzip (RFC 1952).
    Gzip,
    /// Brotli (RFC 7932), with windows of at most 16 MiB.
    Brotli,
    /// Zstandard (RFC 8878), with windows of at most 8 MiB.
    Zstd,
    /// `deflate`: the zlib format according to the standard, but some servers send raw deflate.
    Deflate,
}

impl ContentEncoding {
    /// Parses the `Content-Encoding` header.
    ///
    /// # Errors
    /// [`DecodeFault::Unknown`] for an unsupported encoding. [`DecodeFault::Layers`] for more than
    /// one encoding: in practice a decompression bomb.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, DecodeFault> {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let text: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        let layers: Vec<String> = text
            .iter()
            .flat_map(|value| value.split(','))
            .map(|layer| layer.trim().to_ascii_lowercase())
            .filter(|layer| !layer.is_empty() && layer != "identity")
            .collect();
        match layers.as_slice() {
            [] => Ok(Self::Identity),
            [layer] => Self::from_name(layer),
            layers => Err(DecodeFault::Layers { layers: layers.len() }),
        }
    }

    /// Parses the name of an encoding, in lower case.
    ///
    /// # Errors
    /// [`DecodeFault::Unknown`] if the encoding is not supported.
    pub fn from_name(name: &str) -> Result<Self, DecodeFault> {
        match name {
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "br" => Ok(Self::Brotli),
            "zstd" => Ok(Self::Zstd),
            "deflate" => Ok(Self::Deflate),
            other => {
                let name = other.escape_debug().take(NAME_CHARS_MAX).collect();
                Err(DecodeFault::Unknown { name })
            }
        }
    }

    /// Returns the name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        }
    }
}

/// Decoder of a body from any reader.
///
/// A gzip or zstd body may consist of several consecutive members, which form one body.
pub struct Decoder<W>(Codec<W>);

enum Codec<W> {
    Identity(Box<W>),
    Gzip(Box<GzipDecoder<W>>),
    Brotli(Box<BrotliDecoder<W>>),
    Zstd(Box<ZstdDecoder<W>>),
    Zlib(Box<ZlibDecoder<W>>),
    Deflate(Box<DeflateDecoder<W>>),
}

impl<W: AsyncBufRead + Send + Unpin> Decoder<W> {
    /// Creates the decoder of a body that begins with the byte `first`.
    ///
    /// Refuses brotli with a large window, as browsers do. The decoder's library would accept it.
    /// The first byte is sufficient for the check, because a body contains a single brotli stream
    /// without further headers.
    ///
    /// # Errors
    /// [`DecodeFault::LargeWindow`].
    pub fn try_new(encoding: ContentEncoding, first: u8, wire: W) -> Result<Self, DecodeFault> {
        Ok(Self(match encoding {
            ContentEncoding::Identity => Codec::Identity(Box::new(wire)),
            ContentEncoding::Gzip => {
                let mut gzip = GzipDecoder::new(wire);
                gzip.multiple_members(true);
                Codec::Gzip(Box::new(gzip))
            }
            ContentEncoding::Brotli if first & 0x7f == BROTLI_LARGE_WINDOW => {
                return Err(DecodeFault::LargeWindow {
                    window_bytes_max: 1 << BROTLI_WINDOW_LOG_MAX,
                });
            }
            ContentEncoding::Brotli => Codec::Brotli(Box::new(BrotliDecoder::new(wire))),
            ContentEncoding::Zstd => {
                let window = DParameter::window_log_max(ZSTD_WINDOW_LOG_MAX);
                let mut zstd = ZstdDecoder::with_params(wire, &[window]);
                zstd.multiple_members(true);
                Codec::Zstd(Box::new(zstd))
            }
            // The low half of zlib's first byte is 8. In raw deflate this is a stored block with a
            // bit set in the padding, which no encoder writes.
            ContentEncoding::Deflate if first & 0x0f == 8 => {
                Codec::Zlib(Box::new(ZlibDecoder::new(wire)))
            }
            ContentEncoding::Deflate => Codec::Deflate(Box::new(DeflateDecoder::new(wire))),
        }))
    }

    /// Returns the reader of the decompressed data.
    pub fn reader(&mut self) -> &mut (dyn AsyncRead + Send + Unpin) {
        match &mut self.0 {
            Codec::Identity(wire) => wire.as_mut(),
            Codec::Gzip(decoder) => decoder.as_mut(),
            Codec::Brotli(decoder) => decoder.as_mut(),
            Codec::Zstd(decoder) => decoder.as_mut(),
            Codec::Zlib(decoder) => decoder.as_mut(),
            Codec::Deflate(decoder) => decoder.as_mut(),
        }
    }

    /// Returns the reader of the transferred data.
    pub fn wire(&mut self) -> &mut W {
        match &mut self.0 {
            Codec::Identity(wire) => wire,
            Codec::Gzip(decoder) => decoder.get_mut(),
            Codec::Brotli(decoder) => decoder.get_mut(),
            Codec::Zstd(decoder) => decoder.get_mut(),
            Codec::Zlib(decoder) => decoder.get_mut(),
            Codec::Deflate(decoder) => decoder.get_mut(),
        }
    }

    /// Checks whether the body ends where its compressed data ended. Call it after the decoder has
    /// finished: the body is complete only if its end arrives here.
    ///
    /// # Errors
    /// Those of the reader of the transferred data.
    pub fn poll_trailing_data(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<TrailingData>> {
        let rest = ready!(Pin::new(self.wire()).poll_fill_buf(cx))?;
        Poll::Ready(Ok(if rest.is_empty() { TrailingData::Absent } else { TrailingData::Present }))
    }
}

/// Whether a body continues after its compressed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrailingData {
    /// The body ends with its compressed data.
    Absent,
    /// More bytes follow.
    Present,
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn encoding(values: &[&'static str]) -> Result<ContentEncoding, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        ContentEncoding::from_headers(&headers).map_err(|fault| fault.to_string())
    }

    #[test]
    fn one_known_layer_is_accepted() {
        for (values, expected) in [
            (&[][..], ContentEncoding::Identity),
            (&[""], ContentEncoding::Identity),
            (&["identity"], ContentEncoding::Identity),
            (&["gzip"], ContentEncoding::Gzip),
            (&["X-GZIP"], ContentEncoding::Gzip),
            (&["identity, br"], ContentEncoding::Brotli),
            (&[" zstd ,"], ContentEncoding::Zstd),
            (&["identity", "deflate"], ContentEncoding::Deflate),
        ] {
            assert_eq!(encoding(values), Ok(expected), "{values:?}");
        }
    }

    #[test]
    fn unknown_encodings_and_several_layers_are_refused() {
        for (values, expected) in [
            (&["compress"][..], "content encoding \"compress\" is not supported"),
            (&["gzip, gzip"], "the body has 2 content encodings, but only one is supported"),
            (&["br", "gzip", "br"], "the body has 3 content encodings, but only one is supported"),
        ] {
            assert_eq!(encoding(values).unwrap_err(), expected);
        }
    }
}
