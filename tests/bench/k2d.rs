//! k2d's budgets: each with what was measured, by how much it is met or missed, and beside bare calls of the engine where it is
//! about them, in one run. `D2K_TEST_ENGINE=… cargo bench --profile dev --bench k2d`, as root, on the machine of the engine: nothing
//! of d2k is measured, so it need not be optimised.
//!
//! k2d is the program that `K2D_BENCH_PROGRAM` names, else it is built with the profile `k2d`. `D2K_BENCH_IDLE` is how many
//! seconds it is left alone (60 if it is not set).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a benchmark that cannot go on has nothing to say but where it stopped"
)]

#[path = "k2d/apps.rs"]
mod apps;
#[path = "k2d/bare.rs"]
mod bare;
#[path = "k2d/bench.rs"]
mod bench;
#[allow(dead_code, reason = "the tests of k2d share it")]
#[path = "../k2d/device.rs"]
mod device;
#[path = "k2d/disk.rs"]
mod disk;
#[path = "k2d/idle.rs"]
mod idle;
#[path = "k2d/lists.rs"]
mod lists;
#[path = "k2d/memory.rs"]
mod memory;
#[path = "k2d/process.rs"]
mod process;
#[path = "k2d/runs.rs"]
mod runs;
#[path = "k2d/size.rs"]
mod size;
#[path = "k2d/start.rs"]
mod start;
#[allow(dead_code, unused_imports, reason = "the suites share it")]
#[path = ".."]
mod shared {
    pub mod support;
}

use bench::Bench;
use shared::support;

#[tokio::main]
async fn main() {
    let Some(mut bench) = Bench::start().await else {
        println!("skipped: D2K_TEST_ENGINE is not set");
        return;
    };
    bench.head();
    size::size(&bench);
    memory::without_pods(&bench).await;
    apps::start(&bench);
    memory::with_pods(&bench).await;
    idle::idle(&bench).await;
    lists::lists(&bench).await;
    memory::with_watches(&bench).await;
    disk::applies(&bench).await;
    start::start(&mut bench).await;
    apps::end(&bench);
    runs::added(&bench).await;
    runs::by_hand(&bench).await;
    disk::restarts(&bench).await;
}
