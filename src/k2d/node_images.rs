//! The images of the engine in the status of the Node, as a kubelet tells them: the largest ones, each with some of its names. They are
//! listed again when the engine tells that one has come or gone.

use std::sync::Arc;
use std::time::Duration;

use d2k_kubeapi::kinds;
use d2k_kubeapi::verbs::{Api, Target};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::engine::{Docker, at, texts};

/// Most images (`nodeStatusMaxImages` of a kubelet, its default).
const MOST: usize = 50;
/// Most names of an image (`MaxNamesPerImageInNodeStatus` of a kubelet).
const NAMES: usize = 5;
/// Pause after a change: a pull or a load is several events.
const CALM: Duration = Duration::from_millis(200);

/// Keeps the list of this Node until `stopping` is cancelled.
pub async fn follow(api: Arc<Api>, engine: Docker, node: String, stopping: CancellationToken) {
    let mut changed = engine.images_changed();
    let work = async {
        loop {
            changed.mark_unchanged();
            match engine.images().await {
                Ok(listed) => put(&api, &node, list(&listed)),
                // The next connection to the engine is a change.
                Err(error) => tracing::debug!(%error, "the engine's images cannot be listed"),
            }
            if changed.changed().await.is_err() {
                return;
            }
            tokio::time::sleep(CALM).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stopping.cancelled() => {}
    }
}

fn put(api: &Api, node: &str, images: Vec<Value>) {
    let target = Target::own(&kinds::NODE, "", node).of("status");
    let written = api.modify(&target, |node| {
        if let Some(status) = node.get_mut("status").and_then(Value::as_object_mut) {
            status.insert("images".into(), images.into());
        }
    });
    if let Err(status) = written {
        tracing::warn!(node, error = status.message, "the images of the Node were not written");
    }
}

/// The list of a status. Images without a name are left out: nobody can ask for them.
fn list(listed: &Value) -> Vec<Value> {
    let size = |image: &Value| at(image, &["Size"]).as_u64().unwrap_or(0);
    let names = |image: &Value| -> Vec<String> {
        let all = ["RepoDigests", "RepoTags"].into_iter().flat_map(|field| texts(image, &[field]));
        all.filter(|name| !name.contains("<none>")).take(NAMES).collect()
    };
    let all = listed.as_array().into_iter().flatten();
    let mut named: Vec<(Vec<String>, u64)> = all.map(|image| (names(image), size(image))).collect();
    named.retain(|(names, _)| !names.is_empty());
    named.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let told = named.into_iter().take(MOST);
    told.map(|(names, size)| json!({"names": names, "sizeBytes": size})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_images_are_told_with_some_of_their_names() {
        let listed = json!([
            {"RepoTags": ["a:1", "a:2"], "RepoDigests": ["a@sha256:00"], "Size": 5},
            {"RepoTags": null, "RepoDigests": null, "Size": 9},
            {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"], "Size": 8},
            {"RepoTags": ["b:1", "b:2", "b:3", "b:4", "b:5", "b:6"], "Size": 7},
        ]);
        let wanted = json!([
            {"names": ["b:1", "b:2", "b:3", "b:4", "b:5"], "sizeBytes": 7},
            {"names": ["a@sha256:00", "a:1", "a:2"], "sizeBytes": 5},
        ]);
        assert_eq!(Value::Array(list(&listed)), wanted);
        let many: Vec<Value> = (0..60).map(|size| json!({"RepoTags": ["c:1"], "Size": size})).collect();
        let told = list(&many.into());
        assert_eq!((told.len(), at(told.last().unwrap(), &["sizeBytes"]).as_u64()), (50, Some(10)));
    }
}
