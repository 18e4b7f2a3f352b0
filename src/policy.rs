//! The decisions of the translation: what an object is called, which workload a run becomes, how
//! ports and volumes are mapped, which image is meant, which events are sent. Each is asked here
//! and nowhere else, with plain values in and plain values out.

pub mod ask;
pub mod bindings;
pub mod compile;
pub mod component;
pub mod defaults;
pub mod failure;
pub mod fixtures;
pub mod limits;
pub mod load;
mod plans;
pub mod set;
pub mod naming;
pub mod ports;
pub mod settings;
pub mod value;
pub mod volumes;
pub mod workload;

use crate::fault::Result;

/// Answers every decision. The daemon holds one and asks it.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    /// Size of a volume for which none is asked, a Kubernetes quantity.
    pub volume_size: String,
    /// Storage class of a volume for which none is asked; empty = the cluster's default.
    pub storage_class: String,
}

impl Policies {
    /// What the Kubernetes object for a Docker object is called.
    ///
    /// # Errors
    /// A policy may refuse a name.
    pub fn name(&self, input: &naming::Input<'_>) -> Result<String> {
        Ok(naming::decide(input))
    }

    /// Which Service a container's ports become.
    ///
    /// # Errors
    /// A policy may refuse ports.
    pub fn ports(&self, input: &ports::Input) -> Result<Option<ports::Plan>> {
        Ok(ports::decide(input))
    }

    /// How large a volume is, and of which class and mode.
    ///
    /// # Errors
    /// A policy may refuse a volume.
    pub fn volume(&self, input: &volumes::Input) -> Result<volumes::Plan> {
        Ok(volumes::decide(input, &self.volume_size, &self.storage_class))
    }

    /// Whether a run becomes a Deployment or a Job.
    ///
    /// # Errors
    /// A policy may refuse a container.
    pub fn workload(&self, input: &workload::Input) -> Result<workload::Plan> {
        Ok(workload::decide(input))
    }

    /// Which image is meant by a reference.
    ///
    /// # Errors
    /// A policy may refuse an image.
    pub fn image(&self, reference: &str) -> Result<String> {
        Ok(reference.to_owned())
    }

    /// Whether Docker's clients are told of this event.
    pub fn event(&self, _kind: &str, _action: &str) -> bool {
        true
    }
}
