//! Containers of k2d's own that do one thing on the machine, say how it went, and end.

use std::path::Path;

use d2k_engine::{Result, Trouble};
use futures::StreamExt;
use http::Method;
use serde_json::{Value, json};

use super::Docker;
use super::client::Error;
use super::json::text;
use super::labels::{ITSELF, ROLE};

/// Most bytes of what a container says.
const OUTPUT: usize = 4 << 10;
/// Where such a container has the root folder of the machine.
pub const MACHINE: &str = "/machine";

/// How a container has ended.
pub(super) struct Ended {
    pub code: i32,
    /// What it has written, without blanks around it.
    pub output: String,
}

fn failed(error: Error) -> Trouble {
    Trouble::new("FailedMount", error.to_string())
}

impl Docker {
    /// Runs this program with these words, with the mounts of a `HostConfig` and without a network.
    pub(super) async fn run_once(&self, words: &[&str], mounts: Value) -> Result<Ended> {
        let entrypoint: Vec<&str> = std::iter::once("/k2d").chain(words.iter().copied()).collect();
        let body = json!({
            "Image": self.own_image().await?, "Entrypoint": entrypoint, "Labels": {(ROLE): ITSELF},
            // With a terminal the log is what was written and no frames.
            "Tty": true,
            "HostConfig": {"NetworkMode": "none", "Mounts": mounts},
        });
        let made = self.inner.client.post("/containers/create", Some(&body)).await.map_err(failed)?;
        let id = text(&made, &["Id"]).to_owned();
        self.inner.runs.follow(&id, None);
        let ended = async {
            self.start_container(&id).await?;
            let code = self.inner.runs.wait(&id).await?.code;
            Ok(Ended { code, output: self.output(&id).await? })
        };
        let ended = ended.await;
        self.remove_container(&id).await?;
        ended
    }

    async fn output(&self, id: &str) -> Result<String> {
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1");
        let mut chunks = self.inner.client.stream(Method::GET, &path, &[]).await.map_err(failed)?;
        let mut all = Vec::new();
        while let Some(chunk) = chunks.next().await {
            all.extend_from_slice(&chunk.map_err(failed)?);
            if all.len() >= OUTPUT {
                break;
            }
        }
        all.truncate(OUTPUT);
        Ok(String::from_utf8_lossy(&all).trim().to_owned())
    }

    /// Sees to it that a path of the machine is what a volume's type says, where this process does not see the machine's files.
    pub(super) async fn check_on_machine(&self, path: &Path, kind: &str) -> Result<()> {
        let mounts = json!([{"Type": "bind", "Source": "/", "Target": MACHINE}]);
        let path = path.to_string_lossy();
        let ended = self.run_once(&["check", &format!("--type={kind}"), &path], mounts).await?;
        match ended.code {
            0 => Ok(()),
            _ => Err(Trouble::new("FailedMount", ended.output.trim_start_matches("k2d: "))),
        }
    }
}
