//! The daemon's ends of a process's streams: a terminal as a stream of tokio, an output that ends soon
//! after its process although a grandchild holds it, and an input whose shutdown is its end.

use std::future::Future;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

/// How long an output may stay silent once its process has ended.
const SILENCE: Duration = Duration::from_secs(1);
/// How long others may go on writing to it.
const OTHERS: Duration = Duration::from_secs(60);

/// A terminal's master.
#[derive(Debug, Clone)]
pub struct Terminal(Arc<OwnedFd>);

impl Terminal {
    /// Takes the file over.
    pub fn new(file: OwnedFd) -> Result<Self> {
        rustix::io::ioctl_fionbio(&file, true)?;
        Ok(Self(Arc::new(file)))
    }

    /// Tells it its size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let _ = tcsetwinsize(&*self.0, size);
    }

    /// What is shown on it. Tokio's pipes do for every file that is read and written as a pipe is.
    pub fn reader(&self) -> Result<pipe::Receiver> {
        pipe::Receiver::from_owned_fd_unchecked(self.0.try_clone()?)
    }

    /// What is typed.
    pub fn writer(&self) -> Result<pipe::Sender> {
        pipe::Sender::from_owned_fd_unchecked(self.0.try_clone()?)
    }
}

/// What a process says, to the end. Its drop, or the end, is told.
pub struct Output {
    source: Option<pipe::Receiver>,
    /// Comes when the process has ended, with the time of that.
    process: Option<BoxFuture<'static, Instant>>,
    silence: Pin<Box<Sleep>>,
    /// When at the latest, although others go on writing.
    last: Option<Instant>,
    done: Option<oneshot::Sender<()>>,
    /// Nobody listens any more.
    unheard: bool,
}

impl Output {
    /// The output, and what is dropped at its end.
    pub fn new(
        source: pipe::Receiver,
        process: BoxFuture<'static, Instant>,
    ) -> (Self, oneshot::Receiver<()>) {
        let (done, ended) = oneshot::channel();
        let silence = Box::pin(sleep(SILENCE));
        (
            Self {
                source: Some(source),
                process: Some(process),
                silence,
                last: None,
                done: Some(done),
                unheard: false,
            },
            ended,
        )
    }

    fn end(&mut self) -> Poll<Result<()>> {
        self.source = None;
        self.done = None;
        Poll::Ready(Ok(()))
    }

    /// Something has been heard at that time, or the process has ended then.
    fn heard(&mut self, at: Instant) {
        let last = *self.last.get_or_insert(at + OTHERS);
        self.silence.as_mut().reset(last.min(at + SILENCE));
    }
}

impl Drop for Output {
    /// A process must not end because nobody listens to it.
    fn drop(&mut self) {
        if self.unheard {
            return;
        }
        if let (Some(source), Ok(runtime)) = (self.source.take(), Handle::try_current()) {
            let mut rest = Self {
                source: Some(source),
                process: self.process.take(),
                silence: Box::pin(sleep(SILENCE)),
                last: self.last,
                done: self.done.take(),
                unheard: true,
            };
            runtime.spawn(async move {
                let mut nowhere = vec![0; 8 << 10];
                while let Ok(1..) = rest.read(&mut nowhere).await {}
            });
        }
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = match &mut this.source {
            Some(source) => Pin::new(source).poll_read(context, buffer),
            None => return Poll::Ready(Ok(())),
        };
        // So the kernel says that nobody has the other end of a terminal any more.
        let closed = |error: &Error| error.raw_os_error() == Some(Errno::IO.raw_os_error());
        if matches!(&read, Poll::Ready(Err(error)) if closed(error)) {
            return this.end();
        }
        if read.is_ready() {
            if buffer.filled().len() == before || this.last.is_some_and(|last| last <= Instant::now()) {
                buffer.set_filled(before);
                return this.end();
            }
            if this.process.is_none() {
                this.heard(Instant::now());
            }
            return read;
        }
        if let Some(process) = &mut this.process {
            let ended = ready!(process.as_mut().poll(context));
            this.process = None;
            this.heard(ended);
        }
        ready!(this.silence.as_mut().poll(context));
        this.end()
    }
}

/// What a process reads: a pipe that a shutdown closes, or a terminal, which stays as it is.
#[derive(Debug)]
pub struct Input {
    to: Option<pipe::Sender>,
    closes: bool,
}

impl Input {
    /// Takes a pipe over.
    pub fn pipe(pipe: pipe::Sender) -> Self {
        Self { to: Some(pipe), closes: true }
    }

    /// Types on a terminal.
    pub fn terminal(terminal: &Terminal) -> Result<Self> {
        Ok(Self { to: Some(terminal.writer()?), closes: false })
    }
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        match &mut self.to {
            Some(pipe) => Pin::new(pipe).poll_write(context, bytes),
            None => Poll::Ready(Err(Error::from(ErrorKind::BrokenPipe))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        if self.closes {
            self.to = None;
        }
        Poll::Ready(Ok(()))
    }
}
