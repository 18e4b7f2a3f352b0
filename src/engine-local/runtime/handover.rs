//! Sockets and the tun device that the helper makes in its network namespace, or in a Pod's, to be
//! handed to the daemon.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::runtime::network::{self, TUN};
use crate::runtime::wire::Wanted;

/// Runs work on a thread of its own, which may change its namespaces, and waits for it: afterwards the
/// process has one thread again.
pub fn apart<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err("a thread of the helper has ended unexpectedly".into()))
}

/// Makes what is wanted; `namespaces` has a folder for each Pod.
pub fn make(wanted: &Wanted, namespaces: &Path) -> Result<OwnedFd, String> {
    match wanted {
        Wanted::Listen(at) => at_address(*at, SocketType::STREAM),
        Wanted::Bind(at) => at_address(*at, SocketType::DGRAM),
        Wanted::Dial(to) => plain(*to, SocketType::STREAM),
        Wanted::Inside(uid) => {
            let namespace = namespaces.join(uid).join("net");
            apart(move || {
                let namespace = File::open(&namespace).map_err(|error| format!("Pod {uid}: {error}"))?;
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(LinkNameSpaceType::Network),
                )
                .map_err(|error| format!("Pod {uid}: its network namespace cannot be entered: {error}"))?;
                plain(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), SocketType::STREAM)
            })
        }
        Wanted::Tun => tun(),
    }
}

fn plain(family: IpAddr, kind: SocketType) -> Result<OwnedFd, String> {
    let family = if family.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
        .map_err(|error| format!("a socket cannot be made: {error}"))
}

fn at_address(at: SocketAddr, kind: SocketType) -> Result<OwnedFd, String> {
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
    ready().map_err(|error| format!("{at} cannot be bound: {error}"))?;
    Ok(socket)
}

fn tun() -> Result<OwnedFd, String> {
    let mut configuration = tun::Configuration::default();
    configuration.tun_name(TUN);
    configuration.platform_config(|linux| {
        linux.ensure_root_privileges(false);
    });
    let device =
        tun::create(&configuration).map_err(|error| format!("a tun device cannot be made: {error}"))?;
    // The device's own handle would close the file; the daemon gets one that is safely its own.
    let process = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|error| error.to_string())?;
    let file = pidfd_getfd(process, device.as_raw_fd(), PidfdGetfdFlags::empty())
        .map_err(|error| format!("the tun device cannot be handed over: {error}"))?;
    // Nobody at the other end answers what the kernel asks there by IPv6.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{TUN}/disable_ipv6"), "1");
    apart(network::default_route_through_tun)
        .map_err(|error| format!("the default route cannot be given to the tun device: {error}"))?;
    rustix::io::ioctl_fionbio(&file, true).map_err(|error| error.to_string())?;
    Ok(file)
}
