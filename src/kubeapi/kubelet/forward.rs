//! Port-forward: connections to ports of a Pod over a WebSocket, as channels or as SPDY inside, or over
//! an upgrade to SPDY.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::extract::ws::WebSocket;
use axum::http::Response;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio::task::JoinSet;

use super::{Kubelet, sockets, spdy};
use crate::http::Asked;
use crate::meta;
use crate::status::{Result, Status};
use d2k_engine::Engine;

/// Protocols over a WebSocket, the best first.
const SOCKET: &[&str] = &[TUNNEL, "v4.channel.k8s.io", "portforward.k8s.io"];
/// SPDY inside a WebSocket (KEP-4006).
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
/// Protocols over SPDY.
const UPGRADE: &[&str] = &["portforward.k8s.io"];

impl<E: Engine> Kubelet<E> {
    /// Serves `pods/portforward`.
    pub(super) async fn port_forward(&self, asked: &Asked, request: Request) -> Result<Response<Body>> {
        let (pod, _) = self.running(&asked.namespace, &asked.pod)?;
        if meta::string(&pod, &["status", "phase"]) != "Running" {
            let phase = meta::string(&pod, &["status", "phase"]);
            return Err(Status::bad_request(format!(
                "unable to forward port because pod is not running. Current status={phase}"
            )));
        }
        let ports: Vec<u16> =
            asked.query.all("ports").flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
        let to = To { engine: self.engine.clone(), pod: asked.pod.clone(), uid: meta::uid(&pod).to_owned() };
        if spdy::is_asked(&request) {
            return spdy::upgrade(request, UPGRADE, move |streams, _| to.carry(streams));
        }
        sockets::upgrade(request, SOCKET, move |socket: WebSocket, protocol: String| async move {
            if protocol == TUNNEL {
                spdy::inside(socket, |streams| to.carry(streams)).await;
            } else {
                forward(socket, to.engine, to.uid, ports).await;
            }
        })
        .await
    }
}

/// The Pod that is connected to.
struct To<E> {
    engine: Arc<E>,
    pod: String,
    uid: String,
}

impl<E: Engine> To<E> {
    /// Connects each pair of streams, one for data and one for errors, until the client is gone.
    async fn carry(self, mut streams: Receiver<spdy::Stream>) {
        let to = Arc::new(self);
        let mut waiting: HashMap<String, spdy::Stream> = HashMap::new();
        let mut connections = JoinSet::new();
        while let Some(stream) = streams.recv().await {
            let id = stream.header("requestid").to_owned();
            let Some(other) = waiting.remove(&id) else {
                waiting.insert(id, stream);
                continue;
            };
            let (data, errors) =
                if stream.header("streamtype") == "data" { (stream, other) } else { (other, stream) };
            let to = to.clone();
            connections.spawn(async move { to.connect(data, errors).await });
            while connections.try_join_next().is_some() {}
        }
    }

    /// Carries one connection.
    async fn connect(&self, mut data: spdy::Stream, errors: spdy::Stream) {
        let port = data.header("port").to_owned();
        let connected = match port.parse() {
            Ok(number) => self.engine.connect(&self.uid, number).await.map_err(|trouble| trouble.message),
            Err(_) => Err(format!("unable to parse {port:?} as a port")),
        };
        match connected {
            Ok(stream) => {
                let (reader, mut writer) = tokio::io::split(stream);
                let incoming = async {
                    while let Some(bytes) = data.input.recv().await {
                        if writer.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                    let _ = writer.shutdown().await;
                };
                let outgoing = data.output.copy(Some(reader));
                // What the port says last is sent, although the client may be quiet; not the other way.
                tokio::pin!(incoming, outgoing);
                tokio::select! {
                    () = &mut outgoing => {}
                    () = &mut incoming => outgoing.await,
                }
            }
            Err(words) => {
                let words =
                    format!("error forwarding port {port} to pod {}, uid {}: {words}", self.pod, self.uid);
                errors.output.send(words.as_bytes()).await;
                data.output.end().await;
            }
        }
        errors.output.end().await;
    }
}

/// Carries ports: two channels each, for data and for errors, which begin with the port's number.
async fn forward<E: Engine>(socket: WebSocket, engine: Arc<E>, uid: String, ports: Vec<u16>) {
    let (sender, mut receiver) = socket.split();
    let sender = Arc::new(Mutex::new(sender));
    let mut inputs = Vec::new();
    let mut readers = tokio::task::JoinSet::new();
    for (at, port) in ports.iter().enumerate() {
        let Ok(data) = u8::try_from(at * 2) else { break };
        for channel in [data, data + 1] {
            let _ = sender.lock().await.send(sockets::message(channel, &port.to_le_bytes())).await;
        }
        match engine.connect(&uid, *port).await {
            Ok(stream) => {
                let (mut reader, writer) = tokio::io::split(stream);
                inputs.push(Some(writer));
                let sender = sender.clone();
                readers.spawn(async move {
                    let mut buffer = vec![0; 32 * 1024];
                    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                        let bytes = buffer.get(..length).unwrap_or_default();
                        if sender.lock().await.send(sockets::message(data, bytes)).await.is_err() {
                            return;
                        }
                    }
                });
            }
            Err(trouble) => {
                inputs.push(None);
                let words = format!("an error occurred forwarding {port} -> {port}: {}", trouble.message);
                let _ = sender.lock().await.send(sockets::message(data + 1, words.as_bytes())).await;
            }
        }
    }
    let incoming = async {
        while let Some((channel, bytes)) = sockets::next(&mut receiver).await {
            let Some(slot) = inputs.get_mut(usize::from(channel / 2)).filter(|_| channel % 2 == 0) else {
                continue;
            };
            if let Some(writer) = slot.as_mut()
                && writer.write_all(&bytes).await.is_err()
            {
                *slot = None;
            }
        }
    };
    let outgoing = async { while readers.join_next().await.is_some() {} };
    tokio::select! {
        () = incoming => {}
        () = outgoing => {}
    }
    let _ = sender.lock().await.close().await;
}
