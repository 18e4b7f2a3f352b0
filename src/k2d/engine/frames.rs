//! The engine's way to send standard output and error over one connection: frames of a head of eight bytes (which stream,
//! three zeros, the length) and their bytes (Engine API, "Attach to a container", stream format). A terminal has no frames.

use bytes::{Buf, Bytes, BytesMut};

/// Length of a frame's head.
const HEAD: usize = 8;
/// Number of standard error.
const STDERR: u8 = 2;

/// Bytes of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Whether they are of standard error.
    pub stderr: bool,
    /// The bytes.
    pub bytes: Bytes,
}

/// Takes frames out of what comes.
#[derive(Debug)]
pub struct Decoder {
    terminal: bool,
    buffer: BytesMut,
}

impl Decoder {
    /// A decoder for a process with a terminal or without.
    pub fn new(terminal: bool) -> Self {
        Self { terminal, buffer: BytesMut::new() }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if it is whole.
    pub fn next(&mut self) -> Option<Frame> {
        if self.terminal {
            let bytes = self.buffer.split().freeze();
            return (!bytes.is_empty()).then_some(Frame { stderr: false, bytes });
        }
        let (stream, _zeros, length) =
            (self.buffer.first()?, self.buffer.get(1..4)?, self.buffer.get(4..HEAD)?);
        let stderr = *stream == STDERR;
        let length = length.iter().fold(0, |sum: usize, byte| sum << 8 | usize::from(*byte));
        if self.buffer.len() < HEAD + length {
            return None;
        }
        self.buffer.advance(HEAD);
        Some(Frame { stderr, bytes: self.buffer.split_to(length).freeze() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(decoder: &mut Decoder) -> Vec<(bool, Vec<u8>)> {
        std::iter::from_fn(|| decoder.next()).map(|frame| (frame.stderr, frame.bytes.to_vec())).collect()
    }

    #[test]
    fn frames_come_whole_wherever_they_are_cut() {
        let mut text = vec![1, 0, 0, 0, 0, 0, 0, 2, b'h', b'i'];
        text.extend([2, 0, 0, 0, 0, 0, 1, 0]);
        text.extend([b'e'; 256]);
        for length in [1, 3, 9, 300] {
            let (mut decoder, mut seen) = (Decoder::new(false), Vec::new());
            for piece in text.chunks(length) {
                decoder.push(piece);
                seen.extend(all(&mut decoder));
            }
            assert_eq!(seen, [(false, b"hi".to_vec()), (true, vec![b'e'; 256])], "pieces of {length}");
        }
    }

    #[test]
    fn a_terminal_has_no_frames() {
        let mut decoder = Decoder::new(true);
        decoder.push(&[1, 0, 0, 0]);
        assert_eq!(all(&mut decoder), [(false, vec![1, 0, 0, 0])]);
        assert!(all(&mut decoder).is_empty());
    }
}
