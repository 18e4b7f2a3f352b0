//! What `metrics.k8s.io` of an embedded cluster tells of a container beside processor and memory, as resources
//! with names of d2k's own. Kubernetes has these figures in the kubelet's summary only, which a Role cannot grant.

/// Processes and threads.
pub const PROCESSES: &str = "d2k.io/processes";
/// Bytes that its Pod has received.
pub const RECEIVED: &str = "d2k.io/received";
/// Bytes that its Pod has sent.
pub const SENT: &str = "d2k.io/sent";
