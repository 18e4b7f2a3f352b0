//! Commands with a deadline: nothing a test runs may hang the suite, and what hung is named.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Long enough for a Pod on a busy machine, short enough to notice a hang.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; 128 and more for a signal.
    pub status: i32,
    /// All of standard output.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output without the last line end, if the command succeeded.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!(self.status, 0, "{self}");
        self.stdout.trim_end().to_owned()
    }

    /// The lines of standard output, if the command succeeded.
    #[track_caller]
    pub fn lines(self) -> Vec<String> {
        self.success().lines().map(str::to_owned).collect()
    }

    /// Standard error, if the command failed with this exit code and all these words.
    #[track_caller]
    pub fn failure(self, status: i32, words: &[&str]) -> String {
        assert_eq!(self.status, status, "{self}");
        for word in words {
            assert!(self.stderr.contains(word), "stderr lacks {word:?}: {self}");
        }
        self.stderr
    }

    /// Both streams, one after the other.
    pub fn both(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}` ended with {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

/// A command in the background whose output is read while it comes.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    command: String,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts `command` with all three streams piped, in a process group of its own.
    #[track_caller]
    pub fn spawn(mut command: Command, words: &str) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run `{words}`: {e}"));
        let (stdout, out) = collect(child.stdout.take().unwrap());
        let (stderr, err) = collect(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Self { child, stdin, command: words.to_owned(), stdout, stderr, readers: vec![out, err] }
    }

    /// Its process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends bytes to its standard input; a command that no longer reads is no failure here.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush());
        }
    }

    /// Ends its standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        text(&self.stdout)
    }

    /// Standard error so far.
    pub fn stderr(&self) -> String {
        text(&self.stderr)
    }

    /// Waits until standard output contains `words`, and gives all of it.
    #[track_caller]
    pub fn wait_for(&self, words: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let stdout = self.stdout();
            if stdout.contains(words) {
                return stdout;
            }
            if Instant::now() > end {
                panic!("`{}` never printed {words:?}\n{stdout}\n{}", self.command, self.stderr());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to it and all it started.
    pub fn signal(&self, signal: &str) {
        signal_group(self.child.id(), signal);
    }

    /// Waits for its end, at most until the deadline.
    #[track_caller]
    pub fn finish(self) -> Output {
        self.finish_within(DEADLINE)
    }

    /// Waits for its end, at most this long; a command that goes on is killed and fails the test.
    #[track_caller]
    pub fn finish_within(mut self, limit: Duration) -> Output {
        let end = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > end {
                self.signal("KILL");
                panic!(
                    "`{}` still ran after {limit:?}\n--- stdout\n{}\n--- stderr\n{}",
                    self.command,
                    self.stdout(),
                    self.stderr()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Output {
            command: self.command.clone(),
            status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: self.stdout(),
            stderr: self.stderr(),
        }
    }

    /// Ends it at once, as a user closes a terminal, and gives what it printed.
    #[track_caller]
    pub fn stop(self) -> Output {
        self.signal("KILL");
        self.finish()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal("KILL");
            let _ = self.child.wait();
        }
    }
}

/// Runs `command` with these bytes as its standard input.
#[track_caller]
pub fn run(command: Command, words: &str, stdin: &[u8], limit: Duration) -> Output {
    let mut running = Running::spawn(command, words);
    let (pipe, bytes) = (running.stdin.take(), stdin.to_vec());
    // A command that never reads must not keep the test past its deadline.
    std::thread::spawn(move || pipe.map(|mut pipe| pipe.write_all(&bytes)));
    running.finish_within(limit)
}

/// Where a program is on the PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Sends a signal to a process group.
pub fn signal_group(group: u32, signal: &str) {
    shell(&format!("kill -{signal} -{group}"));
}

/// Sends a signal to one process.
pub fn signal_process(process: u32, signal: &str) {
    shell(&format!("kill -{signal} {process}"));
}

fn shell(script: &str) {
    let _ = Command::new("sh").args(["-c", script]).stderr(Stdio::null()).status();
}

fn text(bytes: &Arc<Mutex<Vec<u8>>>) -> String {
    String::from_utf8_lossy(&bytes.lock().unwrap()).into_owned()
}

fn collect(stream: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&bytes);
    let reader = std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        while let Ok(chunk) = stream.fill_buf() {
            if chunk.is_empty() {
                break;
            }
            let read = chunk.len();
            sink.lock().unwrap().extend_from_slice(chunk);
            stream.consume(read);
        }
    });
    (bytes, reader)
}
