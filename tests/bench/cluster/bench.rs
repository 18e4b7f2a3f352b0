//! What all rows share: a namespace, a d2k of the same build, a client of either side, and medians.

use std::process::{Child, Command};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use d2k_cluster::{Cluster, connect};
use serde_json::Value;

pub const NAMESPACE: &str = "d2k-bench";
pub const PORT: u16 = 23750;

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Bench {
    kubeconfig: String,
    daemon: Option<Daemon>,
    pub cluster: Cluster,
    http: reqwest::Client,
}

impl Bench {
    /// `None` without a cluster.
    pub async fn start() -> Option<Self> {
        let kubeconfig = std::env::var("D2K_TEST_KUBECONFIG").ok()?;
        kubectl(&kubeconfig, &["create", "namespace", NAMESPACE]);
        let cluster = connect(&kubeconfig, NAMESPACE, None, &CancellationToken::new()).await.unwrap().cluster;
        let mut bench = Self { kubeconfig, daemon: None, cluster, http: reqwest::Client::new() };
        bench.restart().await;
        Some(bench)
    }

    /// Starts d2k (again); returns how long it took until its first answer.
    pub async fn restart(&mut self) -> Duration {
        self.restart_with(&[]).await
    }

    /// The same with further settings.
    pub async fn restart_with(&mut self, settings: &[(&str, &str)]) -> Duration {
        self.daemon = None;
        let begin = Instant::now();
        let daemon = Command::new(env!("CARGO_BIN_EXE_d2k"))
            .args(["serve", "--namespace", NAMESPACE, "--kubeconfig", &self.kubeconfig])
            .env("D2K_PORT", PORT.to_string())
            .env("D2K_ADMIN_PORT", "0")
            .env("D2K_LOG_LEVEL", "error")
            .env("D2K_REGISTRY_MIRRORS", "*=http://127.0.0.1:5000")
            .envs(settings.iter().copied())
            .spawn();
        self.daemon = daemon.map(Daemon).ok();
        while self.http.get(url("/containers/json?all=1")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begin.elapsed()
    }

    pub fn resident_mib(&self) -> f64 {
        let pid = self.daemon.as_ref().unwrap().0.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }

    pub async fn kube(&self) -> kube::Client {
        let file = kube::config::Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(file, &Default::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.http.get(url(path)).send().await.unwrap().error_for_status().unwrap()
    }

    pub async fn put(&self, path: &str, body: Vec<u8>) {
        let sent = self.http.put(url(path)).header("Content-Type", "application/x-tar").body(body).send();
        sent.await.unwrap().error_for_status().unwrap();
    }

    pub async fn post_raw(&self, path: &str, body: &Value) -> reqwest::Response {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = self.http.post(url(path)).header("Content-Type", "application/json").body(text);
        request.send().await.unwrap().error_for_status().unwrap()
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let text = self.post_raw(path, &body).await.text().await.unwrap();
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    pub fn end(mut self) {
        self.daemon = None;
        kubectl(&self.kubeconfig, &["delete", "namespace", NAMESPACE, "--wait=false"]);
    }
}

fn url(path: &str) -> String {
    format!("http://127.0.0.1:{PORT}{path}")
}

fn kubectl(kubeconfig: &str, words: &[&str]) {
    let _ = Command::new("kubectl").env("KUBECONFIG", kubeconfig).args(words).output();
}

/// The time at a part of a hundred.
pub fn quantile(times: &[Duration], part: usize) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[(sorted.len() * part / 100).min(sorted.len() - 1)].as_secs_f64() * 1e3
}

/// A row of times, in milliseconds: medians.
pub fn times(what: &str, d2k: &[Duration], bare: &[Duration]) {
    let (d2k, bare) = (quantile(d2k, 50), quantile(bare, 50));
    println!("| {what} | {d2k:.1} ms | {bare:.1} ms | {:+.1} ms |", d2k - bare);
}

/// A row of throughputs, in MB/s: medians of runs that moved `bytes` each.
pub fn rates(what: &str, bytes: usize, d2k: &[Duration], bare: &[Duration]) {
    let rate = |times: &[Duration]| bytes as f64 / 1e6 / (quantile(times, 50) / 1e3);
    let (d2k, bare) = (rate(d2k), rate(bare));
    println!("| {what} | {d2k:.0} MB/s | {bare:.0} MB/s | {:.0} % |", d2k / bare * 100.0);
}
