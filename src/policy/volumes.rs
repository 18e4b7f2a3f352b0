//! Volumes: which size, storage class and access mode a volume gets.

use std::collections::BTreeMap;

pub use crate::translate::volume::Plan;

/// The question.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Docker name of the volume.
    pub name: String,
    /// Docker labels of the volume.
    pub labels: BTreeMap<String, String>,
    /// Size asked for by `--opt size=`, a Kubernetes quantity.
    pub size: Option<String>,
    /// Storage class asked for by `--opt storageClass=`.
    pub storage_class: Option<String>,
    /// Access mode asked for by `--opt accessMode=`, Kubernetes' word.
    pub access_mode: Option<String>,
}

/// The default: what was asked for, else the configured size and class, else 1Gi; ReadWriteOnce.
pub fn decide(input: &Input, size: &str, class: &str) -> Plan {
    let size = if size.is_empty() { "1Gi" } else { size };
    let class = (!class.is_empty()).then(|| class.to_owned());
    Plan {
        size: input.size.clone().unwrap_or_else(|| size.to_owned()),
        storage_class: input.storage_class.clone().or(class),
        access_mode: input.access_mode.clone().unwrap_or_else(|| "ReadWriteOnce".into()),
    }
}
