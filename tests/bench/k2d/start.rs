//! From the start of k2d to its first answer, where there are objects to read and containers to take over.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::apps::PODS;
use crate::bench::{Bench, SAMPLES, median, pause, row, times};

pub async fn start(bench: &mut Bench) {
    let objects = bench.device.kubectl("get all,configmaps,endpointslices -A -o name").lines().len();
    let before = containers(bench);
    let mut taken = Vec::new();
    for _ in 0..SAMPLES {
        pause().await;
        bench.device.kill();
        let client = bench.kube().await;
        pause().await;
        let begin = Instant::now();
        let command = bench.device.serve(bench.device.engine());
        bench.device.spawn(command);
        let pods = first_answer(&client).await;
        taken.push(begin.elapsed().as_secs_f64() * 1e3);
        let running =
            pods["items"].as_array().unwrap().iter().filter(|pod| pod["status"]["phase"] == "Running");
        assert_eq!(running.count(), PODS);
        // k2d goes on with what it has found.
        tokio::time::sleep(Duration::from_millis(rand::random_range(500..1500))).await;
    }
    assert_eq!(containers(bench), before, "a container was touched");
    let what = format!(
        "start to the first list of Pods, {objects} objects, {PODS} containers taken over and not touched: p50; p90"
    );
    row(&what, &times(&taken), "", median(&taken), (200.0, "ms"));
}

async fn first_answer(client: &kube::Client) -> Value {
    loop {
        let request = http::Request::get("/api/v1/namespaces/default/pods").body(Vec::new()).unwrap();
        if let Ok(pods) = client.request(request).await {
            return pods;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The containers of Pods, and when each was started.
fn containers(bench: &Bench) -> Vec<String> {
    let ids = bench.device.docker("ps -aq --no-trunc --filter label=k2d.io/container").lines();
    let words = format!("inspect -f {{{{.Id}}}}={{{{.State.StartedAt}}}} {}", ids.join(" "));
    let mut all = bench.device.docker(&words).lines();
    all.sort();
    all
}
