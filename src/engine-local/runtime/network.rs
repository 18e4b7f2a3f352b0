//! The network of the Pods, made with the kernel's own interface (rtnetlink): a bridge in the helper's
//! namespace and a pair of interfaces for each Pod.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};

use crate::runtime::namespaces::NamespaceError;
use crate::runtime::threads::ThreadEnded;
use crate::runtime::wire::Options;

/// Name of the bridge.
const BRIDGE: &str = "pods";
/// Name of the tun device.
pub const TUN: &str = "out";
/// What Ethernet carries, and all between a Pod and the world with it.
pub const MTU: u32 = 65_520;
/// The kernel's table of addresses that are local.
const LOCAL_TABLE: u32 = 255;
const LOOPBACK: u32 = 1;
/// The longest that the kernel may take for all calls of one step.
const ANSWER: Duration = Duration::from_secs(10);

/// What the kernel has not done for the network of the Pods. The words `Namespace error` are those of
/// `rtnetlink`.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The runtime for the calls.
    #[error(transparent)]
    Runtime(io::Error),
    /// The connection to the kernel.
    #[error("Namespace error {0}")]
    Connect(#[source] io::Error),
    /// The namespaces that an interface is for.
    #[error("Namespace error {0}")]
    Namespace(#[from] NamespaceError),
    /// An interface that has to be there.
    #[error("Namespace error there is no interface {0}")]
    NoInterface(String),
    /// The kernel refuses something.
    #[error(transparent)]
    Refused(#[from] rtnetlink::Error),
    /// The kernel does not answer.
    #[error("the kernel has not answered within {limit} s", limit = ANSWER.as_secs())]
    Late,
    /// The calls have not ended.
    #[error(transparent)]
    Thread(#[from] ThreadEnded),
}

/// Runs a future to its end on the calling thread, which has no runtime.
fn run<T>(work: impl Future<Output = Result<T, NetlinkError>>) -> Result<T, NetlinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(NetlinkError::Runtime)?;
    let limited = async { tokio::time::timeout(ANSWER, work).await };
    runtime.block_on(limited).unwrap_or(Err(NetlinkError::Late))
}

/// A connection to the network namespace that the thread is in now.
fn connect() -> Result<Handle, NetlinkError> {
    let (connection, handle, _) = new_connection().map_err(NetlinkError::Connect)?;
    tokio::spawn(connection);
    Ok(handle)
}

async fn index(handle: &Handle, name: &str) -> Result<u32, NetlinkError> {
    let mut found = handle.link().get().match_name(name.to_owned()).execute();
    match futures::TryStreamExt::try_next(&mut found).await? {
        Some(link) => Ok(link.header.index),
        None => Err(NetlinkError::NoInterface(name.to_owned())),
    }
}

async fn up(handle: &Handle, index: u32) -> Result<(), rtnetlink::Error> {
    handle.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await
}

/// Loopback, bridge and the range of Services, in the calling thread's namespace.
pub fn prepare(options: &Options) -> Result<(), NetlinkError> {
    run(async {
        let handle = connect()?;
        up(&handle, LOOPBACK).await?;
        // A bridge takes the lowest address of its ports, and changes when they come and go, unless it
        // has been given one.
        let [a, b, c, d] = options.bridge.octets();
        let bridge = LinkBridge::new(BRIDGE).address(vec![2, 0xd2, a, b, c, d]).mtu(MTU).up().build();
        handle.link().add(bridge).execute().await?;
        let bridge = index(&handle, BRIDGE).await?;
        handle.address().add(bridge, IpAddr::V4(options.bridge), options.bridge_prefix).execute().await?;
        let services = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(options.services, options.services_prefix)
            .output_interface(LOOPBACK)
            .table_id(LOCAL_TABLE)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .build();
        Ok(handle.route().add(services).execute().await?)
    })
}

/// Gives a new namespace its interface. The calling thread is in the helper's namespace and enters the
/// new one by `enter`.
pub fn join(
    options: &Options,
    address: Ipv4Addr,
    outside: &str,
    enter: impl FnOnce() -> Result<File, NamespaceError>,
) -> Result<(), NetlinkError> {
    run(async {
        let here = connect()?;
        let inside = format!("{outside}i");
        let bridge = index(&here, BRIDGE).await?;
        let namespace = enter()?;
        let there = connect()?;
        let pair = LinkVeth::new(outside, &inside).mtu(MTU).controller(bridge).up().build();
        here.link().add(pair).execute().await?;
        let moved = index(&here, &inside).await?;
        let into = LinkUnspec::new_with_index(moved).setns_by_fd(namespace.as_raw_fd()).mtu(MTU);
        here.link().set(into.build()).execute().await?;
        up(&there, LOOPBACK).await?;
        let own = index(&there, &inside).await?;
        there.link().set(LinkUnspec::new_with_index(own).name("eth0").up().build()).execute().await?;
        there.address().add(own, IpAddr::V4(address), options.bridge_prefix).execute().await?;
        let gateway = RouteMessageBuilder::<Ipv4Addr>::new().gateway(options.bridge).build();
        Ok(there.route().add(gateway).execute().await?)
    })
}

/// Tries whether pairs of interfaces can be made.
pub fn probe_pair() -> Result<(), NetlinkError> {
    run(async {
        let handle = connect()?;
        handle.link().add(LinkVeth::new("probe", "probei").build()).execute().await?;
        let pair = index(&handle, "probe").await?;
        Ok(handle.link().del(pair).execute().await?)
    })
}

/// Removes a Pod's interface; its other end goes with it.
pub fn leave(outside: &str) -> Result<(), NetlinkError> {
    run(async {
        let handle = connect()?;
        match index(&handle, outside).await {
            Ok(found) => Ok(handle.link().del(found).execute().await?),
            Err(_) => Ok(()),
        }
    })
}

/// Makes the tun device the way to everything that is not here.
pub fn default_route_through_tun() -> Result<(), NetlinkError> {
    run(async {
        let handle = connect()?;
        let tun = index(&handle, TUN).await?;
        handle.link().set(LinkUnspec::new_with_index(tun).mtu(MTU).up().build()).execute().await?;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(tun).build();
        Ok(handle.route().add(route).replace().execute().await?)
    })
}
