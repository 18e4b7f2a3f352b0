//! d2k beside the bare Kubernetes calls, in one run against the same cluster: what does the
//! translation cost? `D2K_TEST_KUBECONFIG=… cargo bench --bench cluster`; the cluster needs `busybox`.

// A benchmark that cannot go on has nothing to say but where it stopped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use d2k::cluster::{Cluster, Wanted, connect};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

const NAMESPACE: &str = "d2k-bench";
const PORT: u16 = 23750;
const ROUNDS: usize = 10;

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
    }
}

fn kubectl(kubeconfig: &str, words: &[&str]) {
    let _ = Command::new("kubectl").env("KUBECONFIG", kubeconfig).args(words).output();
}

async fn post(path: &str, body: Value) -> Value {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let request = reqwest::Client::new()
        .post(format!("http://127.0.0.1:{PORT}{path}"))
        .header("Content-Type", "application/json")
        .body(text);
    let answer = request.send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.status());
    serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null)
}

async fn by_d2k(round: usize) -> (Duration, Duration) {
    let begin = Instant::now();
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"]});
    let id =
        post(&format!("/containers/create?name=d2k-{round}"), body).await["Id"].as_str().unwrap().to_owned();
    post(&format!("/containers/{id}/start"), Value::Null).await;
    let started = begin.elapsed();
    let begin = Instant::now();
    let body = json!({"Cmd": ["true"], "AttachStdout": true});
    let exec = post(&format!("/containers/{id}/exec"), body).await["Id"].as_str().unwrap().to_owned();
    post(&format!("/exec/{exec}/start"), json!({"Detach": false})).await;
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

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2]
}

fn row(what: &str, d2k: &[Duration], bare: &[Duration]) {
    let (d2k, bare) = (median(d2k).as_secs_f64() * 1e3, median(bare).as_secs_f64() * 1e3);
    println!("| {what} | {d2k:.1} ms | {bare:.1} ms | {:+.1} ms |", d2k - bare);
}

#[tokio::main]
async fn main() {
    let Ok(kubeconfig) = std::env::var("D2K_TEST_KUBECONFIG") else {
        println!("skipped: D2K_TEST_KUBECONFIG is not set");
        return;
    };
    kubectl(&kubeconfig, &["create", "namespace", NAMESPACE]);
    let connection = connect(&kubeconfig, NAMESPACE).await.unwrap();
    let daemon = Command::new(env!("CARGO_BIN_EXE_d2k"))
        .args(["serve", "--namespace", NAMESPACE, "--kubeconfig", &kubeconfig])
        .env("D2K_PORT", PORT.to_string())
        .env("D2K_ADMIN_PORT", "0")
        .env("D2K_LOG_LEVEL", "error")
        .env("D2K_REGISTRY_MIRRORS", "*=http://127.0.0.1:5000")
        .spawn()
        .map(Daemon)
        .unwrap();
    while reqwest::get(format!("http://127.0.0.1:{PORT}/_ping")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (mut d2k, mut bare) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for round in 0..ROUNDS {
        let (start, exec) = by_d2k(round).await;
        d2k.0.push(start);
        d2k.1.push(exec);
        let (start, exec) = by_hand(&connection.cluster, round).await;
        bare.0.push(start);
        bare.1.push(exec);
    }
    println!("| median of {ROUNDS} | d2k | bare Kubernetes | difference |\n|---|---|---|---|");
    row("create and start until running", &d2k.0, &bare.0);
    row("exec of `true`", &d2k.1, &bare.1);
    drop(daemon);
    kubectl(&kubeconfig, &["delete", "namespace", NAMESPACE, "--wait=false"]);
}
