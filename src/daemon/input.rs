//! Commands that are given input (`docker exec -i`, `cp` into a container). A Kubernetes node drops how a
//! command ended, and what it wrote last, where it is still being sent input then; so the helper stays
//! beside the command, takes all of its input, tells the end behind the standard error, and waits until
//! that was heard.

use futures::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot};

use super::Daemon;
use super::networks::random_id;
use d2k_cluster::{Process, ProcessStatus, Wanted};
use d2k_common::fault::Result;
use d2k_translate::container::Container;
use d2k_translate::helper::{self, protocol};

/// Bytes that may wait on each side.
const BUFFER: usize = 64 * 1024;

impl Daemon {
    /// Runs a command with input in a container.
    ///
    /// # Errors
    /// The cluster's words.
    pub(crate) async fn exec_with_input(
        &self,
        container: &Container,
        pod: &str,
        command: Vec<String>,
        wanted: Wanted,
    ) -> Result<Process> {
        let name = container.container_name();
        if wanted.tty || !has_own_helper(container) {
            return self.cluster.exec(pod, &name, &command, wanted).await;
        }
        let mark = random_id();
        let mut line = helper::command(["input", &mark]);
        match command.split_first() {
            Some((first, rest)) if first == protocol::PATH => line.extend_from_slice(rest),
            _ => line.extend(["exec", "--"].map(str::to_owned).into_iter().chain(command)),
        }
        Ok(carried(self.cluster.exec(pod, &name, &line, wanted).await?, &mark))
    }
}

/// Whether the container has the helper of this d2k: one of an earlier d2k knows less.
fn has_own_helper(container: &Container) -> bool {
    let used = container.pod().and_then(|pod| helper::used_by(pod.spec.as_ref()?));
    let known = container.record.helper.as_ref().map(|own| helper::config_map_name(&own.architecture));
    known.is_some_and(|known| used == Some(known.as_str()))
}

/// A process with the helper between it and this end: streams like any other's.
fn carried(mut process: Process, mark: &str) -> Process {
    let (heard, hearing) = mpsc::channel(1);
    let (told, telling) = oneshot::channel();
    let ended = process.ended();
    if let Some(stdin) = process.stdin.take() {
        let (ours, theirs) = duplex(BUFFER);
        tokio::spawn(send(theirs, stdin, hearing));
        process.stdin = Some(Box::new(ours));
    }
    if let Some(stderr) = process.stderr.take() {
        let (ours, theirs) = duplex(BUFFER);
        let head = protocol::trailer_head(mark).into_bytes();
        // The client library ends no stream where nobody waits for the status any more.
        let kept = process.ended();
        tokio::spawn(async move {
            hear(stderr, theirs, &head, &heard, told).await;
            drop(kept);
        });
        process.stderr = Some(Box::new(ours));
    }
    let end = async move {
        match telling.await {
            Ok(code) => ProcessStatus { code: Some(code), message: String::new() },
            Err(_) => ended.await.unless_it_succeeded(),
        }
    };
    process.ending(end.boxed())
}

/// Sends input in the helper's blocks until the end of the command has been heard, and says so.
async fn send(
    mut from: DuplexStream,
    mut to: Box<dyn AsyncWrite + Send + Unpin>,
    mut hearing: mpsc::Receiver<()>,
) {
    let mut block = vec![0; protocol::LENGTH + BUFFER];
    let mut open = true;
    let over = loop {
        let (head, bytes) = block.split_at_mut(protocol::LENGTH);
        let count = tokio::select! {
            biased;
            over = hearing.recv() => break over,
            count = from.read(bytes), if open => count.unwrap_or(0),
        };
        open = count > 0;
        head.copy_from_slice(&u32::try_from(count).unwrap_or(0).to_be_bytes());
        let whole = block.get(..protocol::LENGTH + count).unwrap_or_default();
        if to.write_all(whole).await.is_err() || to.flush().await.is_err() {
            break None;
        }
    };
    drop(from);
    if over.is_some() {
        let _ = to.write_all(&protocol::HEARD.to_be_bytes()).await;
        let _ = to.flush().await;
    }
    // With an older API server the end of this stream is that of the others, too.
    while hearing.recv().await.is_some() {}
}

/// Passes standard error on up to where the helper tells the end of the command, and hears that.
async fn hear(
    mut from: impl AsyncRead + Unpin,
    mut to: DuplexStream,
    head: &[u8],
    heard: &mpsc::Sender<()>,
    told: oneshot::Sender<i32>,
) {
    let mut held = Vec::new();
    while let Ok(1..) = from.read_buf(&mut held).await {
        match find(&held, head) {
            Found::End { at, code, rest } => {
                let _ = to.write_all(held.get(..at).unwrap_or_default()).await;
                let _ = told.send(code);
                let _ = heard.send(()).await;
                // What the command has left behind may write on.
                let _ = to.write_all(held.get(rest..).unwrap_or_default()).await;
                let _ = tokio::io::copy(&mut from, &mut to).await;
                return;
            }
            Found::UpTo(at) => {
                let _ = to.write_all(held.get(..at).unwrap_or_default()).await;
                held.drain(..at);
            }
        }
    }
    let _ = to.write_all(&held).await;
}

/// What has been found in some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The command's end is told at a place, and something else follows at another.
    End { at: usize, code: i32, rest: usize },
    /// No end is told before this place; behind it one may begin.
    UpTo(usize),
}

fn find(bytes: &[u8], head: &[u8]) -> Found {
    let begins =
        |at: &usize| bytes.get(*at..).is_some_and(|rest| rest.starts_with(head) || head.starts_with(rest));
    let zeros = bytes.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(at, _)| at);
    let Some(at) = zeros.into_iter().find(begins) else { return Found::UpTo(bytes.len()) };
    let code = bytes.get(at + head.len()..).unwrap_or_default();
    let Some(length) = code.iter().position(|byte| *byte == b'\n') else { return Found::UpTo(at) };
    let code = code.get(..length).and_then(|code| std::str::from_utf8(code).ok()?.parse().ok());
    code.map_or(Found::UpTo(bytes.len()), |code| Found::End { at, code, rest: at + head.len() + length + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"\0mark ";

    /// What comes out, the code that was told, and whether the other end was let go.
    async fn heard(pieces: &[&str]) -> (String, Option<i32>, bool) {
        let (mut writer, reader) = duplex(1024);
        let (to, mut out) = duplex(1024);
        let ((heard, mut hearing), (told, telling)) = (mpsc::channel(1), oneshot::channel());
        let listening = tokio::spawn(async move { hear(reader, to, HEAD, &heard, told).await });
        for piece in pieces {
            writer.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(writer);
        listening.await.unwrap();
        let mut text = String::new();
        out.read_to_string(&mut text).await.unwrap();
        (text, telling.await.ok(), hearing.recv().await.is_some())
    }

    #[tokio::test]
    async fn the_end_is_heard_behind_all_that_was_written_and_is_not_passed_on() {
        for pieces in [&["words\n\0mark 9\n"][..], &["words\n", "\0ma", "rk 9", "\n"]] {
            assert_eq!(heard(pieces).await, ("words\n".to_owned(), Some(9), true), "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn what_looks_like_an_end_and_what_follows_one_is_passed_on() {
        let whole = ["\0\0mar", "k\0mark x\n", "\0mark 255\nlate"];
        assert_eq!(heard(&whole).await, ("\0\0mark\0mark x\nlate".to_owned(), Some(255), true));
    }

    #[tokio::test]
    async fn no_end_is_heard_where_none_is_told() {
        assert_eq!(heard(&["a\0mark 1"]).await, ("a\0mark 1".to_owned(), None, false));
    }

    #[tokio::test]
    async fn input_goes_in_blocks_and_its_end_does_not_end_the_stream() {
        let ((ours, theirs), (to, mut far)) = (duplex(64), duplex(64));
        let (heard, hearing) = mpsc::channel(1);
        let sending = tokio::spawn(send(theirs, Box::new(to), hearing));
        let (mut ours, mut came) = (ours, [0; 10]);
        ours.write_all(b"ab").await.unwrap();
        far.read_exact(came.get_mut(..6).unwrap()).await.unwrap();
        drop(ours);
        far.read_exact(came.get_mut(6..).unwrap()).await.unwrap();
        assert_eq!(&came, b"\0\0\0\x02ab\0\0\0\0");
        heard.send(()).await.unwrap();
        let mut last = [0; 4];
        far.read_exact(&mut last).await.unwrap();
        assert_eq!(u32::from_be_bytes(last), protocol::HEARD);
        drop(heard);
        sending.await.unwrap();
    }
}
