//! The image of k2d's own containers: this very program and nothing else, so that it needs no registry.

use bytes::Bytes;
use d2k_engine::{Result, Trouble};
use futures::StreamExt;
use serde_json::Value;

use super::Docker;
use super::client::values;
use super::json::{encode, text};

/// Its repository on the engine.
const REPOSITORY: &str = "localhost/k2d";

impl Docker {
    /// The image of this program, made if it is not there.
    pub(super) async fn own_image(&self) -> Result<String> {
        let made = self.inner.own_image.get_or_try_init(|| self.make_own_image()).await;
        made.cloned()
    }

    async fn make_own_image(&self) -> Result<String> {
        let failed = |error: &dyn std::fmt::Display| {
            Trouble::new("FailedCreatePodSandBox", format!("the image of k2d itself cannot be made: {error}"))
        };
        let program = tokio::fs::read("/proc/self/exe").await.map_err(|error| failed(&error))?;
        let tag = tag(&program);
        let image = format!("{REPOSITORY}:{tag}");
        if self.inner.client.get(&format!("/images/{}/json", encode(&image))).await.is_ok() {
            return Ok(image);
        }
        let archive = archive(&program).map_err(|error| failed(&error))?;
        let path = format!("/images/create?fromSrc=-&repo={}&tag={tag}", encode(REPOSITORY));
        let uploaded = self.inner.client.upload(&path, "application/x-tar", archive).await;
        let mut progress = values(uploaded.map_err(|error| failed(&error))?);
        while let Some(step) = progress.next().await {
            let step: Value = step.map_err(|error| failed(&error))?;
            let error = text(&step, &["error"]);
            if !error.is_empty() {
                return Err(failed(&error));
            }
        }
        Ok(image)
    }
}

/// Tells this program from others.
fn tag(program: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    program.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// An archive of one file, `/k2d`.
fn archive(program: &[u8]) -> std::io::Result<Bytes> {
    let mut header = tar::Header::new_ustar();
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    let mut all = tar::Builder::new(Vec::with_capacity(program.len() + 4096));
    all.append_data(&mut header, "k2d", program)?;
    all.into_inner().map(Bytes::from)
}
