//! A device that is left alone, with apps that run and no client: both processes should sleep.

use std::time::Duration;

use crate::bench::{Bench, row};
use crate::process::TICK;

/// Seconds for which the budgets are.
const TEN_MINUTES: u64 = 600;
/// What was asked for before is done by then.
const SETTLED: Duration = Duration::from_secs(10);

pub async fn idle(bench: &Bench) {
    let asked = std::env::var("D2K_BENCH_IDLE").ok().map(|seconds| seconds.parse().unwrap());
    let seconds: u64 = asked.unwrap_or(60);
    tokio::time::sleep(SETTLED).await;
    let processes = bench.processes();
    let counts = || processes.map(|process| [process.ticks(), process.switches(), process.written()]);
    let before = counts();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = counts();
    let switches = (20 * seconds).div_ceil(TEN_MINUTES) as f64;
    let budgets = [
        ("processor time", 0.0, "ticks"),
        ("context switches", switches, "switches"),
        ("written to the disk", 0.0, "bytes"),
    ];
    for (at, (what, budget, unit)) in budgets.into_iter().enumerate() {
        let [own, net] = [0, 1].map(|process| after[process][at] - before[process][at]);
        let tick = if unit == "ticks" { format!(" of {} ms", TICK.as_millis()) } else { String::new() };
        let what = format!("{what} of k2d and k2d-net in {seconds} s with 20 Pods and no client");
        row(&what, &format!("{own} + {net} {unit}{tick}"), "", (own + net) as f64, (budget, unit));
    }
}
