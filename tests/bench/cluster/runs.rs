//! Creating and starting a container, and a short exec.

use std::time::{Duration, Instant};

use d2k_cluster::{Cluster, Wanted};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::bench::{Bench, times};

const ROUNDS: usize = 10;

pub async fn runs(bench: &Bench) {
    let (mut d2k, mut bare) = (Vec::new(), Vec::new());
    let (mut id, mut pod) = (String::new(), String::new());
    for round in 0..ROUNDS {
        let begin = Instant::now();
        id = run(bench, &format!("d2k-{round}"), &["sleep", "1000"]).await;
        d2k.push(begin.elapsed());
        let begin = Instant::now();
        pod = run_by_hand(&bench.cluster, round).await;
        bare.push(begin.elapsed());
    }
    times("create and start until running", &d2k, &bare);
    // What a start leaves to be done beside it is done by then.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (mut d2k, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS * 2 {
        d2k.push(exec(bench, &id).await);
        bare.push(exec_by_hand(&bench.cluster, &pod).await);
    }
    times("exec of `true`", &d2k, &bare);
}

/// Creates and starts a container; returns its ID.
pub async fn run(bench: &Bench, name: &str, command: &[&str]) -> String {
    let body = json!({"Image": "busybox", "Cmd": command});
    let made = bench.post(&format!("/containers/create?name={name}"), body).await;
    let id = made["Id"].as_str().unwrap().to_owned();
    bench.post(&format!("/containers/{id}/start"), Value::Null).await;
    id
}

async fn exec(bench: &Bench, id: &str) -> Duration {
    let begin = Instant::now();
    let body = json!({"Cmd": ["true"], "AttachStdout": true});
    let exec = bench.post(&format!("/containers/{id}/exec"), body).await["Id"].as_str().unwrap().to_owned();
    bench.post(&format!("/exec/{exec}/start"), json!({"Detach": false})).await;
    begin.elapsed()
}

async fn exec_by_hand(cluster: &Cluster, pod: &str) -> Duration {
    let begin = Instant::now();
    let wanted = Wanted { stdout: true, ..Wanted::default() };
    let process = cluster.exec(pod, "c", &["true".to_owned()], wanted).await.unwrap();
    process.ended().await;
    begin.elapsed()
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

/// Returns the name of the Pod.
async fn run_by_hand(cluster: &Cluster, round: usize) -> String {
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
    cluster.create(&deployment).await.unwrap();
    cluster.wait(Duration::from_secs(60), || running(cluster, &name)).await.unwrap()
}
