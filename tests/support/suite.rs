//! Runs the tests of a suite like Rust's own harness does, except that a test which finds that this machine cannot run
//! it counts as ignored and not as passed.

use std::any::Any;
use std::cell::RefCell;
use std::process::ExitCode;
use std::thread;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// A test, as `#[d2k_suite::test]` lists it.
pub struct Case {
    /// Crate, modules and name of the function.
    pub path: &'static str,
    /// The test: it panics if something is not as it should be.
    pub run: fn(),
    /// Whether it runs only if `--ignored` asks for it.
    pub ignored: bool,
}

inventory::collect!(Case);

thread_local! {
    static SKIPPED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Notes that the test of this thread does not run on this machine, and why. The test must return then.
pub fn note_skip(reason: &str) {
    SKIPPED.with(|skipped| *skipped.borrow_mut() = Some(reason.to_owned()));
}

/// The `main` of a suite.
pub fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let threads = std::env::var("RUST_TEST_THREADS").ok().and_then(|number| number.parse().ok());
    arguments.test_threads = arguments.test_threads.or(threads);
    let mut trials: Vec<Trial> = inventory::iter::<Case>().map(trial).collect();
    trials.sort_by(|one, other| one.name().cmp(other.name()));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(case: &'static Case) -> Trial {
    let name = case.path.split_once("::").map_or(case.path, |(_, name)| name);
    Trial::ignorable_test(name, move || run(name, case.run)).with_ignored_flag(case.ignored)
}

/// Runs a test on a thread that has its name, as Rust's own harness does: panics and worlds are named for it.
fn run(name: &str, test: fn()) -> Result<Completion, Failed> {
    let body = move || {
        test();
        SKIPPED.with(|skipped| skipped.borrow_mut().take())
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body)?;
    match thread.join() {
        Ok(None) => Ok(Completion::Completed),
        Ok(Some(reason)) => Ok(Completion::ignored_with(reason)),
        Err(panic) => Err(Failed::from(message(panic.as_ref()))),
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}
