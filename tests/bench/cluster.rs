//! d2k beside the bare Kubernetes calls, in one run against the same cluster: what does the
//! translation cost? `D2K_TEST_KUBECONFIG=… cargo bench --bench cluster`; the cluster needs `busybox`.
//! `D2K_BENCH_CONTAINERS=10000` makes the long lists that long (1000 if it is not set).

// A benchmark that cannot go on has nothing to say but where it stopped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

#[path = "cluster/bench.rs"]
mod bench;
#[path = "cluster/events.rs"]
mod events;
#[path = "cluster/first_byte.rs"]
mod first_byte;
#[path = "cluster/lists.rs"]
mod lists;
#[path = "cluster/runs.rs"]
mod runs;
#[path = "cluster/streams.rs"]
mod streams;

use bench::Bench;

#[tokio::main]
async fn main() {
    let Some(mut bench) = Bench::start().await else {
        println!("skipped: D2K_TEST_KUBECONFIG is not set");
        return;
    };
    println!("| | d2k | bare Kubernetes | |\n|---|---|---|---|");
    lists::idle(&bench);
    runs::runs(&bench).await;
    first_byte::first_byte(&mut bench).await;
    streams::streams(&bench).await;
    events::events(&bench).await;
    lists::start(&mut bench).await;
    lists::lists(&bench).await;
    bench.end();
}
