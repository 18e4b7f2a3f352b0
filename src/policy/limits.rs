//! What one call of a policy may use. The time is the processor's, so that a busy machine does not
//! make a good policy fail; memory and reply are counted by the runtime.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Engine, ResourceLimiter};

/// The limits of one policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Processor time of a call.
    pub time: Duration,
    /// Bytes of all memories and tables of a call together.
    pub memory: usize,
    /// Bytes that a call may hand over, its reply and its log lines together.
    pub reply: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { time: Duration::from_millis(20), memory: 16 << 20, reply: 256 << 10 }
    }
}

/// Memories of all instances of a call; a component of ordinary code has one or two.
const MEMORIES: usize = 16;
/// Tables of all instances of a call, and the instances: a component is linked of some five modules.
const TABLES: usize = 64;
const INSTANCES: usize = 64;
/// Bytes that an entry of a table takes here.
const ENTRY_BYTES: usize = size_of::<usize>();

/// Counts the memories and tables of all instances of a call together, and refuses what is above the
/// limit.
pub struct Memory {
    limit: usize,
    /// Bytes in use.
    pub used: usize,
    /// A growth was refused.
    pub exceeded: bool,
}

impl Memory {
    /// Nothing used.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: 0, exceeded: false }
    }

    fn grow(&mut self, bytes: usize) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
            self.exceeded = true;
            return Err(wasmtime::Error::msg("out of memory"));
        }
        self.used = used;
        Ok(true)
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current).saturating_mul(ENTRY_BYTES))
    }

    fn instances(&self) -> usize {
        INSTANCES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

/// The processor time of this thread.
pub fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// How often running calls are looked at.
const TICK: Duration = Duration::from_millis(1);
/// After this long without a call the ticking ends.
const QUIET: Duration = Duration::from_millis(100);

/// Makes an engine's epoch pass, one a millisecond, while calls run.
pub struct Ticker {
    shared: Arc<Shared>,
    thread: thread::Thread,
}

struct Shared {
    calls: AtomicUsize,
    asleep: AtomicBool,
}

/// A call that runs.
pub struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ticker {
    /// The one of this process, for `engine`.
    pub fn of(engine: &'static LazyLock<Engine>) -> Self {
        let shared = Arc::new(Shared { calls: AtomicUsize::new(0), asleep: AtomicBool::new(false) });
        let theirs = shared.clone();
        let handle = thread::spawn(move || tick(engine, &theirs));
        Self { shared, thread: handle.thread().clone() }
    }

    /// Notes a call until the guard is dropped.
    pub fn begin(&self) -> Running<'_> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.swap(false, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

fn tick(engine: &Engine, shared: &Shared) {
    let mut last_call = Instant::now();
    let mut then = Instant::now();
    loop {
        thread::sleep(TICK);
        // A sleep is longer than asked for: as many ticks as time has passed.
        let passed = then.elapsed().as_millis();
        for _ in 0..passed {
            engine.increment_epoch();
        }
        then += Duration::from_millis(u64::try_from(passed).unwrap_or(0));
        if shared.calls.load(Ordering::SeqCst) > 0 {
            last_call = Instant::now();
        } else if last_call.elapsed() > QUIET {
            shared.asleep.store(true, Ordering::SeqCst);
            while shared.asleep.load(Ordering::SeqCst) && shared.calls.load(Ordering::SeqCst) == 0 {
                thread::park();
            }
            shared.asleep.store(false, Ordering::SeqCst);
            (last_call, then) = (Instant::now(), Instant::now());
        }
    }
}
