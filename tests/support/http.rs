//! HTTP/1.1 by hand over a TCP stream: for what no client library would send, and to see every byte.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use socket2::Socket;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk marks.
    pub body: Vec<u8>,
}

impl Reply {
    /// The value of a header; the name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text()))
    }

    /// The words of an error, if it has this status.
    #[track_caller]
    pub fn error(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        let message = body["message"].as_str().unwrap_or_else(|| panic!("no message: {body}"));
        assert!(!message.is_empty(), "an empty message");
        message.to_owned()
    }
}

/// A connection that is used by hand: a hijack, half a request, garbage.
pub struct Connection(Socket);

impl Connection {
    /// Connects to d2k.
    pub fn open(port: u16) -> Self {
        Self::over(TcpStream::connect(("127.0.0.1", port)).unwrap().into())
    }

    /// Connects to an engine at a unix socket.
    pub fn unix(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into())
    }

    fn over(stream: Socket) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        Self(stream)
    }

    /// Sends bytes; an end that has closed is no failure here.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let _ = self.0.write_all(bytes.as_ref()).and_then(|()| self.0.flush());
        self
    }

    /// Sends the head of a request that asks for a hijack, with its body if there is one.
    pub fn hijack(&mut self, path: &str, body: &str) -> &mut Self {
        self.send(format!(
            "POST {path} HTTP/1.1\r\nHost: d2k\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// Ends the sending half.
    pub fn half_close(&mut self) -> &mut Self {
        let _ = self.0.shutdown(Shutdown::Write);
        self
    }

    /// Reads until the empty line that ends the head.
    #[track_caller]
    pub fn head(&mut self) -> String {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&head)),
            }
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    /// Reads what has come by the time that something has.
    pub fn part(&mut self) -> Vec<u8> {
        let mut part = vec![0; 64 * 1024];
        let read = self.0.read(&mut part).unwrap_or_else(|e| panic!("nothing comes: {e}"));
        part.truncate(read);
        part
    }

    /// Whether nothing comes for a while.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).unwrap();
        let mut one = [std::mem::MaybeUninit::uninit()];
        let silent = self.0.peek(&mut one).is_err();
        self.0.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        silent
    }

    /// Reads what comes until the other end closes; a reset counts as the end.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut part = [0; 16 * 1024];
        while let Ok(read @ 1..) = self.0.read(&mut part) {
            bytes.extend_from_slice(&part[..read]);
        }
        bytes
    }

    /// Reads until the bytes so far contain `words`.
    #[track_caller]
    pub fn read_until(&mut self, words: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut part = [0; 16 * 1024];
        while !String::from_utf8_lossy(&bytes).contains(words) {
            match self.0.read(&mut part) {
                Ok(read @ 1..) => bytes.extend_from_slice(&part[..read]),
                other => panic!("{other:?} before {words:?}: {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        bytes
    }
}

/// The frames of a multiplexed stream: stream number and payload.
#[track_caller]
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, String)> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        assert!(bytes.len() >= 8 && bytes[1..4] == [0; 3], "no frame: {bytes:?}");
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        assert!(bytes.len() >= 8 + length, "half a frame: {bytes:?}");
        frames.push((bytes[0], String::from_utf8_lossy(&bytes[8..8 + length]).into_owned()));
        bytes = &bytes[8 + length..];
    }
    frames
}

/// Sends a request and reads the answer to its end; `None` if nothing sensible came.
pub fn ask(
    mut stream: TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Reply> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: d2k\r\nConnection: close\r\n");
    for (key, value) in headers {
        request.push_str(&format!("{key}: {value}\r\n"));
    }
    request.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream.write_all(request.as_bytes()).ok()?;
    // A server may refuse a body without reading all of it, and its answer still counts.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let mut part = [0; 64 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut part) {
        bytes.extend_from_slice(&part[..read]);
    }
    parse(&bytes)
}

/// The answer to a plain GET of `http://address/path`.
pub fn get(address: impl ToSocketAddrs, path: &str) -> Option<Reply> {
    let address = address.to_socket_addrs().ok()?.next()?;
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(3)).ok()?;
    ask(stream, "GET", path, &[], b"")
}

/// An answer from the bytes of a whole connection.
pub fn parse(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers.iter().any(|(key, value)| key == "transfer-encoding" && value == "chunked");
    let body = &bytes[end + 4..];
    let body = if chunked { dechunk(body) } else { body.to_vec() };
    Some(Reply { status, headers, body })
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else {
            break;
        };
        let from = end + 2;
        if size == 0 || bytes.len() < from + size {
            break;
        }
        body.extend_from_slice(&bytes[from..from + size]);
        bytes = &bytes[(from + size + 2).min(bytes.len())..];
    }
    body
}
