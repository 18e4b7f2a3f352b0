//! Many containers: lists, memory, start. They are created and never started, as Jobs, which cost
//! the cluster the least.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ListParams};
use serde_json::json;

use crate::bench::{Bench, NAMESPACE, quantile};

const ROUNDS: usize = 20;

/// Before anything has been made.
pub fn idle(bench: &Bench) {
    let size = std::fs::metadata(env!("CARGO_BIN_EXE_d2k")).unwrap().len();
    println!("| size of the program | {:.1} MiB | | |", size as f64 / 1_048_576.0);
    println!("| resident memory, idle | {:.1} MiB | | |", bench.resident_mib());
}

async fn fill(bench: &Bench, from: usize, to: usize) {
    let create = async |number: usize| {
        let body = json!({
            "Image": "busybox", "Cmd": ["sleep", "1000"], "AttachStdout": true,
            "Env": ["A=a value", "B=another value"], "Labels": {"app": "bench", "number": number.to_string()},
        });
        bench.post(&format!("/containers/create?name=many-{number}"), body).await;
    };
    futures::stream::iter(from..to).map(create).buffer_unordered(8).collect::<Vec<_>>().await;
}

pub async fn start(bench: &mut Bench) {
    fill(bench, 0, 100).await;
    let mut times = Vec::new();
    for _ in 0..10 {
        times.push(bench.restart().await);
    }
    println!("| start to first answer, 100 containers and more | {:.0} ms | | |", quantile(&times, 50));
}

pub async fn lists(bench: &Bench) {
    let count = std::env::var("D2K_BENCH_CONTAINERS").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    fill(bench, 100, count).await;
    let api: Api<Job> = Api::namespaced(bench.kube().await, NAMESPACE);
    let (mut d2k, mut bare, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        bytes = bench.get("/containers/json?all=1").await.bytes().await.unwrap().len();
        d2k.push(begin.elapsed());
        let begin = Instant::now();
        api.list(&ListParams::default()).await.unwrap();
        bare.push(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "| list of {count} containers ({:.1} MB), p50 and p99 | {:.1} ms, {:.1} ms | {:.1} ms, {:.1} ms | |",
        bytes as f64 / 1e6,
        quantile(&d2k, 50),
        quantile(&d2k, 99),
        quantile(&bare, 50),
        quantile(&bare, 99)
    );
    println!("| resident memory, {count} containers | {:.1} MiB | | |", bench.resident_mib());
}
