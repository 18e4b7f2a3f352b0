//! Docker's frames for output without a terminal: `[stream, 0, 0, 0, length]` and the payload.
//! Written for clients by hijacked streams and logs; the decoder reads them back in tests.

use bytes::{Buf, BufMut, Bytes, BytesMut};

pub use d2k_daemon::pipe::{Channel, Chunk};

const HEADER: usize = 8;

fn number(channel: Channel) -> u8 {
    match channel {
        Channel::Stdout => 1,
        Channel::Stderr => 2,
        Channel::SystemError => 3,
    }
}

/// A chunk as it goes over the wire: framed, or bare for terminals and websockets.
/// Header and payload lie in one buffer, because some clients expect both in one read.
pub fn encode(chunk: Chunk, framed: bool) -> Bytes {
    let Chunk { channel, mut bytes } = chunk;
    if !framed {
        return bytes;
    }
    let mut out = BytesMut::with_capacity(bytes.len() + HEADER);
    while !bytes.is_empty() {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        out.put_slice(&[number(channel), 0, 0, 0]);
        out.put_u32(length);
        out.put(bytes.split_to(bytes.len().min(length as usize)));
    }
    out.freeze()
}

/// Reads frames back, however they were cut on the way.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Takes more bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `None` until more bytes come.
    ///
    /// # Errors
    /// The number of a stream that no output has.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>, u8> {
        let Some([stream, _, _, _, length @ ..]) = self.buffer.first_chunk::<HEADER>().copied() else {
            return Ok(None);
        };
        let channel = match stream {
            1 => Channel::Stdout,
            2 => Channel::Stderr,
            3 => Channel::SystemError,
            other => return Err(other),
        };
        let length = u32::from_be_bytes(length) as usize;
        if self.buffer.len() < HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        Ok(Some(Chunk { channel, bytes: self.buffer.split_to(length).freeze() }))
    }

    /// Bytes that belong to no whole frame yet.
    pub fn rest(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(channel: Channel, text: &'static str) -> Chunk {
        Chunk { channel, bytes: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn a_frame_is_the_stream_three_zeroes_the_length_and_the_bytes() {
        let frame = encode(chunk(Channel::Stderr, "hey"), true);
        assert_eq!(frame.as_ref(), b"\x02\0\0\0\0\0\0\x03hey");
        assert_eq!(encode(chunk(Channel::Stderr, "hey"), false).as_ref(), b"hey");
        assert!(encode(chunk(Channel::Stdout, ""), true).is_empty());
    }

    #[test]
    fn frames_survive_any_cutting() {
        let sent =
            [chunk(Channel::Stdout, "one"), chunk(Channel::Stderr, "two"), chunk(Channel::SystemError, "x")];
        let wire: Vec<u8> = sent.iter().flat_map(|c| encode(c.clone(), true)).collect();
        for size in 1..wire.len() {
            let (mut decoder, mut read) = (Decoder::default(), Vec::new());
            for piece in wire.chunks(size) {
                decoder.push(piece);
                while let Some(chunk) = decoder.next_chunk().unwrap() {
                    read.push(chunk);
                }
            }
            assert_eq!((read.as_slice(), decoder.rest()), (sent.as_slice(), 0));
        }
    }

    #[test]
    fn an_unknown_stream_is_an_error() {
        let mut decoder = Decoder::default();
        decoder.push(b"\x09\0\0\0\0\0\0\0");
        assert_eq!(decoder.next_chunk(), Err(9));
    }
}
