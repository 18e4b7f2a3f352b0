//! Ports: `-p` is a LoadBalancer Service, `-P` a NodePort Service, neither is no Service.

use std::collections::BTreeMap;

/// The question.
#[derive(Debug, Clone)]
pub struct Input {
    /// Docker name of the container.
    pub name: String,
    /// Docker labels of the container.
    pub labels: BTreeMap<String, String>,
    /// Ports published by `-p`: container port, protocol, host port.
    pub published: Vec<(u16, String, u16)>,
    /// `-P` was given.
    pub publish_all: bool,
    /// Ports that image or request expose: port, protocol.
    pub exposed: Vec<(u16, String)>,
}

/// The Service to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// `LoadBalancer`, `NodePort` or `ClusterIP`.
    pub kind: String,
    /// Annotations of the Service.
    pub annotations: BTreeMap<String, String>,
}

/// The default, as promised to users: explicit ports win over `-P`.
pub fn decide(input: &Input) -> Option<Plan> {
    let kind = if !input.published.is_empty() {
        "LoadBalancer"
    } else if input.publish_all && !input.exposed.is_empty() {
        "NodePort"
    } else {
        return None;
    };
    Some(Plan { kind: kind.to_owned(), annotations: BTreeMap::new() })
}
