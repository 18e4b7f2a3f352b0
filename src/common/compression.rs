//! The plain bytes of a stream that may be compressed: gzip, bzip2, xz and zstd are told by their first
//! bytes, whatever headers and names say, as Docker does for the archives and layers that it is given.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

const BUFFER: usize = 256 << 10;
/// Memory for the decoder of an xz stream, in KiB: twice of what `xz -9` asks for.
const XZ_MEMORY: u32 = 128 << 10;
/// How many bytes tell whether a stream is compressed.
pub const LONGEST_MARK: usize = 6;

/// Whether a stream that begins with these bytes, [`LONGEST_MARK`] or more, is compressed.
pub fn is_compressed(first: &[u8]) -> bool {
    Kind::of(first) != Kind::Plain
}

#[derive(PartialEq, Eq)]
enum Kind {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
    Plain,
}

impl Kind {
    fn of(first: &[u8]) -> Self {
        match first {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A reader of the plain bytes of `source`; what is in no known way compressed is passed on as it is.
///
/// # Errors
/// Those of reading the first bytes of `source`. A damaged stream is told by the reader.
pub fn plain<'a>(source: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(BUFFER, source);
    // The first read may bring less than a mark has.
    let mut first = Vec::new();
    while first.len() < LONGEST_MARK {
        let more = source.fill_buf()?;
        let length = more.len().min(LONGEST_MARK - first.len());
        if length == 0 {
            break;
        }
        first.extend_from_slice(more.get(..length).unwrap_or_default());
        source.consume(length);
    }
    let kind = Kind::of(&first);
    let source = io::Cursor::new(first).chain(source);
    Ok(match kind {
        Kind::Gzip => buffered(MultiGzDecoder::new(source)),
        Kind::Bzip2 => buffered(MultiBzDecoder::new(source)),
        Kind::Xz => buffered(XzReader::new_mem_limit(source, true, XZ_MEMORY)),
        Kind::Zstd => buffered(Zstd { source, decoder: FrameDecoder::new(), inside: false }),
        Kind::Plain => Box::new(source),
    })
}

fn buffered<'a>(decoder: impl Read + 'a) -> Box<dyn Read + 'a> {
    Box::new(BufReader::with_capacity(BUFFER, decoder))
}

/// All frames of a zstd stream: layers that can be read in part are made of many, some of which hold
/// no data (RFC 8878, sections 3.1.1 and 3.1.2).
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    /// A frame has begun.
    inside: bool,
}

impl<R: BufRead> Zstd<R> {
    /// Reads the head of the next frame; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        use FrameDecoderError::ReadFrameHeaderError as Head;
        use ReadFrameHeaderError::SkipFrame;
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => {
                    self.inside = true;
                    return Ok(true);
                }
                Err(Head(SkipFrame { length, .. })) => {
                    let wanted = u64::from(length);
                    if io::copy(&mut (&mut self.source).take(wanted), &mut io::sink())? < wanted {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(damaged(&error)),
            }
        }
        Ok(false)
    }

    fn end(&mut self) -> io::Result<()> {
        self.inside = false;
        let told = self.decoder.get_checksum_from_data();
        if told.is_some() && told != self.decoder.get_calculated_checksum() {
            return Err(damaged(&"a checksum does not match"));
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.inside || self.begin()? {
            if !self.decoder.is_finished() && self.decoder.can_collect() < buffer.len() {
                let strategy = BlockDecodingStrategy::UptoBytes(buffer.len());
                self.decoder.decode_blocks(&mut self.source, strategy).map_err(|e| damaged(&e))?;
            }
            let read = self.decoder.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            if self.decoder.is_finished() {
                self.end()?;
            }
        }
        Ok(0)
    }
}

fn damaged(error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("its zstd stream is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test may end by panic")]
    use super::*;

    /// `hello\n`, written by the programs of these names.
    const BZIP2: &str =
        "425a6839314159265359c1c080e2000001410000100244a00030cd00c3462997177245385090c1c080e2";
    const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a301000568656c6c6f0a000000a56097f194f6fde000011e06c12fa41d1fb6f37d010000000004595a";
    const ZSTD: &str = "28b52ffd045831000068656c6c6f0a5388bd91";
    /// A frame without data, of four bytes.
    const SKIPPED: &str = "502a4d1804000000aabbccdd";

    fn read(bytes: &[u8]) -> io::Result<String> {
        // As a network brings it: little by little.
        let (head, tail) = bytes.split_at(bytes.len().min(2));
        let mut text = String::new();
        plain(head.chain(tail))?.read_to_string(&mut text)?;
        Ok(text)
    }

    fn unhex(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    #[test]
    fn every_kind_is_told_by_its_first_bytes() {
        for kind in [BZIP2, XZ, ZSTD] {
            assert_eq!(read(&unhex(kind)).unwrap(), "hello\n");
        }
        assert_eq!(read(b"hello\n").unwrap(), "hello\n");
        assert_eq!(read(b"").unwrap(), "");
        assert_eq!(read(b"BZ").unwrap(), "BZ");
    }

    #[test]
    fn streams_that_follow_one_another_are_one() {
        for kind in [BZIP2, XZ, ZSTD] {
            assert_eq!(read(&unhex(&format!("{kind}{kind}"))).unwrap(), "hello\nhello\n", "{kind}");
        }
        assert_eq!(read(&unhex(&format!("{ZSTD}{SKIPPED}{ZSTD}{SKIPPED}"))).unwrap(), "hello\nhello\n");
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_an_error() {
        for kind in [BZIP2, XZ, ZSTD] {
            let whole = unhex(kind);
            assert!(read(&whole[..whole.len() - 3]).is_err(), "{kind} cut off");
        }
        let mut changed = unhex(ZSTD);
        changed[12] ^= 1;
        assert!(read(&changed).unwrap_err().to_string().contains("checksum"));
        assert!(read(&unhex("28b52ffd04583100")).is_err());
        assert!(read(&unhex(&format!("{ZSTD}502a4d1804000000aa"))).is_err());
    }
}
