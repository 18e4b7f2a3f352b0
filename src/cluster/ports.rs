//! Connections to ports of Pods: straight to the Pod's address where the network reaches it, by a
//! way of the cluster's own if it has one, else through the API server's port-forward (a laptop).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UdpSocket};

use super::{Cluster, fault};
use d2k_common::fault::{Fault, Result};

/// A Pod network that is reachable answers, or refuses, far within this time.
const DIRECT: Duration = Duration::from_millis(500);

/// Ends the version of d2k's own cluster, whose Pod network no other process reaches.
const OWN: &str = "+d2k";

/// A two-way byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A way to the addresses of Pods that this process's own network does not have.
pub trait Reach: Send + Sync {
    /// A connection to a TCP port.
    fn tcp(&self, to: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>>;
    /// A socket that talks to a UDP port.
    fn udp(&self, to: SocketAddr) -> BoxFuture<'_, std::io::Result<UdpSocket>>;
}

impl Cluster {
    /// A socket that talks to a UDP port of a Pod.
    ///
    /// # Errors
    /// The system's words.
    pub async fn connect_udp(&self, to: SocketAddr) -> std::io::Result<UdpSocket> {
        if let Some(reach) = &self.inner.reach {
            return reach.udp(to).await;
        }
        let any: IpAddr = if to.is_ipv6() { [0u16; 8].into() } else { [0u8; 4].into() };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(to).await?;
        Ok(socket)
    }

    /// Connects to a TCP port of a Pod.
    ///
    /// # Errors
    /// The container's refusal, or the cluster's words.
    pub async fn connect_port(&self, pod: &str, ip: Option<IpAddr>, port: u16) -> Result<Box<dyn Stream>> {
        if let (Some(ip), Some(reach)) = (ip, &self.inner.reach) {
            let stream = reach.tcp(SocketAddr::new(ip, port)).await;
            return match stream {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(Fault::unavailable(format!("{ip}:{port}: {error}"))),
            };
        }
        if let Some(ip) = ip.filter(|_| !self.inner.version.ends_with(OWN)) {
            match tokio::time::timeout(DIRECT, TcpStream::connect(SocketAddr::new(ip, port))).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(Box::new(stream));
                }
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    return Err(Fault::unavailable(format!("{ip}:{port}: {error}")));
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
        self.forward(pod, port).await
    }

    async fn forward(&self, pod: &str, port: u16) -> Result<Box<dyn Stream>> {
        let api: Api<Pod> = self.api();
        let mut forwarder = api
            .portforward(pod, &[port])
            .await
            .map_err(|e| fault(&format!("forward port {port} of Pod {pod}"), &e))?;
        let stream = forwarder
            .take_stream(port)
            .ok_or_else(|| Fault::internal(format!("port {port} of Pod {pod} was not forwarded")))?;
        Ok(Box::new(Forwarded { stream, _forwarder: forwarder }))
    }
}

/// A forwarded stream together with the connection that carries it.
struct Forwarded<S> {
    stream: S,
    _forwarder: kube::api::Portforwarder,
}

impl<S: AsyncRead + Unpin> AsyncRead for Forwarded<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Forwarded<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(context, buffer)
    }
    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
