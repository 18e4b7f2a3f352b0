//! What the network of the Pods may take of the machine.

use std::time::Duration;

/// What the network may take of the machine.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections through Services and forwards at a time; each takes two file descriptors.
    pub connections: usize,
    /// Connections of Pods to the outside at a time; each takes two file descriptors.
    pub outward: usize,
    /// UDP flows of one Service port, or of all Pods to the outside.
    pub udp_flows: usize,
    /// A UDP flow ends when nothing went through it for this long.
    pub udp_idle: Duration,
    /// The machine is given this long to make a connection to the outside.
    pub connecting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            outward: 4096,
            udp_flows: 4096,
            udp_idle: Duration::from_secs(60),
            connecting: Duration::from_secs(15),
        }
    }
}
