//! Resident memory of both processes: with nothing to do, with apps, and what it rises to under Helm and watches.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures::AsyncReadExt;
use tokio::task::JoinHandle;

use crate::bench::{Bench, figure, median, row};
use crate::support::{find, run};

/// Watches that are open at once, as k9s and Argo CD have them.
const WATCHES: usize = 40;
/// What they watch.
const WATCHED: [&str; 8] = [
    "/api/v1/pods",
    "/api/v1/services",
    "/api/v1/configmaps",
    "/api/v1/events",
    "/api/v1/nodes",
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/replicasets",
    "/apis/discovery.k8s.io/v1/endpointslices",
];

/// Seconds after which a client's work is done with, and pauses between two looks.
const SETTLED: Duration = Duration::from_secs(5);
const LOOKS: usize = 5;
/// How long a command of Helm may take.
const DEADLINE: Duration = Duration::from_secs(90);

pub async fn without_pods(bench: &Bench) {
    resident(bench, "resident memory of k2d and k2d-net, idle, no Pods", 12.0).await;
    let peak = bench.processes().map(|process| process.peak());
    let budget = (28.0, "MB");
    row("the most until then: k2d has made its own image", &both(peak), "", peak.iter().sum(), budget);
}

pub async fn with_pods(bench: &Bench) {
    resident(bench, "resident memory with 20 Pods of 10 Deployments with Services, and 40 ConfigMaps", 20.0)
        .await;
}

/// The life of a release while others watch.
pub async fn with_watches(bench: &Bench) {
    let client = bench.kube().await;
    let watches: Vec<JoinHandle<()>> =
        (0..WATCHES).map(|n| tokio::spawn(watch(client.clone(), WATCHED[n % WATCHED.len()]))).collect();
    resident(bench, &format!("resident memory with these and {WATCHES} open watches"), 20.0).await;
    let helm = ["helm", "helm3", "helm4"].into_iter().find(|name| find(name).is_some());
    if let Some(helm) = helm {
        release(bench, helm);
    }
    let also = helm.map_or_else(
        || ", without Helm, which is not on the PATH".to_owned(),
        |name| format!(" and the life of a release ({name})"),
    );
    let peak = bench.processes().map(|process| process.peak());
    let what = format!("the most over the run, with {WATCHES} watches{also} (VmHWM)");
    row(&what, &both(peak), "", peak.iter().sum(), (28.0, "MB"));
    for watch in &watches {
        assert!(!watch.is_finished(), "a watch was ended");
        watch.abort();
    }
}

async fn resident(bench: &Bench, what: &str, budget: f64) {
    tokio::time::sleep(SETTLED).await;
    let processes = bench.processes();
    let mut looks = [Vec::new(), Vec::new()];
    for _ in 0..LOOKS {
        for (process, looks) in processes.iter().zip(&mut looks) {
            looks.push(process.resident());
        }
        tokio::time::sleep(Duration::from_millis(rand::random_range(200..800))).await;
    }
    let found = looks.map(|looks| median(&looks));
    row(what, &both(found), "", found.iter().sum(), (budget, "MB"));
}

fn both([own, net]: [f64; 2]) -> String {
    format!("{} + {} = {} MB", figure(own), figure(net), figure(own + net))
}

/// Reads what changes, and looks at none of it.
async fn watch(client: kube::Client, path: &str) {
    let request = http::Request::get(format!("{path}?watch=true&allowWatchBookmarks=true"));
    let mut stream = Box::pin(client.request_stream(request.body(Vec::new()).unwrap()).await.unwrap());
    let mut buffer = vec![0; 1 << 14];
    while stream.read(&mut buffer).await.unwrap() > 0 {}
}

fn release(bench: &Bench, helm: &str) {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/k2d/chart").display().to_string();
    for words in [
        format!("install shop {chart} --wait --timeout 60s"),
        format!("upgrade shop {chart} --set page=second --set replicas=3 --wait --timeout 60s"),
        "test shop --timeout 30s".to_owned(),
        "rollback shop 1 --wait --timeout 60s".to_owned(),
        "uninstall shop --wait --timeout 60s".to_owned(),
    ] {
        let mut command = Command::new(helm);
        command.env("KUBECONFIG", bench.device.data.join("kubeconfig")).args(words.split(' '));
        run(command, &format!("{helm} {words}"), b"", DEADLINE).success();
    }
    // Helm leaves the Pods of its tests.
    bench.device.kubectl("delete pods --field-selector=status.phase=Succeeded --now").success();
}
