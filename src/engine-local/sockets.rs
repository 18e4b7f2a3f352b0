//! Sockets made inside the network namespace of the Pods and handed to the daemon, which is not in it:
//! all that `network` needs of the helper process, so that the rest of it is ordinary tokio.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

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
    /// The tun device that the namespace's default route leads to: IP packets without a header of its own.
    fn tun(&self) -> BoxFuture<'_, std::io::Result<OwnedFd>>;
}
