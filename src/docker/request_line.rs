//! Quotes and angle brackets in the line of a request, which the HTTP library refuses and Docker's does
//! not: `curl -g '…/containers/json?filters={"status":["exited"]}'` is what its documentation shows.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes of a line that tell what it is.
const TOLD: usize = 64;
/// Bytes that are read at once.
const BUFFER: usize = 8 * 1024;

/// A connection on which such characters arrive percent-encoded, as long as its requests have no body and
/// turn into nothing else: everything after those is passed on unread.
pub struct RequestLines<I> {
    io: I,
    lines: Lines,
    /// What was read and is to be passed on, and how much of it was.
    ready: Vec<u8>,
    passed: usize,
}

/// Where in a request the next byte is.
#[derive(Default)]
struct Lines {
    place: Place,
    /// The beginning of the current line.
    line: Vec<u8>,
}

#[derive(Default, PartialEq, Eq)]
enum Place {
    #[default]
    Request,
    Headers,
    Anything,
}

impl Lines {
    fn pass(&mut self, bytes: &[u8], on: &mut Vec<u8>) {
        for (at, byte) in bytes.iter().enumerate() {
            if self.place == Place::Anything {
                on.extend_from_slice(bytes.get(at..).unwrap_or_default());
                return;
            }
            match byte {
                b'"' if self.place == Place::Request => on.extend_from_slice(b"%22"),
                b'<' if self.place == Place::Request => on.extend_from_slice(b"%3C"),
                b'>' if self.place == Place::Request => on.extend_from_slice(b"%3E"),
                byte => on.push(*byte),
            }
            match byte {
                b'\n' => self.end(),
                b'\r' => {}
                byte if self.line.len() < TOLD => self.line.push(byte.to_ascii_lowercase()),
                _ => {}
            }
        }
    }

    fn end(&mut self) {
        let line = std::mem::take(&mut self.line);
        let begins = |words: &[&str]| words.iter().any(|word| line.starts_with(word.as_bytes()));
        self.place = match self.place {
            Place::Request if line.is_empty() => Place::Request,
            Place::Request if begins(&["get ", "head ", "delete "]) => Place::Headers,
            Place::Headers if line.is_empty() => Place::Request,
            Place::Headers if !begins(&["content-length:", "transfer-encoding:", "upgrade:"]) => {
                Place::Headers
            }
            _ => Place::Anything,
        };
    }
}

impl<I> RequestLines<I> {
    /// The same connection.
    pub fn new(io: I) -> Self {
        Self { io, lines: Lines::default(), ready: Vec::new(), passed: 0 }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for RequestLines<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        if this.passed == this.ready.len() {
            if this.lines.place == Place::Anything {
                return Pin::new(&mut this.io).poll_read(context, into);
            }
            let mut buffer = [0; BUFFER];
            let mut read = ReadBuf::new(&mut buffer);
            std::task::ready!(Pin::new(&mut this.io).poll_read(context, &mut read))?;
            this.ready.clear();
            this.passed = 0;
            this.lines.pass(read.filled(), &mut this.ready);
        }
        let rest = this.ready.get(this.passed..).unwrap_or_default();
        let count = rest.len().min(into.remaining());
        into.put_slice(rest.get(..count).unwrap_or_default());
        this.passed += count;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for RequestLines<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out, however the bytes come in.
    fn passed(text: &str) -> String {
        let mut whole = Vec::new();
        Lines::default().pass(text.as_bytes(), &mut whole);
        let (mut lines, mut single) = (Lines::default(), Vec::new());
        text.bytes().for_each(|byte| lines.pass(&[byte], &mut single));
        assert_eq!(single, whole);
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn only_lines_of_requests_are_changed_also_of_later_ones() {
        let both = "GET /a?f={\"s\":[\"<x>\"]} HTTP/1.1\r\nX: \"<\"\r\n\r\nDELETE /b?\" HTTP/1.1\r\n\r\n";
        let encoded =
            "GET /a?f={%22s%22:[%22%3Cx%3E%22]} HTTP/1.1\r\nX: \"<\"\r\n\r\nDELETE /b?%22 HTTP/1.1\r\n\r\n";
        assert_eq!(passed(both), encoded);
    }

    #[test]
    fn what_comes_after_a_body_or_an_upgrade_is_passed_on_as_it_is() {
        for begin in [
            "POST /exec/1/start HTTP/1.1\r\n\r\n",
            "GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            "DELETE /c HTTP/1.1\r\ncontent-length: 2\r\n\r\n",
        ] {
            let text = format!("{begin}GET \"input\"\r\n\r\nGET \"\r\n");
            assert_eq!(passed(&text), text);
        }
    }
}
