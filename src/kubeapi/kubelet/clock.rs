//! Tells that the clock of the machine was set: by a time server some time after a board without a battery has started, by
//! somebody, or because the machine has slept. Times that were counted from the clock before mean another moment then.
//!
//! Nothing is polled. The kernel cancels a timer of the real-time clock when that is set (`TFD_TIMER_CANCEL_ON_SET` of
//! timerfd_create(2)), and a read from the timer says so.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// When the timer itself would end, in seconds since 1970: in 2038, as late as all kernels can count.
const NEVER: i64 = i32::MAX as i64;

/// Changes of the clock from now on.
pub struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    /// Begins to watch the clock.
    ///
    /// # Errors
    /// The kernel has no such timer.
    #[allow(
        deprecated,
        reason = "what replaces `AsyncFd::new` is `unsafe`; an `OwnedFd` keeps the descriptor that it has"
    )]
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        let at = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
        timerfd_settime(&timer, flags, &Itimerspec { it_interval: at(0), it_value: at(NEVER) })?;
        Ok(Self(AsyncFd::new(timer)?))
    }

    /// Waits until the clock was set.
    ///
    /// # Errors
    /// The timer cannot be read.
    pub async fn wait(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0_u8; 8])?));
            match read {
                Ok(Err(error)) if is_cancelled(&error) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                // Its own end is no change of the clock, and neither is that there is nothing to read.
                Ok(Ok(_)) | Err(_) => {}
            }
        }
    }
}

fn is_cancelled(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_clock_that_nobody_sets_is_quiet() {
        let changes = Changes::new().unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(50), changes.wait()).await;
        assert!(waited.is_err(), "{waited:?}");
    }

    #[tokio::test]
    #[ignore = "needs root: it sets the clock of the machine, to what it is but for a microsecond"]
    async fn a_clock_that_is_set_is_told_each_time() {
        use rustix::time::{ClockId, clock_gettime, clock_settime};
        let changes = Changes::new().unwrap();
        for _ in 0..3 {
            clock_settime(ClockId::Realtime, clock_gettime(ClockId::Realtime)).unwrap();
            tokio::time::timeout(Duration::from_secs(5), changes.wait()).await.unwrap().unwrap();
        }
        let waited = tokio::time::timeout(Duration::from_millis(50), changes.wait()).await;
        assert!(waited.is_err(), "{waited:?}");
    }
}
