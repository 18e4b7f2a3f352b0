//! The container of `k2d net`, which serves names and Services to the Pods.

use std::path::Path;

use d2k_engine::{Result, Trouble};
use d2k_kubeapi::new_uid;
use http::StatusCode;
use serde_json::{Value, json};

use super::client::Error;
use super::json::{self, text};
use super::labels::{ITSELF, ROLE};
use super::{Docker, network};

/// Its name.
pub(super) const NAME: &str = "k2d-net";
/// Where it has the folder of the table.
const FOLDER: &str = "/table";
/// The file in the folder that tells it from one that was there before, and the label that has the same text. A container keeps the
/// folder that it was started with, even one that was deleted since.
const IDENTITY: &str = "id";
const IDENTITY_LABEL: &str = "k2d.io/folder";

impl Docker {
    /// Sees to it that the container runs, of this very program, and reads the table of this folder.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn ensure_net(&self, folder: &Path) -> Result<()> {
        let wrong = |error: Error| Trouble::new("NetworkNotReady", format!("{NAME}: {error}"));
        let image = self.own_image().await?;
        let identity = identity(folder)
            .map_err(|error| Trouble::new("NetworkNotReady", format!("{}: {error}", folder.display())))?;
        let body = self.net_body(&image, folder, &identity);
        match self.inner.client.get(&format!("/containers/{NAME}/json")).await {
            Ok(found) if is_same(&found, &body) && json::flag(&found, &["State", "Running"]) => return Ok(()),
            Ok(found) => self.remove_container(text(&found, &["Id"])).await?,
            Err(error) if error.is(StatusCode::NOT_FOUND) => {}
            Err(error) => return Err(wrong(error)),
        }
        let made = self.inner.client.post(&format!("/containers/create?name={NAME}"), Some(&body)).await;
        let id = text(&made.map_err(wrong)?, &["Id"]).to_owned();
        let started = self.inner.client.post(&format!("/containers/{id}/start"), None).await;
        started.map(drop).map_err(wrong)
    }

    fn net_body(&self, image: &str, folder: &Path, identity: &str) -> Value {
        let plan = self.inner.network.plan;
        let outside = self.inner.paths.outside(folder);
        json!({
            "Image": image, "Labels": {(ROLE): ITSELF, (IDENTITY_LABEL): identity},
            "Entrypoint": ["/k2d", "net", "--network", plan.whole.to_string(), "--folder", FOLDER],
            "HostConfig": {
                "NetworkMode": network::NAME, "RestartPolicy": {"Name": "always"}, "ReadonlyRootfs": true,
                "CapDrop": ["ALL"], "CapAdd": ["NET_ADMIN", "NET_BIND_SERVICE"],
                "Mounts": [{"Type": "bind", "Source": outside, "Target": FOLDER, "ReadOnly": true}],
            },
            "NetworkingConfig": super::containers::endpoint(plan.services_host()),
        })
    }
}

/// The text of the file that identifies the folder, made if it is not there.
fn identity(folder: &Path) -> std::io::Result<String> {
    let file = folder.join(IDENTITY);
    match std::fs::read_to_string(&file) {
        Ok(text) if !text.is_empty() => Ok(text),
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => {
            let new = new_uid();
            std::fs::write(&file, &new)?;
            Ok(new)
        }
    }
}

/// Whether a container was made from such a body.
fn is_same(found: &Value, body: &Value) -> bool {
    let mount = |value: &Value| {
        json::at(value, &["HostConfig", "Mounts"]).get(0).map(|one| text(one, &["Source"]).to_owned())
    };
    text(found, &["Config", "Labels", IDENTITY_LABEL]) == text(body, &["Labels", IDENTITY_LABEL])
        && text(found, &["Config", "Image"]) == text(body, &["Image"])
        && json::texts(found, &["Config", "Entrypoint"]) == json::texts(body, &["Entrypoint"])
        && mount(found) == mount(body)
}
