//! From a change in the cluster to the Docker event at the client: beside a raw watch of the same
//! kind, which sees the change at its own time.

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::sync::mpsc;

use crate::bench::{Bench, NAMESPACE, quantile};

const ROUNDS: usize = 200;

pub async fn events(bench: &Bench) {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(bench.kube().await, NAMESPACE);
    let (sent, mut told) = mpsc::unbounded_channel();
    let mut stream = bench.get("/events?filters=%7B%22type%22%3A%5B%22volume%22%5D%7D").await.bytes_stream();
    tokio::spawn(async move {
        while let Some(Ok(_)) = stream.next().await {
            let _ = sent.send(Instant::now());
        }
    });
    let (sent, mut seen) = mpsc::unbounded_channel();
    let watching = api.clone();
    tokio::spawn(async move {
        let changes = watching.watch(&WatchParams::default(), "0").await.unwrap();
        let mut changes = std::pin::pin!(changes);
        while let Ok(Some(change)) = changes.try_next().await {
            if matches!(change, WatchEvent::Added(_)) {
                let _ = sent.send(Instant::now());
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut behind = Vec::new();
    for round in 0..ROUNDS {
        let claim = serde_json::from_value(json!({
            "metadata": {"name": format!("event-{round}")},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Mi"}}},
        }));
        api.create(&PostParams::default(), &claim.unwrap()).await.unwrap();
        let (told, seen) = (told.recv().await.unwrap(), seen.recv().await.unwrap());
        behind.push(told.saturating_duration_since(seen));
    }
    println!(
        "| change to Docker event, behind a raw watch: p50, p99 of {ROUNDS} | {:.1} ms, {:.1} ms | | |",
        quantile(&behind, 50),
        quantile(&behind, 99)
    );
}
