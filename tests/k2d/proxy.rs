//! A proxy in front of an engine, by which a test has an engine that is away, slow, or refuses what it is asked.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the listener looks whether it is to end.
const LOOK: Duration = Duration::from_millis(5);
/// How long the rest of a request may take that is refused.
const REST: Duration = Duration::from_secs(5);

/// What becomes of requests.
#[derive(Default)]
struct Faults {
    /// Each takes longer by this.
    delay: Duration,
    /// Those with these words in their first line are answered with 500 and this message.
    refused: Option<(&'static str, &'static str)>,
    /// The next one with these words reaches the engine, and its answer reaches nobody.
    unanswered: Option<&'static str>,
}

struct Shared {
    engine: String,
    faults: Mutex<Faults>,
    /// The connections that there are.
    open: Mutex<Vec<TcpStream>>,
}

/// A proxy. It ends with this.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Proxy {
    /// Starts one that changes nothing, in front of the engine of this address (`tcp://…`).
    pub fn start(engine: &str, port: u16) -> Self {
        let engine = engine.strip_prefix("tcp://").expect("an engine at tcp://").to_owned();
        let shared = Shared { engine, faults: Mutex::default(), open: Mutex::default() };
        let mut proxy = Self { port, shared: Arc::new(shared), listener: None };
        proxy.back();
        proxy
    }

    /// The address of the engine, as it is reached through this.
    pub fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// From now on nobody listens, and what was connected is not any more.
    pub fn away(&mut self) {
        if let Some((stop, thread)) = self.listener.take() {
            stop.store(true, Ordering::Relaxed);
            thread.join().unwrap();
        }
        for stream in self.shared.open.lock().unwrap().drain(..) {
            // The other side may have ended it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// The engine is there again.
    pub fn back(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (self.shared.clone(), stop.clone());
        let thread = std::thread::spawn(move || accept(&listener, &shared, &stopped));
        self.listener = Some((stop, thread));
    }

    /// From now on each request takes longer by this.
    pub fn slow(&self, delay: Duration) {
        self.shared.faults.lock().unwrap().delay = delay;
    }

    /// From now on requests with these words in their first line are refused with 500 and this message.
    pub fn refuse(&self, words: &'static str, message: &'static str) {
        self.shared.faults.lock().unwrap().refused = Some((words, message));
    }

    /// The engine does the next request with these words in its first line, and its answer is lost.
    pub fn lose_answer(&self, words: &'static str) {
        self.shared.faults.lock().unwrap().unanswered = Some(words);
    }

    /// From now on it changes nothing.
    pub fn heal(&self) {
        *self.shared.faults.lock().unwrap() = Faults::default();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.away();
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => {
                let shared = shared.clone();
                // A connection that is cut is what this is for.
                std::thread::spawn(move || drop(serve(client, &shared)));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(LOOK),
            Err(error) => panic!("the proxy cannot accept: {error}"),
        }
    }
}

fn serve(mut client: TcpStream, shared: &Shared) -> Result<()> {
    client.set_nonblocking(false)?;
    let head = head(&mut client)?;
    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
    let (delay, refused, is_lost) = {
        let mut faults = shared.faults.lock().unwrap();
        let is_lost = faults.unanswered.is_some_and(|words| line.contains(words));
        if is_lost {
            faults.unanswered = None;
        }
        (faults.delay, faults.refused.filter(|(words, _)| line.contains(words)), is_lost)
    };
    std::thread::sleep(delay);
    if let Some((_, message)) = refused {
        return refuse(client, message);
    }
    let mut engine = TcpStream::connect(&shared.engine)?;
    engine.write_all(&head)?;
    shared.open.lock().unwrap().extend([client.try_clone()?, engine.try_clone()?]);
    let (mut from_client, mut to_engine) = (client.try_clone()?, engine.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_engine);
        let _ = to_engine.shutdown(Shutdown::Write);
    });
    if is_lost {
        // The engine has done it when it answers.
        engine.read_exact(&mut [0])?;
        return client.shutdown(Shutdown::Both);
    }
    let copied = std::io::copy(&mut engine, &mut client).map(drop);
    let _ = client.shutdown(Shutdown::Write);
    copied
}

/// Reads to the end of the head of a request, and what has come behind it.
fn head(client: &mut TcpStream) -> Result<Vec<u8>> {
    let (mut head, mut part) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = client.read(&mut part)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&part[..read]);
    }
    Ok(head)
}

/// Answers as an engine does that cannot do it.
fn refuse(mut client: TcpStream, message: &str) -> Result<()> {
    let body = format!("{{\"message\":\"{message}\"}}");
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )?;
    client.shutdown(Shutdown::Write)?;
    // Closed with a part of the request unread, the answer could be lost.
    client.set_read_timeout(Some(REST))?;
    std::io::copy(&mut client, &mut std::io::sink()).map(drop)
}
