//! Work on a thread of its own: only a thread that ends afterwards may change its namespaces in a process
//! that is to have a single one.

/// A thread of the helper has panicked.
#[derive(Debug, thiserror::Error)]
#[error("a thread of the helper has ended unexpectedly")]
pub struct ThreadEnded;

/// Runs work on a thread of its own, which may change its namespaces, and waits for it: afterwards the
/// process has one thread again.
pub fn apart<T: Send, E: From<ThreadEnded> + Send>(
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err(ThreadEnded.into()))
}
