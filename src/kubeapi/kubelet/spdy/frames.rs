//! The frames of SPDY/3.1 that Kubernetes' clients use, and its header blocks: zlib with a dictionary
//! that both sides know (SPDY protocol draft 3.1, 2.2 and 2.6.10.1).

use std::collections::BTreeMap;

use axum::body::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Names and values of a stream.
pub type Headers = BTreeMap<String, String>;

/// A frame that a client sends.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins: its number and its compressed headers; the client may have nothing to send.
    Open { id: u32, block: Bytes, last: bool },
    /// Bytes of a stream, which may be its last.
    Data { id: u32, bytes: Bytes, last: bool },
    /// Compressed headers that change nothing, but must be read for those after them.
    Headers { block: Bytes },
    /// A stream is given up.
    Reset { id: u32 },
    /// Wants to be sent back.
    Ping { id: [u8; 4] },
    /// Flow control, settings, goodbyes.
    Other,
}

const VERSION: u16 = 0x8003;
const FIN: u8 = 1;
const HEAD: usize = 8;
/// Longer headers are an attack.
const LONGEST_BLOCK: usize = 64 * 1024;
/// The frame type of a reply to a new stream.
const REPLY: u16 = 2;
const PING: u16 = 6;

/// Takes the next frame off a buffer; `None` if it is not complete.
pub fn next(buffer: &mut Vec<u8>) -> Option<Frame> {
    let head = buffer.first_chunk::<HEAD>()?;
    let [a, b, c, d, flags, x, y, z] = *head;
    let length = u32::from_be_bytes([0, x, y, z]) as usize;
    if buffer.len() < HEAD + length {
        return None;
    }
    let body = Bytes::copy_from_slice(buffer.get(HEAD..HEAD + length)?);
    buffer.drain(..HEAD + length);
    let last = flags & FIN != 0;
    if a & 0x80 == 0 {
        return Some(Frame::Data { id: u32::from_be_bytes([a, b, c, d]), bytes: body, last });
    }
    let id = body.first_chunk::<4>().map_or(0, |id| u32::from_be_bytes(*id) & 0x7fff_ffff);
    let after = |offset: usize| body.slice(offset.min(body.len())..);
    Some(match u16::from_be_bytes([c, d]) {
        1 => Frame::Open { id, block: after(10), last },
        3 => Frame::Reset { id },
        PING => Frame::Ping { id: body.first_chunk::<4>().copied().unwrap_or_default() },
        8 => Frame::Headers { block: after(4) },
        _ => Frame::Other,
    })
}

/// A frame of data.
pub fn data(id: u32, bytes: &[u8], last: bool) -> Bytes {
    let mut frame = id.to_be_bytes().to_vec();
    frame.extend(sized(if last { FIN } else { 0 }, bytes.len()));
    frame.extend_from_slice(bytes);
    frame.into()
}

/// The answer to a ping.
pub fn pong(id: [u8; 4]) -> Bytes {
    control(PING, &id)
}

/// The answer to a new stream, with a header block.
pub fn reply(id: u32, block: &[u8]) -> Bytes {
    let mut body = id.to_be_bytes().to_vec();
    body.extend_from_slice(block);
    control(REPLY, &body)
}

fn control(kind: u16, body: &[u8]) -> Bytes {
    let mut frame = VERSION.to_be_bytes().to_vec();
    frame.extend(kind.to_be_bytes());
    frame.extend(sized(0, body.len()));
    frame.extend_from_slice(body);
    frame.into()
}

/// Flags and a length of 24 bits.
fn sized(flags: u8, length: usize) -> [u8; 4] {
    let [_, x, y, z] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flags, x, y, z]
}

/// Reads and writes header blocks; each is compressed with what all before it have left.
pub struct Blocks {
    reader: Decompress,
    writer: Compress,
}

impl Blocks {
    /// For a new connection.
    pub fn new() -> Option<Self> {
        let mut writer = Compress::new(Compression::default(), true);
        writer.set_dictionary(&dictionary()).ok()?;
        Some(Self { reader: Decompress::new(true), writer })
    }

    /// The headers of a block; `None` if it makes no sense.
    pub fn read(&mut self, block: &[u8]) -> Option<Headers> {
        let mut plain = Vec::with_capacity(LONGEST_BLOCK);
        let mut rest = block;
        while !rest.is_empty() {
            let before = self.reader.total_in();
            let result = self.reader.decompress_vec(rest, &mut plain, FlushDecompress::Sync);
            let taken = usize::try_from(self.reader.total_in() - before).ok()?;
            rest = rest.get(taken..)?;
            match result {
                Ok(Status::Ok) if taken > 0 && plain.len() < LONGEST_BLOCK => {}
                Ok(_) => break,
                Err(error) if error.needs_dictionary().is_some() => {
                    self.reader.set_dictionary(&dictionary()).ok()?;
                }
                Err(_) => return None,
            }
        }
        headers(&plain)
    }

    /// A block without headers.
    pub fn none(&mut self) -> Option<Vec<u8>> {
        let mut block = Vec::with_capacity(64);
        self.writer.compress_vec(&0_u32.to_be_bytes(), &mut block, FlushCompress::Sync).ok()?;
        Some(block)
    }
}

fn headers(plain: &[u8]) -> Option<Headers> {
    let mut rest = plain;
    let count = number(&mut rest)?;
    (0..count).map(|_| Some((text(&mut rest)?, text(&mut rest)?))).collect()
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

/// The dictionary of SPDY/3: words with their lengths, then text.
fn dictionary() -> Vec<u8> {
    let mut all = Vec::with_capacity(1423);
    for word in WORDS.split('\n') {
        all.extend(u32::try_from(word.len()).unwrap_or_default().to_be_bytes());
        all.extend_from_slice(word.as_bytes());
    }
    all.extend_from_slice(TEXT.as_bytes());
    all
}

const WORDS: &str = "options\nhead\npost\nput\ndelete\ntrace\naccept\naccept-charset\naccept-encoding\n\
accept-language\naccept-ranges\nage\nallow\nauthorization\ncache-control\nconnection\ncontent-base\n\
content-encoding\ncontent-language\ncontent-length\ncontent-location\ncontent-md5\ncontent-range\n\
content-type\ndate\netag\nexpect\nexpires\nfrom\nhost\nif-match\nif-modified-since\nif-none-match\n\
if-range\nif-unmodified-since\nlast-modified\nlocation\nmax-forwards\npragma\nproxy-authenticate\n\
proxy-authorization\nrange\nreferer\nretry-after\nserver\nte\ntrailer\ntransfer-encoding\nupgrade\n\
user-agent\nvary\nvia\nwarning\nwww-authenticate\nmethod\nget\nstatus\n200 OK\nversion\nHTTP/1.1\nurl\n\
public\nset-cookie\nkeep-alive\norigin";

const TEXT: &str = "1001012012022052063003023033043053063074024054064074084094104114124134144154164175025\
04505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized\
403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar \
Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,\
image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,public\
privatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_that_of_the_protocol() {
        let (mut a, mut b) = (1_u32, 0_u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((dictionary().len(), b << 16 | a), (1423, 0xe3c6_a7c2));
    }

    #[test]
    fn header_blocks_are_read_one_after_the_other() {
        let mut client = Compress::new(Compression::default(), true);
        client.set_dictionary(&dictionary()).unwrap();
        let mut blocks = Blocks::new().unwrap();
        for port in ["80", "8080"] {
            let mut plain = 2_u32.to_be_bytes().to_vec();
            for word in ["streamtype", "data", "port", port] {
                plain.extend(u32::try_from(word.len()).unwrap().to_be_bytes());
                plain.extend(word.as_bytes());
            }
            let mut block = Vec::with_capacity(256);
            client.compress_vec(&plain, &mut block, FlushCompress::Sync).unwrap();
            let wanted = [("port", port), ("streamtype", "data")];
            let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(blocks.read(&block), Some(Headers::from(wanted)));
        }
        assert_eq!(blocks.read(b"nonsense"), None);
    }

    #[test]
    fn frames_are_taken_when_they_are_complete() {
        let mut buffer = data(3, b"abc", true).to_vec();
        let whole = buffer.split_off(5);
        assert_eq!(next(&mut buffer), None);
        buffer.extend(whole);
        buffer.extend(pong([0, 0, 0, 7]));
        assert_eq!(
            next(&mut buffer),
            Some(Frame::Data { id: 3, bytes: Bytes::from_static(b"abc"), last: true })
        );
        assert_eq!(next(&mut buffer), Some(Frame::Ping { id: [0, 0, 0, 7] }));
        assert!(buffer.is_empty());
    }
}
