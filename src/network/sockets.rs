//! Sockets inside the network namespace of the Pods. Whoever serves the network may not be in it: then somebody who is makes
//! them and hands them over.

use std::net::SocketAddr;

use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Makes sockets in the namespace of the Pods.
pub trait Sockets: Send + Sync + 'static {
    /// A listener at an address of the namespace (its bridge, or any of the Service range).
    fn listen(&self, at: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpListener>>;
    /// A UDP socket bound there.
    fn bind_udp(&self, at: SocketAddr) -> BoxFuture<'_, std::io::Result<UdpSocket>>;
    /// A connection to an address of the namespace: a Pod's.
    fn dial(&self, to: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>>;
}
