//! What all rows share: a k2d over the engine, its two processes, clients of either side, and a row with its budget.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bare::Engine;
use crate::device::Device;
use crate::process::Process;
use crate::support::eventually;

/// Samples of a time.
pub const SAMPLES: usize = 30;
/// Milliseconds between two samples: a random pause, so that no timer of either side is in step with them.
const PAUSE: std::ops::Range<u64> = 5..80;

pub struct Bench {
    pub device: Device,
    pub engine: Engine,
    /// The program that is measured, and where it came from.
    pub program: PathBuf,
    origin: String,
}

impl Bench {
    /// A k2d that has never been on this engine before; nothing without an engine.
    pub async fn start() -> Option<Self> {
        rustls::crypto::ring::default_provider().install_default().unwrap();
        let address = std::env::var("D2K_TEST_ENGINE").ok()?;
        let (program, origin) = find();
        let mut device = Device::prepare(address, program.clone());
        for image in device.docker("images -q localhost/k2d").lines() {
            device.docker(&format!("rmi -f {image}")).success();
        }
        device.begin();
        let engine = Engine::at(device.engine());
        let bench = Self { device, engine, program, origin };
        eventually("k2d-net runs", || bench.net() != "0");
        let reads_disk = bench.processes()[0].written() > 0;
        assert!(reads_disk, "k2d has written nothing: is {} on a disk?", bench.device.data.display());
        Some(bench)
    }

    /// Prints what is measured and where, and the head of the table.
    pub fn head(&self) {
        let version = self.device.docker("version -f {{.Server.Version}}").success();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let processors = std::thread::available_parallelism().unwrap();
        println!("k2d: {}\n", self.origin);
        println!(
            "Docker Engine {version}, Linux {}, {processors} processors. 1 MB is 1,000,000 bytes.\n",
            kernel.trim()
        );
        println!("| | k2d | bare engine | budget | |\n|---|---|---|---|---|");
    }

    /// k2d and `k2d-net`.
    pub fn processes(&self) -> [Process; 2] {
        [Process(self.device.process()), Process(self.net().parse().unwrap())]
    }

    fn net(&self) -> String {
        self.device.docker("inspect -f {{.State.Pid}} k2d-net").success()
    }

    /// A client of k2d, with no connection yet.
    pub async fn kube(&self) -> kube::Client {
        let file = kube::config::Kubeconfig::read_from(self.device.data.join("kubeconfig")).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }
}

/// The program that was given, else one built as for a device.
fn find() -> (PathBuf, String) {
    if let Some(given) = std::env::var_os("K2D_BENCH_PROGRAM") {
        let program = PathBuf::from(given);
        let origin = format!("`{}`, given by K2D_BENCH_PROGRAM", program.display());
        return (program, origin);
    }
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--quiet", "--profile", "k2d", "--package", "k2d", "--target", &target]);
    assert!(cargo.current_dir(&root).status().unwrap().success(), "k2d cannot be built for {target}");
    let program = root.join("target").join(&target).join("k2d/k2d");
    (program, format!("built here with the profile `k2d` for {target}"))
}

/// Waits a random moment.
pub async fn pause() {
    tokio::time::sleep(Duration::from_millis(rand::random_range(PAUSE))).await;
}

/// The value at a part of a hundred.
pub fn quantile(values: &[f64], part: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * part / 100).min(sorted.len() - 1)]
}

pub fn median(values: &[f64]) -> f64 {
    quantile(values, 50)
}

/// Median and 90th percentile of times in milliseconds.
pub fn times(values: &[f64]) -> String {
    format!("{}; {} ms", figure(median(values)), figure(quantile(values, 90)))
}

/// A number as the table has it.
pub fn figure(value: f64) -> String {
    match value {
        whole if whole.fract() == 0.0 => format!("{whole:.0}"),
        small if small.abs() < 1.0 => format!("{small:.2}"),
        other => format!("{other:.1}"),
    }
}

/// Prints a row: `value`, in the unit of its budget, is what has to be within it.
pub fn row(what: &str, measured: &str, bare: &str, value: f64, (budget, unit): (f64, &str)) {
    let by = figure((budget - value).abs());
    let verdict = match value.total_cmp(&budget) {
        std::cmp::Ordering::Less => format!("met, {by} {unit} below"),
        std::cmp::Ordering::Equal => "met".to_owned(),
        std::cmp::Ordering::Greater => format!("missed by {by} {unit}"),
    };
    println!("| {what} | {measured} | {bare} | {} {unit} | {verdict} |", figure(budget));
}
