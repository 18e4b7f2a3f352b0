//! Detach keys: what a client types in a terminal to leave a process that goes on. The command of Docker
//! catches them itself; other clients rely on the daemon.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::hijack::Session;
use d2k_common::fault::{Fault, Result};

/// Those that hold unless others are given.
const DEFAULT: [u8; 2] = [ctrl(b'p'), ctrl(b'q')];

const fn ctrl(key: u8) -> u8 {
    key & 0x1f
}

/// A sequence of keys.
#[derive(Debug, Clone)]
pub struct Keys(Vec<u8>);

impl Keys {
    /// Reads `ctrl-p,ctrl-q` and the like: single characters, `ctrl-` with a letter or one of `@[\]^_`, and
    /// `DEL`. Nothing means the default.
    ///
    /// # Errors
    /// 400 for what is no key.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self(DEFAULT.to_vec()));
        }
        let key = |word: &str| match (word.as_bytes(), word.strip_prefix("ctrl-").map(str::as_bytes)) {
            ([one], _) => Some(*one),
            (_, Some([key @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => Some(ctrl(*key)),
            (b"DEL", _) => Some(0x7f),
            _ => None,
        };
        let keys: Option<Vec<u8>> = text.split(',').map(key).collect();
        keys.map(Self).ok_or_else(|| Fault::invalid(format!("Invalid detach keys ({text}) provided")))
    }
}

/// What of a client's input is to be passed on.
struct Filter {
    keys: Vec<u8>,
    matched: usize,
}

impl Filter {
    /// What is passed on, and whether the client leaves.
    fn pass(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut on = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.keys.get(self.matched) != Some(byte) {
                on.extend_from_slice(self.keys.get(..self.matched).unwrap_or_default());
                self.matched = 0;
            }
            match self.keys.get(self.matched) == Some(byte) {
                true => self.matched += 1,
                false => on.push(*byte),
            }
            if self.matched == self.keys.len() {
                return (on, true);
            }
        }
        (on, false)
    }
}

/// The session of a client in a terminal, which ends for the process's side when the keys are pressed.
pub fn watch(session: Session, keys: Keys) -> Session {
    let Session { mut input, output } = session;
    let (typed, to_process) = mpsc::channel::<Bytes>(1);
    let (from_process, mut written) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut filter = Filter { keys: keys.0, matched: 0 };
        let typing = async move {
            while let Some(bytes) = input.recv().await {
                let (on, leaves) = filter.pass(&bytes);
                if leaves {
                    return Some(typed);
                }
                if !on.is_empty() && typed.send(on.into()).await.is_err() {
                    break;
                }
            }
            None
        };
        let writing = async move {
            while let Some(chunk) = written.recv().await {
                if output.send(chunk).await.is_err() {
                    return;
                }
            }
        };
        let mut writing = Box::pin(writing);
        let left = tokio::select! {
            left = typing => left,
            () = &mut writing => return,
        };
        let Some(typed) = left else { return writing.await };
        // The end of the output tells that nobody is there; that of the input would be the process's, too.
        drop(writing);
        typed.closed().await;
    });
    Session { input: to_process, output: from_process }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_letters_control_keys_and_delete() {
        let keys = |text: &str| Keys::parse(text).map(|keys| keys.0);
        assert_eq!(keys("").unwrap(), [16, 17]);
        assert_eq!(keys("a,ctrl-a,ctrl-[,DEL").unwrap(), [b'a', 1, 27, 127]);
        for wrong in ["ctrl-A", "ab", "ctrl-", ",", "ctrl-p,ctrl"] {
            assert!(keys(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_only_begins_like_the_keys_is_passed_on() {
        let mut filter = Filter { keys: b"pq".to_vec(), matched: 0 };
        assert_eq!(filter.pass(b"ap"), (b"a".to_vec(), false));
        assert_eq!(filter.pass(b"pxpp"), (b"ppxp".to_vec(), false));
        assert_eq!(filter.pass(b"qmore"), (b"".to_vec(), true));
    }
}
