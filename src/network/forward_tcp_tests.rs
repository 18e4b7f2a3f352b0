//! A Service over real sockets of this machine: which endpoint takes a connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::sockets::Sockets;
use crate::{Network, Options};

struct Machine;

impl Sockets for Machine {
    fn listen(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<TcpListener>> {
        Box::pin(TcpListener::bind(at))
    }

    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'_, io::Result<UdpSocket>> {
        Box::pin(UdpSocket::bind(at))
    }

    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(to))
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A Service at the node port with endpoints at these ports.
async fn serve(network: &Network, node_port: u16, endpoints: &[u16]) {
    let services = json!([{"metadata": {"name": "s", "namespace": "a"},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": node_port}]}}]);
    let slice = |port: &u16| {
        json!({"metadata": {"namespace": "a", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["127.0.0.1"]}], "ports": [{"port": port}]})
    };
    let slices: Vec<_> = endpoints.iter().map(|port| serde_json::from_value(slice(port)).unwrap()).collect();
    let services: Vec<_> = serde_json::from_value(services).unwrap();
    let number = network.update(&services, &slices);
    network.problems().wait_for(|problems| problems.applied >= number).await.unwrap();
}

async fn start() -> Network {
    let options = Options { dns: Vec::new(), ..Options::default() };
    Network::start(Arc::new(Machine), options, CancellationToken::new()).await.unwrap()
}

/// Takes one connection at the port, and answers it.
async fn answer_at(port: u16) {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    listener.accept().await.unwrap().0.write_all(b"here").await.unwrap();
}

async fn ask(port: u16) -> io::Result<String> {
    let mut text = String::new();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

#[tokio::test]
async fn a_connection_waits_for_a_new_endpoint_that_does_not_listen_yet() {
    let (network, at, endpoint) = (start().await, free_port().await, free_port().await);
    serve(&network, at, &[endpoint]).await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        answer_at(endpoint).await;
    };
    assert_eq!(tokio::join!(ask(at), later).0.unwrap(), "here");
}

#[tokio::test]
async fn a_connection_goes_to_the_endpoint_that_listens() {
    let (network, at) = (start().await, free_port().await);
    let (closed, open) = (free_port().await, free_port().await);
    serve(&network, at, &[closed, open]).await;
    for _ in 0..2 {
        assert_eq!(tokio::join!(ask(at), answer_at(open)).0.unwrap(), "here");
    }
}

#[tokio::test]
async fn a_connection_that_waits_sees_new_endpoints() {
    let (network, at) = (start().await, free_port().await);
    let (closed, open) = (free_port().await, free_port().await);
    serve(&network, at, &[closed]).await;
    let later = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let endpoints = [open];
        tokio::join!(serve(&network, at, &endpoints), answer_at(open));
    };
    assert_eq!(tokio::join!(ask(at), later).0.unwrap(), "here");
}
