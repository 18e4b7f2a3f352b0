//! Stub, replaced on merge.
use super::Daemon;
use crate::fault::{Fault, Result};
use crate::registry::{Credentials, Reference};
use crate::translate::{image::ImageFacts, record::Record};
impl Daemon {
    pub(crate) async fn image_for_create(&self, asked: &str, c: Option<&Credentials>, _p: &str) -> Result<ImageFacts> {
        let reference = Reference::parse(&self.policies.image(asked)?)?;
        self.registry.image(&reference, c).await.map_err(|_| Fault::not_found(format!("No such image: {asked}")))
    }
    pub(crate) async fn pull_secrets(&self, _record: &Record) -> Vec<String> {
        Vec::new()
    }
}
