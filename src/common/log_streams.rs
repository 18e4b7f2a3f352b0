//! How a client that asks for it is told which lines of a log are standard error. Kubernetes merges both
//! streams, and its own parameter `stream` gives one of them without their order. A server that does not know
//! this parameter ignores it, and no log has this zone by itself: kubelets write zero as `Z`.

/// The parameter of `pods/log` that asks for it, together with `timestamps`.
pub const PARAMETER: &str = "d2k-streams";
/// How the times of lines of standard error end; those of standard output end with `Z`.
pub const STDERR_ZONE: &str = "+00:00";
