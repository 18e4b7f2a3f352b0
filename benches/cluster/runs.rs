//! Creating and starting a container, and a short exec.

use std::time::{Duration, Instant};

use d2k::cluster::{Cluster, Wanted};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::bench::{Bench, times};

const ROUNDS: usize = 10;

pub async fn runs(bench: &Bench) {
    let (mut d2k, mut bare) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for round in 0..ROUNDS {
        let (start, exec) = by_d2k(bench, round).await;
        d2k.0.push(start);
        d2k.1.push(exec);
        let (start, exec) = by_hand(&bench.cluster, round).await;
        bare.0.push(start);
        bare.1.push(exec);
    }
    times("create and start until running", &d2k.0, &bare.0);
    times("exec of `true`", &d2k.1, &bare.1);
}

/// Creates and starts a container; returns its ID.
pub async fn run(bench: &Bench, name: &str, command: &[&str]) -> String {
    let body = json!({"Image": "busybox", "Cmd": command});
    let made = bench.post(&format!("/containers/create?name={name}"), body).await;
    let id = made["Id"].as_str().unwrap().to_owned();
    bench.post(&format!("/containers/{id}/start"), Value::Null).await;
    id
}

async fn by_d2k(bench: &Bench, round: usize) -> (Duration, Duration) {
    let begin = Instant::now();
    let id = run(bench, &format!("d2k-{round}"), &["sleep", "1000"]).await;
    let started = begin.elapsed();
    let begin = Instant::now();
    let body = json!({"Cmd": ["true"], "AttachStdout": true});
    let exec = bench.post(&format!("/containers/{id}/exec"), body).await["Id"].as_str().unwrap().to_owned();
    bench.post(&format!("/exec/{exec}/start"), json!({"Detach": false})).await;
    (started, begin.elapsed())
}

fn running(cluster: &Cluster, name: &str) -> Option<String> {
    let pods = cluster.cache::<Pod>().all();
    let pod = pods.iter().find(|p| {
        p.object.metadata.labels.as_ref().is_some_and(|l| l.get("bench").is_some_and(|b| b == name))
    })?;
    let statuses = pod.object.status.as_ref()?.container_statuses.as_ref()?;
    statuses.first()?.state.as_ref()?.running.as_ref()?;
    pod.object.metadata.name.clone()
}

async fn by_hand(cluster: &Cluster, round: usize) -> (Duration, Duration) {
    let name = format!("bare-{round}");
    let deployment: Deployment = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"bench": name}}, "template": {
            "metadata": {"labels": {"bench": name}},
            "spec": {"terminationGracePeriodSeconds": 1, "automountServiceAccountToken": false, "containers": [
                {"name": "c", "image": "busybox", "imagePullPolicy": "IfNotPresent", "args": ["sleep", "1000"]}
            ]},
        }},
    }))
    .unwrap();
    let begin = Instant::now();
    cluster.create(&deployment).await.unwrap();
    let pod = cluster.wait(Duration::from_secs(60), || running(cluster, &name)).await.unwrap();
    let started = begin.elapsed();
    let begin = Instant::now();
    let wanted = Wanted { stdout: true, ..Wanted::default() };
    let process = cluster.exec(&pod, "c", &["true".to_owned()], wanted).await.unwrap();
    process.ended().await;
    (started, begin.elapsed())
}
