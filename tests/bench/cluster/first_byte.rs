//! From the create call of a run in the foreground to the first byte of its output, with the helper in
//! front of the process and without it; and what a helper that stays takes of memory.

use std::time::{Duration, Instant};

use d2k_cluster::Wanted;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bench::{Bench, PORT, times};

const ROUNDS: usize = 15;

pub async fn first_byte(bench: &mut Bench) {
    let mut with = Vec::new();
    for round in 0..ROUNDS {
        with.push(run(bench, &format!("with-{round}")).await);
    }
    println!("| memory of a helper that stays (`--init`) | {} KiB | | |", resident_kib(bench).await);
    let settings = std::env::temp_dir().join(format!("d2k-bench-{}.yaml", std::process::id()));
    std::fs::write(&settings, "workload: {settings: {helper: never}}\n").unwrap();
    bench.restart_with(&[("D2K_POLICY_SETTINGS", settings.to_str().unwrap())]).await;
    let mut without = Vec::new();
    for round in 0..ROUNDS {
        without.push(run(bench, &format!("without-{round}")).await);
    }
    std::fs::remove_file(settings).unwrap();
    bench.restart().await;
    times("`docker run` to the first byte, with the helper and without", &with, &without);
}

/// One run, by the calls that the CLI makes.
async fn run(bench: &Bench, name: &str) -> Duration {
    let body =
        json!({"Image": "busybox", "Cmd": ["echo", "hello"], "AttachStdout": true, "AttachStderr": true});
    let begin = Instant::now();
    let made = bench.post(&format!("/containers/create?name={name}"), body).await;
    let id = made["Id"].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(("127.0.0.1", PORT)).await.unwrap();
    let attach = format!(
        "POST /containers/{id}/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d2k\r\nConnection: Upgrade\r\n\
         Upgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(attach.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let first = async {
        stream.read_u8().await.unwrap();
        begin.elapsed()
    };
    let path = format!("/containers/{id}/start");
    let (first, _) = tokio::join!(first, bench.post(&path, Value::Null));
    first
}

async fn resident_kib(bench: &Bench) -> String {
    let body = json!({"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"Init": true}});
    let made = bench.post("/containers/create?name=stays", body).await;
    let id = made["Id"].as_str().unwrap().to_owned();
    bench.post(&format!("/containers/{id}/start"), Value::Null).await;
    let pods = bench.cluster.cache::<k8s_openapi::api::core::v1::Pod>().all();
    let pod = pods.iter().find_map(|p| p.object.metadata.name.clone().filter(|n| n.starts_with("stays")));
    let command = ["grep", "VmRSS", "/proc/1/status"].map(str::to_owned);
    let wanted = Wanted { stdout: true, ..Wanted::default() };
    let mut process = bench.cluster.exec(&pod.unwrap(), "stays", &command, wanted).await.unwrap();
    let mut text = String::new();
    process.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    text.split_whitespace().nth(1).unwrap_or("?").to_owned()
}
