//! Names of resources that the embedded cluster's `metrics.k8s.io` has beside processor and memory. In Kubernetes only
//! the kubelet's summary has these figures, and a Role cannot grant that.

/// Processes and threads.
pub const PROCESSES: &str = "d2k.io/processes";
/// Bytes that its Pod has received.
pub const RECEIVED: &str = "d2k.io/received";
/// Bytes that its Pod has sent.
pub const SENT: &str = "d2k.io/sent";
