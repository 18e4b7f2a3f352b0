//! An image's config as Docker writes it, OCI's fields and Docker's own (health check, shell),
//! made into [`ImageFacts`]. Pure.

use std::collections::BTreeMap;

use bollard_stubs::models::HealthConfig;
use serde::Deserialize;
use serde_json::Value;

use d2k_common::image::{HistoryEntry, ImageFacts};

use super::layer::Layer;

/// The whole config document.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Document {
    created: Option<String>,
    author: Option<String>,
    pub(super) architecture: Option<String>,
    pub(super) os: Option<String>,
    pub(super) variant: Option<String>,
    config: Option<Run>,
    rootfs: Option<RootFs>,
    history: Option<Vec<Step>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Run {
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    exposed_ports: Option<BTreeMap<String, Value>>,
    volumes: Option<BTreeMap<String, Value>>,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    healthcheck: Option<HealthConfig>,
    shell: Option<Words>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RootFs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

/// Commands are lists, in old images also single strings.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    Many(Vec<String>),
    One(String),
}

impl From<Words> for Vec<String> {
    fn from(words: Words) -> Self {
        match words {
            Words::Many(words) => words,
            Words::One(word) => vec![word],
        }
    }
}

impl Document {
    /// The facts of the image; `reference`, `id` and `digest` are the caller's.
    pub(super) fn into_facts(self, layers: &[Layer]) -> ImageFacts {
        let run = self.config.unwrap_or_default();
        let history = history(self.history.unwrap_or_default(), layers);
        ImageFacts {
            entrypoint: run.entrypoint.map(Vec::from).unwrap_or_default(),
            cmd: run.cmd.map(Vec::from).unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
            volumes: run.volumes.unwrap_or_default().into_keys().collect(),
            labels: run.labels.unwrap_or_default(),
            stop_signal: run.stop_signal.unwrap_or_default(),
            healthcheck: run.healthcheck,
            shell: run.shell.map(Vec::from).unwrap_or_default(),
            architecture: self.architecture.unwrap_or_default(),
            os: self.os.unwrap_or_default(),
            created: self.created.unwrap_or_default(),
            author: self.author.unwrap_or_default(),
            size: layers.iter().map(|layer| layer.size).sum(),
            layers: self.rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default(),
            history,
            ..ImageFacts::default()
        }
    }
}

/// Layers and the steps that made one are in the same order; other steps have no size.
fn history(steps: Vec<Step>, layers: &[Layer]) -> Vec<HistoryEntry> {
    let mut sizes = layers.iter().map(|layer| layer.size);
    let entry = |step: Step| HistoryEntry {
        size: if step.empty_layer.unwrap_or(false) { 0 } else { sizes.next().unwrap_or(0) },
        created: step.created.unwrap_or_default(),
        created_by: step.created_by.unwrap_or_default(),
        comment: step.comment.unwrap_or_default(),
    };
    steps.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layers() -> Vec<Layer> {
        [7, 5].map(|size| Layer { digest: format!("sha256:{size}"), size, foreign: false }).to_vec()
    }

    #[test]
    fn every_field_arrives() {
        let config = json!({
            "created": "2026-01-02T03:04:05Z", "author": "ann", "architecture": "arm64", "os": "linux",
            "config": {
                "User": "1000:1", "ExposedPorts": {"80/tcp": {}, "53/udp": {}}, "Env": ["A=b"],
                "Entrypoint": ["/e"], "Cmd": ["c", "d"], "Volumes": {"/data": {}}, "WorkingDir": "/w",
                "Labels": {"k": "v"}, "StopSignal": "SIGQUIT", "Shell": ["/bin/ash", "-c"],
                "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000_i64, "Retries": 3}
            },
            "rootfs": {"type": "layers", "diff_ids": ["sha256:x", "sha256:y"]},
            "history": [
                {"created": "2026-01-01T00:00:00Z", "created_by": "ADD x /"},
                {"created_by": "ENV A=b", "empty_layer": true},
                {"created_by": "RUN y", "comment": "buildkit"}
            ]
        });
        let document: Document = serde_json::from_value(config).expect("config");
        let facts = document.into_facts(&layers());
        assert_eq!((facts.user.as_str(), facts.working_dir.as_str(), facts.size), ("1000:1", "/w", 12));
        assert_eq!(facts.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!(
            (facts.entrypoint, facts.cmd),
            (vec!["/e".to_owned()], vec!["c".to_owned(), "d".to_owned()])
        );
        assert_eq!((facts.env, facts.volumes), (vec!["A=b".to_owned()], vec!["/data".to_owned()]));
        assert_eq!((facts.stop_signal.as_str(), facts.architecture.as_str()), ("SIGQUIT", "arm64"));
        assert_eq!(facts.labels.get("k").map(String::as_str), Some("v"));
        assert_eq!(facts.healthcheck.expect("health").retries, Some(3));
        assert_eq!((facts.shell.len(), facts.layers.len()), (2, 2));
        assert_eq!((facts.author.as_str(), facts.created.as_str()), ("ann", "2026-01-02T03:04:05Z"));
        assert_eq!(facts.history.iter().map(|step| step.size).collect::<Vec<_>>(), [7, 0, 5]);
        assert_eq!(facts.history[2].comment, "buildkit");
    }

    #[test]
    fn nulls_and_absent_fields_are_empty() {
        let config =
            json!({"config": {"Env": null, "Cmd": "sh", "Volumes": null, "Labels": null}, "history": null});
        let document: Document = serde_json::from_value(config).expect("config");
        let facts = document.into_facts(&[]);
        assert_eq!(facts, ImageFacts { cmd: vec!["sh".into()], ..ImageFacts::default() });
        let document: Document = serde_json::from_str("{}").expect("empty config");
        assert_eq!(document.into_facts(&[]), ImageFacts::default());
    }
}
