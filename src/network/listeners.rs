//! Keeps the listeners of Services as they are wanted: opens, closes, tries again what did not open,
//! and tells which ports could not be had.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::balance::Balance;
use super::context::Context;
use super::services::{Place, Problem, Protocol, Side, Target, Wanted};
use super::{forward_tcp, forward_udp};

/// A port that could not be had is tried again after this: who holds it may go.
const AGAIN: Duration = Duration::from_secs(5);
/// Opening one socket takes no longer than this.
const OPENING: Duration = Duration::from_secs(5);

/// What is wrong, and up to which update it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    /// The number of the update that has been carried out; `Network::update` returned it.
    pub applied: u64,
    /// Ports that Services asked for and do not have.
    pub list: Vec<Problem>,
}

struct Open {
    target: watch::Sender<Arc<Balance>>,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

/// Keeps listeners until it is told to stop.
pub(super) async fn keep(
    context: Context,
    mut wanted: watch::Receiver<(u64, Arc<Wanted>)>,
    problems: watch::Sender<Problems>,
) {
    let mut open = BTreeMap::new();
    loop {
        let (applied, now) = wanted.borrow_and_update().clone();
        let applying = apply(&context, &mut open, &now);
        let Some(list) = context.stopping.run_until_cancelled(applying).await else { return };
        let failed = !list.is_empty();
        let news = Problems { applied, list };
        problems.send_if_modified(|old| {
            let changed = *old != news;
            *old = news;
            changed
        });
        tokio::select! {
            () = context.stopping.cancelled() => return,
            () = sleep(AGAIN), if failed => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// Makes the listeners what is wanted; what could not be done.
async fn apply(context: &Context, open: &mut BTreeMap<Place, Open>, wanted: &Wanted) -> Vec<Problem> {
    close_unwanted(open, wanted).await;
    let mut list = wanted.problems.clone();
    for (place, target) in &wanted.listeners {
        if let Err(problem) = open_or_update(context, open, *place, target).await {
            list.push(problem);
        }
    }
    list.sort();
    list
}

/// Closes first, so that a port that moves from one Service to another is free.
async fn close_unwanted(open: &mut BTreeMap<Place, Open>, wanted: &Wanted) {
    let gone: Vec<Place> = open
        .iter()
        .filter(|(place, listener)| !wanted.listeners.contains_key(place) || listener.task.is_finished())
        .map(|(place, _)| *place)
        .collect();
    for listener in gone.iter().filter_map(|place| open.remove(place)) {
        listener.closing.cancel();
        // It has nothing to do but to drop its socket.
        let _ = timeout(OPENING, listener.task).await;
    }
}

async fn open_or_update(
    context: &Context,
    open: &mut BTreeMap<Place, Open>,
    place: Place,
    target: &Target,
) -> Result<(), Problem> {
    if let Some(listener) = open.get(&place) {
        listener.target.send_if_modified(|balance| {
            let changed = balance.target != *target;
            if changed {
                *balance = Arc::new(balance.with(target.clone()));
            }
            changed
        });
        return Ok(());
    }
    let problem = |error: &io::Error| Problem {
        of: target.of.clone(),
        side: place.side,
        at: place.at,
        message: words(place, error),
    };
    let (sender, receiver) = watch::channel(Arc::new(Balance::new(target.clone())));
    let closing = context.stopping.child_token();
    let task = match place.protocol {
        Protocol::Tcp => {
            let listener = listen(context, place).await.map_err(|error| problem(&error))?;
            context.tasks.spawn(forward_tcp::serve(context.clone(), listener, receiver, closing.clone()))
        }
        Protocol::Udp => {
            let socket = bind_udp(context, place).await.map_err(|error| problem(&error))?;
            context.tasks.spawn(forward_udp::serve(context.clone(), socket, receiver, closing.clone()))
        }
    };
    open.insert(place, Open { target: sender, closing, task });
    Ok(())
}

async fn listen(context: &Context, place: Place) -> io::Result<TcpListener> {
    match place.side {
        Side::Cluster => timeout(OPENING, context.sockets.listen(place.at)).await?,
        Side::Node | Side::LoadBalancer | Side::Host => TcpListener::bind(place.at).await,
    }
}

async fn bind_udp(context: &Context, place: Place) -> io::Result<UdpSocket> {
    match place.side {
        Side::Cluster => timeout(OPENING, context.sockets.bind_udp(place.at)).await?,
        Side::Node | Side::LoadBalancer | Side::Host => UdpSocket::bind(place.at).await,
    }
}

fn words(place: Place, error: &io::Error) -> String {
    let at: SocketAddr = place.at;
    let protocol = place.protocol;
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("{at}/{protocol} is in use by another program: stop it, or choose another port")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{at}/{protocol} may not be opened by this user: choose a port above 1023")
        }
        _ => format!("{at}/{protocol} could not be opened: {error}"),
    }
}
