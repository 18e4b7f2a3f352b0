//! What a list of Pods costs the server, and the client in time beside a bare list of containers.

use std::time::Instant;

use crate::apps::PODS;
use crate::bench::figure;
use crate::bench::{Bench, SAMPLES, median, pause, row, times};
use crate::process::TICK;

/// Lists in the time of one look at the processor time, which the kernel tells in ticks.
const LISTS: usize = 200;
/// Pods as `kubectl get` asks for them.
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

pub async fn lists(bench: &Bench) {
    let budget = (0.3, "ms");
    let client = bench.kube().await;
    list(&client).await;
    let [server, _] = bench.processes();
    let before = server.ticks();
    for _ in 0..SAMPLES {
        for _ in 0..LISTS {
            list(&client).await;
        }
        pause().await;
    }
    let each = milliseconds(server.ticks() - before, SAMPLES * LISTS);
    let what = format!("processor time of k2d for one list of {PODS} Pods as `kubectl get` asks for it");
    row(&what, &format!("{} ms", figure(each)), "", each, budget);
    let before = server.ticks();
    for _ in 0..SAMPLES {
        bench.device.kubectl("get pods").success();
        pause().await;
    }
    let each = milliseconds(server.ticks() - before, SAMPLES);
    let what = "the same for one `kubectl get pods`, with its TLS handshake";
    row(what, &format!("{} ms", figure(each)), "", each, budget);
    at_the_client(bench, &client).await;
}

fn milliseconds(ticks: u64, count: usize) -> f64 {
    (ticks as f64) * TICK.as_secs_f64() * 1e3 / count as f64
}

async fn list(client: &kube::Client) -> String {
    let request = http::Request::get("/api/v1/namespaces/default/pods?limit=500").header("Accept", TABLE);
    client.request_text(request.body(Vec::new()).unwrap()).await.unwrap()
}

async fn at_the_client(bench: &Bench, client: &kube::Client) {
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        pause().await;
        let begin = Instant::now();
        list(client).await;
        own.push(begin.elapsed().as_secs_f64() * 1e3);
        pause().await;
        let begin = Instant::now();
        bench.engine.get("/containers/json?all=true").await;
        bare.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let what = "such a list beside the engine's list of containers: p50; p90";
    let added = median(&own) - median(&bare);
    println!("| {what} | {} | {} | | {added:+.1} ms |", times(&own), times(&bare));
}
