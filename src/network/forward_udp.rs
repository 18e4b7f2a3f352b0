//! The UDP side of a Service: one flow for each client, to the endpoint that it was given.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::balance::Balance;
use super::context::{Context, PAUSE};
use super::flow::{Flow, Flows};

/// The largest datagram.
const LARGEST: usize = 65_535;

/// Serves a socket until it is closed; its flows end with it, since answers go out through it.
pub(super) async fn serve(
    context: Context,
    socket: UdpSocket,
    balance: watch::Receiver<Arc<Balance>>,
    closing: CancellationToken,
) {
    let socket = Arc::new(socket);
    let flows = Flows::new(context.limits.udp_flows);
    let mut buffer = vec![0_u8; LARGEST];
    loop {
        let received = tokio::select! {
            () = closing.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        let Ok((length, client)) = received else {
            sleep(PAUSE).await;
            continue;
        };
        let datagram = buffer.get(..length).unwrap_or_default().to_vec();
        let Some(flow) = flows.send(&client, datagram) else { continue };
        let (context, socket, balance) = (context.clone(), Arc::clone(&socket), balance.clone());
        let closing = closing.clone();
        let tasks = context.tasks.clone();
        tasks.spawn(async move {
            let flow = run(&context, &socket, balance, flow, client, &closing);
            if let Some(Err(error)) = closing.run_until_cancelled(flow).await {
                tracing::debug!(%client, %error, "a UDP flow of a Service ended");
            }
        });
    }
}

/// Runs one flow, to the endpoint whose turn it is, until it is idle or the endpoint is no more.
async fn run(
    context: &Context,
    socket: &UdpSocket,
    mut balance: watch::Receiver<Arc<Balance>>,
    mut flow: Flow<SocketAddr>,
    client: SocketAddr,
    closing: &CancellationToken,
) -> std::io::Result<()> {
    let now = Arc::clone(&balance.borrow());
    let Some(endpoint) = now.order(client.ip()).first().copied() else { return Ok(()) };
    now.went(client.ip(), endpoint);
    let outward = context.sockets.bind_udp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).await?;
    outward.connect(endpoint).await?;
    let reply = |answer: &[u8]| {
        // A full socket drops, as a full network does.
        let _ = socket.try_send_to(answer, client);
    };
    tokio::select! {
        ended = flow.run(&outward, context.limits.udp_idle, closing, reply) => ended,
        _ = balance.wait_for(|balance| !balance.target.endpoints.contains(&endpoint)) => Ok(()),
    }
}
