//! From a Pod that is asked for to one that runs, beside the engine's own create and start; and from a container that somebody
//! runs with the engine to the Pod that shows it.

use std::time::{Duration, Instant};

use futures::{AsyncBufReadExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::bench::{Bench, SAMPLES, figure, median, pause, quantile, row, times};
use crate::device::IMAGE;

const PODS: &str = "/api/v1/namespaces/default/pods";
/// How long a change may take to be seen.
const DEADLINE: Duration = Duration::from_secs(30);

/// Changes of Pods, as they come out of a watch.
struct Watch(UnboundedReceiver<(Instant, Value)>);

impl Watch {
    async fn open(client: &kube::Client) -> Self {
        let request = http::Request::get(format!("{PODS}?watch=true")).body(Vec::new()).unwrap();
        let mut lines = Box::pin(client.request_stream(request).await.unwrap()).lines();
        let (sender, receiver) = unbounded_channel();
        tokio::spawn(async move {
            while let Some(Ok(line)) = lines.next().await {
                let seen = Instant::now();
                let _ = sender.send((seen, serde_json::from_str(&line).unwrap()));
            }
        });
        Self(receiver)
    }

    /// When a Pod was first told to be so.
    async fn until(&mut self, name: &str, is_so: impl Fn(&Value) -> bool) -> Instant {
        let found = async {
            loop {
                let (seen, event) = self.0.recv().await.unwrap();
                if event["object"]["metadata"]["name"] == name && is_so(&event) {
                    return seen;
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.unwrap()
    }
}

fn runs(event: &Value) -> bool {
    event["object"]["status"]["phase"] == "Running"
}

fn is_gone(event: &Value) -> bool {
    event["type"] == "DELETED"
}

pub async fn added(bench: &Bench) {
    let client = bench.kube().await;
    let mut watch = Watch::open(&client).await;
    let (mut own, mut bare) = (Vec::new(), Vec::new());
    for round in 0..SAMPLES {
        // Which is first is left to chance, too.
        let own_first: bool = rand::random();
        for is_own in [own_first, !own_first] {
            pause().await;
            if is_own {
                own.push(run_pod(&client, &mut watch, &format!("run-{round}")).await);
            } else {
                bare.push(run_bare(bench, &format!("bare-{round}")).await);
            }
        }
    }
    let added = median(&own) - median(&bare);
    let what =
        "a Pod from its POST to Running in a watch, beside create and start on the same network: p50; p90";
    row(what, &times(&own), &times(&bare), added, (25.0, "ms"));
}

async fn run_pod(client: &kube::Client, watch: &mut Watch, name: &str) -> f64 {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "main", "image": IMAGE, "command": ["sleep", "1000"]}
        ]},
    });
    let request = http::Request::post(PODS).header("Content-Type", "application/json");
    let request = request.body(pod.to_string().into_bytes()).unwrap();
    let begin = Instant::now();
    client.request_text(request).await.unwrap();
    let time = watch.until(name, runs).await - begin;
    let request = http::Request::delete(format!("{PODS}/{name}")).body(Vec::new()).unwrap();
    client.request_text(request).await.unwrap();
    watch.until(name, is_gone).await;
    time.as_secs_f64() * 1e3
}

/// With a label by which k2d takes no notice of the container.
async fn run_bare(bench: &Bench, name: &str) -> f64 {
    let begin = Instant::now();
    let id = bench.engine.run(name, "k2d", json!({"k2d.io/role": "bench"})).await;
    let time = begin.elapsed();
    bench.engine.remove(&id).await;
    time.as_secs_f64() * 1e3
}

pub async fn by_hand(bench: &Bench) {
    let client = bench.kube().await;
    let mut watch = Watch::open(&client).await;
    let mut late = Vec::new();
    for round in 0..SAMPLES {
        pause().await;
        let name = format!("hand-{round}");
        let id = bench.engine.run(&name, "default", Value::Null).await;
        let started = Instant::now();
        // It may have been seen before the engine has answered.
        let seen = watch.until(&name, runs).await.saturating_duration_since(started);
        late.push(seen.as_secs_f64() * 1e3);
        bench.engine.remove(&id).await;
        watch.until(&name, is_gone).await;
    }
    let (middle, most) = (median(&late), quantile(&late, 100));
    let measured = format!("{}, at most {}", times(&late), figure(most));
    row(
        "a container run by hand, from the engine's answer to Running in a watch: p50; p90",
        &measured,
        "",
        middle,
        (100.0, "ms"),
    );
}
