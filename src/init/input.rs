//! A command that is given input (`docker exec -i`, `cp` into a container). Kubernetes loses how a command
//! ended, and what it wrote last, where its input was still on the way at that moment. So the helper stays
//! beside the command: it takes all of the input, tells the end by a mark, and goes when d2k has heard of it.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::gate::set_name;
use crate::protocol::{self, CARRYING, trailer};

/// How long d2k has to hear of the end.
const PATIENCE: Duration = Duration::from_secs(10);
/// That it has: all of the input has come.
static HEARD: AtomicBool = AtomicBool::new(false);
const BLOCK: usize = 64 * 1024;

/// `input MARK COMMAND [ARGUMENTS]`: runs another command of the helper. Standard input comes in blocks, each
/// behind its length; an empty one is its end, and the word that the end was heard comes last.
pub fn input(mut arguments: Arguments) -> u8 {
    let mark = arguments.word().unwrap_or_default();
    set_name(CARRYING);
    let begun = Command::new("/proc/self/exe").args(arguments.rest()).stdin(Stdio::piped()).spawn();
    let mut child = match begun {
        Ok(child) => child,
        Err(error) => {
            eprintln!("d2k-init: the command cannot be started: {error}");
            return 126;
        }
    };
    let (pipe, waiting) = (child.stdin.take(), thread::current());
    thread::spawn(move || {
        pass_on(pipe);
        HEARD.store(true, Ordering::Release);
        waiting.unpark();
    });
    let ended = child.wait().ok();
    let code = ended.and_then(|end| end.code().or_else(|| end.signal().map(|signal| 128 + signal)));
    let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    let _ = std::io::stderr().write_all(trailer(&mark, code).as_bytes());
    let told = Instant::now();
    while !HEARD.load(Ordering::Acquire) && told.elapsed() < PATIENCE {
        thread::park_timeout(PATIENCE);
    }
    code
}

/// Passes all input on, and drops what nobody takes.
fn pass_on(mut pipe: Option<ChildStdin>) {
    let mut input = std::io::stdin().lock();
    let mut block = vec![0; BLOCK];
    let mut length = [0; protocol::LENGTH];
    while input.read_exact(&mut length).is_ok() && u32::from_be_bytes(length) != protocol::HEARD {
        let mut left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(0);
        if left == 0 {
            pipe = None;
        }
        while left > 0 {
            let part = block.get_mut(..left.min(BLOCK)).unwrap_or_default();
            let Ok(count @ 1..) = input.read(part) else { return };
            left -= count;
            let taken = part.get(..count).unwrap_or_default();
            if pipe.as_mut().is_some_and(|pipe| pipe.write_all(taken).is_err()) {
                pipe = None;
            }
        }
    }
}
