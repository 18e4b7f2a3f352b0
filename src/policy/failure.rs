//! Why a call of a policy failed: the limit that it passed, or the trap, in words for the operator.

use std::time::Duration;

use super::bindings::log;
use super::limits::{Limits, Memory};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It used more processor time than it may.
    #[error(
        "used {} ms of processor time, which is above its limit of {} ms (limits.time)",
        .used.as_millis(),
        .limit.as_millis()
    )]
    Time {
        /// What it had used.
        used: Duration,
        /// What it may use.
        limit: Duration,
    },
    /// It asked for more memory than it may have, in bytes.
    #[error("needs more memory than its limit of {} KiB (limits.memory)", .limit / 1024)]
    Memory {
        /// What it may have.
        limit: usize,
    },
    /// Its reply is larger than it may be, in bytes.
    #[error("gave a reply above its limit of {} KiB (limits.reply)", .limit / 1024)]
    Reply {
        /// What it may be.
        limit: usize,
    },
    /// It gave up: a panic, an illegal access, an abort.
    #[error("failed: {0}")]
    Trap(String),
}

impl Failure {
    pub(super) fn of(
        error: &wasmtime::Error,
        memory: &Memory,
        lines: &[(log::Level, String)],
        limits: Limits,
        used: Duration,
    ) -> Self {
        if memory.exceeded {
            return Self::Memory { limit: limits.memory };
        }
        if matches!(error.downcast_ref(), Some(wasmtime::Trap::Interrupt | wasmtime::Trap::OutOfFuel)) {
            return Self::Time { used, limit: limits.time };
        }
        let words = format!("{error:#}");
        // The runtime has no type for this error.
        if words.contains("fuel allocated for hostcalls") {
            return Self::Reply { limit: limits.reply };
        }
        // A guest's panic leaves its words in the log and traps.
        let last = lines.iter().rev().find(|(level, _)| matches!(level, log::Level::Error));
        match last {
            // One line, whatever the guest makes of it.
            Some((_, said)) => Self::Trap(said.split_whitespace().collect::<Vec<_>>().join(" ")),
            None => Self::Trap(words.lines().collect::<Vec<_>>().join(" ")),
        }
    }

    /// The word under which it is counted.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Time { .. } => "time",
            Self::Memory { .. } => "memory",
            Self::Reply { .. } => "reply",
            Self::Trap(_) => "trap",
        }
    }
}
