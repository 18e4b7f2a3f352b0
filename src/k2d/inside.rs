//! What k2d does inside of containers of its own. `k2d open` prepares a folder of a volume. `k2d check` looks at a path of the
//! machine for a volume. `k2d relay` connects its input and
//! output to a port of the network that it is in. `k2d pause` is the first process of the container that holds the network of a
//! Pod: it waits, and takes the ends of processes that nobody else takes, since the Pod's containers may share its processes.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use d2k_kubeapi::kubelet::host_path;
use rustix::process::{WaitOptions, wait};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::engine::MACHINE;

/// Waits until it is told to end.
///
/// # Errors
/// One line if the process cannot have signals.
pub fn pause() -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        let take = |kind| signal(kind).map_err(|error| format!("no signals: {error}"));
        let (terminate, interrupt) = (take(SignalKind::terminate())?, take(SignalKind::interrupt())?);
        until(terminate, interrupt, take(SignalKind::child())?).await;
        Ok(())
    })
}

/// Copies standard input to a port on loopback, and what comes back to standard output.
///
/// # Errors
/// One line that names the port.
pub fn relay(port: u16) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("127.0.0.1:{port}: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
    let relayed = runtime.block_on(async {
        let mut port = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
        let (mut from, mut to) = port.split();
        let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
        let there = async {
            // Either side may end the connection as it likes.
            let _ = tokio::io::copy(&mut input, &mut to).await;
            let _ = to.shutdown().await;
            std::future::pending::<()>().await;
        };
        let back = async {
            let _ = tokio::io::copy(&mut from, &mut output).await;
            let _ = output.flush().await;
        };
        tokio::select! {
            () = there => {}
            () = back => {}
        }
        Ok(())
    });
    // A thread still reads standard input.
    runtime.shutdown_background();
    relayed
}

/// Makes a folder that anybody may write into.
///
/// # Errors
/// One line that names the folder.
pub fn open(folder: &Path) -> Result<(), String> {
    let made = std::fs::create_dir_all(folder);
    let made = made.and_then(|()| std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)));
    made.map_err(|error| format!("{}: {error}", folder.display()))
}

/// Sees to it that a path of the machine is what the type of a volume says, from a container that has the machine's root folder.
///
/// # Errors
/// What is there instead, in Kubernetes' words.
pub fn check(kind: &str, path: &Path) -> Result<(), String> {
    // Links are then those of the machine.
    let entered = rustix::process::chroot(MACHINE).and_then(|()| rustix::process::chdir("/"));
    entered.map_err(|error| format!("{MACHINE}: {error}"))?;
    host_path::check(path, kind).map_err(|error| error.to_string())
}

async fn until(mut terminate: Signal, mut interrupt: Signal, mut child: Signal) {
    loop {
        tokio::select! {
            _ = terminate.recv() => return,
            _ = interrupt.recv() => return,
            _ = child.recv() => while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {},
        }
    }
}
