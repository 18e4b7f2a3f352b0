//! `k2d health`: whether the k2d of a data folder serves, which the engine asks for as the health check of the image. It asks over a
//! socket in the folder, so that who has the folder may ask and nobody else. The answer is one line: the exit code and a sentence.
//!
//! A k2d whose engine is away is well: it answers from what it keeps, and another start would not bring the engine back.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::cli::HealthSettings;
use crate::engine::Docker;

/// The socket in the data folder.
const SOCKET: &str = "health.sock";
/// How long k2d may take for its answer: less than the health check of the image may take.
const ANSWER: Duration = Duration::from_secs(5);
/// How long the port of the API and the engine may take for theirs.
const PART: Duration = Duration::from_secs(3);
/// Most bytes of an answer.
const LONGEST: u64 = 4 << 10;
/// Pause after a failed accept (no file descriptors left).
const PAUSE: Duration = Duration::from_millis(100);
/// No beginning of TLS: the port of the API answers it with an alert, without any cryptography.
const NO_TLS: &[u8] = b"health check\r\n";

/// Asks the k2d of a folder, and prints what it says.
///
/// # Errors
/// One line on why it is not well.
pub fn ask(settings: &HealthSettings) -> Result<(), String> {
    let path = settings.data_path.join(SOCKET);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let answered = runtime.block_on(async { tokio::time::timeout(ANSWER, read(&path)).await });
    let answer = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("{}: {error}: no k2d serves this folder", path.display())),
        Err(_) => return Err(format!("{}: no answer within {} s", path.display(), ANSWER.as_secs())),
    };
    match answer.trim_end().split_once(' ') {
        Some(("0", words)) => {
            println!("{words}");
            Ok(())
        }
        Some((_, words)) => Err(words.to_owned()),
        None => Err(format!("{}: the answer was cut off", path.display())),
    }
}

async fn read(path: &Path) -> std::io::Result<String> {
    let mut answer = String::new();
    UnixStream::connect(path).await?.take(LONGEST).read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Answers in this folder until `stopping` is cancelled.
///
/// # Errors
/// Those of the file system, which may have no sockets.
pub fn serve(
    folder: &Path,
    api: SocketAddr,
    engine: Docker,
    stopping: CancellationToken,
) -> std::io::Result<()> {
    let path = folder.join(SOCKET);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        tokio::select! {
            () = accept(&listener, api, &engine) => {}
            () = stopping.cancelled() => {}
        }
    });
    Ok(())
}

async fn accept(listener: &UnixListener, api: SocketAddr, engine: &Docker) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let engine = engine.clone();
        tokio::spawn(async move {
            let answer = answer(api, &engine).await;
            // Nobody may wait for it any more.
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

async fn answer(api: SocketAddr, engine: &Docker) -> String {
    let port = tokio::time::timeout(PART, try_port(api));
    let (port, engine) = tokio::join!(port, tokio::time::timeout(PART, engine.ping()));
    let late = || format!("no answer within {} s", PART.as_secs());
    match port {
        Ok(Err(error)) => return format!("1 the Kubernetes API does not answer: {error}\n"),
        Err(_) => return format!("1 the Kubernetes API does not answer: {}\n", late()),
        Ok(Ok(())) => {}
    }
    let away = match engine {
        Ok(Ok(())) => return "0 k2d serves the Kubernetes API, and the engine answers\n".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => late(),
    };
    format!("0 k2d serves the Kubernetes API, but the engine is away: {}\n", away.replace('\n', " "))
}

/// Whether connections to a port are accepted, and not only by the kernel.
async fn try_port(api: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(api).await?;
    stream.write_all(NO_TLS).await?;
    match stream.read(&mut [0]).await {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}
