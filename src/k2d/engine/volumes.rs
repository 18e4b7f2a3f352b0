//! The volumes of claims: volumes of the engine, with the claim in their labels, so that people find them with `docker volume`.

use std::path::Path;

use d2k_engine::{Result, Trouble};
use d2k_kubeapi::controllers::storage::Storage;
use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::{Value, json};

use super::Docker;
use super::client::Error;
use super::json::{at, encode, text};
use super::labels::{CLAIM, NAMESPACE, label};

/// The driver in a PersistentVolume.
const DRIVER: &str = "k2d.io";
/// Where a volume is prepared.
const PLACE: &str = "/volume";
/// Version 1.N of the API from which on a part of a volume can be mounted.
const PARTS: u32 = 45;

fn failed(name: &str, why: &dyn std::fmt::Display) -> Trouble {
    Trouble::new("CreateContainerConfigError", format!("the volume {name}: {why}"))
}

impl Storage for Docker {
    fn provisioner(&self) -> &'static str {
        DRIVER
    }

    /// The engine makes it for the first container that mounts it.
    fn provision(&self, _name: &str, claim: &Value) -> std::io::Result<Value> {
        let field = |name: &str| text(claim, &["metadata", name]).to_owned();
        let handle = format!("{}_{}", field("namespace"), field("name"));
        Ok(json!({"csi": {"driver": DRIVER, "volumeHandle": handle}}))
    }

    fn remove(&self, volume: &Value) -> BoxFuture<'static, std::io::Result<()>> {
        let (this, name) = (self.clone(), text(volume, &["spec", "csi", "volumeHandle"]).to_owned());
        Box::pin(async move { this.remove_volume(&name).await.map_err(std::io::Error::other) })
    }
}

impl Docker {
    /// Sees to it that a volume is there, and the folder of it that is mounted.
    pub(super) async fn ensure_volume(&self, name: &str, part: &Path) -> Result<()> {
        let whole = part.as_os_str().is_empty();
        if !whole && !self.inner.client.knows(PARTS) {
            return Err(failed(name, &"subPath of a claim needs version 1.45 of the Engine API (Docker 26)"));
        }
        let path = format!("/volumes/{}", encode(name));
        match self.inner.client.get(&path).await {
            Ok(found) if !is_ours(&found) => {
                let words = "k2d has not made it: choose another name for the claim, or remove the volume";
                return Err(failed(name, &words));
            }
            Ok(_) if whole => return Ok(()),
            Ok(_) => {}
            Err(error) if error.is(StatusCode::NOT_FOUND) => self.make_volume(name).await?,
            Err(error) => return Err(failed(name, &error)),
        }
        self.open_to_all(name, part).await
    }

    async fn remove_volume(&self, name: &str) -> Result<(), Error> {
        let path = format!("/volumes/{}", encode(name));
        match self.inner.client.get(&path).await {
            Ok(found) if is_ours(&found) => self.inner.client.delete(&path).await,
            // It was never mounted, or is somebody else's.
            Ok(_) => Ok(()),
            Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn make_volume(&self, name: &str) -> Result<()> {
        let (namespace, claim) = name.split_once('_').unwrap_or(("", name));
        let body =
            json!({"Name": name, "Driver": "local", "Labels": {(CLAIM): claim, (NAMESPACE): namespace}});
        let made = self.inner.client.post("/volumes/create", Some(&body)).await;
        made.map(drop).map_err(|error: Error| failed(name, &error))
    }

    /// Makes a folder of a volume one that anybody may write into, as the usual local provisioners do.
    async fn open_to_all(&self, name: &str, part: &Path) -> Result<()> {
        let place = Path::new(PLACE).join(part);
        let mounts =
            json!([{"Type": "volume", "Source": name, "Target": PLACE, "VolumeOptions": {"NoCopy": true}}]);
        let ended = self.run_once(&["open", &place.to_string_lossy()], mounts).await;
        match ended.map_err(|trouble| failed(name, &trouble.message))? {
            ended if ended.code == 0 => Ok(()),
            ended => {
                let words = format!("it cannot be prepared: exit code {}: {}", ended.code, ended.output);
                Err(failed(name, &words))
            }
        }
    }
}

fn is_ours(volume: &Value) -> bool {
    !label(at(volume, &["Labels"]), CLAIM).is_empty()
}
