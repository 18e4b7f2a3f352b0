//! The TCP side of a Service: accepts, finds an endpoint that answers, and copies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::balance::Balance;
use super::context::{Context, PAUSE};
use super::relay::{relay, reset};

/// One endpoint is given this long; one that was removed without a word does not answer at all.
const ENDPOINT: Duration = Duration::from_secs(3);
/// All of them together.
const ENDPOINTS: Duration = Duration::from_secs(10);
/// Pause before endpoints that have all refused are asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// Serves a listener until it is closed. Connections live on until they end.
pub(super) async fn serve(
    context: Context,
    listener: TcpListener,
    balance: watch::Receiver<Arc<Balance>>,
    closing: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a listener of a Service reported an error");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&context.places).try_acquire_owned() else {
            tracing::warn!(%client, "a connection to a Service was reset: too many connections");
            reset(stream);
            continue;
        };
        let (balance, own) = (balance.clone(), context.clone());
        context.tasks.spawn(async move {
            let _place = place;
            match own.stopping.run_until_cancelled(reach(&own, &balance, client)).await.flatten() {
                Some(endpoint) => relay(stream, endpoint, &own.stopping).await,
                None => reset(stream),
            }
        });
    }
}

/// A connection to the first endpoint that takes one. Where all have refused, they are asked again as long as one of them is new,
/// or when there are others by then.
async fn reach(
    context: &Context,
    balances: &watch::Receiver<Arc<Balance>>,
    client: SocketAddr,
) -> Option<TcpStream> {
    let last = Instant::now() + ENDPOINTS;
    loop {
        let balance = Arc::clone(&balances.borrow());
        if let Some(stream) = first(context, &balance, client, last).await {
            return Some(stream);
        }
        let same = Arc::ptr_eq(&balance, &balances.borrow());
        if Instant::now() >= last || (same && !balance.has_new()) {
            return None;
        }
        sleep(AGAIN).await;
    }
}

async fn first(context: &Context, balance: &Balance, client: SocketAddr, last: Instant) -> Option<TcpStream> {
    for endpoint in balance.order(client.ip()) {
        let deadline = last.min(Instant::now() + ENDPOINT);
        match timeout_at(deadline, context.sockets.dial(endpoint)).await {
            Ok(Ok(stream)) => {
                balance.went(client.ip(), endpoint);
                return Some(stream);
            }
            Ok(Err(error)) => tracing::debug!(%endpoint, %error, "an endpoint refused a connection"),
            Err(_) => tracing::debug!(%endpoint, "an endpoint did not answer"),
        }
    }
    None
}
