//! How fast bytes come through: logs, the output of an exec, files in and out.

use std::time::{Duration, Instant};

use d2k_cluster::{LogQuery, Wanted};
use futures::{AsyncReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};

use crate::bench::{Bench, rates};
use crate::runs::run;

const ROUNDS: usize = 5;
/// Below the size at which the kubelet begins another file.
const LOG: usize = 8_000_000;
const BYTES: usize = 200_000_000;

pub async fn streams(bench: &Bench) {
    let script = "yes 'a line of a log that is about as long as lines of logs are: 80 characters or so' \
                  | head -c 8000000; head -c 200000000 /dev/zero > /tmp/file; echo; echo done; sleep 1000";
    let id = run(bench, "streams", &["sh", "-c", script]).await;
    let pod = pod_of(bench, &id);
    let container = "streams";
    while bench.get(&format!("/containers/{id}/logs?stdout=1&tail=1")).await.bytes().await.unwrap().len() > 16
    {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let (mut d2k, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        d2k.push(drained(bench, &format!("/containers/{id}/logs?stdout=1")).await);
        let begin = Instant::now();
        let query = LogQuery { container: container.into(), ..LogQuery::default() };
        let mut log = std::pin::pin!(bench.cluster.logs(&pod, &query).await.unwrap());
        let mut buffer = vec![0; 1 << 16];
        while log.read(&mut buffer).await.unwrap() > 0 {}
        bare.push(begin.elapsed());
    }
    rates("logs", LOG, &d2k, &bare);
    let (mut d2k, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        d2k.push(exec(bench, &id).await);
        bare.push(output(bench, &pod, container, &["head", "-c", "200000000", "/dev/zero"]).await);
    }
    rates("output of an exec", BYTES, &d2k, &bare);
    let (mut d2k, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        d2k.push(drained(bench, &format!("/containers/{id}/archive?path=/tmp/file")).await);
        bare.push(output(bench, &pod, container, &["tar", "-c", "-C", "/tmp", "file"]).await);
    }
    rates("`docker cp` out of a container", BYTES, &d2k, &bare);
    let archive = archive();
    let (mut d2k, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        bench.put(&format!("/containers/{id}/archive?path=/tmp"), archive.clone()).await;
        d2k.push(begin.elapsed());
        bare.push(input(bench, &pod, container, &archive).await);
    }
    rates("`docker cp` into a container", BYTES, &d2k, &bare);
}

fn pod_of(bench: &Bench, id: &str) -> String {
    let pods = bench.cluster.cache::<Pod>().group(&id[..32]);
    pods.first().unwrap().object.metadata.name.clone().unwrap()
}

async fn drained(bench: &Bench, path: &str) -> Duration {
    let begin = Instant::now();
    let mut stream = bench.get(path).await.bytes_stream();
    while let Some(chunk) = stream.next().await {
        chunk.unwrap();
    }
    begin.elapsed()
}

async fn exec(bench: &Bench, id: &str) -> Duration {
    let begin = Instant::now();
    let body = json!({"Cmd": ["head", "-c", "200000000", "/dev/zero"], "AttachStdout": true});
    let exec = bench.post(&format!("/containers/{id}/exec"), body).await["Id"].as_str().unwrap().to_owned();
    let answer = bench.post_raw(&format!("/exec/{exec}/start"), &json!({"Detach": false})).await;
    let mut stream = answer.bytes_stream();
    while let Some(chunk) = stream.next().await {
        chunk.unwrap();
    }
    begin.elapsed()
}

async fn output(bench: &Bench, pod: &str, container: &str, command: &[&str]) -> Duration {
    let begin = Instant::now();
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let wanted = Wanted { stdout: true, ..Wanted::default() };
    let mut process = bench.cluster.exec(pod, container, &command, wanted).await.unwrap();
    let mut stdout = process.stdout.take().unwrap();
    let mut buffer = vec![0; 1 << 16];
    while stdout.read(&mut buffer).await.unwrap() > 0 {}
    begin.elapsed()
}

async fn input(bench: &Bench, pod: &str, container: &str, archive: &[u8]) -> Duration {
    let begin = Instant::now();
    let command = ["tar", "-x", "-C", "/tmp"].map(str::to_owned);
    let wanted = Wanted { stdin: true, stdout: true, ..Wanted::default() };
    let mut process = bench.cluster.exec(pod, container, &command, wanted).await.unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(archive).await.unwrap();
    stdin.shutdown().await.unwrap();
    drop(stdin);
    process.ended().await;
    begin.elapsed()
}

fn archive() -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_size(BYTES as u64);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_data(&mut header, "file", std::io::repeat(0).take_exact()).unwrap();
    builder.into_inner().unwrap()
}

trait TakeExact: std::io::Read + Sized {
    fn take_exact(self) -> std::io::Take<Self> {
        std::io::Read::take(self, BYTES as u64)
    }
}

impl TakeExact for std::io::Repeat {}
