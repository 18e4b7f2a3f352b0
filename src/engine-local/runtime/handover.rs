//! Sockets and the tun device that the helper makes in its network namespace, or in a Pod's, to be
//! handed to the daemon.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::runtime::network::{self, NetlinkError, TUN};
use crate::runtime::threads::{ThreadEnded, apart};
use crate::runtime::wire::Wanted;

/// Why there is no socket or tun device to hand over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The network namespace of that Pod.
    #[error("Pod {0}: {1}")]
    Pod(String, #[source] io::Error),
    /// The way into it.
    #[error("Pod {0}: its network namespace cannot be entered: {1}")]
    Enter(String, #[source] Errno),
    /// A thread for it.
    #[error(transparent)]
    Thread(#[from] ThreadEnded),
    /// Any socket.
    #[error("a socket cannot be made: {0}")]
    Socket(#[source] Errno),
    /// A socket at that address.
    #[error("{0} cannot be bound: {1}")]
    Bind(SocketAddr, #[source] Errno),
    /// The tun device.
    #[error("a tun device cannot be made: {0}")]
    Tun(#[source] tun::Error),
    /// This process cannot be looked at from outside.
    #[error(transparent)]
    OwnProcess(Errno),
    /// A file of the device for the daemon.
    #[error("the tun device cannot be handed over: {0}")]
    TunFile(#[source] Errno),
    /// The Pods' way to the device.
    #[error("the default route cannot be given to the tun device: {0}")]
    Route(#[source] NetlinkError),
    /// The device waits where it must not.
    #[error(transparent)]
    NonBlocking(Errno),
}

/// Makes what is wanted; `namespaces` has a folder for each Pod.
pub fn make(wanted: &Wanted, namespaces: &Path) -> Result<OwnedFd, HandoverError> {
    match wanted {
        Wanted::Listen(at) => at_address(*at, SocketType::STREAM),
        Wanted::Bind(at) => at_address(*at, SocketType::DGRAM),
        Wanted::Dial(to) => plain(*to, SocketType::STREAM),
        Wanted::Inside(uid) => {
            let namespace = namespaces.join(uid).join("net");
            apart(move || {
                let namespace =
                    File::open(&namespace).map_err(|error| HandoverError::Pod(uid.clone(), error))?;
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(LinkNameSpaceType::Network),
                )
                .map_err(|error| HandoverError::Enter(uid.clone(), error))?;
                plain(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), SocketType::STREAM)
            })
        }
        Wanted::Tun => tun(),
    }
}

fn plain(family: IpAddr, kind: SocketType) -> Result<OwnedFd, HandoverError> {
    let family = if family.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
        .map_err(HandoverError::Socket)
}

fn at_address(at: SocketAddr, kind: SocketType) -> Result<OwnedFd, HandoverError> {
    let socket = plain(at.ip(), kind)?;
    let ready = || -> rustix::io::Result<()> {
        if kind == SocketType::STREAM {
            set_socket_reuseaddr(&socket, true)?;
        }
        if at.is_ipv6() {
            set_ipv6_v6only(&socket, true)?;
        }
        bind(&socket, &at)?;
        if kind == SocketType::STREAM { listen(&socket, 1024) } else { Ok(()) }
    };
    ready().map_err(|error| HandoverError::Bind(at, error))?;
    Ok(socket)
}

fn tun() -> Result<OwnedFd, HandoverError> {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(TUN);
    configuration.platform_config(|linux| {
        linux.ensure_root_privileges(false);
    });
    let device = tun::create(&configuration).map_err(HandoverError::Tun)?;
    // The device's own handle would close the file; the daemon gets one that is safely its own.
    let process = pidfd_open(getpid(), PidfdFlags::empty()).map_err(HandoverError::OwnProcess)?;
    let file =
        pidfd_getfd(process, device.as_raw_fd(), PidfdGetfdFlags::empty()).map_err(HandoverError::TunFile)?;
    // Nobody at the other end answers what the kernel asks there by IPv6.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{TUN}/disable_ipv6"), "1");
    apart(network::default_route_through_tun).map_err(HandoverError::Route)?;
    rustix::io::ioctl_fionbio(&file, true).map_err(HandoverError::NonBlocking)?;
    Ok(file)
}
